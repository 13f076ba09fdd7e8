"""What a host knows of its images after a restart."""

import asyncio
import threading
from pathlib import Path

import msgspec
import pytest

from pycolo.errors import ConfigError
from pycolo.vm import disknote
from pycolo.vm.disknote import FILE_NAME, DiskNote, DiskNoteFile, DiskState, NotedDisk
from pycolo.vm.statefile import replace_durably

DISKS = tuple(
    NotedDisk(name=name, image=f"/i/{name}", format="raw", active=f"/o/{name}.a", hidden=f"/o/{name}.h")
    for name in ("vda", "vdb")
)
NOTE = DiskNote(state=DiskState.SETTLING, disks=DISKS)


def test_there_is_none_at_first(tmp_path: Path) -> None:
    assert DiskNoteFile(tmp_path).read() is None


def test_it_outlives_the_node(tmp_path: Path) -> None:
    file = DiskNoteFile(tmp_path)
    file.write(NOTE)
    assert file.read() == DiskNoteFile(tmp_path).read() == NOTE
    file.write(None)
    assert file.read() is None
    assert DiskNoteFile(tmp_path).read() is None


def test_each_disk_is_settled_by_itself() -> None:
    first = NOTE.settled("vda")
    assert [disk.is_settled for disk in first.disks] == [True, False]
    assert not first.is_settled
    assert first.settled("vdb").is_settled
    assert DISKS[0].overlays == (Path("/o/vda.a"), Path("/o/vda.h"))


@pytest.mark.parametrize("octets", [b"{", b'{"state": "unknown", "disks": []}', b"\xff"])
def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(octets)
    with pytest.raises(ConfigError, match=FILE_NAME):
        DiskNoteFile(tmp_path).read()


def test_what_is_written_can_be_read_by_people() -> None:
    assert msgspec.json.encode(NOTE).startswith(b'{"state":"settling","disks":[{"name":"vda"')


def test_a_note_that_is_being_written_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its writer is cancelled: what is written next comes later, on the disk as well."""
    file, began, may_end = DiskNoteFile(tmp_path), threading.Event(), threading.Event()

    def slow(path: Path, octets: bytes) -> None:
        began.set()
        assert may_end.wait(20)
        replace_durably(path, octets)

    async def work() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(disknote, "replace_durably", slow)
            first = asyncio.get_running_loop().create_task(file.keep(NOTE))
            await asyncio.to_thread(began.wait)
            first.cancel()
            await asyncio.sleep(0.01)
            assert not first.done()
            may_end.set()
            with pytest.raises(asyncio.CancelledError):
                await first
        await file.keep(None)

    asyncio.run(work())
    assert DiskNoteFile(tmp_path).read() is None
