"""A takeover with disks, its node and its QEMU killed at every point: in the end the image is what the guest has seen.

The node's parts, its note and the files are real; QEMU and `qemu-img` are made up (`support.diskcrashes`). A scenario
is played with a kill at its first point, then at its second, until it comes to its end. Each of these is followed by
another life of the node, which is killed at each of its points in turn. In the last one everything has to come right.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from pycolo.errors import ConnectError
from pycolo.vm.disknote import DiskNote, DiskNoteFile, DiskState, NotedDisk
from pycolo.vm.diskplaces import Place
from pycolo.vm.disksettling import DiskSettling
from pycolo.vm.secondarydisks import Copy, SecondaryDisks
from support.diskcrashes import DISKS, Host, Killed, Survivor
from support.diskhosts import DiskHost
from support.domaindisks import disk as guest_disk

DEADLINE_S = 20
LIVES_MAX = 400


class Scene:
    """A host whose secondary follows, some blocks of it newer than what its guest has seen."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        place.mkdir()
        self.host = Host(place, monkeypatch)
        self.place = place
        self.seen: list[dict[int, str | None]] | None = None
        """What the guest has seen when it last served; None: it never has."""
        self.qemu = Survivor(self.host)
        disks = []
        for number, name in enumerate(DISKS):
            active, hidden = self.host.overlays(number)
            disks.append(
                NotedDisk(
                    name=name,
                    image=str(self.host.image(number)),
                    format="raw",
                    active=str(active),
                    hidden=str(hidden),
                )
            )
            image = self.host.stack(number)[2]
            image.there = dict.fromkeys(range(4), "of the last checkpoint")
            self.qemu.follow(number, 1, "newer, of the primary")
            self.qemu.follow(number, 2, "newer, of the primary")
            self.qemu.write(number, 2, "of this guest")
        DiskNoteFile(place).write(DiskNote(state=DiskState.FOLLOWING, disks=tuple(disks), copies=("one",)))

    # ── lives of the node ────────────────────────────────────────────────────────────────────────────────────

    async def begin(self) -> None:
        """A node that takes over."""
        note = DiskNoteFile(self.place)
        await self.take_over(note, DiskSettling(note))

    async def take_over(self, note: DiskNoteFile, settling: DiskSettling, *, ends: bool = True) -> None:
        """As the plan `take-over` does, from the record on: what fails is tried again."""
        copies = SecondaryDisks(DiskHost(self.place), note)  # type: ignore[arg-type]
        copies._copies = [_copy(number, disk) for number, disk in enumerate(_known(note).disks)]
        self.host.point()
        while copies._copies:
            with suppress(ConnectError):
                await copies.stop_exports(self.qemu)  # type: ignore[arg-type]
        await self.serve(settling, ends=ends)

    async def serve(self, settling: DiskSettling, *, ends: bool = True) -> None:
        """The guest leaves COLO, and writes. `ends`: this waits for the overlays to be put together."""
        self.host.point()
        await self.qemu.execute("x-colo-lost-heartbeat")
        if self.seen is None:
            self.qemu.write(0, 3, "since the takeover")
        self.seen = self.qemu.view()
        self.host.point()
        if ends:
            settling.guest_found(self.qemu)  # type: ignore[arg-type]
            await _settled(settling)

    async def live(self) -> None:
        """A node that is started again, on record as the primary."""
        settling = DiskSettling(DiskNoteFile(self.place))
        if not self.qemu.is_there:
            settling.guest_gone()
            await _settled(settling)
            return
        settling.guest_found(self.qemu)  # type: ignore[arg-type]
        await settling.claim(self.qemu)  # type: ignore[arg-type]
        if self.qemu.mode != "none":
            await self.serve(settling)
        else:
            await _settled(settling)

    def play(self, life: Callable[[], Awaitable[None]], left: int | None = None) -> bool:
        """Whether it came to its end before it was killed at its point `left`."""
        self.host.begin_anew()
        self.host.left = left

        async def run() -> None:
            async with asyncio.timeout(DEADLINE_S):
                await life()

        try:
            asyncio.run(run())
        except Killed:
            return False
        return not self.host.is_killed

    # ── the law ──────────────────────────────────────────────────────────────────────────────────────────────

    def check(self) -> None:
        """Nothing is left to do, and each image alone is what the guest has seen."""
        if self.qemu.is_there:
            assert self.qemu.view() == self.seen
            self.qemu.die()
        note = DiskNoteFile(self.place).read()
        assert note is None or self.seen is None, "the overlays are not forgotten"
        for number in range(len(DISKS)):
            if self.seen is not None:
                image = self.host.stack(number)[2].there
                assert {block: image.get(block) for block in self.seen[number]} == self.seen[number]
            if note is None:
                assert not any(path.exists() for path in self.host.overlays(number)) or self.seen is None


