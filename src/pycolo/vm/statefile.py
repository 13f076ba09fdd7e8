"""What a node must know again after it was restarted: a small file, replaced whole and synced.

A term that was forgotten would let a primary that was taken over from serve again.
"""

import os
from pathlib import Path
from typing import Final

import msgspec

from pycolo.errors import ConfigError, ConnectError
from pycolo.link.hello import Role

FILE_NAME: Final = "node.json"


class NodeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`was_protected`: the pair was in COLO, so the other node may have taken over since. `is_wished`: protection is.

    `pid`: this host's QEMU.
    """

    role: Role
    term: int = 0
    epoch: int = 0
    was_protected: bool = False
    is_wished: bool = False
    pid: int = 0


class StateFile:
    """The record in `directory`, which is made when it is not there."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConnectError(f"state {directory}: {error.strerror or error}") from error

    def read(self, first: NodeRecord) -> NodeRecord:
        """The record; `first` when there is none yet. Raises `ConfigError` for a file that cannot be read."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=NodeRecord)
        except FileNotFoundError:
            return first
        except (msgspec.MsgspecError, UnicodeDecodeError, OSError) as error:
            raise ConfigError(
                str(self._path), "a node's record (remove it only if the other node is down)", str(error)
            ) from error

    def write(self, record: NodeRecord) -> None:
        """Replace the record; when this returns it will survive a power cut. Raises `ConnectError`."""
        replace_durably(self._path, msgspec.json.encode(record) + b"\n")


def replace_durably(path: Path, octets: bytes) -> None:
    """Replace a file whole: a power cut leaves the old one or the new one. Raises `ConnectError`."""
    temporary = path.with_suffix(".new")
    try:
        with open(temporary, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise ConnectError(f"state {path}: cannot be written: {error.strerror or error}") from error
