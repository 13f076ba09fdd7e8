"""Images on a host, with a `qemu-img` of the test's own."""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pycolo.errors import ConnectError, PeerError
from pycolo.qmp.diskwords import overlays_in
from pycolo.vm import diskimages
from pycolo.vm.disknote import DiskNote, DiskNoteFile, DiskState, NotedDisk
from pycolo.vm.diskplaces import Place
from pycolo.vm.disksettling import DiskSettling

FAKE = """#!/bin/sh
printf '%s\\n' "$*" >> {log}
case $1 in
    info) cat {place}/info || {{ echo 'Failed to get shared "write" lock' >&2; exit 1; }} ;;
    create) shift; for word in "$@"; do last=$before before=$word; done; : > "$last" ;;
    fails) echo 'no such' >&2; echo thing >&2; exit 1 ;;
    hangs) exec sleep 60 ;;
esac
"""


class Host:
    """A directory with a `qemu-img`, which notes what it is asked."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        self.log = place / "asked"
        program = place / "qemu-img"
        program.write_text(FAKE.format(log=self.log, place=place))
        program.chmod(0o755)
        monkeypatch.setattr(diskimages, "PROGRAM", str(program))

    def info(self, **fields: object) -> None:
        (self.place / "info").write_text(json.dumps(fields))

    @property
    def asked(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def disk_at(path: Path, overlays: Path) -> Place:
    return Place("vda", path, "qcow2", overlays_in(overlays, "vda"))


def test_what_is_not_there_is_created_later(host: Host) -> None:
    path = host.place / "new" / "a.qcow2"
    image = asyncio.run(diskimages.look(disk_at(path, host.place / "overlays")))
    assert (image.name, image.path, image.size_bytes, image.why_unusable) == ("vda", str(path), 0, "")
    assert image.free_bytes > 0
    assert image.overlay_free_bytes > 0
    assert host.asked == [], "and nothing was touched"
    assert not path.parent.exists()
    asyncio.run(diskimages.create_image(path, "qcow2", 1 << 20))
    assert host.asked == [f"create -q -f qcow2 {path}.new {1 << 20}"]
    asyncio.run(diskimages.create_image(path, "qcow2", 1 << 20))
    assert len(host.asked) == 1, "one that is there stays as it is"
    assert path.stat().st_mode & 0o077 == 0, "what is on it is the guest's"


def test_an_image_that_is_not_whole_by_itself_is_no_copy(host: Host) -> None:
    path = host.place / "a.qcow2"
    path.touch()
    host.info(**{"virtual-size": 4096, "backing-filename": "base.qcow2"})
    image = asyncio.run(diskimages.look(disk_at(path, host.place)))
    assert image.why_unusable == "it has a backing file (base.qcow2): remove it, then it is created anew"


def test_what_its_place_says_counts_first(host: Host) -> None:
    place = disk_at(host.place / "a", host.place)._replace(why_unusable="it is a disk of domain web")
    assert asyncio.run(diskimages.look(place)).why_unusable == "it is a disk of domain web"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only root may give files away")
def test_overlays_are_given_to_the_user_of_qemu(tmp_path: Path) -> None:
    overlays = overlays_in(tmp_path, "vda")
    for path in overlays:
        path.touch()
    with subprocess.Popen(["sleep", "60"], user=65534, group=65534) as qemu:
        diskimages.give_overlays(overlays, qemu.pid)
        qemu.kill()
    assert {(path.stat().st_uid, path.stat().st_gid) for path in overlays} == {(65534, 65534)}
    with pytest.raises(ConnectError, match="the overlays cannot be given to QEMU's user"):
        diskimages.give_overlays(overlays, qemu.pid)


def test_an_image_is_measured(host: Host) -> None:
    path = host.place / "a.qcow2"
    path.touch()
    host.info(**{"virtual-size": 4096, "actual-size": 1024, "dirty-flag": True})
    assert asyncio.run(diskimages.info(path, "qcow2")) == (4096, 1024, True, "")
    assert host.asked == [f"info --output=json -f qcow2 {path}"]
    empty = asyncio.run(diskimages.look(disk_at(host.place / "b", host.place)))
    image = asyncio.run(diskimages.look(disk_at(path, host.place)))
    assert image.size_bytes == 4096
    assert image.free_bytes > image.held_bytes == 1024
    assert image.room == image.overlay_room == str(host.place.stat().st_dev)
    assert empty.size_bytes == 0


def test_an_image_that_another_process_has_open_is_unusable(host: Host) -> None:
    """As a shared one is: the primary's QEMU has it open, wherever that runs."""
    path = host.place / "a.qcow2"
    path.touch()
    image = asyncio.run(diskimages.look(disk_at(path, host.place)))
    assert 'Failed to get shared "write" lock' in image.why_unusable


def test_an_empty_image_is_not_taken_for_none(host: Host) -> None:
    """QEMU would be started with a disk of no bytes."""
    path = host.place / "a.raw"
    path.touch()
    host.info(**{"virtual-size": 0})
    image = asyncio.run(diskimages.look(disk_at(path, host.place)))
    assert image.why_unusable == "it is there and empty: remove it, then it is created anew"


