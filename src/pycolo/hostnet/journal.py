"""What a card's tap was before the node touched it: a file, synced before the first step, and gone after the last.

Beside it is a lock that the node holds as long as it lives. Both outlive nothing that they describe: a file of another
boot, or of another network namespace, says nothing about the devices of this one.
"""

import fcntl
import os
from pathlib import Path
from typing import Final

import msgspec

from pycolo.errors import ConfigError, ConnectError, StateError
from pycolo.hostnet.facts import Home, Place

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE: Final = Path("/proc/thread-self/ns/net")
PATTERN: Final = "card-*.json"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """`place`: what the guest's tap is put back to. `boot`, `namespace`: where the devices are."""

    pair: str
    node: str
    mac: str
    home: Home
    place: Place | None
    private: str | None = None
    boot: str = ""
    namespace: int = 0


def here() -> tuple[str, int]:
    """This boot of the host, and the network namespace of the calling thread."""
    return _BOOT_ID.read_text(encoding="ascii").strip(), _NAMESPACE.stat().st_ino


class Journal:
    """The record of one card in the state directory, which is made when it is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @property
    def number(self) -> int:
        """Of the card, counted from 0."""
        return int(self.path.stem.rpartition("-")[2])

    def lock(self) -> None:
        """Until `unlock`, or this process's end. Raises `StateError` when another process has it."""
        if self._lock is not None:
            return
        path = self.path.with_suffix(".lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConnectError(f"state {path}: {error.strerror or error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise StateError(f"{path}", "held by a node that runs", "free: stop that node first") from error
        self._lock = lock

    def unlock(self) -> None:
        """Let another process have it; the lock's file stays, since another may hold it by now."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read(self) -> Record | None:
        """The record; None when there is none. Raises `ConfigError` for a file that cannot be read."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Record)
        except FileNotFoundError:
            return None
        except (msgspec.MsgspecError, UnicodeDecodeError, OSError) as error:
            raise ConfigError(
                str(self.path), "a card's record (without it, put the tap back by hand and remove the file)", str(error)
            ) from error

    def write(self, record: Record) -> None:
        """Replace the record; when this returns it will survive a power cut. Raises `ConnectError`."""
        temporary = self.path.with_suffix(".new")
        try:
            with open(temporary, "wb") as file:
                file.write(msgspec.json.encode(record) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
            self._sync_directory()
        except OSError as error:
            raise ConnectError(f"state {self.path}: cannot be written: {error.strerror or error}") from error

    def remove(self) -> None:
        """All is as it was. Raises `ConnectError`."""
        try:
            self.path.unlink(missing_ok=True)
            self._sync_directory()
        except OSError as error:
            raise ConnectError(f"state {self.path}: cannot be removed: {error.strerror or error}") from error

    def _sync_directory(self) -> None:
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
