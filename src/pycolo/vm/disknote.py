"""What this host's images are worth, on disk: whether they are a copy in the making, or need what is in overlays.

Each of the three states has its reason:

* **copying**: a copy was begun and has not ended. Nothing may be started from these images.
* **following**: every write of the primary is on them, as after a power cut.
* **settling**: the guest serves here since a takeover, and QEMU puts the overlays into the images. If it dies in this,
  the node does it; a guest started from the images before would have lost what it had written.

Without a note they are what their guest has written last.
"""

import asyncio
import threading
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec

from pycolo.errors import ConfigError
from pycolo.qmp.diskwords import Overlays
from pycolo.vm.statefile import replace_durably

FILE_NAME: Final = "disks.json"


class DiskState(StrEnum):
    """See the module."""

    COPYING = "copying"
    FOLLOWING = "following"
    SETTLING = "settling"


class NotedDisk(msgspec.Struct, frozen=True, kw_only=True):
    """One disk's files."""

    name: str
    image: str
    format: str
    active: str
    hidden: str
    is_settled: bool = False
    """Its overlays are in the image, and out of date."""
    is_owed: bool = False
    """The node has begun to put its overlays into the image, which takes the mark away by which they say that a QEMU
    has left them.
    """
    node: str = ""
    """The replication node that is the disk of a survivor; "": it has the disk's name."""
    device: str = ""
    """The id of the device of a survivor that libvirt has started, and `below` libvirt's node for the image."""
    below: str = ""
    seen: str = ""
    """What the image's file was like when its QEMU had ended (`pycolo.vm.imageseal`); "": that was not seen."""

    @property
    def overlays(self) -> Overlays:
        """Their paths."""
        return Overlays(Path(self.active), Path(self.hidden))


class DiskNote(msgspec.Struct, frozen=True, kw_only=True):
    """All copied disks of the guest."""

    state: DiskState
    disks: tuple[NotedDisk, ...]
    copies: tuple[str, ...] = ()
    """The sessions of which these images are a copy: the primary's QEMU may have noted what has changed since. The
    newest one first, then the one with which it began.
    """
    is_bypassed: bool = False
    """A guest was started from the images without what was in overlays: that fits them no more."""

    def settling(self) -> "DiskNote":
        """From here on the guest serves here, and the images are no copy."""
        return msgspec.structs.replace(self, state=DiskState.SETTLING, copies=())

    def settled(self, name: str) -> "DiskNote":
        """With that disk's overlays put into its image."""
        return self._with(name, is_settled=True)

    def owed(self, name: str) -> "DiskNote":
        """With that disk's overlays about to be put into its image by the node."""
        return self._with(name, is_owed=True)

    def _with(self, name: str, **changes: Any) -> "DiskNote":
        disks = tuple(msgspec.structs.replace(disk, **changes) if disk.name == name else disk for disk in self.disks)
        return msgspec.structs.replace(self, disks=disks)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left in overlays."""
        return all(disk.is_settled for disk in self.disks)


class DiskNoteFile:
    """The note in `directory`, which the node's record has made."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        self._note: DiskNote | None = None
        self._is_read = False
        self._writing = threading.Lock()

    def read(self) -> DiskNote | None:
        """Raises `ConfigError` for a file that cannot be read."""
        if not self._is_read:
            self._note = self._found()
            self._is_read = True
        return self._note

    def _found(self) -> DiskNote | None:
        try:
            note = msgspec.json.decode(self.path.read_bytes(), type=DiskNote | None)
        except FileNotFoundError:
            return None
        except (msgspec.MsgspecError, UnicodeDecodeError, OSError) as error:
            raise ConfigError(
                str(self.path), "a note about this host's disks (remove it only if they are whole)", str(error)
            ) from error
        return note

    def write(self, note: DiskNote | None) -> None:
        """When this returns it will survive a power cut. Any thread. Raises `ConnectError`."""
        with self._writing:
            replace_durably(self.path, msgspec.json.encode(note) + b"\n")
            self._note, self._is_read = note, True

    async def keep(self, note: DiskNote | None) -> None:
        """As `write`, in a thread. One that is cancelled waits for it: a note must not come after a later one.

        Raises `ConnectError`.
        """
        writing = asyncio.ensure_future(asyncio.to_thread(self.write, note))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.gather(writing, return_exceptions=True)
            raise