def test_an_image_is_made_whole_or_not_at_all(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of one would be no image, and in the way of the next attempt."""
    path, run = host.place / "link" / "a.qcow2", diskimages.run
    (host.place / "roomy").mkdir()
    path.parent.symlink_to("roomy")

    async def fails(*words: str, timeout_s: float = 0) -> str:
        Path(words[-2]).write_text("half")
        assert not path.exists()
        raise PeerError("no space")

    monkeypatch.setattr(diskimages, "run", fails)
    with pytest.raises(PeerError):
        asyncio.run(diskimages.create_image(path, "qcow2", 1 << 20))
    assert list((host.place / "roomy").iterdir()) == []
    monkeypatch.setattr(diskimages, "run", run)
    asyncio.run(diskimages.create_image(path, "qcow2", 1 << 20))
    assert list((host.place / "roomy").iterdir()) == [host.place / "roomy" / "a.qcow2"]


def test_overlays_are_made_anew_and_say_when_they_are_in_use(host: Host) -> None:
    overlays = overlays_in(host.place / "fast", "vda")
    overlays.active.parent.mkdir()
    overlays.active.write_text("of an earlier secondary")
    asyncio.run(diskimages.create_overlays(overlays, 4096))
    assert host.asked == [f"create -q -f qcow2 -o lazy_refcounts=on {path} 4096" for path in overlays]
    assert overlays.active.read_text() == ""
    asyncio.run(diskimages.remove_overlays(overlays))
    assert list(overlays.active.parent.iterdir()) == []
    asyncio.run(diskimages.remove_overlays(overlays))


def test_both_overlays_go_into_the_image(host: Host) -> None:
    image = host.place / "a,b.raw"
    image.touch()
    asyncio.run(diskimages.put_together(image, "raw", overlays_in(Path("/o"), "vda")))
    checks, commits = host.asked[:2], host.asked[2:]
    assert [line.split()[-1] for line in checks] == ["/o/vda.active.qcow2", "/o/vda.hidden.qcow2"]
    assert all(line.startswith("check -q -r all -f qcow2 ") for line in checks), "each is repaired first"
    assert [line.split()[:3] for line in commits] == [["commit", "-q", "--image-opts"]] * 2
    active, hidden = (line.split()[3] for line in commits)
    assert "file.filename=/o/vda.active.qcow2,backing.driver=qcow2,backing.file.driver=file" in active
    assert active.endswith(f"backing.backing.file.filename={host.place}/a,,b.raw")
    assert hidden.startswith("driver=qcow2,file.driver=file,file.filename=/o/vda.hidden.qcow2,backing.driver=raw")


def test_overlays_are_put_into_a_device_as_into_a_file(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    device = host.place / "vg0"
    device.touch()
    monkeypatch.setattr(Path, "is_block_device", lambda path: path == device)
    asyncio.run(diskimages.put_together(device, "raw", overlays_in(Path("/o"), "vda")))
    assert all("driver=host_device" in line for line in host.asked if line.startswith("commit"))


def test_errors_have_the_words_of_the_program(host: Host) -> None:
    with pytest.raises(PeerError, match="fails: no such thing"):
        asyncio.run(diskimages.run("fails"))
    with pytest.raises(PeerError, match=r"hangs has not ended within 0\.05 s"):
        asyncio.run(diskimages.run("hangs", timeout_s=0.05))


def test_without_the_program_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diskimages, "PROGRAM", "/no/such/qemu-img")
    with pytest.raises(ConnectError, match="qemu-utils"):
        asyncio.run(diskimages.run("info"))


# ── with the real program ───────────────────────────────────────────────────────────────────────────────────


def io(path: str, form: str, *commands: str) -> str:
    words = [part for command in commands for part in ("-c", command)]
    done = subprocess.run(["qemu-io", "-f", form, *words, path], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.qemu
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("qemu-io") is None, reason="needs qemu-io: as root, apt-get install qemu-utils")
@pytest.mark.parametrize("name", ["a,b", "a b\n c", "äµ€", "50%25", "json:{}", "nbd:x", "-f", "'\"\\", "driver=raw"])
def test_the_guests_view_is_put_together(tmp_path: Path, name: str) -> None:
    """What the guest has written comes before what the primary has overwritten, and that before the image.

    Whatever the files are called.
    """
    image, overlays = tmp_path / name / f"{name}.raw", overlays_in(tmp_path / f"over {name}", name)

    async def made() -> None:
        await diskimages.create_image(image, "raw", 1 << 20)
        await diskimages.create_overlays(overlays, 1 << 20)

    asyncio.run(made())
    io(str(image), "raw", "write -P 1 0 1M")
    io(str(overlays.hidden), "qcow2", "write -P 2 0 512k")
    io(str(overlays.active), "qcow2", "write -P 3 0 256k")
    found = asyncio.run(diskimages.info(overlays.active, "qcow2"))
    assert found is not None
    assert (found.size_bytes, found.is_dirty) == (1 << 20, False), "it was closed in order"
    asyncio.run(diskimages.put_together(image, "raw", overlays))
    asyncio.run(diskimages.put_together(image, "raw", overlays))
    said = io(str(image), "raw", "read -P 3 0 256k", "read -P 2 256k 256k", "read -P 1 512k 512k")
    assert "verification failed" not in said
    io(str(image), "raw", "write -P 4 0 1M")
    asyncio.run(diskimages.put_together(image, "raw", overlays))
    assert "verification failed" not in io(str(image), "raw", "read -P 4 0 1M"), "they are empty then"


@pytest.mark.qemu
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("qemu-io") is None, reason="needs qemu-io: as root, apt-get install qemu-utils")
@pytest.mark.parametrize("done", [1, 2])
def test_a_node_that_was_killed_while_it_put_them_together_does_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    """`qemu-img` has opened and closed the overlays, so that their marks say nothing any more."""
    image, overlays, run = tmp_path / "a.raw", overlays_in(tmp_path, "vda"), diskimages.run
    disk = NotedDisk(
        name="vda", image=str(image), format="raw", active=str(overlays.active), hidden=str(overlays.hidden)
    )
    asyncio.run(diskimages.create_image(image, "raw", 1 << 20))
    asyncio.run(diskimages.create_overlays(overlays, 1 << 20))
    for path, what in ((overlays.hidden, "write -P 2 0 512k"), (overlays.active, "write -P 3 256k 512k")):
        _left_by_a_qemu(path, what)
    DiskNoteFile(tmp_path).write(DiskNote(state=DiskState.SETTLING, disks=(disk,)))
    commits = []

    async def killed(*words: str, timeout_s: float = 30) -> str:
        said = await run(*words, timeout_s=timeout_s)
        commits.extend([1] if words[0] == "commit" else [])
        if len(commits) == done:
            raise KeyboardInterrupt
        return said

    monkeypatch.setattr(diskimages, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(DiskSettling(DiskNoteFile(tmp_path)).recover())
    monkeypatch.setattr(diskimages, "run", run)
    asyncio.run(DiskSettling(DiskNoteFile(tmp_path)).recover())
    assert "verification failed" not in io(str(image), "raw", "read -P 2 0 256k", "read -P 3 256k 512k")
    assert DiskNoteFile(tmp_path).read() is None
    assert sorted(tmp_path.iterdir()) == [image, tmp_path / "disks.json"]


@pytest.mark.qemu
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("qemu-io") is None, reason="needs qemu-io: as root, apt-get install qemu-utils")
def test_what_a_dead_qemu_has_not_counted_is_not_written_over(tmp_path: Path) -> None:
    """With lazy refcounts the clusters of an image that was not closed count as free, also those of a user's image."""
    image, overlays = tmp_path / "a.qcow2", overlays_in(tmp_path, "vda")
    options = ["-o", "lazy_refcounts=on"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, str(image), "1M"], check=True)
    asyncio.run(diskimages.create_overlays(overlays, 1 << 20))
    _left_by_a_qemu(image, "write -P 1 0 256k")
    _left_by_a_qemu(overlays.hidden, "write -P 2 256k 256k")
    _left_by_a_qemu(overlays.active, "write -P 3 512k 256k")
    asyncio.run(diskimages.put_together(image, "qcow2", overlays))
    said = io(
        str(image), "qcow2", "read -P 1 0 256k", "read -P 2 256k 256k", "read -P 3 512k 256k", "read -P 0 768k 256k"
    )
    assert "verification failed" not in said
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", str(image)], check=True)


