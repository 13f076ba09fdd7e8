"""Waiting for the first copy: a monitor that is busy is no failure, and a guest that is too fast gets more time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pycolo.checkpoint.firstcopy import PAUSE_MAX_MS
from pycolo.errors import ConnectError, PeerError, QmpTimeout
from pycolo.qmp.client import QmpEvent
from pycolo.vm import firstsync
from pycolo.vm.firstsync import BEHIND_BYTES, TRICKLE, TRICKLE_DOWNTIME_MS, UNLIMITED, FirstSync, forget, progress_of

DEADLINE_S = 20
MIB = 1 << 20


class Attempt:
    """See `pycolo.vm.attempt.Attempt`."""

    def __init__(self) -> None:
        self.decided = asyncio.Event()
        self.is_whole = False
        self.broken: str | None = None

    def decide(self) -> None:
        self.is_whole = True
        self.decided.set()


class Machine:
    """A QEMU whose migration says what the test says."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.parameters: dict[str, int] = {}
        self.mute_for = 0
        """How many of these are not answered."""
        self.on_set: Callable[[dict[str, int]], None] = lambda arguments: None
        self.asked = 0

    async def execute(self, command: str, arguments: dict[str, int] | None = None) -> Any:
        if command == "migrate-set-parameters":
            assert arguments is not None
            if self.mute_for:
                self.mute_for -= 1
                raise QmpTimeout("vm1", command, 5, "no answer")
            self.parameters |= arguments
            self.on_set(arguments)
            return {}
        assert command == "query-migrate"
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, Exception):
            raise answer
        return answer


def active(number: int, left: int) -> dict[str, Any]:
    ram = {
        "dirty-sync-count": number,
        "remaining": left,
        "mbps": 400 * MIB * 8 / 1e6,
        "dirty-pages-rate": 900 * MIB // 4096,
        "page-size": 4096,
    }
    return {"status": "active", "ram": ram}


class Stage:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
        monkeypatch.setattr(firstsync, "LOOK_S", 0.001)
        self.machine = Machine()
        self.machine.answers = list(answers)
        self.moved = 0
        self.attempt = Attempt()
        self.behind: list[int | None] = []
        """What the other QEMU has not read, at each question; the last one counts from then on."""
        self.sync = FirstSync(self.machine, "vm1", 100, lambda: self.moved, self._behind)  # type: ignore[arg-type]

    async def _behind(self) -> int | None:
        return None if not self.behind else self.behind[0] if len(self.behind) == 1 else self.behind.pop(0)

    async def wait(self) -> None:
        await self.sync.wait(self.attempt)  # type: ignore[arg-type]

    async def asked(self, count: int) -> None:
        while self.machine.asked < count:
            await asyncio.sleep(0.001)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await scene()

    asyncio.run(limited())


def test_it_copies_as_fast_as_it_can_and_gives_the_limits_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        stage = Stage(monkeypatch, {"status": "colo"})
        await stage.sync.prepare()
        assert stage.machine.parameters["downtime-limit"] == TRICKLE_DOWNTIME_MS
        assert stage.machine.parameters["max-bandwidth"] > 1 << 36
        await forget(stage.machine)  # type: ignore[arg-type]
        assert stage.machine.parameters == {"downtime-limit": 300, "max-bandwidth": 128 << 20}

    play(scene)


def test_the_copy_does_not_end_before_the_other_qemu_has_read_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the guest would stand still until it has."""

    async def scene() -> None:
        stage = Stage(monkeypatch, active(1, 64 * MIB), active(1, MIB), active(2, MIB))
        stage.behind = [30 * MIB, 9 * MIB, BEHIND_BYTES]
        given: list[dict[str, int]] = []
        stage.machine.on_set = given.append
        await stage.sync.prepare()
        async with asyncio.TaskGroup() as group:
            group.create_task(stage.wait())
            await stage.asked(7)
            stage.attempt.decide()
        assert given == [
            {"max-bandwidth": UNLIMITED, "downtime-limit": TRICKLE_DOWNTIME_MS},
            {"max-bandwidth": TRICKLE},
            {"max-bandwidth": UNLIMITED, "downtime-limit": 100},
        ]
        assert stage.behind == [BEHIND_BYTES], "it was held back until then"

    play(scene)


def test_an_idle_guest_that_ends_the_copy_with_its_first_pass_is_waited_for_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene() -> None:
        passes = (active(1, left * MIB) for left in (900, 700, 500, 240, 239, 238))
        stage = Stage(monkeypatch, *passes, {"status": "colo"})
        stage.behind = [30 * MIB, 9 * MIB, 0]
        given: list[tuple[int, dict[str, int]]] = []
        stage.machine.on_set = lambda arguments: given.append((stage.machine.asked, arguments))
        async with asyncio.TaskGroup() as group:
            group.create_task(stage.wait())
            await stage.asked(8)
            stage.attempt.decide()
        assert given == [(4, {"max-bandwidth": TRICKLE}), (6, {"max-bandwidth": UNLIMITED})], (
            "less than half of the 500 before"
        )

    play(scene)


@pytest.mark.parametrize("behind", [[], [9 * MIB]])
def test_it_ends_all_the_same_when_the_other_qemu_reads_nothing_or_is_not_known(
    monkeypatch: pytest.MonkeyPatch, behind: list[int | None]
) -> None:
    async def scene() -> None:
        monkeypatch.setattr(firstsync, "BEHIND_STALL_S", 0.01)
        stage = Stage(monkeypatch, active(2, MIB))
        stage.behind = behind
        ending = asyncio.Event()
        stage.machine.on_set = lambda arguments: ending.set() if arguments.get("downtime-limit") == 100 else None
        async with asyncio.TaskGroup() as group:
            group.create_task(stage.wait())
            await ending.wait()
            stage.attempt.decide()

    play(scene)


def test_a_copy_that_ends_while_it_is_held_back_leaves_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle guest may have changed nothing."""

    async def scene() -> None:
        stage = Stage(monkeypatch, active(2, MIB), {"status": "colo"})
        stage.behind = [9 * MIB]
        async with asyncio.TaskGroup() as group:
            group.create_task(stage.wait())
            await stage.asked(3)
            assert stage.machine.parameters["max-bandwidth"] == TRICKLE
            stage.attempt.decide()
        assert stage.machine.parameters["max-bandwidth"] == UNLIMITED

    play(scene)


