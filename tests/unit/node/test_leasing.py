"""The arbiter's leave to protect: granted, refused, too late, given up."""

import asyncio
from collections.abc import Callable

import pytest

from pycolo.failover.arbiter import Decision, Verdict
from pycolo.node import leasing
from pycolo.node.leasing import Leasing, NoLease


class FakeRunner:
    """Answers what it is told to, when it is told to."""

    name = "etcd"

    def __init__(self) -> None:
        self.answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self.asked: list[int] = []
        self.was_given_up = False

    async def acquire(self, term: int) -> Verdict:
        self.asked.append(term)
        try:
            return await self.answer
        except asyncio.CancelledError:
            self.was_given_up = True
            raise

    def verdict(self) -> Verdict:
        return Verdict(Decision.WAIT, 3, "etcd does not answer")


def play(
    work: Callable[[FakeRunner, Leasing, list[tuple[int, str]]], None],
) -> tuple[FakeRunner, list[tuple[int, str]]]:
    """What `work` has led to."""

    async def run() -> tuple[FakeRunner, list[tuple[int, str]]]:
        runner, answers = FakeRunner(), []
        own = Leasing(runner)  # type: ignore[arg-type]
        own.acquire(3, lambda term, why: answers.append((term, why)))
        await asyncio.sleep(0)
        work(runner, own, answers)
        async with asyncio.timeout(20):
            while not answers and not runner.was_given_up:
                await asyncio.sleep(0)
        return runner, answers

    return asyncio.run(run())


def test_an_arbiter_without_leases_permits_at_once() -> None:
    answers: list[tuple[int, str]] = []
    NoLease().acquire(3, lambda term, why: answers.append((term, why)))
    assert answers == [(3, "")]


@pytest.mark.parametrize(
    ("verdict", "answer"),
    [
        (Verdict(Decision.GRANTED, 3, "held"), (3, "")),
        (Verdict(Decision.GRANTED, 5, "held"), (5, "")),
        (Verdict(Decision.DENIED, 4, "host B holds the lease"), (4, "arbiter etcd: host B holds the lease")),
    ],
)
def test_the_arbiters_answer_is_the_term_or_the_reason(verdict: Verdict, answer: tuple[int, str]) -> None:
    runner, answers = play(lambda runner, own, answers: runner.answer.set_result(verdict))
    assert runner.asked == [3]
    assert answers == [answer]


def test_an_arbiter_that_does_not_answer_is_given_up_with_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leasing, "ACQUIRE_S", 0.01)

    async def run() -> list[tuple[int, str]]:
        answers: list[tuple[int, str]] = []
        Leasing(FakeRunner()).acquire(3, lambda term, why: answers.append((term, why)))  # type: ignore[arg-type]
        async with asyncio.timeout(20):
            while not answers:
                await asyncio.sleep(0.01)
        return answers

    ((_, why),) = asyncio.run(run())
    assert why == "arbiter etcd: no answer within 0.01 s: etcd does not answer"


def test_what_is_abandoned_answers_nothing() -> None:
    was_awaited = []

    def abandon(runner: FakeRunner, own: Leasing, answers: list[tuple[int, str]]) -> None:
        was_awaited.extend([own.abandon(), own.abandon()])

    runner, answers = play(abandon)
    assert runner.was_given_up
    assert was_awaited == [True, False]
    assert NoLease().abandon() is False
    assert answers == []
