"""What traffic has cost, in a file of the state directory: replaced as a whole now and then.

Nothing depends on it but what a person is shown. So it is not synced, and a file that cannot be read, as after a power
cut, is no reason not to start: the sums begin anew.
"""

import os
from pathlib import Path
from typing import Final

import msgspec

from pycolo.costs.ledger import Kept
from pycolo.errors import ConnectError

FILE_NAME: Final = "costs.json"

BYTES_MAX: Final = 1 << 20
"""A file of the largest tables has less than a fifth of this."""

VERSION: Final = 1


class _File(msgspec.Struct):
    version: int
    kept: Kept


class CostsFile:
    """In `directory`, which is there."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME

    def read(self) -> Kept | None:
        """What an earlier process has left; None: nothing. Raises `ConnectError` for a file that cannot be used."""
        try:
            with open(self.path, "rb") as file:
                octets = file.read(BYTES_MAX + 1)
            if len(octets) > BYTES_MAX:
                raise self._unusable(f"it has more than {BYTES_MAX} bytes")
            found = msgspec.json.decode(octets, type=_File)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise self._unusable(str(error)) from error
        if found.version != VERSION:
            raise self._unusable(f"it is of version {found.version}")
        return found.kept

    def write(self, octets: bytes) -> None:
        """Replace the file. Blocks; raises `ConnectError`."""
        beside = self.path.with_suffix(".new")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(octets)
            beside.replace(self.path)
        except OSError as error:
            raise ConnectError(f"costs {self.path}: cannot be written: {error.strerror or error}") from error

    def _unusable(self, why: str) -> ConnectError:
        return ConnectError(f"costs {self.path}: {why}; what traffic has cost is counted anew")


def packed(kept: Kept) -> bytes:
    """What `CostsFile.write` takes."""
    return msgspec.json.encode(_File(VERSION, kept)) + b"\n"
