"""INCR of redis: the protocol, and the law of its answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo_lab.qemu.law import Answer
from pycolo_lab.work.incr import breaches, number, request


def history(numbers: list[int]) -> list[Answer]:
    return [Answer(0, 2 * at, 2 * at + 1, value, "", False) for at, value in enumerate(numbers)]


@given(count=st.integers(1, 50), unanswered=st.integers(0, 6), data=st.data())
def test_the_answers_of_one_machine_hold(count, unanswered, data):
    last = count + data.draw(st.integers(0, unanswered))
    assert breaches(history(list(range(1, count + 1))), unanswered, last) == []


@given(count=st.integers(2, 50), data=st.data())
def test_an_answer_that_is_given_twice_or_left_out_breaks_the_law(count, data):
    numbers = list(range(1, count + 1))
    at = data.draw(st.integers(0, count - 1))
    assert breaches(history([*numbers[: at + 1], *numbers[at:]]), 0, count)
    assert breaches(history(numbers[:at] + numbers[at + 1 :]), 0, count)


def test_a_key_that_does_not_end_with_the_last_answer_breaks_the_law():
    assert breaches(history([1, 2, 3]), 0, 3) == []
    assert breaches(history([1, 2, 3]), 0, 2) == ["the key is 2, the last answer was 3"]
    assert breaches(history([1, 2, 3]), 1, 5) == ["the key is 5, the last answer was 3"]


def test_requests_and_answers_are_those_of_redis():
    assert request("INCR", "colo") == b"*2\r\n$4\r\nINCR\r\n$4\r\ncolo\r\n"
    assert number(b":12\r\n") == 12
    for wrong in (b"-ERR no\r\n", b":12", b"$2\r\n12\r\n"):
        with pytest.raises(ValueError, match="wrong answer"):
            number(wrong)
