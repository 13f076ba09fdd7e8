"""What QEMU and the data path report goes to the coordinator, and what it commands is done: `Commit` above all."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pycolo.checkpoint.epoch import Epoch
from pycolo.compare.difference import Command, Difference, ReportDifference, RequestCheckpoint, on_card
from pycolo.compare.kinds import DifferenceKind
from pycolo.config.sections import CheckpointOptions
from pycolo.errors import CheckpointError, PeerError, StateError
from pycolo.vm.checkpointdriver import CheckpointDriver

DEADLINE_S = 20
STOPPED_US, RESUMED_US = 1_000_000, 1_006_500
RELEASED = {"released_frames": 3, "released_bytes": 400, "discarded_frames": 2}


class Sample:
    """A guest's memory, of which so many bytes have changed."""

    def __init__(self) -> None:
        self.changed_bytes = 0
        self.compared = 0
        self.is_gone = False
        self.is_closed = False

    def take(self) -> None:
        if self.is_gone:
            raise ProcessLookupError

    def changed(self) -> tuple[int, int]:
        self.take()
        self.compared += 1
        return self.changed_bytes, self.changed_bytes >> 20

    def close(self) -> None:
        self.is_closed = True


class Stage:
    """A driver; a hypervisor and a data path that do what the test says."""

    def __init__(self, **options: int) -> None:
        given = {"min_distance_ms": 0, "max_interval_ms": 0, "timeout_ms": 5_000} | options
        self.asked = 0
        self.suspicions: list[str] = []
        self.broken: list[str] = []
        self.refusal: PeerError | None = None
        self.committed: list[int] = []
        self.commit_error: Exception | None = None
        self.commit_gate = threading.Event()
        self.commit_gate.set()
        self.moved = (1_000, 0)
        self.sample: Sample | None = None
        self._loop = asyncio.get_running_loop()
        self.epoch = Epoch(6)
        self.driver = CheckpointDriver(CheckpointOptions(**given), self, self.epoch)

    # what `CheckpointHost` asks for

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        self._loop.call_soon_threadsafe(function, *arguments)

    async def ask_hypervisor(self) -> None:
        self.asked += 1
        refusal, self.refusal = self.refusal, None  # only once: it is asked again soon
        if refusal is not None:
            raise refusal

    ram_bytes = 256 << 20

    def stream(self) -> tuple[int, int] | None:
        return self.moved

    def memory_sample(self) -> Sample | None:  # type: ignore[override]
        return self.sample

    def checkpoint_overdue(self, text: str) -> None:
        self.suspicions.append(text)

    def pair_broken(self, text: str) -> None:
        self.broken.append(text)

    # what the test says

    async def is_asked(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while self.asked < count:
                await asyncio.sleep(0.001)

    def begin(self) -> None:
        self.driver.heard_reply()()
        self.driver.heard_stop(STOPPED_US)

    def _commit(self, epoch: int) -> dict[str, int]:
        self.committed.append(epoch)
        assert self.commit_gate.wait(DEADLINE_S)
        if self.commit_error is not None:
            raise self.commit_error
        return RELEASED

    async def commit(self) -> None:
        """LOADED, in the relay's thread."""
        follow = await asyncio.to_thread(self.driver.commit_loaded, self._commit)
        follow()
        await asyncio.sleep(0)

    def resume(self) -> None:
        self.driver.heard_resume(RESUMED_US)

    async def whole(self) -> None:
        """A checkpoint from its beginning to its end."""
        self.begin()
        await self.commit()
        self.resume()

    async def armed(self) -> None:
        """In COLO, and the first checkpoint is over."""
        self.epoch.begin()
        self.driver.heard_ready()
        self.driver.arm()
        await self.is_asked(1)
        await self.whole()

    @property
    def status(self) -> dict[str, Any]:
        return self.driver.status()


@asynccontextmanager
async def stage(**options: int) -> AsyncIterator[Stage]:
    made = Stage(**options)
    try:
        yield made
    finally:
        await made.driver.close()


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
            assert here.epoch.number == 6
            await here.armed()
            assert here.epoch.number == 8
            assert here.status["count"] == {"first": 1}
            assert here.status["phase"] == "idle"

    play(scene)


def test_a_record_says_when_why_and_what() -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            here.driver.want(differing(DifferenceKind.DATAGRAM), 8)
            await here.is_asked(2)
            here.moved = (here.moved[0] + 700, 5)
            await here.whole()
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
                "copied_bytes": 700,
                "parts_ms": None,
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
            here.driver.want(differing(kind), 8)
            await here.is_asked(2)
            await here.whole()
            assert here.status["last"][-1]["reasons"][0]["kind"] == expected

    play(scene)


def test_of_several_cards_the_reason_names_the_one() -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            here.driver.want(on_card("hn1", differing(DifferenceKind.DATAGRAM)), 8)
            await here.is_asked(2)
            await here.whole()
            (reason,) = here.status["last"][-1]["reasons"]
            assert (reason["card"], "on hn1" in reason["text"]) == ("hn1", True)

    play(scene)


def test_a_difference_of_an_epoch_that_is_over_wants_nothing() -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            here.driver.want(differing(DifferenceKind.DATAGRAM), 7)
            here.driver.want([ReportDifference(Difference(DifferenceKind.DATAGRAM, None, 0, 0))], 8)
            assert here.status["phase"] == "idle"
            assert here.asked == 1

    play(scene)


def test_another_difference_is_told_while_one_waits() -> None:
    """Whether a wait for more would pay is judged by all differences, also those that ask for nothing any more."""
    another: list[Command] = [ReportDifference(Difference(DifferenceKind.DATAGRAM, None, 0, 0))]

    async def scene() -> None:
        async with stage(min_distance_ms=60_000) as here:
            await here.armed()
            here.driver.want(differing(DifferenceKind.DATAGRAM), 8)
            assert here.status["phase"] == "requested"
            first_us = here.driver._coordinator.spacing._differed_us
            await asyncio.sleep(0.002)
            here.driver.want(another, 7)
            assert here.driver._coordinator.spacing._differed_us == first_us, "of an epoch that is over"
            here.driver.want(another, 8)
            told_us = here.driver._coordinator.spacing._differed_us
            assert first_us is not None
            assert told_us is not None
            assert told_us > first_us

    play(scene)


def test_a_stray_of_an_epoch_that_is_over_wants_nothing() -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            here.driver.want_for("card hn0: 2 frames of others were sent on it", 7)
            assert (here.status["phase"], here.asked) == ("idle", 1)
            here.driver.want_for("card hn0: 2 frames of others were sent on it", 8)
            await here.is_asked(2)

    play(scene)


# ── the operator ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_operator_gets_the_record() -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            asking = asyncio.ensure_future(here.driver.operator_checkpoint())
            await here.is_asked(2)
            await here.whole()
            record = await asking
            assert record["epoch"] == 9
            assert record["reasons"][0]["kind"] == "operator"
            # The time of day is made of two clocks, which are read a moment apart.
            assert record | {"at": None} == here.status["last"][-1] | {"at": None}

    play(scene)


def test_several_operators_share_one() -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            asking = [asyncio.ensure_future(here.driver.operator_checkpoint()) for _ in range(3)]
            await here.is_asked(2)
            await here.whole()
            assert {record["epoch"] for record in await asyncio.gather(*asking)} == {9}
            assert here.asked == 2

    play(scene)


def test_a_checkpoint_from_before_the_question_is_no_answer() -> None:
    """It is committed, and its RESUME is late: what has happened since is not in it."""

    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            first = asyncio.ensure_future(here.driver.operator_checkpoint())
            await here.is_asked(2)
            here.begin()
            await here.commit()
            second = asyncio.ensure_future(here.driver.operator_checkpoint())
            await asyncio.sleep(0)
            here.resume()
            assert (await first)["epoch"] == 9
            await here.is_asked(3)
            assert not second.done()
            await here.whole()
            assert (await second)["epoch"] == 10

    play(scene)


def test_without_a_pair_it_is_refused() -> None:
    async def scene() -> None:
        async with stage() as here:
            with pytest.raises(StateError, match="protect"):
                await here.driver.operator_checkpoint()
            assert here.asked == 0

    play(scene)


def test_a_pair_that_is_lost_meanwhile_is_said() -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            asking = asyncio.ensure_future(here.driver.operator_checkpoint())
            await here.is_asked(2)
            here.begin()
            here.driver.disarm("the link was lost")
            with pytest.raises(CheckpointError, match="the link was lost"):
                await asking
            assert here.status["aborted"] == 1
            assert here.status["phase"] == "disarmed"
            with pytest.raises(CheckpointError):
                await here.whole()  # what comes too late changes nothing
            assert here.status["phase"] == "disarmed"
            assert here.epoch.number == 8

    play(scene)


def test_the_operator_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            monkeypatch.setattr(CheckpointDriver, "_longest_s", 0.01)
            with pytest.raises(CheckpointError, match="not done within"):
                await here.driver.operator_checkpoint()

    play(scene)


# ── Commit ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("E1")
def test_loaded_passes_when_the_data_path_has_committed_and_not_before() -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            here.commit_gate.clear()
            here.begin()
            passing = asyncio.ensure_future(here.commit())
            while here.committed != [8, 9]:
                await asyncio.sleep(0.001)
            assert not passing.done()
            assert (here.epoch.number, here.status["phase"]) == (8, "loaded")
            here.commit_gate.set()
            await passing
            assert (here.epoch.number, here.status["phase"]) == (9, "idle"), "counted before LOADED passes"

    play(scene)


@pytest.mark.parametrize("is_armed", [True, False])
def test_loaded_of_no_checkpoint_never_passes_and_commits_nothing(is_armed: bool) -> None:
    async def scene() -> None:
        async with stage() as here:
            if is_armed:
                await here.armed()
            committed = list(here.committed)
            with pytest.raises(CheckpointError, match="belongs to no checkpoint"):
                await here.commit()
            assert here.committed == committed
            assert bool(here.suspicions) is is_armed

    play(scene)


@pytest.mark.parametrize("error", [StateError("data path", "ended", "running"), TimeoutError()])
def test_a_data_path_that_cannot_commit_aborts_and_ends_the_pair(error: Exception) -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            asking = asyncio.ensure_future(here.driver.operator_checkpoint())
            await here.is_asked(2)
            here.commit_error = error
            here.begin()
            with pytest.raises(CheckpointError, match="has not committed"):
                await here.commit()
            with pytest.raises(CheckpointError, match="has not committed"):
                await asking
            assert (here.epoch.number, here.status["phase"], here.status["aborted"]) == (8, "disarmed", 1)
            assert len(here.broken) == 1
            here.driver.heard_colo_end("the migration stream is closed")
            assert len(here.broken) == 1, "the stream ends by it: that is the same failure"

    play(scene)


def test_a_loop_that_is_busy_does_not_hold_the_primary_up() -> None:
    """Neither REPLY nor LOADED waits for asyncio's thread: the primary's guest stands still meanwhile."""

    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            relay = threading.Thread(
                target=lambda: (here.driver.heard_reply(), here.driver.commit_loaded(here._commit))
            )
            relay.start()
            relay.join(DEADLINE_S)  # and this is the loop's thread
            assert not relay.is_alive()
            assert here.epoch.number == 9
            assert not here.driver._coordinator.unexpected

    play(scene)


def test_a_pair_that_is_lost_during_the_commit_lets_nothing_pass() -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            here.commit_gate.clear()
            here.begin()
            passing = asyncio.ensure_future(here.commit())
            while here.committed[-1] != 9:
                await asyncio.sleep(0.001)
            here.driver.disarm("unprotect")
            here.commit_gate.set()
            with pytest.raises(CheckpointError, match="lost during the commit"):
                await passing
            assert here.epoch.number == 8

    play(scene)


@pytest.mark.parametrize("has_begun", [False, True])
def test_colo_that_ends_is_reported_once_and_aborts_what_was_under_way(has_begun: bool) -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            if has_begun:
                here.begin()
            here.driver.heard_colo_end("QEMU has left COLO after an error")
            here.driver.heard_colo_end("the other node has ended the migration stream")
            assert here.broken == ["QEMU has left COLO after an error"]
            assert here.status["aborted"] == int(has_begun)
            if has_begun:
                assert here.status["last"][-1]["why"] == "QEMU has left COLO after an error"
            here.driver.want(differing(DifferenceKind.DATAGRAM), 8)
            assert (here.status["phase"], here.asked) == ("disarmed", 1)

    play(scene)


# ── what goes wrong ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_hypervisor_that_refuses_is_asked_again() -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            here.refusal = PeerError("vm1: migrate-set-parameters: no")
            asking = asyncio.ensure_future(here.driver.operator_checkpoint())
            await here.is_asked(3)
            await here.whole()
            assert (await asking)["epoch"] == 9
            assert here.status["aborted"] == 1
            outcomes = [(record["outcome"], record["why"]) for record in here.status["last"]]
            assert outcomes[-2:] == [("aborted", "vm1: migrate-set-parameters: no"), ("committed", None)]

    play(scene)


def test_a_checkpoint_that_does_not_end_is_a_suspicion_once() -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            here.driver._coordinator.timeout_us = 100_000  # the first one may take its time
            here.driver.want(differing(DifferenceKind.DATAGRAM), 8)
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
            await here.whole()
            assert here.status["last"][-1]["reasons"][0]["kind"] == "periodic"

    play(scene)


def test_one_that_the_hypervisor_began_by_itself_is_a_checkpoint_too() -> None:
    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            await here.whole()
            assert here.asked == 1
            assert here.status["last"][-1]["reasons"][0]["kind"] == "hypervisor"
            assert here.epoch.number == 9

    play(scene)


def test_a_closed_driver_asks_for_nothing() -> None:
    async def scene() -> None:
        async with stage(max_interval_ms=5) as here:
            await here.armed()
            await here.driver.close()
            asked = here.asked
            await asyncio.sleep(0.03)
            assert here.asked == asked

    play(scene)


def test_a_packet_that_waits_for_a_checkpoint_is_no_difference() -> None:
    """Copying much takes longer than compare_timeout, and the secondary stands still meanwhile."""
    waits = differing(DifferenceKind.TIMEOUT) + differing(DifferenceKind.SECONDARY_TIMEOUT)
    differs = differing(DifferenceKind.DATAGRAM)

    async def scene() -> None:
        async with stage() as here:
            await here.armed()
            assert here.driver.unexplained(waits + differs, 8) == waits + differs
            here.begin()
            assert here.driver.unexplained(waits + differs, 8) == differs
            assert here.driver.unexplained(waits, 9) == waits, "one card has committed, the others not yet"
            await here.commit()
            assert here.driver.unexplained(waits, 9) == waits

    play(scene)


# ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────


def until(condition: Callable[[], bool]) -> Awaitable[None]:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.001)

    return wait()


