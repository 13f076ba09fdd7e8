"""Records against a set of live numbers, queues against lists."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo import core

SLAB_BYTES = 128 << 10
NONE = -1

INDEX = st.integers(0, 1000)
ROWS = 3
ROW = st.integers(0, ROWS - 1)


def pick(items, index):
    return items[index % len(items)]


# ── records ─────────────────────────────────────────────────────────────────────────────────────────────────


@given(
    records_max=st.integers(1, 8),
    steps=st.lists(st.tuples(st.sampled_from(["alloc", "alloc", "free"]), st.integers(0, SLAB_BYTES)), max_size=40),
)
def test_records_are_lent_once_within_both_budgets(records_max, steps):
    pool = core.Pool(2 * SLAB_BYTES, records_max)
    assert pool.budget_bytes == 2 * SLAB_BYTES
    live = []
    for step, argument in steps:
        if step == "free" and live:
            pool.free(live.pop(argument % len(live)))
        elif step == "alloc":
            used_before = pool.used_bytes
            record = pool.take(argument)
            if record == NONE:
                assert len(live) == records_max or pool.arena.alloc(argument) == NONE
                assert pool.used_bytes == used_before
            else:
                assert record not in live
                assert 0 <= record < records_max
                live.append(record)
        assert pool.used == len(live)
        assert pool.used_bytes <= pool.budget_bytes


@given(order=st.permutations(range(5)))
def test_all_records_come_back_whatever_the_order(order):
    pool = core.Pool(SLAB_BYTES, 5)
    for _ in range(2):
        records = [pool.take(100) for _ in range(5)]
        assert sorted(records) == list(range(5))
        assert pool.take(100) == NONE
        for number in order:
            pool.free(records[number])
        assert (pool.used, pool.used_bytes) == (0, 0)


def test_bytes_without_a_record_cost_none_and_a_record_without_bytes_neither():
    pool = core.Pool(SLAB_BYTES, 3)
    whole = pool.take(SLAB_BYTES)
    assert pool.take(1) == NONE
    assert pool.used == 1
    pool.free(whole)
    assert [pool.take(1) for _ in range(4)].count(NONE) == 1


@given(octets=st.lists(st.binary(min_size=1, max_size=600), min_size=1, max_size=12), data=st.data())
def test_a_stored_frame_stays_as_it_was(octets, data):
    pool = core.Pool(SLAB_BYTES, 64)
    live = {}
    for number, frame in enumerate(octets):
        record = core.store(pool, bytearray(b"before" + frame + b"after"), 6, len(frame), number)
        live[record] = (frame, number)
        if data.draw(st.booleans()):
            gone = data.draw(st.sampled_from(sorted(live)))
            del live[gone]
            pool.free(gone)
    assert {record: core.stored(pool, record) for record in live} == live


@pytest.mark.parametrize(("start", "size"), [(-1, 4), (5, 4), (9, 1), (0, 9)])
def test_a_range_outside_the_buffer_is_refused(start, size):
    pool = core.Pool(SLAB_BYTES, 4)
    with pytest.raises(IndexError):
        core.store(pool, bytearray(8), start, size, 0)


@given(chains=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_a_chain_is_freed_with_its_first_record(chains):
    pool = core.Pool(SLAB_BYTES, 16)
    heads = []
    for length in chains:
        records = [pool.take(50) for _ in range(length)]
        for record, chained in pairwise(records):
            core.chain(pool, record, chained)
        heads.append(records[0])
    left = sum(chains)
    for head, length in zip(heads, chains, strict=True):
        pool.free(head)
        left -= length
        assert pool.used == left
    assert sorted(pool.take(50) for _ in range(16)) == list(range(16))


# ── queues ──────────────────────────────────────────────────────────────────────────────────────────────────

STEP = st.one_of(
    st.tuples(st.just("push"), ROW, INDEX),
    st.tuples(st.just("push"), ROW, INDEX),
    st.tuples(st.just("pop"), ROW, INDEX),
    st.tuples(st.just("take_after"), ROW, INDEX),
    st.tuples(st.just("insert_after"), ROW, INDEX),
    st.tuples(st.just("free_all"), ROW, INDEX),
)


class Model:
    """Queues and the lists that they should be."""

    def __init__(self, rows=ROWS, records=64):
        self.pool = core.Pool(SLAB_BYTES, records)
        self.queues = core.Queues(self.pool, rows)
        self.lists = [[] for _ in range(rows)]

    def run(self, step, row, index):
        queue = self.lists[row]
        # Behind which record: none (the first place), or one of the list.
        place = index % (len(queue) + 1)
        before = NONE if place == 0 else queue[place - 1]
        if step == "push":
            record = self.pool.take(10)
            self.queues.push(row, record)
            queue.append(record)
        elif step == "insert_after":
            record = self.pool.take(10)
            self.queues.insert_after(row, before, record)
            queue.insert(place, record)
        elif step == "pop":
            taken = self.queues.pop(row)
            assert taken == (queue.pop(0) if queue else NONE)
            self.free(taken)
        elif step == "take_after" and place < len(queue):
            taken = self.queues.take_after(row, before)
            assert taken == queue.pop(place)
            self.free(taken)
        elif step == "free_all":
            assert self.queues.free_all(row) == len(queue)
            queue.clear()

    def free(self, record):
        if record != NONE:
            self.pool.free(record)

    def assert_same(self):
        for row, queue in enumerate(self.lists):
            assert core.queued(self.queues, row) == queue
        assert self.pool.used == sum(map(len, self.lists))

    def assert_drained_in_order(self):
        for row, queue in enumerate(self.lists):
            assert [self.queues.pop(row) for _ in queue] == queue
            assert self.queues.pop(row) == NONE


@given(steps=st.lists(STEP, max_size=60))
def test_queues_are_lists(steps):
    model = Model()
    for step in steps:
        model.run(*step)
        model.assert_same()
    model.assert_drained_in_order()


def test_a_list_that_is_opened_is_empty():
    """Lists that are not open cost nothing; each may be opened whatever it was before."""
    pool = core.Pool(1 << 17, 8)
    queues = core.Queues(pool, 1 << 20, False)
    for row in (0, 7, (1 << 20) - 1, 7):
        queues.open(row)
        assert core.queued(queues, row) == []
        queues.push(row, pool.take(1))
        assert len(core.queued(queues, row)) == 1
