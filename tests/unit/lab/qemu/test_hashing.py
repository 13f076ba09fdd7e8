"""The check of a guest's running hash: it accepts what one guest may have had, and nothing else."""

from collections.abc import Iterable

import pytest

from pycolo_lab.qemu.hashing import ANSWER, FNV_START, Chain, datagram, fnv, runs

SEED = 3


def answers(had: Iterable[int]) -> list[tuple[int, int, int]]:
    """Of a guest that has had these datagrams, in this order."""
    found, value = [], FNV_START
    for count, number in enumerate(had, 1):
        value = fnv(value, datagram(number, SEED))
        found.append((number, count, value))
    return found


def wrong(heard: Iterable[tuple[int, int, int]]) -> list[str]:
    chain = Chain(SEED)
    for one in heard:
        chain.add(*one)
    return chain.wrong


def test_a_datagram_is_what_the_guest_takes_for_one() -> None:
    assert len(datagram(7, SEED)) >= ANSWER.size
    assert datagram(7, SEED)[:12] == b"hash" + (7).to_bytes(8, "little")


def test_one_guest_that_misses_nothing_is_right() -> None:
    assert wrong(answers(range(50))) == []


@pytest.mark.parametrize("had", [[*range(20), *range(28, 50)], [*range(20), 20, 21, 22, *range(28, 50)]])
def test_datagrams_and_answers_that_are_lost_with_a_host_are_no_error(had: list[int]) -> None:
    heard = [one for one in answers(had) if not 19 <= one[0] < 30]
    assert wrong(heard) == []


@pytest.mark.parametrize(
    "had",
    [
        [*range(20), 19, *range(20, 50)],
        [*range(20), 21, 20, *range(22, 50)],
        [*range(10), 9, *range(11, 50)],
    ],
)
def test_a_datagram_twice_or_out_of_order_is_an_error(had: list[int]) -> None:
    assert wrong(answers(had))


def test_a_guest_that_goes_back_is_an_error() -> None:
    before = answers(range(30))
    after = answers([*range(20), *range(30, 50)])
    assert wrong([*before, *after[20:]])


def test_runs_of_numbers() -> None:
    assert runs([1, 2, 3, 7, 9, 10]) == [(1, 3), (7, 7), (9, 10)]
    assert runs([]) == []
