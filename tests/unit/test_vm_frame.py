"""The checkpoints' shell: what QEMU and the data path say goes to the coordinator, and what that says is done."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pycolo.compare.difference import Command, Difference, ReportDifference, RequestCheckpoint
from pycolo.compare.kinds import DifferenceKind
from pycolo.config.sections import CheckpointOptions
from pycolo.errors import CheckpointError, PeerError, StateError
from pycolo.vm.frame import CheckpointFrame

DEADLINE_S = 20
STOPPED_US, RESUMED_US = 1_000_000, 1_006_500
RELEASED = {"released_frames": 3, "released_bytes": 400, "discarded_frames": 2}


class Stage:
    """A frame, and a hypervisor that does what the test says."""

    def __init__(self, **options: int) -> None:
        given = {"min_distance_ms": 0, "max_interval_ms": 0, "timeout_ms": 5_000} | options
        self.asked = 0
        self.suspicions: list[str] = []
        self.refusal: PeerError | None = None
        self.frame = CheckpointFrame(CheckpointOptions(**given), self._ask, self.suspicions.append, epoch=6)

    async def _ask(self) -> None:
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal

    async def is_asked(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while self.asked < count:
                await asyncio.sleep(0.001)

    def begin(self) -> None:
        self.frame.secondary_stopped()
        self.frame.primary_stopped(STOPPED_US)

    def commit(self) -> None:
        self.frame.committed(RELEASED)

    def resume(self) -> None:
        self.frame.primary_resumed(RESUMED_US)

    def whole(self) -> None:
        """A checkpoint from its beginning to its end."""
        self.begin()
        self.commit()
        self.resume()

    async def armed(self) -> None:
        """In COLO, and the first checkpoint is over."""
        self.frame.entered_colo(7)
        await self.is_asked(1)
        self.whole()

    @property
    def status(self) -> dict[str, Any]:
        return self.frame.status()


@asynccontextmanager
async def stage(**options: int) -> AsyncIterator[Stage]:
    made = Stage(**options)
    try:
        yield made
    finally:
        await made.frame.close()


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await scene()

    asyncio.run(limited())


def differing(kind: DifferenceKind) -> list[Command]:
    difference = Difference(kind, None, 0, 0)
    return [ReportDifference(difference), RequestCheckpoint(difference)]


def test_the_first_one_is_made_when_the_pair_enters_colo() -> None:
    async def scene() -> None:
        async with stage() as here:
            assert here.frame.epoch == 6
            await here.armed()
            assert here.frame.epoch == 8
            assert here.status["count"] == {"first": 1}
            assert here.status["phase"] == "idle"

    play(scene)


def test_a_record_says_when_why_and_what() -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            here.frame.diverged(differing(DifferenceKind.DATAGRAM), 8)
            await here.is_asked(2)
            here.whole()
            record = here.status["last"][-1]
            assert record | {"at": None, "request_to_resume_ms": None, "reasons": None} == {
                "epoch": 9,
                "reasons": None,
                "at": None,
                "outcome": "committed",
                "why": None,
                "request_to_resume_ms": None,
                "pause_ms": (RESUMED_US - STOPPED_US) / 1000,
                **RELEASED,
                **{key: record[key] for key in record if key == "more_reasons"},
            }
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["at"])
            assert [(reason["kind"], reason["connection"]) for reason in record["reasons"]] == [("divergence", None)]
            assert here.status["released_frames"] == 2 * RELEASED["released_frames"]

    play(scene)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (DifferenceKind.PAYLOAD, "divergence"),
        (DifferenceKind.DATAGRAM, "divergence"),
        (DifferenceKind.TIMEOUT, "timeout"),
        (DifferenceKind.SECONDARY_TIMEOUT, "timeout"),
        (DifferenceKind.QUEUE_FULL, "queue_full"),
        (DifferenceKind.MEMORY_FULL, "queue_full"),
        (DifferenceKind.TABLE_FULL, "queue_full"),
    ],
)
def test_what_a_difference_counts_as(kind: DifferenceKind, expected: str) -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            here.frame.diverged(differing(kind), 8)
            await here.is_asked(2)
            here.whole()
            assert here.status["last"][-1]["reasons"][0]["kind"] == expected

    play(scene)


def test_a_difference_of_an_epoch_that_is_over_wants_nothing() -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            here.frame.diverged(differing(DifferenceKind.DATAGRAM), 7)
            here.frame.diverged([ReportDifference(Difference(DifferenceKind.DATAGRAM, None, 0, 0))], 8)
            assert here.status["phase"] == "idle"
            assert here.asked == 1

    play(scene)


# ── the operator ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_operator_gets_the_record() -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            asking = asyncio.ensure_future(here.frame.operator_checkpoint())
            await here.is_asked(2)
            here.whole()
            record = await asking
            assert record["epoch"] == 9
            assert record["reasons"][0]["kind"] == "operator"
            assert record == here.status["last"][-1]

    play(scene)


def test_several_operators_share_one() -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            asking = [asyncio.ensure_future(here.frame.operator_checkpoint()) for _ in range(3)]
            await here.is_asked(2)
            here.whole()
            assert {record["epoch"] for record in await asyncio.gather(*asking)} == {9}
            assert here.asked == 2

    play(scene)


def test_a_checkpoint_from_before_the_question_is_no_answer() -> None:
    """It is committed, and its RESUME is late: what has happened since is not in it."""

    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            first = asyncio.ensure_future(here.frame.operator_checkpoint())
            await here.is_asked(2)
            here.begin()
            here.commit()
            second = asyncio.ensure_future(here.frame.operator_checkpoint())
            await asyncio.sleep(0)
            here.resume()
            assert (await first)["epoch"] == 9
            await here.is_asked(3)
            assert not second.done()
            here.whole()
            assert (await second)["epoch"] == 10

    play(scene)


def test_without_a_pair_it_is_refused() -> None:
    async def scene() -> None:
        async with stage() as here:
            with pytest.raises(StateError, match="protect"):
                await here.frame.operator_checkpoint()
            assert here.asked == 0

    play(scene)


def test_a_pair_that_is_lost_meanwhile_is_said() -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            asking = asyncio.ensure_future(here.frame.operator_checkpoint())
            await here.is_asked(2)
            here.begin()
            here.frame.pair_lost("the link was lost")
            with pytest.raises(CheckpointError, match="the link was lost"):
                await asking
            assert here.status["aborted"] == 1
            assert here.status["phase"] == "disarmed"
            here.whole()  # what comes too late changes nothing
            assert here.status["phase"] == "disarmed"
            assert here.frame.epoch == 8

    play(scene)


def test_the_operator_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            monkeypatch.setattr(here.frame, "_timeout_s", -1.99)  # two seconds more are given for the answer's way
            with pytest.raises(CheckpointError, match="not done within"):
                await here.frame.operator_checkpoint()

    play(scene)


# ── what goes wrong ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_hypervisor_that_refuses_is_asked_again() -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            here.refusal = PeerError("vm1: migrate-set-parameters: no")
            asking = asyncio.ensure_future(here.frame.operator_checkpoint())
            await here.is_asked(2)
            await asyncio.sleep(0)
            here.refusal = None
            await here.is_asked(3)
            here.whole()
            assert (await asking)["epoch"] == 9
            assert here.status["aborted"] == 1
            outcomes = [(record["outcome"], record["why"]) for record in here.status["last"]]
            assert outcomes[-2:] == [("aborted", "vm1: migrate-set-parameters: no"), ("committed", None)]

    play(scene)


def test_a_checkpoint_that_does_not_end_is_a_suspicion_once() -> None:
    async def scene() -> None:
        async with stage(timeout_ms=100) as here:
            await here.armed()
            here.frame.diverged(differing(DifferenceKind.DATAGRAM), 8)
            await here.is_asked(2)
            async with asyncio.timeout(DEADLINE_S):
                while not here.suspicions:
                    await asyncio.sleep(0.005)
            await asyncio.sleep(0.15)
            assert len(here.suspicions) == 1
            assert "epoch 9" in here.suspicions[0]

    play(scene)


def test_one_is_made_for_its_age() -> None:
    async def scene() -> None:
        async with stage(max_interval_ms=5) as here:
            await here.armed()
            await here.is_asked(2)
            here.whole()
            assert here.status["last"][-1]["reasons"][0]["kind"] == "periodic"

    play(scene)


def test_one_that_the_hypervisor_began_by_itself_is_a_checkpoint_too() -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            here.whole()
            assert here.asked == 1
            assert here.status["last"][-1]["reasons"][0]["kind"] == "hypervisor"
            assert here.frame.epoch == 9

    play(scene)


def test_a_closed_frame_asks_nobody() -> None:
    async def scene() -> None:
        async with stage(max_interval_ms=5) as here:
            await here.armed()
            await here.frame.close()
            asked = here.asked
            await asyncio.sleep(0.03)
            assert here.asked == asked

    play(scene)
