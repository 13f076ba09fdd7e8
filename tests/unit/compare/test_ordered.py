"""A tree of records has the order of their sequence numbers, whatever is put in and taken out, and few nodes."""

import bisect
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.core import OneTree, Pool
from support.examples import examples

RECORDS = 4096
MASK = 2**32 - 1


class Listed:
    """The same as a sorted list of (place, record); places count from `base`, so that numbers may wrap."""

    def __init__(self, base: int) -> None:
        self.pool = Pool(1 << 20, RECORDS)
        self.tree = OneTree(self.pool)
        self.base = base
        self.entries: list[tuple[int, int]] = []

    def seq(self, place: int) -> int:
        return (self.base + place) & MASK

    def append(self, place: int) -> None:
        self.entries.append((place, self.tree.append(self.seq(place))))

    def put_first(self, place: int) -> None:
        record = self.tree.put_first(self.seq(place))
        if self.entries and self.entries[0][0] <= place:
            self.tree.take_first(record)  # it has no place here
            self.pool.free(record)
        else:
            self.entries.insert(0, (place, record))

    def insert(self, place: int, is_found: bool) -> None:
        """`is_found`: after a search for its place, which may be used."""
        if is_found:
            self.tree.find(self.seq(place))
        at = bisect.bisect_right([one[0] for one in self.entries], place)
        self.entries.insert(at, (place, self.tree.insert(self.seq(place))))

    def take_first(self) -> None:
        if self.entries:
            _, record = self.entries.pop(0)
            self.tree.take_first(record)
            self.pool.free(record)

    def take_out(self, at: int) -> None:
        if self.entries:
            at = bisect.bisect_left([one[0] for one in self.entries], self.entries[at % len(self.entries)][0])
            self.tree.take_out(self.entries.pop(at)[1])

    def assert_same(self, dice: random.Random) -> None:
        assert self.tree.listed() == [record for _, record in self.entries]
        assert self.tree.nodes() <= len(self.entries) / 2 + 12
        for _ in range(8):
            place = dice.randint(-5, 1100)
            at = bisect.bisect_right([one[0] for one in self.entries], place)
            assert self.tree.find(self.seq(place)) == (self.entries[at - 1][1] if at else -1)


@examples(100)
@given(dice=st.integers(0, 2**32).map(random.Random), base=st.sampled_from([1000, MASK - 300, 2**31 - 300]))
def test_it_is_a_sorted_list(dice, base):
    one = Listed(base)
    for _ in range(30):
        kind = dice.randrange(6)
        for _ in range(dice.choice([1, 15, 120])):
            last = one.entries[-1][0] if one.entries else 0
            if kind == 0 and last < 1000:
                one.append(last + dice.choice([0, 1, 1, 3]))
            elif kind == 1:
                one.take_first()
            elif kind == 2:
                one.take_out(dice.randrange(1000))
            elif kind == 3:
                one.put_first(one.entries[0][0] - 1 if one.entries and dice.random() < 0.8 else dice.randrange(900))
            else:
                one.insert(dice.randrange(1000), dice.random() < 0.5)
        one.assert_same(dice)
    while one.entries:
        one.take_out(dice.randrange(1000)) if dice.random() < 0.9 else one.take_first()
        one.assert_same(dice)
    one.tree.renew()
    assert one.tree.listed() == []


@pytest.mark.parametrize("order", ["rising", "falling", "inwards", "any"])
def test_few_steps_in_any_order(order):
    """Numbers are compared: fifteen in a node, and a third of its places are in use at least."""
    one = Listed(0)
    places = list(range(0, 2 * RECORDS, 2))
    if order == "falling":
        places.reverse()
    elif order == "inwards":
        places = [place for both in zip(places, reversed(places), strict=True) for place in both][:RECORDS]
    elif order == "any":
        random.Random(1).shuffle(places)
    for place in places:
        one.tree.insert(place)
    before = one.pool.walked
    for place in range(0, 2 * RECORDS, 97):
        one.tree.find(place)
    assert (one.pool.walked - before) / len(range(0, 2 * RECORDS, 97)) <= 15 * math.log(RECORDS, 5)