def _known(file: DiskNoteFile) -> DiskNote:
    note = file.read()
    assert note is not None
    return note


def _copy(number: int, disk: NotedDisk) -> Copy:
    place = Place(disk.name, Path(disk.image), disk.format, disk.overlays)
    return Copy(number, guest_disk(disk.name, disk.name), place)


async def _settled(settling: DiskSettling) -> None:
    """Until its tasks have ended, as they do or by a kill."""
    while settling._tasks:
        done, _ = await asyncio.wait(settling._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


@pytest.fixture
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Scene]:
    """Makes one after another; the parts of the node work on the newest."""
    numbers = itertools.count()

    def make() -> Scene:
        monkeypatch.undo()
        return Scene(tmp_path / str(next(numbers)), monkeypatch)

    return make


@pytest.mark.parametrize("dies", ["with the node", "later", "never"])
def test_a_takeover_that_is_killed_at_any_point_comes_right(scenes: Callable[[], Scene], dies: str) -> None:
    """QEMU dies with its node, or while the next one lives, or not at all."""
    for first in range(LIVES_MAX):
        scene = scenes()
        is_whole = scene.play(scene.begin, first)
        if dies == "with the node":
            scene.qemu.die()
        if dies == "later" and scene.qemu.is_there:
            scene.play(scene.live, 3)
            scene.qemu.die()
        scene.play(scene.live)
        scene.check()
        if is_whole:
            assert first > 10, "there are that many points"
            return
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("first", [0, 3, 6])
def test_a_node_that_puts_together_may_be_killed_at_each_point_as_well(scenes: Callable[[], Scene], first: int) -> None:
    """The survivor has served and dies; so does its node, then each further one at a later point than the last."""
    for second in range(LIVES_MAX):
        scene = scenes()
        scene.play(scene.begin, 4 + first)
        if scene.qemu.is_there:
            scene.play(scene.live, 4)
        scene.qemu.die()
        is_whole = scene.play(scene.live, second)
        for third in (second // 2, second, None):
            scene.play(scene.live, third)
        scene.check()
        if is_whole:
            return
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("dies", [False, True])
def test_a_disk_that_refuses_once_keeps_nothing_from_coming_right(scenes: Callable[[], Scene], dies: bool) -> None:
    """The node lives on, and tries again what the pair table has it try again. `dies`: QEMU does, when it serves."""
    for fails in range(1, LIVES_MAX):
        scene = scenes()
        scene.host.fails = fails

        async def life(scene: Scene = scene) -> None:
            note = DiskNoteFile(scene.place)
            settling = DiskSettling(note)
            await scene.take_over(note, settling, ends=not dies)
            if dies:
                scene.qemu.die()
            for _ in range(3):  # a look at QEMU, or an operator
                (settling.guest_gone if dies else lambda: settling.guest_found(scene.qemu))()  # type: ignore[arg-type]
                await _settled(settling)

        assert scene.play(life)
        scene.check()
        if scene.host.tried < fails:
            return
    raise AssertionError("there is always something more")
