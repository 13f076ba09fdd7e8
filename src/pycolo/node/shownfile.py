"""A file of the state directory with what a person is shown: replaced as a whole.

Nothing depends on it. So it is not synced, and a file that cannot be read, as after a power cut, is no reason not to
start: what it holds begins anew.
"""

import os
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from pycolo.errors import ConnectError

T = TypeVar("T")


class _File(msgspec.Struct):
    version: int
    kept: msgspec.Raw


class ShownFile(Generic[T]):
    """`what` begins a message, `anew` ends one: what becomes of a file that cannot be used."""

    def __init__(self, path: Path, kind: type[T], what: str, anew: str, *, version: int, bytes_max: int) -> None:
        """The directory of `path` is there."""
        self.path = path
        self._kind = kind
        self._what = what
        self._anew = anew
        self._version = version
        self._bytes_max = bytes_max

    def read(self) -> T | None:
        """What an earlier process has left; None: nothing. Raises `ConnectError` for a file that cannot be used."""
        try:
            with open(self.path, "rb") as file:
                octets = file.read(self._bytes_max + 1)
            if len(octets) > self._bytes_max:
                raise self._unusable(f"it has more than {self._bytes_max} bytes")
            found = msgspec.json.decode(octets, type=_File)
            if found.version != self._version:
                raise self._unusable(f"it is of version {found.version}")
            return msgspec.json.decode(found.kept, type=self._kind)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise self._unusable(str(error)) from error

    def packed(self, kept: T) -> bytes:
        """What `write` takes."""
        return msgspec.json.encode(_File(self._version, msgspec.Raw(msgspec.json.encode(kept)))) + b"\n"

    def write(self, octets: bytes) -> None:
        """Replace the file. Blocks; raises `ConnectError`."""
        beside = self.path.with_suffix(".new")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(octets)
            beside.replace(self.path)
        except OSError as error:
            raise ConnectError(f"{self._what} {self.path}: cannot be written: {error.strerror or error}") from error

    def _unusable(self, why: str) -> ConnectError:
        return ConnectError(f"{self._what} {self.path}: {why}; {self._anew}")
