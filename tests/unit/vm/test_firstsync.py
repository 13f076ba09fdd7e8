"""Waiting for the first copy: a monitor that is busy is no failure, and a guest that is too fast gets more time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pycolo.checkpoint.firstcopy import PAUSE_MAX_MS
from pycolo.errors import ConnectError, PeerError, QmpTimeout
from pycolo.vm import firstsync
from pycolo.vm.firstsync import FirstSync, forget, progress_of

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
        self.asked = 0

    async def execute(self, command: str, arguments: dict[str, int] | None = None) -> Any:
        if command == "migrate-set-parameters":
            assert arguments is not None
            self.parameters |= arguments
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
        self.sync = FirstSync(self.machine, "vm1", 100, lambda: self.moved)  # type: ignore[arg-type]

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
        assert stage.machine.parameters["downtime-limit"] == 100
        assert stage.machine.parameters["max-bandwidth"] > 1 << 36
        await forget(stage.machine)  # type: ignore[arg-type]
        assert stage.machine.parameters == {"downtime-limit": 300, "max-bandwidth": 128 << 20}

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
        stage = Stage(monkeypatch, *(active(number, 1024 * MIB) for number in range(1, 5)))
        async with asyncio.TaskGroup() as group:
            group.create_task(stage.wait())
            await stage.asked(6)
            assert stage.machine.parameters == {"downtime-limit": 3840}
            stage.attempt.decide()

    play(scene)


def test_a_guest_for_which_no_pause_is_long_enough_is_refused_with_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        stage = Stage(monkeypatch, *(active(number, 1 << 36) for number in range(1, 99)))
        with pytest.raises(PeerError) as refused:
            await stage.wait()
        assert stage.machine.parameters == {"downtime-limit": PAUSE_MAX_MS}
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
