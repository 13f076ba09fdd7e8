"""The secondary's disks: what is here, what is made, what the primary writes, and how that ends at a takeover."""

import asyncio
import json
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pycolo.errors import ConnectError, PeerError, QmpError, StateError
from pycolo.qmp.diskrules import HostImage
from pycolo.qmp.guestdisks import guest_disks
from pycolo.vm import diskimages
from pycolo.vm.disknote import DiskNoteFile, DiskState
from pycolo.vm.secondarydisks import SecondaryDisks
from support.diskfacts import RECORDED
from support.diskhosts import DiskHost, DiskMachine

DEADLINE_S = 20
DISK = next(disk for disk in guest_disks(*RECORDED["7.2"]) if disk.name == "disk-a")
TOLD = {"disks": msgspec.to_builtins([DISK])}


class World:
    """A secondary's node."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        node = {
            "driver": "qcow2",
            "node-name": "disk-a",
            "file": {"driver": "file", "filename": str(place / "a.qcow2")},
        }
        command = ["qemu", "-blockdev", json.dumps(node), "-device", "virtio-blk-pci,drive=disk-a,iothread=io0"]
        self.place = place
        self.host = DiskHost(place, command, **options)
        self.machine = DiskMachine()
        self.note = DiskNoteFile(place)
        self.disks = SecondaryDisks(self.host, self.note)  # type: ignore[arg-type]
        self.made: list[str] = []

        async def run(*words: str, timeout_s: float = 0) -> str:
            self.made.append(words[-2])
            return ""

        monkeypatch.setattr(diskimages, "run", run)

    @property
    def state(self) -> DiskState | None:
        """As after a restart of the node."""
        note = DiskNoteFile(self.place).read()
        return note and note.state


def play(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await work()

    asyncio.run(run())


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


async def prepared(world: World) -> list[str]:
    await world.disks.hear(TOLD)
    command = await world.disks.command()
    await world.disks.export(world.machine)  # type: ignore[arg-type]
    return command


def test_the_primarys_node_hears_what_is_here(world: World) -> None:
    async def work() -> None:
        answer = await world.disks.hear(TOLD)
        images = msgspec.convert(answer["images"], list[HostImage])
        assert [(image.name, image.path, image.size_bytes) for image in images] == [
            ("disk-a", str(world.place / "a.qcow2"), 0)
        ]

    play(work)
    assert world.made == []
    assert world.state is None


def test_copies_may_have_a_place_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch, images=tmp_path / "copies")

    async def work() -> None:
        command = await prepared(world)
        assert str(tmp_path / "copies" / "a.qcow2") in command[2]

    play(work)
    assert world.made[0] == str(tmp_path / "copies" / "a.qcow2")


def test_images_and_overlays_are_ready_before_the_guest_is_started(world: World) -> None:
    async def work() -> None:
        command = await prepared(world)
        assert world.made == [
            str(path)
            for path in (
                world.place / "a.qcow2",
                world.place / "overlays" / "disk-a.active.qcow2",
                world.place / "overlays" / "disk-a.hidden.qcow2",
            )
        ]
        assert '"driver": "replication"' in command[4]
        assert "iothread" not in command[-1]

    play(work)
    assert world.state is DiskState.COPYING
    assert world.machine.asked == [
        ("nbd-server-start", {"addr": {"type": "unix", "data": {"path": str(world.place / "disks.sock")}}}),
        (
            "block-export-add",
            {"type": "nbd", "id": "colo-export-0", "node-name": "colo-parent-0", "name": "disk-a", "writable": True},
        ),
    ]


def test_a_guest_without_disks_is_started_as_it_is(world: World) -> None:
    async def work() -> None:
        assert await world.disks.command() == world.host.config.qemu.command
        await world.disks.export(world.machine)  # type: ignore[arg-type]
        await world.disks.stop_exports(world.machine)  # type: ignore[arg-type]

    play(work)
    assert world.machine.asked == []
    assert world.made == []
    assert world.state is None


def test_the_copies_are_whole_once_the_first_state_is_loaded(world: World) -> None:
    world.disks.follows()
    assert world.state is None
    play(lambda: prepared(world))  # type: ignore[arg-type,return-value]
    world.disks.follows()
    assert world.state is DiskState.FOLLOWING


def test_the_primary_is_connected_with_this_qemu(world: World) -> None:
    async def work() -> None:
        await prepared(world)
        with pytest.raises(StateError, match="without a disk other"):
            await world.disks.open_link({"disk": "other"})
        with pytest.raises(ConnectError, match=r"disk disk-a: .*disks\.sock"):
            await world.disks.open_link({"disk": "disk-a"})
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(world.place / "disks.sock"))
            listening.listen(1)
            await world.disks.open_link({"disk": "disk-a"})
            qemu, _ = listening.accept()
        far = world.host.dialed[0]
        qemu.sendall(b"greeting")
        assert await asyncio.to_thread(far.recv, 8) == b"greeting"
        await world.disks.discard()
        assert await asyncio.to_thread(far.recv, 8) == b""
        for sock in (qemu, far):
            sock.close()

    play(work)


def test_a_takeover_takes_no_more_writes_and_notes_it_before_the_guest_goes_on(world: World) -> None:
    async def work() -> None:
        await prepared(world)
        world.disks.follows()
        await world.disks.stop_exports(world.machine)  # type: ignore[arg-type]

    play(work)
    assert world.machine.commands[-1] == "nbd-server-stop"
    assert world.state is DiskState.SETTLING


def test_a_takeover_may_be_tried_again(world: World) -> None:
    async def work() -> None:
        await prepared(world)
        world.machine.answers["nbd-server-stop"] = PeerError("no answer")
        with pytest.raises(PeerError):
            await world.disks.stop_exports(world.machine)  # type: ignore[arg-type]
        assert world.state is DiskState.COPYING
        world.machine.answers["nbd-server-stop"] = QmpError(
            "vm1", "nbd-server-stop", "GenericError", "NBD server not running"
        )
        await world.disks.stop_exports(world.machine)  # type: ignore[arg-type]

    play(work)
    assert world.state is DiskState.SETTLING


def test_a_secondary_that_is_discarded_leaves_its_copies(world: World) -> None:
    async def work() -> None:
        await prepared(world)
        overlays = world.place / "overlays"
        for name in ("disk-a.active.qcow2", "disk-a.hidden.qcow2"):
            (overlays / name).touch()
        (world.place / "a.qcow2").touch()
        await world.disks.discard()
        assert list(overlays.iterdir()) == []

    play(work)
    assert (world.place / "a.qcow2").exists()
    assert world.state is DiskState.COPYING


def test_both_files_need_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    world.host.config.disks = None
    with pytest.raises(StateError, match=r"\[disks\]"):
        play(lambda: world.disks.hear(TOLD))  # type: ignore[arg-type,return-value]


def test_what_the_other_node_says_is_checked(world: World) -> None:
    with pytest.raises(PeerError, match="cannot be read"):
        play(lambda: world.disks.hear({"disks": [{"name": 1}]}))  # type: ignore[arg-type,return-value]


def test_the_next_guest_is_planned_while_the_last_one_is_still_here(world: World) -> None:
    async def work() -> None:
        await prepared(world)
        await world.disks.hear(TOLD)
        await world.disks.discard()
        assert '"driver": "replication"' in (await world.disks.command())[4]

    play(work)
