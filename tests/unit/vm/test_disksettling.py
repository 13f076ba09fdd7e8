"""After a takeover: overlays go into the images, by QEMU or, if it dies, by the node."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from pycolo.errors import ConnectError, QmpError, StateError
from pycolo.vm import diskimages, disksettling
from pycolo.vm.disknote import DiskNote, DiskNoteFile, DiskState, NotedDisk
from pycolo.vm.disksettling import DiskSettling

DEADLINE_S = 20


class Survivor:
    """A QEMU with two disks. `left`: numbers of those whose overlays it still has."""

    def __init__(self, left: set[int]) -> None:
        self.left = left
        self.asked = 0
        self.commands: list[str] = []
        self.is_there = True
        self.driver = "replication"
        self.is_new = False
        """It can make nodes inactive."""
        self.other: list[str] = []
        """What it was asked for besides its nodes."""
        self.refuses = ""
        self.status = "running"

    async def execute(self, command: str, arguments: Any = None, **options: Any) -> Any:
        self.commands.append(command)
        if command == "query-block-exports":
            return [{"node-name": f"colo-parent-{number}"} for number in self.left]
        if command != "query-named-block-nodes":
            self.other.append(command)
            if command == self.refuses:
                raise QmpError("vm1", command, "GenericError", "not now")
            if command in ("stop", "cont"):
                self.status = "running" if command == "cont" else "paused"
            said = {
                "query-commands": [{"name": "blockdev-set-active"}] if self.is_new else [],
                "query-status": {"running": self.status == "running", "status": self.status},
            }
            return said.get(command, {})
        self.asked += 1
        if not self.is_there:
            raise ConnectError("no QEMU")
        nodes = [("disk-0", self.driver), ("disk-1", self.driver)]
        nodes += [(f"colo-{kind}-{number}", "qcow2") for number in self.left for kind in ("active", "hidden", "parent")]
        return [{"node-name": name, "drv": driver} for name, driver in nodes]


class World:
    """A host after a takeover."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch, state: DiskState = DiskState.SETTLING) -> None:
        self.place = place
        self.file = DiskNoteFile(place)
        disks = tuple(
            NotedDisk(
                name=f"disk-{number}",
                image=str(place / f"image-{number}"),
                format="raw",
                active=str(place / f"{number}.active"),
                hidden=str(place / f"{number}.hidden"),
            )
            for number in range(2)
        )
        for disk in disks:
            for path in disk.overlays:
                path.touch()
        self.file.write(DiskNote(state=state, disks=disks))
        self.dirty: set[str] = set()
        self.put_together: list[str] = []
        self.fails = False

        async def info(path: Path, form: str) -> diskimages.Found | None:
            return diskimages.Found(1, 1, path.name in self.dirty, "") if path.exists() else None

        async def put_together(image: Path, form: str, overlays: Any) -> None:
            self.dirty -= {path.name for path in overlays}  # as `qemu-img` does when it opens them
            if self.fails:
                raise ConnectError("no room")
            self.put_together.append(image.name)

        monkeypatch.setattr(diskimages, "info", info)
        monkeypatch.setattr(diskimages, "put_together", put_together)
        monkeypatch.setattr(disksettling, "LOOK_S", 0.001)

    def note(self) -> DiskNote | None:
        """As after a restart of the node."""
        return DiskNoteFile(self.place).read()

    @property
    def overlays(self) -> list[str]:
        return sorted(path.name for path in self.place.iterdir() if path.suffix in (".active", ".hidden"))


