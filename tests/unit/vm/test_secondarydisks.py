"""The secondary's disks: what is here, what is made, what the primary writes, and how that ends at a takeover."""

import asyncio
import json
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from pycolo.domain.disks import DiskImage
from pycolo.errors import ConnectError, PeerError, QmpError, StateError
from pycolo.qmp.diskrules import HostImage
from pycolo.qmp.diskwords import overlays_in
from pycolo.qmp.guestdisks import GuestDisk, guest_disks
from pycolo.vm import diskimages, secondarydisks
from pycolo.vm.disknote import DiskNoteFile, DiskState
from pycolo.vm.diskplaces import Place
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
        self.given: list[int] = []
        self.monkeypatch = monkeypatch

        async def run(*words: str, timeout_s: float = 0) -> str:
            if words[0] == "info":
                return json.dumps({"virtual-size": DISK.size_bytes})
            self.made.append(words[-2])
            Path(words[-2]).touch()
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
    assert world.made[0] == str(tmp_path / "copies" / "a.qcow2.new")


def test_images_and_overlays_are_ready_before_the_guest_is_started(world: World) -> None:
    async def work() -> None:
        command = await prepared(world)
        assert world.made == [
            str(path)
            for path in (
                world.place / "a.qcow2.new",
                world.place / "overlays" / "vm1.disk-a.active.qcow2",
                world.place / "overlays" / "vm1.disk-a.hidden.qcow2",
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
    assert world.machine.commands[-3:] == ["nbd-server-stop", "human-monitor-command", "human-monitor-command"]
    assert world.state is DiskState.SETTLING


def test_what_the_primary_has_overwritten_is_on_the_disk_before_the_guest_goes_on(world: World) -> None:
    """Its writes have ended by then, and the note is not written yet: a takeover that is tried again flushes again."""

    async def work() -> None:
        await prepared(world)

        def flushed(arguments: dict[str, Any]) -> str:
            assert world.machine.commands.count("nbd-server-stop") == 1
            assert world.state is DiskState.COPYING
            return ""

        world.machine.answers["human-monitor-command"] = flushed
        await world.disks.stop_exports(world.machine)  # type: ignore[arg-type]

    play(work)
    lines = [asked["command-line"] for asked in world.machine.arguments("human-monitor-command")]
    assert lines == ["qemu-io colo-hidden-0 flush", "qemu-io colo-parent-0 flush"]


@pytest.mark.parametrize("said", ["Error: Cannot find node\r\n", PeerError("no answer within 5 s")])
def test_what_cannot_be_flushed_keeps_no_survivor_from_serving(world: World, said: object) -> None:
    async def work() -> None:
        await prepared(world)
        world.machine.answers["human-monitor-command"] = said
        with capture_logs() as logs:
            await world.disks.stop_exports(world.machine)  # type: ignore[arg-type]
        assert [line["log_level"] for line in logs] == ["warning"] * 2

    play(work)
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
        for name in ("vm1.disk-a.active.qcow2", "vm1.disk-a.hidden.qcow2"):
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


# ── is it still a copy ──────────────────────────────────────────────────────────────────────────────────────


def told(session: str, *noted: str) -> dict[str, Any]:
    """The primary begins `session`, and has noted what has changed since those in `noted`."""
    return {**TOLD, "copy": session, "noted": list(noted)}


async def followed(world: World, session: str, *noted: str) -> dict[str, Any]:
    """A secondary that has had the first state, and is gone."""
    answer = await world.disks.hear(told(session, *noted))
    await world.disks.command()
    (world.place / "a.qcow2").touch()
    world.disks.follows()
    await world.disks.discard()
    return answer


def restarted(world: World) -> SecondaryDisks:
    return SecondaryDisks(world.host, DiskNoteFile(world.place))  # type: ignore[arg-type]


def test_images_that_nobody_has_touched_need_only_what_has_changed(world: World) -> None:
    """Also by a node that was started again; and the primary may have noted nothing since the session before."""

    async def work() -> None:
        assert (await followed(world, "one"))["resumes"] == ""
        assert (await followed(world, "two", "one"))["resumes"] == "one"
        world.disks = restarted(world)
        assert (await world.disks.hear(told("three", "one")))["resumes"] == "one"
        assert (await world.disks.hear(told("three", "two", "one")))["resumes"] == "two"
        assert (await followed(world, "three", "two"))["resumes"] == "two"
        assert (await world.disks.hear(told("four", "one")))["resumes"] == "", "two sessions back"

    play(work)


def test_an_attempt_that_is_broken_off_costs_nothing(world: World) -> None:
    """What it has copied is what the primary has."""

    async def work() -> None:
        await followed(world, "one")
        await world.disks.hear(told("two", "one"))
        await world.disks.command()
        await world.disks.discard()
        assert (await world.disks.hear(told("three", "one")))["resumes"] == "one"

    play(work)


def _write(world: World) -> None:
    (world.place / "a.qcow2").write_bytes(b"by hand")


def _another(world: World) -> None:
    world.host.config.disks = msgspec.structs.replace(world.host.config.disks, images=world.place / "elsewhere")


def _forget(world: World) -> None:
    world.note.write(None)
    world.disks = restarted(world)


def _unseen(world: World) -> None:
    """The node was killed with its QEMU, so that it has not seen the end."""
    note = world.note.read()
    assert note is not None
    world.note.write(
        msgspec.structs.replace(note, disks=tuple(msgspec.structs.replace(d, seen="") for d in note.disks))
    )


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        (_write, "was changed on the other host"),
        (lambda world: (world.place / "a.qcow2").unlink(), "was changed on the other host"),
        (_another, "another image"),
        (_forget, "not those of which the changes are noted"),
        (_unseen, "has not seen how the QEMU ended"),
    ],
)
def test_when_in_doubt_everything_is_copied(world: World, happens: Callable[[World], None], why: str) -> None:
    async def work() -> None:
        await followed(world, "one")
        happens(world)
        answer = await world.disks.hear(told("two", "one"))
        assert answer["resumes"] == ""
        assert why in answer["why_full"]

    play(work)


