"""The law of the counter: what one machine would answer passes, what two machines answer does not."""

import random

from hypothesis import given
from hypothesis import strategies as st

from pycolo_lab.qemu.law import Answer, breaches, gap_at, slowest_at

MS = 1_000_000


def history(seed: int, length: int, connections: int = 5) -> list[Answer]:
    """Answers of one machine: questions overlap, and each is counted at some moment between question and answer."""
    rng = random.Random(seed)
    moments = sorted(rng.sample(range(length * 100), length))
    last, found = "00000000", []
    for number, moment in enumerate(moments, 1):
        drew = rng.random() < 0.2
        last = f"{rng.getrandbits(32):08x}" if drew else last
        asked, answered = moment - rng.randrange(1, 300), moment + rng.randrange(1, 300)
        found.append(Answer(number % connections, asked * MS, answered * MS, number, last, drew))
    return found


seeds = st.integers(0, 2**32)


@given(seeds, st.integers(0, 200))
def test_one_machine_breaks_nothing(seed, length):
    answers = history(seed, length)
    random.Random(seed).shuffle(answers)
    assert breaches(answers, unanswered=0) == []


@given(seeds, st.integers(10, 100), st.integers(1, 8))
def test_answers_that_never_came_are_no_breach(seed, length, lost):
    answers = history(seed, length)
    rng = random.Random(seed)
    for index in sorted(rng.sample(range(1, length - 1), min(lost, length - 2)), reverse=True):
        del answers[index]
    assert breaches(answers, unanswered=lost) == []


@given(seeds, st.integers(10, 100), st.data())
def test_a_survivor_that_forgot_answers_is_found(seed, length, data):
    """The state goes back by some answers that clients have seen; the counting goes on from there."""
    answers = history(seed, length)
    at = data.draw(st.integers(2, length - 2), label="failover after this many answers")
    forgotten = data.draw(st.integers(1, at - 1), label="answers that the survivor's state does not imply")
    survived = [answer._replace(number=answer.number - forgotten) for answer in answers[at:]]
    assert breaches([*answers[:at], *survived], unanswered=0) != []


@given(seeds, st.integers(10, 100), st.data())
def test_a_survivor_with_another_random_number_is_found(seed, length, data):
    answers = history(seed, length)
    at = data.draw(st.integers(1, length - 1))
    if answers[at].drew:
        answers[at] = answers[at]._replace(drew=False)
    changed = answers[at]._replace(last="not the same")
    assert breaches([*answers[:at], changed], unanswered=0) != []


def test_numbers_that_no_client_got_are_found():
    first = Answer(0, 0, 1 * MS, 1, "a", False)
    later = Answer(0, 2 * MS, 3 * MS, 5, "a", False)
    assert len(breaches([first, later], unanswered=2)) == 1
    assert breaches([first, later], unanswered=3) == []


def test_the_gap_is_the_longest_stretch_around_the_moment():
    moments = [0, 10, 20, 400, 410, 2000]
    answers = [Answer(0, 0, at * MS, number, "a", False) for number, at in enumerate(moments, 1)]
    gap = gap_at(answers, 30 * MS, within_ns=100 * MS)
    assert gap is not None
    assert (gap.started_ns, gap.ended_ns, gap.length_ms) == (20 * MS, 400 * MS, 380.0)
    assert gap_at([], 30 * MS, within_ns=100 * MS) is None


def test_the_slowest_answer_around_a_fault_is_one_that_was_owed_then():
    waits = [(0, 90), (95, 140), (110, 115), (150, 990), (220, 999)]
    answers = [Answer(n, asked * MS, answered * MS, n, "0", drew=False) for n, (asked, answered) in enumerate(waits)]
    slowest = slowest_at(answers, 100 * MS, within_ns=100 * MS)
    assert slowest is not None
    assert slowest.connection == 3
    assert slowest_at(answers[:1], 100 * MS, within_ns=100 * MS) is None