def play(world: World, work: Callable[[DiskSettling], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        settling = DiskSettling(world.file)
        try:
            async with asyncio.timeout(DEADLINE_S):
                await work(settling)
        finally:
            await settling.close()

    asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_each_disk_is_noted_as_soon_as_its_overlays_are_gone(world: World) -> None:
    survivor = Survivor({0, 1})

    async def work(settling: DiskSettling) -> None:
        settling.guest_found(survivor)  # type: ignore[arg-type]
        await until(lambda: survivor.asked > 3)
        assert len(world.overlays) == 4, "QEMU still needs them"
        survivor.left = {1}
        await until(lambda: world.overlays == ["1.active", "1.hidden"])
        note = world.note()
        assert note is not None
        assert [disk.is_settled for disk in note.disks] == [True, False]
        survivor.left = set()
        await settling.over()
        assert world.note() is None
        assert world.overlays == []

    play(world, work)
    assert world.put_together == []


def of_libvirt(world: World) -> None:
    """The disks are those of a QEMU that libvirt has started."""
    note = world.note()
    assert note is not None
    disks = tuple(
        msgspec.structs.replace(disk, node=disk.name, device=f"virtio-{disk.name}", below=f"libvirt-{disk.name}")
        for disk in note.disks
    )
    world.file.write(msgspec.structs.replace(note, disks=disks))


@pytest.mark.parametrize("refuses", ["", "qom-set"])
def test_libvirts_guest_has_its_images_alone_again_once_all_of_them_are_whole(world: World, refuses: str) -> None:
    of_libvirt(world)
    survivor = Survivor({0, 1})
    survivor.is_new, survivor.refuses = True, refuses

    async def work(settling: DiskSettling) -> None:
        settling.guest_found(survivor)  # type: ignore[arg-type]
        survivor.left = {1}
        await until(lambda: world.overlays == ["1.active", "1.hidden"])
        assert survivor.other == [], "one of them is not whole"
        survivor.left = set()
        await settling.over()
        assert survivor.other[2] == "stop"
        assert survivor.other[-1] == "cont"
        assert survivor.other.count("blockdev-del") == (0 if refuses else 2)

    play(world, work)
    assert world.note() is None, "whatever comes of it, the images are whole"


@pytest.mark.parametrize("may_run", [True, False])
def test_a_guest_that_a_killed_node_has_left_standing_still_goes_on(world: World, may_run: bool) -> None:
    of_libvirt(world)
    note = world.note()
    assert note is not None
    for disk in note.disks:
        note = note.settled(disk.name)
    world.file.write(note)
    survivor = Survivor(set())
    survivor.is_new, survivor.status = True, "paused"

    async def work(settling: DiskSettling) -> None:
        settling.may_run = lambda: may_run
        settling.guest_found(survivor)  # type: ignore[arg-type]
        await settling.over()

    play(world, work)
    assert survivor.status == ("running" if may_run else "paused")
    assert world.note() is None


def test_a_guest_that_a_person_has_suspended_stands_still(world: World) -> None:
    of_libvirt(world)
    survivor = Survivor(set())
    survivor.is_new, survivor.status = True, "paused"

    async def work(settling: DiskSettling) -> None:
        settling.guest_found(survivor)  # type: ignore[arg-type]
        await settling.over()

    play(world, work)
    assert survivor.status == "paused"
    assert world.note() is None


@pytest.mark.parametrize("is_new", [False, True])
def test_a_qemu_that_cannot_and_one_with_a_command_line_of_the_nodes_keep_their_nodes(
    world: World, is_new: bool
) -> None:
    if not is_new:
        of_libvirt(world)
    survivor = Survivor(set())
    survivor.is_new = is_new

    async def work(settling: DiskSettling) -> None:
        settling.guest_found(survivor)  # type: ignore[arg-type]
        await settling.over()

    play(world, work)
    assert "stop" not in survivor.other
    assert world.note() is None


def test_a_question_that_failed_is_asked_again_when_it_matters(world: World) -> None:
    survivor = Survivor(set())
    survivor.is_there = False

    async def work(settling: DiskSettling) -> None:
        settling.guest_found(survivor)  # type: ignore[arg-type]
        with pytest.raises(StateError, match="not settled"):
            await settling.over()
        survivor.is_there = True
        await settling.over()

    play(world, work)
    assert world.note() is None


def test_a_qemu_that_has_failed_at_it_keeps_no_protection_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tries once, and neither an event nor an error says so. The node does it when that QEMU has ended."""
    survivor = Survivor({0, 1})
    monkeypatch.setattr(disksettling, "LATE_S", 0.0)
    monkeypatch.setattr(disksettling, "LATE_LOOK_S", 0.001)
    world.dirty = {"0.active", "1.active"}

    async def work(settling: DiskSettling) -> None:
        settling.guest_found(survivor)  # type: ignore[arg-type]
        with capture_logs() as logs:
            for _ in range(2):
                with pytest.raises(StateError, match=r"QEMU has not put its overlays into .*image-0, .*make some"):
                    await settling.over(0.05)
        assert len(logs) == 1
        assert len(world.overlays) == 4
        survivor.is_there = False
        settling.guest_gone()
        await settling.over()

    play(world, work)
    assert world.put_together == ["image-0", "image-1"]


def test_a_qemu_that_dies_leaves_it_to_the_node(world: World) -> None:
    survivor = Survivor({1})
    world.dirty = {"1.active"}

    async def work(settling: DiskSettling) -> None:
        settling.guest_found(survivor)  # type: ignore[arg-type]
        await until(lambda: world.overlays == ["1.active", "1.hidden"])
        survivor.is_there = False
        settling.guest_gone()
        await settling.over()

    play(world, work)
    assert world.put_together == ["image-1"], "not the one that was noted"
    assert world.note() is None
    assert world.overlays == []


@pytest.mark.parametrize("dirty", ["0.active", "0.hidden"])
def test_a_node_that_was_away_finds_out_which_were_done(world: World, dirty: str) -> None:
    world.dirty = {dirty}

    async def work(settling: DiskSettling) -> None:
        settling.guest_gone()
        await settling.over()

    play(world, work)
    assert world.put_together == ["image-0"], "the other one's overlays were closed, and are out of date"


def test_what_fails_is_tried_again_and_refuses_until_then(world: World) -> None:
    world.dirty, world.fails = {"0.active", "1.active"}, True

    async def work(settling: DiskSettling) -> None:
        settling.guest_gone()
        with pytest.raises(StateError, match=r"not settled since the takeover \(no room\)"):
            await settling.over()
        assert len(world.overlays) == 4
        world.fails = False

    async def again(settling: DiskSettling) -> None:
        settling.guest_gone()
        await settling.over()

    play(world, work)
    world.file = DiskNoteFile(world.place)  # by a node that was started again
    play(world, again)
    assert world.put_together == ["image-0", "image-1"], "whatever their marks say: the first try has taken one away"


def test_it_is_tried_again_until_a_guest_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `qemu-img` of a killed node may be at it still; it says so once."""
    monkeypatch.setattr(disksettling, "AGAIN_S", 0.001)
    world.dirty, world.fails = {"0.active"}, True
    tries: list[int] = []
    put_together = diskimages.put_together

    async def counted(*arguments: Any) -> None:
        tries.append(1)
        await put_together(*arguments)

    monkeypatch.setattr(diskimages, "put_together", counted)

    async def work(settling: DiskSettling) -> None:
        with capture_logs() as logs:
            settling.guest_gone()
            await until(lambda: len(tries) > 3)
        assert [line["log_level"] for line in logs].count("error") == 1
        survivor = Survivor({0})
        settling.guest_found(survivor)  # type: ignore[arg-type]
        count = len(tries)
        await asyncio.sleep(0.02)
        assert len(tries) <= count + 1
        survivor.is_there = world.fails = False
        settling.guest_gone()
        await until(lambda: world.note() is None)

    play(world, work)


def test_overlays_that_are_gone_are_not_taken_for_empty_ones(world: World) -> None:
    """Their file system is not mounted yet, or was in memory when the host died."""
    world.dirty = {"1.active"}
    (world.place / "0.hidden").unlink()

    async def work(settling: DiskSettling) -> None:
        settling.guest_gone()
        with pytest.raises(StateError, match=r"without its overlay .*0\.hidden.*remove .*disks\.json"):
            await settling.over()
        (world.place / "0.hidden").touch()
        settling.guest_gone()
        await settling.over()

    play(world, work)
    assert world.put_together == ["image-1"]


def test_another_guests_disks_come_when_nothing_is_written_here_any_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its copy is noted afterwards, and no older note comes behind that."""
    survivor, began, may_end, write = Survivor({1}), threading.Event(), threading.Event(), world.file.write

    def slow(note: DiskNote | None) -> None:
        began.set()
        assert may_end.wait(DEADLINE_S)
        write(note)

    async def work(settling: DiskSettling) -> None:
        monkeypatch.setattr(world.file, "write", slow)
        settling.guest_found(survivor)  # type: ignore[arg-type]
        await asyncio.to_thread(began.wait)
        stopping = asyncio.get_running_loop().create_task(settling.close())
        await asyncio.sleep(0.01)
        assert not stopping.done()
        may_end.set()
        await stopping
        asked = survivor.asked
        await asyncio.sleep(0.01)
        assert survivor.asked == asked

    play(world, work)
    note = world.note()
    assert note is not None
    assert [disk.is_settled for disk in note.disks] == [True, False]


def test_a_guest_that_was_started_without_its_overlays_takes_nothing_away(world: World) -> None:
    survivor = Survivor(set())
    survivor.driver = "raw"

    async def work(settling: DiskSettling) -> None:
        settling.guest_found(survivor)  # type: ignore[arg-type]
        with pytest.raises(StateError, match="started without"):
            await settling.over()

    async def later(settling: DiskSettling) -> None:
        settling.guest_gone()
        with pytest.raises(StateError, match=r"do not fit .*image-0 any more.*remove .*disks\.json"):
            await settling.over()

    world.dirty = {"0.active", "1.active"}
    play(world, work)
    world.file = DiskNoteFile(world.place)
    play(world, later)
    assert world.put_together == [], "its writes are not mixed with those of another guest"
    assert len(world.overlays) == 4
    assert world.note() is not None


@pytest.mark.parametrize("state", [DiskState.COPYING, DiskState.FOLLOWING])
def test_a_guest_that_serves_here_owns_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: DiskState
) -> None:
    world = World(tmp_path, monkeypatch, state)

    async def work(settling: DiskSettling) -> None:
        settling.guest_gone()
        await settling.over()
        assert world.note() is not None, "no guest, no news"
        started = Survivor(set())
        settling.guest_found(started)  # type: ignore[arg-type]
        await settling.claim(started)  # type: ignore[arg-type]
        await settling.over()
        assert started.commands == ["query-named-block-nodes"]

    play(world, work)
    assert world.note() is None
    assert world.put_together == []


def test_a_survivor_whose_takeover_was_broken_off_is_one_before_it_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node was killed when the record was written, and the disks had not been told yet."""
    world = World(tmp_path, monkeypatch, DiskState.FOLLOWING)
    survivor = Survivor({0, 1})

    async def work(settling: DiskSettling) -> None:
        settling.guest_found(survivor)  # type: ignore[arg-type]
        for _ in range(2):
            await settling.claim(survivor)  # type: ignore[arg-type]
        note = world.note()
        assert note is not None
        assert (note.state, note.copies) == (DiskState.SETTLING, ())
        stopped = survivor.commands.index("nbd-server-stop")
        assert survivor.commands[stopped + 1 : stopped + 5] == ["human-monitor-command"] * 4
        survivor.left = set()
        await settling.over()

    play(world, work)
    assert world.note() is None


def test_a_guest_begins_anew_from_whole_images_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for state, is_whole in ((DiskState.FOLLOWING, True), (DiskState.SETTLING, True), (DiskState.COPYING, False)):
        place = tmp_path / state.value
        place.mkdir()
        world = World(place, monkeypatch, state)
        world.dirty = {"0.active"}

        async def work(settling: DiskSettling, is_whole: bool = is_whole) -> None:
            if is_whole:
                await settling.require_whole(is_other_lost=True)
            else:
                with pytest.raises(StateError, match=r"not finished \(.*image-0, .*image-1\)"):
                    await settling.require_whole(is_other_lost=True)

        play(world, work)
        assert world.put_together == (["image-0"] if state is DiskState.SETTLING else [])


def test_a_guest_begins_anew_from_its_own_images_rather_than_from_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the primary had synced since the last checkpoint may be missing in the copy: its QEMU has not flushed it."""
    world = World(tmp_path, monkeypatch, DiskState.FOLLOWING)

    async def work(settling: DiskSettling) -> None:
        with pytest.raises(StateError, match=r"a copy \(.*image-0.*begin on the other host .*--other-is-lost"):
            await settling.require_whole(is_other_lost=False)

    play(world, work)


class StandInGuard:
    """Notes what holds."""

    def __init__(self) -> None:
        self.is_held = self.is_paused = False

    def hold(self, *, is_held: bool) -> None:
        self.is_held = is_held

    def pause(self, *, is_paused: bool) -> None:
        self.is_paused = is_paused


def test_no_guest_begins_from_images_that_are_not_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the node could not put them together; and it lets go while it does so itself."""
    guard, put_together = StandInGuard(), diskimages.put_together
    world.dirty, world.fails = {"0.active"}, True

    async def watched(*arguments: Any) -> None:
        assert (guard.is_held, guard.is_paused) == (True, True)
        await put_together(*arguments)

    monkeypatch.setattr(diskimages, "put_together", watched)

    async def work() -> None:
        settling = DiskSettling(world.file, guard)
        settling.guest_gone()
        with pytest.raises(StateError, match="no room"):
            await settling.over()
        assert (guard.is_held, guard.is_paused) == (True, False)
        world.fails = False
        settling.guest_gone()
        await settling.over()
        assert (guard.is_held, guard.is_paused) == (False, False)

    asyncio.run(work())