def test_a_secondary_that_is_still_here_has_no_copy_yet(world: World) -> None:
    async def work() -> None:
        await world.disks.hear(told("one"))
        await world.disks.command()
        assert "has not seen" in (await world.disks.hear(told("two", "one")))["why_full"]

    play(work)


def test_one_that_has_taken_over_has_no_copy_any_more(world: World) -> None:
    async def work() -> None:
        await world.disks.hear(told("one"))
        await world.disks.command()
        (world.place / "a.qcow2").touch()
        world.disks.follows()
        await world.disks.stop_exports(world.machine)  # type: ignore[arg-type]
        await world.disks.discard()
        world.disks = restarted(world)
        assert (await world.disks.hear(told("two", "one")))["resumes"] == ""

    play(work)


def test_an_older_node_of_the_pair_says_nothing_of_sessions(world: World) -> None:
    async def work() -> None:
        await followed(world, "one")
        assert (await world.disks.hear({**TOLD, "noted": "one"}))["resumes"] == ""
        assert (await world.disks.hear(TOLD))["resumes"] == ""

    play(work)


def test_a_note_that_cannot_be_written_costs_a_full_copy_and_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(note: Any) -> None:
        raise ConnectError("no space")

    async def work() -> None:
        await world.disks.hear(told("one"))
        await world.disks.command()
        (world.place / "overlays" / "vm1.disk-a.active.qcow2").touch()
        (world.place / "a.qcow2").touch()
        with monkeypatch.context() as patch:
            patch.setattr(world.note, "write", full)
            await world.disks.discard()
        assert list((world.place / "overlays").iterdir()) == []
        assert "has not seen" in (await world.disks.hear(told("two", "one")))["why_full"]

    play(work)