def test_a_limit_that_is_not_taken_in_time_is_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU may just be copying the rest, with the guest stopped: that is no failure."""

    async def scene() -> None:
        stage = Stage(monkeypatch, active(2, MIB))
        stage.behind = [0]
        stage.machine.mute_for = 3
        ending = asyncio.Event()
        stage.machine.on_set = lambda arguments: ending.set() if arguments.get("downtime-limit") == 100 else None
        async with asyncio.TaskGroup() as group:
            group.create_task(stage.wait())
            await ending.wait()
            stage.attempt.decide()
        assert stage.machine.parameters["max-bandwidth"] == UNLIMITED

    play(scene)


def test_the_end_of_a_pass_is_looked_at_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        stage = Stage(monkeypatch, active(2, MIB))
        monkeypatch.setattr(firstsync, "LOOK_S", DEADLINE_S)
        async with asyncio.TaskGroup() as group:
            group.create_task(stage.wait())
            stage.sync.heard_event(QmpEvent("MIGRATION_PASS", {"pass": 2}, 0, 0))
            await stage.asked(1)
            stage.attempt.decide()

    play(scene)


def test_the_guests_first_stop_is_measured_and_no_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        sync = Stage(monkeypatch).sync
        assert sync.stop_ms is None
        for name, at_us in (("RESUME", 1), ("STOP", 5_000), ("RESUME", 47_000), ("STOP", 60_000), ("RESUME", 99_000)):
            sync.heard_event(QmpEvent(name, {}, at_us, 0))
        assert sync.stop_ms == 42.0

    play(scene)


def test_a_monitor_that_does_not_answer_while_it_copies_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        stage = Stage(monkeypatch, QmpTimeout("vm1", "query-migrate", 5, "no answer"))
        async with asyncio.TaskGroup() as group:
            group.create_task(stage.wait())
            await stage.asked(3)
            stage.attempt.decide()

    play(scene)


def test_a_stream_that_stands_still_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        stage = Stage(monkeypatch, QmpTimeout("vm1", "query-migrate", 5, "no answer"))
        monkeypatch.setattr(firstsync, "MIGRATION_STALL_S", 0.05)
        stage.moved = 7
        with pytest.raises(PeerError, match="stands still at 7 bytes"):
            await stage.wait()

    play(scene)


@pytest.mark.parametrize("answer", [{"status": "failed"}, ConnectError("vm1: QEMU is not there")])
def test_a_migration_that_fails_is_one(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    async def scene() -> None:
        stage = Stage(monkeypatch, active(1, 2048 * MIB), answer)
        with pytest.raises((PeerError, ConnectError)):
            await stage.wait()

    play(scene)


def test_a_guest_that_changes_as_fast_as_it_is_copied_is_given_a_longer_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        stage = Stage(monkeypatch, *(active(number, 1024 * MIB) for number in range(1, 6)))
        async with asyncio.TaskGroup() as group:
            group.create_task(stage.wait())
            await stage.asked(7)
            assert stage.machine.parameters == {"downtime-limit": 3840, "max-bandwidth": UNLIMITED}
            stage.attempt.decide()

    play(scene)


def test_a_guest_for_which_no_pause_is_long_enough_is_refused_with_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        stage = Stage(monkeypatch, *(active(number, 1 << 36) for number in range(1, 99)))
        with pytest.raises(PeerError) as refused:
            await stage.wait()
        assert stage.machine.parameters == {"downtime-limit": PAUSE_MAX_MS, "max-bandwidth": UNLIMITED}
        for figure in ("vm1 cannot be protected", "900 MiB/s", "400 MiB/s", "64.0 GiB", "163840 ms", "10 s"):
            assert figure in str(refused.value)

    play(scene)


def test_only_a_copy_that_runs_has_progress() -> None:
    assert progress_of({}) is None
    assert progress_of({"status": "colo", "ram": {}}) is None
    assert progress_of({"status": "active"}) is None
    progress = progress_of(active(3, 5))
    assert progress is not None
    assert (progress.passes, progress.left_bytes) == (3, 5)
    assert progress.copy_rate == pytest.approx(400 * MIB)
    assert progress.change_rate == 900 * MIB
