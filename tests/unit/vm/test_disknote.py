"""What a host knows of its images after a restart."""

from pathlib import Path

import msgspec
import pytest

from pycolo.errors import ConfigError
from pycolo.vm.disknote import FILE_NAME, DiskNote, DiskNoteFile, DiskState, NotedDisk

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
