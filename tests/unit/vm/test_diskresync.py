"""Rounds that copy what has changed, the last one while the guest stands still; it goes on whatever happens."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pycolo.errors import PeerError, QmpError
from pycolo.qmp.diskbitmaps import GRANULARITY_BYTES, WORK, Base, bitmap_name
from pycolo.vm import diskresync
from pycolo.vm.diskresync import LAST_BYTES, ROUNDS_MAX, Resync, ResyncDisk
from support.dirtymachine import NODE, DirtyMachine

DEADLINE_S = 20
BASE = bitmap_name("t", 0)
LAST_BLOCKS = LAST_BYTES // GRANULARITY_BYTES


class World:
    """One disk. `meanwhile`: so many blocks the guest writes during each round, one after the other."""

    def __init__(self, dirty: int, meanwhile: list[int], *, is_running: bool = True) -> None:
        self.machine = DirtyMachine()
        self.machine.bitmaps[BASE] = set(range(dirty))
        self.machine.disk = dict.fromkeys(range(1000), 1)
        self.meanwhile = meanwhile
        self.is_running = is_running
        self.jobs: dict[str, dict[str, Any]] = {}
        self.cuts = 0
        self.noted: list[tuple[int, int]] = []
        self.stopped_writes = 0
        self.machine.answers |= {
            "query-status": lambda _: {"running": self.is_running},
            "query-block-jobs": lambda _: list(self.jobs.values()),
            "blockdev-backup": self.backup,
            "blockdev-mirror": self.mirror,
            "job-dismiss": lambda arguments: self.jobs.pop(arguments["id"]) and {},
            "stop": self.stop,
            "cont": self.go_on,
        }

    def stop(self, _: Any) -> Any:
        self.is_running = False
        return {}

    def go_on(self, _: Any) -> Any:
        self.is_running = True
        return {}

    def backup(self, arguments: dict[str, Any]) -> Any:
        assert (arguments["device"], arguments["bitmap"]) == (NODE, WORK)
        dirty = self.machine.bitmaps[WORK]
        moved = len(dirty) * GRANULARITY_BYTES
        for block in dirty:
            self.machine.copy[block] = self.machine.disk[block]
        self.machine.bitmaps[WORK] = set()
        job = {"device": arguments["job-id"], "status": "concluded", "offset": moved, "len": moved}
        self.jobs[job["device"]] = job
        if self.is_running and self.meanwhile:
            for block in range(self.meanwhile.pop(0)):
                self.machine.write(500 + block)
        return {}

    def mirror(self, arguments: dict[str, Any]) -> Any:
        assert arguments["sync"] == "none"
        assert not self.is_running, "each write waits for the other host before the guest goes on"
        assert not self.machine.bitmaps[WORK]
        self.machine.is_mirrored = True
        self.jobs["colo-mirror-0"] = {"device": "colo-mirror-0", "ready": True, "offset": 0, "len": 0}
        return {}

    async def cut(self) -> None:
        self.cuts += 1

    def resync(self, speed: int = 0) -> Resync:
        disk = ResyncDisk("disk-a", "disk disk-a (x at y)", 1 << 30, Base(NODE, BASE, 0), {"job-id": "colo-mirror-0"})
        return Resync(
            self.machine,  # type: ignore[arg-type]
            [disk],
            pause_target_s=0.0,
            speed=speed,
            cut=self.cut,
            note=lambda shown: self.noted.append(shown["disk-a"]),
        )


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(DEADLINE_S):
            return await work()

    return asyncio.run(bounded())


async def perform(world: World, speed: int = 0) -> tuple[bool, Resync]:
    resync = world.resync(speed)
    return await resync.run(), resync


def test_only_what_is_noted_and_what_is_written_meanwhile_is_copied() -> None:
    world = World(200, [100, 70, 20])
    is_done, resync = run(lambda: perform(world))
    assert is_done
    assert resync.copied_bytes == (200 + 100 + 70 + 20) * GRANULARITY_BYTES
    assert world.machine.commands.count("blockdev-backup") == 4, "the fourth while the guest stands still"
    written = {block: value for block, value in world.machine.disk.items() if block < 200 or block >= 500}
    assert {block: world.machine.copy.get(block) for block in range(500, 600)} == {
        block: written[block] for block in range(500, 600)
    }
    assert world.is_running
    assert world.cuts == 0
    assert world.machine.bitmaps[BASE] >= set(range(200)), "if this attempt is lost, the next one has all of it"


def test_progress_is_told_in_bytes_of_what_there_is_to_copy() -> None:
    world = World(200, [100])
    run(lambda: perform(world))
    assert world.noted[0] == (0, 200 * GRANULARITY_BYTES)
    assert world.noted[-1] == (300 * GRANULARITY_BYTES, 300 * GRANULARITY_BYTES)
    assert all(copied <= whole for copied, whole in world.noted)


def test_a_limit_is_for_the_rounds_while_the_guest_runs() -> None:
    world = World(5, [LAST_BLOCKS])
    run(lambda: perform(world, speed=7))
    assert [backup.get("speed") for backup in world.machine.arguments("blockdev-backup")] == [7, None]


def test_a_guest_that_writes_as_fast_as_it_is_copied_is_never_stopped() -> None:
    world = World(200, [LAST_BLOCKS + 1] * ROUNDS_MAX)
    is_done, _ = run(lambda: perform(world))
    assert not is_done
    assert "stop" not in world.machine.commands


def test_a_guest_that_the_user_has_paused_stays_so() -> None:
    world = World(5, [], is_running=False)
    is_done, _ = run(lambda: perform(world))
    assert is_done
    assert not world.is_running


def test_a_round_that_fails_is_named() -> None:
    world = World(5, [])
    failed = {
        "device": "colo-backup-0",
        "status": "concluded",
        "offset": 0,
        "len": 1,
        "error": "No space left on device",
    }

    def fail(_: Any) -> Any:
        world.jobs["colo-backup-0"] = failed
        return {}

    world.machine.answers["blockdev-backup"] = fail
    with pytest.raises(PeerError, match=r"disk disk-a .*: No space left on device"):
        run(lambda: perform(world))
    assert world.jobs == {}
    assert "stop" not in world.machine.commands


def test_a_round_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diskresync, "STALL_S", 0.01)
    world = World(5, [])

    def hang(_: Any) -> Any:
        world.jobs["colo-backup-0"] = {"device": "colo-backup-0", "status": "running", "offset": 1, "len": 5}
        return {}

    world.machine.answers["blockdev-backup"] = hang
    with pytest.raises(PeerError, match="stands still"):
        run(lambda: perform(world))


@pytest.mark.parametrize("is_mirror_there", [False, True])
def test_a_host_that_hangs_does_not_keep_the_guest_stopped(
    monkeypatch: pytest.MonkeyPatch, *, is_mirror_there: bool
) -> None:
    """Its connections are cut, for a QEMU that waits for it, and the guest goes on."""
    monkeypatch.setattr(diskresync, "STOPPED_S", 0.05)
    world = World(5, [])

    def mirror(_: Any) -> Any:
        if is_mirror_there:
            world.jobs["colo-mirror-0"] = {"device": "colo-mirror-0", "ready": False}
        return {}

    world.machine.answers["blockdev-mirror"] = mirror
    with pytest.raises(PeerError, match="not copied within" if is_mirror_there else "has ended with an error"):
        run(lambda: perform(world))
    assert world.is_running
    assert world.cuts == 1


def test_what_qemu_refuses_may_still_be_copied_in_full() -> None:
    """So the connections stay."""
    world = World(5, [])
    world.machine.answers["blockdev-mirror"] = QmpError("vm1", "blockdev-mirror", "GenericError", "no")
    with pytest.raises(QmpError):
        run(lambda: perform(world))
    assert world.is_running
    assert world.cuts == 0


def test_a_note_that_is_gone_is_an_error() -> None:
    world = World(5, [])
    world.machine.answers["block-dirty-bitmap-merge"] = lambda _: world.machine.bitmaps.clear() or {}
    with pytest.raises(PeerError, match="has lost the note"):
        run(lambda: perform(world))
