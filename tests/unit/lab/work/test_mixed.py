"""Transactions, scripts, a queue and messages of redis: the protocol, and the laws of the answers."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo_lab.work.mixed import counted, delivered, heard, read_reply

NUMBERS = st.integers(1, 40).flatmap(lambda count: st.permutations(range(1, count + 1)))


@given(NUMBERS)
def test_transactions_of_one_machine_hold_in_any_order(numbers):
    assert counted([[number, number] for number in numbers]) == []


@given(NUMBERS, st.data())
def test_a_transaction_that_is_lost_doubled_or_torn_breaks_the_law(numbers, data):
    at = data.draw(st.integers(0, len(numbers) - 1))
    pairs = [[number, number] for number in numbers]
    assert counted([*pairs, pairs[at]])
    if numbers[at] < len(numbers):
        assert counted(pairs[:at] + pairs[at + 1 :])
    assert counted([*pairs[:at], [numbers[at], numbers[at] + 1], *pairs[at + 1 :]])
    assert counted([*pairs, None])


@given(st.lists(st.text("abc", min_size=1), unique=True), st.data())
def test_what_is_put_into_the_queue_is_taken_once(put, data):
    taken = data.draw(st.permutations(put))
    assert delivered(put, taken) == []
    assert delivered([*put, "lost"], taken)
    assert delivered(put, [*taken, "invented"])
    if taken:
        assert delivered(put, [*taken, taken[0]])


@given(st.integers(0, 30))
def test_each_message_is_heard_once_in_order(count):
    messages = [b"%d" % number for number in range(1, count + 1)]
    assert heard(messages, count) == []
    assert heard(messages, count + 1)
    assert heard([*messages, b"1"], count)
    if count > 1:
        assert heard(messages[::-1], count)


def test_answers_are_those_of_redis():
    octets = b"+OK\r\n:12\r\n$5\r\na\r\nbc\r\n$-1\r\n*2\r\n$1\r\nx\r\n*1\r\n:3\r\n*-1\r\n$0\r\n\r\n"
    file = io.BytesIO(octets)
    assert [read_reply(file) for _ in range(7)] == [b"OK", 12, b"a\r\nbc", None, [b"x", [3]], None, b""]


@pytest.mark.parametrize("wrong", [b"", b"-ERR no\r\n", b":12", b"$5\r\nab", b"$2\r\nabc\r\n", b"x\r\n"])
def test_anything_else_is_refused(wrong):
    with pytest.raises(ValueError, match=r"wrong answer|connection ended"):
        read_reply(io.BytesIO(wrong))
