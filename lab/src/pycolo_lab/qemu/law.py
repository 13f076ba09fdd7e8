"""The law that the answers of the guest's counter must obey, whichever host gave them.

The guest answers each question with a number one higher than the last, and with the last random number that it drew. So
the answers of all connections are the history of one machine. A survivor whose state contradicts an answer that a
client has seen shows it: it repeats a number, skips one, goes back behind an answer from before the question, or names
another random number.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import msgspec


class Answer(NamedTuple):
    """One answer. Times are CLOCK_MONOTONIC nanoseconds."""

    connection: int
    asked_ns: int
    answered_ns: int
    number: int
    last: str
    drew: bool
    """Whether the question asked for a new random number: then `last` is that one."""


class Breach(msgspec.Struct, frozen=True):
    """One answer that cannot be true."""

    at_ns: int
    text: str


def breaches(answers: Sequence[Answer], unanswered: int) -> list[Breach]:
    """Every breach of the law, oldest first.

    `unanswered` questions were sent without an answer; as many numbers may be missing.
    """
    history = sorted(answers, key=lambda answer: (answer.number, answer.answered_ns))
    found = [*_doubled(history), *_backwards(answers), *_missing(history, unanswered), *_forgotten(history)]
    return sorted(found, key=lambda breach: breach.at_ns)


def _doubled(history: Sequence[Answer]) -> list[Breach]:
    return [
        Breach(
            second.answered_ns,
            f"number {second.number} was given to connections {first.connection} and {second.connection}",
        )
        for first, second in pairwise(history)
        if first.number == second.number
    ]


def _backwards(answers: Sequence[Answer]) -> list[Breach]:
    """A question gets a higher number than every answer that had arrived before it was asked."""
    arrived = sorted(answers, key=lambda answer: answer.answered_ns)
    moments = [answer.answered_ns for answer in arrived]
    highest = list(accumulate((answer.number for answer in arrived), max))
    found = []
    for answer in arrived:
        before = bisect_left(moments, answer.asked_ns)
        if before and answer.number <= highest[before - 1]:
            text = (
                f"connection {answer.connection} got number {answer.number} after {highest[before - 1]} had been given"
            )
            found.append(Breach(answer.answered_ns, text))
    return found


def _missing(history: Sequence[Answer], unanswered: int) -> list[Breach]:
    found = []
    for first, second in pairwise(history):
        missing = max(0, second.number - first.number - 1)
        if missing > unanswered:
            text = f"{missing - unanswered} numbers between {first.number} and {second.number} are missing"
            found.append(Breach(second.answered_ns, text))
        unanswered = max(0, unanswered - missing)
    return found


def _forgotten(history: Sequence[Answer]) -> list[Breach]:
    """Between two draws every answer names the first one's number."""
    found = []
    for first, second in pairwise(history):
        # With a number missing between them, a question whose answer was lost may have drawn.
        if second.number == first.number + 1 and not second.drew and second.last != first.last:
            text = f"number {second.number} remembers {second.last}, number {first.number} had said {first.last}"
            found.append(Breach(second.answered_ns, text))
    return found


class Gap(NamedTuple):
    """A period without an answer to any client."""

    started_ns: int
    ended_ns: int

    @property
    def length_ms(self) -> float:
        """How long no client got an answer."""
        return (self.ended_ns - self.started_ns) / 1e6


def gap_at(answers: Sequence[Answer], at_ns: int, within_ns: int) -> Gap | None:
    """The longest stretch without an answer that overlaps `at_ns` … `at_ns + within_ns`; None without answers."""
    moments = sorted(answer.answered_ns for answer in answers)
    overlapping = [
        Gap(first, second) for first, second in pairwise(moments) if second >= at_ns and first <= at_ns + within_ns
    ]
    return max(overlapping, key=lambda gap: gap.ended_ns - gap.started_ns, default=None)


def slowest_at(answers: Sequence[Answer], at_ns: int, within_ns: int) -> Answer | None:
    """The answer that took longest, of those that were asked for or given within `at_ns` … `at_ns + within_ns`."""
    found = [answer for answer in answers if answer.answered_ns >= at_ns and answer.asked_ns <= at_ns + within_ns]
    return max(found, key=lambda answer: answer.answered_ns - answer.asked_ns, default=None)