def test_a_guest_that_changes_much_is_seen_and_copied_before_the_interval_is_over() -> None:
    async def scene() -> None:
        async with stage(max_interval_ms=3_600_000) as here:
            here.sample = sample = Sample()
            await here.armed()
            await until(lambda: sample.compared > 1)
            assert here.asked == 1, "nothing has changed"
            assert here.status["pace"]["is_looking"]
            sample.changed_bytes = 200 << 20
            await here.is_asked(2)
            here.moved = (here.moved[0] + (200 << 20), 5)
            await here.whole()
            (reason,) = here.status["last"][-1]["reasons"]
            assert reason["kind"] == "periodic"
            assert "/s change" in reason["text"]

    play(scene)


@pytest.mark.parametrize("is_there", [True, False], ids=["its process ends", "it cannot be read"])
def test_without_looks_checkpoints_go_on(is_there: bool) -> None:
    async def scene() -> None:
        async with stage(max_interval_ms=100) as here:
            sample = Sample()
            sample.is_gone = True
            here.sample = sample if is_there else None
            await here.armed()
            await here.is_asked(2)
            await here.whole()
            await here.is_asked(3)
            assert not here.status["pace"]["is_looking"]
            assert sample.is_closed == is_there

    play(scene)


def test_a_sample_goes_with_its_pair() -> None:
    async def scene() -> None:
        async with stage(max_interval_ms=3_600_000) as here:
            here.sample = sample = Sample()
            await here.armed()
            await until(lambda: sample.compared > 0)
            here.driver.disarm("unprotect")
            await until(lambda: sample.is_closed)

    play(scene)


def test_a_pause_target_that_is_not_held_is_logged_once(capsys: pytest.CaptureFixture[str]) -> None:
    async def scene() -> None:
        async with stage(max_interval_ms=3_600_000) as here:
            await here.armed()
            for number in range(4):
                here.moved = (here.moved[0] + (400 << 20), 5)
                here.driver.want(differing(DifferenceKind.DATAGRAM), here.epoch.number)
                await here.is_asked(2 + number)
                here.driver.heard_reply()
                here.driver.heard_stop(STOPPED_US)
                await here.commit()
                here.driver.heard_resume(STOPPED_US + 900_000)

    play(scene)
    assert capsys.readouterr().out.count("is not held") == 1