def test_an_older_note_is_not_taken_for_one_of_what_is_there_now(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new one could not be written, and the images were changed since the old one was."""

    def full(note: Any) -> None:
        raise ConnectError("no space")

    async def work() -> None:
        await followed(world, "one")
        _write(world)
        await world.disks.hear(told("two", "one"))
        with monkeypatch.context() as patch:
            patch.setattr(world.note, "write", full)
            with pytest.raises(ConnectError):
                await world.disks.command()
        await world.disks.discard()
        assert "was changed" in (await world.disks.hear(told("three", "one")))["why_full"]

    play(work)


# ── where libvirt starts the guest ────────────────────────────────────────────────────────────────────────────


class OnePlace:
    """Where the disk's copy is, as libvirt and the file say it."""

    def __init__(self, place: Place) -> None:
        self.place = place

    async def find(self, disks: Any) -> list[Place]:
        return [self.place]


@pytest.fixture
def by_libvirt(world: World) -> World:
    image = Place("disk-a", world.place / "a.qcow2", "qcow2", overlays_in(world.place / "overlays", "vm1.disk-a"))
    world.disks = SecondaryDisks(world.host, world.note, OnePlace(image))  # type: ignore[arg-type]
    started = msgspec.structs.replace(DISK, file=str(image.path), node="libvirt-1-format")

    async def devices(machine: Any) -> dict[str, GuestDisk]:
        return {started.device: started}

    world.monkeypatch.setattr(secondarydisks, "devices_of", devices)
    world.monkeypatch.setattr(diskimages, "give_overlays", lambda overlays, pid: world.given.append(pid))
    return world


def test_libvirt_gets_the_copies_and_its_qemu_the_overlays_above_them(by_libvirt: World) -> None:
    world = by_libvirt

    async def work() -> None:
        await world.disks.hear(TOLD)
        assert await world.disks.images() == {"disk-a": DiskImage(world.place / "a.qcow2", "qcow2")}
        assert len(world.made) == 3
        await world.disks.export(world.machine)  # type: ignore[arg-type]
        first, *_ = world.machine.arguments("block-export-add")
        assert (first["node-name"], first["name"]) == ("libvirt-1-format", "disk-a")
        assert world.given == [world.machine.pid]
        (node,) = world.machine.arguments("blockdev-add")
        assert node["node-name"] == "colo-disk-0"

    play(work)
    note = DiskNoteFile(world.place).read()
    assert note is not None
    assert note.state is DiskState.COPYING
    assert [(disk.name, disk.node) for disk in note.disks] == [("disk-a", "colo-disk-0")]


def test_a_takeover_flushes_libvirts_own_node(by_libvirt: World) -> None:
    world = by_libvirt

    async def work() -> None:
        await world.disks.hear(TOLD)
        await world.disks.images()
        await world.disks.export(world.machine)  # type: ignore[arg-type]
        await world.disks.stop_exports(world.machine)  # type: ignore[arg-type]

    play(work)
    lines = [asked["command-line"] for asked in world.machine.arguments("human-monitor-command")]
    assert lines == ["qemu-io colo-hidden-0 flush", "qemu-io libvirt-1-format flush"]
    note = DiskNoteFile(world.place).read()
    assert note is not None
    assert [(disk.device, disk.below) for disk in note.disks] == [(DISK.device, "libvirt-1-format")]


def test_a_device_that_libvirt_has_not_started_is_named(by_libvirt: World) -> None:
    world = by_libvirt

    async def work() -> None:
        await world.disks.hear(TOLD)
        await world.disks.images()
        world.disks._copies[0] = world.disks._copies[0]._replace(
            disk=msgspec.structs.replace(DISK, device="virtio-disk7")
        )
        with pytest.raises(StateError, match="without a device virtio-disk7 here"):
            await world.disks.export(world.machine)  # type: ignore[arg-type]

    play(work)


def test_without_disks_libvirts_definition_stays_as_it_is(world: World) -> None:
    world.host.config.disks = None

    async def work() -> None:
        assert await world.disks.images() is None

    play(work)