def _left_by_a_qemu(path: Path, command: str) -> None:
    """A program of QEMU's that dies with an image open, which it has flushed."""
    words = ["qemu-io", "-t", "writethrough", "-f", "qcow2", str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as opened:
        assert opened.stdin is not None
        assert opened.stdout is not None
        opened.stdin.write(f"{command}\n")
        opened.stdin.flush()
        while "ops" not in opened.stdout.readline():
            pass
        opened.kill()


@pytest.mark.qemu
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("qemu-io") is None, reason="needs qemu-io: as root, apt-get install qemu-utils")
def test_what_a_qemu_has_open_is_dirty_and_no_place_for_a_copy(tmp_path: Path) -> None:
    overlays = overlays_in(tmp_path, "vda")
    asyncio.run(diskimages.create_overlays(overlays, 1 << 20))
    with subprocess.Popen(
        ["qemu-io", "-f", "qcow2", str(overlays.active)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as opened:
        assert opened.stdin is not None
        assert opened.stdout is not None
        opened.stdin.write("write 0 64k\n")
        opened.stdin.flush()
        while "ops" not in opened.stdout.readline():
            pass
        image = asyncio.run(diskimages.look(disk_at(overlays.active, tmp_path)))
        assert "lock" in image.why_unusable
        opened.kill()
    found = asyncio.run(diskimages.info(overlays.active, "qcow2"))
    assert found is not None
    assert found.is_dirty, "it was not closed"
