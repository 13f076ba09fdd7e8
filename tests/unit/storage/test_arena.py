"""The arena against a model: a list of the blocks that are lent out, each filled with bytes of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo import core

SLAB_BYTES = 128 << 10
BLOCK_BYTES_MIN = 128
BLOCK_SIZES = [BLOCK_BYTES_MIN << n for n in range(11)]

SIZE = st.integers(0, 2000) | st.integers(0, SLAB_BYTES) | st.sampled_from(BLOCK_SIZES)
SLABS = st.integers(1, 4)

# None: allocate; a number: free the block with that index (modulo how many there are).
ALLOC = st.tuples(st.just("alloc"), SIZE)
FREE = st.tuples(st.just("free"), st.integers(0, 1000))
STEPS = st.lists(ALLOC | ALLOC | FREE, max_size=60)

# Half and quarter slabs: several slabs of one size are partly free at once, and leave that list from its middle.
LARGE_STEPS = st.lists(
    st.tuples(st.just("alloc"), st.sampled_from([SLAB_BYTES // 2, SLAB_BYTES // 4])) | FREE, max_size=120
)


def rounded(size):
    """Bytes that a block of `size` costs."""
    return next(block for block in BLOCK_SIZES if block >= size)


class Model:
    """An arena and what it has lent out: position -> (size, filling)."""

    def __init__(self, slabs):
        self.arena = core.Arena(slabs * SLAB_BYTES)
        self.bytes_max = slabs * SLAB_BYTES
        self.lent = {}
        self.turn = 0

    def has_room(self, size):
        """Whether some slab is empty, or has blocks of this size and one of them to spare."""
        for slab in range(self.bytes_max // SLAB_BYTES):
            costs = [rounded(lent) for pos, (lent, _) in self.lent.items() if pos // SLAB_BYTES == slab]
            if not costs or (costs[0] == rounded(size) and sum(costs) < SLAB_BYTES):
                return True
        return False

    def alloc(self, size):
        pos = self.arena.alloc(size)
        assert (pos != -1) == self.has_room(size)
        if pos == -1:
            return pos
        assert 0 <= pos <= self.bytes_max - size
        for other, (other_size, _) in self.lent.items():
            assert pos + rounded(size) <= other or other + rounded(other_size) <= pos, "two blocks overlap"
        self.turn += 1
        filling = self.turn % 255 + 1
        core.arena_write(self.arena, pos, bytes([filling]) * size)
        self.lent[pos] = (size, filling)
        return pos

    def free(self, pos):
        size, filling = self.lent.pop(pos)
        assert core.arena_bytes(self.arena, pos, size) == bytes([filling]) * size, "another block is in it"
        self.arena.free(pos)

    def free_all(self):
        for pos in list(self.lent):
            self.free(pos)

    @property
    def cost(self):
        return sum(rounded(size) for size, _ in self.lent.values())


@given(slabs=SLABS, steps=STEPS)
def test_blocks_never_overlap_and_keep_their_bytes(slabs, steps):
    model = Model(slabs)
    for step, argument in steps:
        if step == "alloc":
            model.alloc(argument)
        elif model.lent:
            model.free(list(model.lent)[argument % len(model.lent)])
        assert model.arena.used_bytes == model.cost <= model.bytes_max
    model.free_all()
    assert model.arena.used_bytes == 0


@given(slabs=st.integers(4, 8), steps=LARGE_STEPS)
def test_full_partly_free_and_empty_slabs_take_turns(slabs, steps):
    model = Model(slabs)
    for _ in range(2 * slabs):
        model.alloc(SLAB_BYTES // 2)
    for step, argument in steps:
        if step == "alloc":
            model.alloc(argument)
        elif model.lent:
            model.free(list(model.lent)[argument % len(model.lent)])
        assert model.arena.used_bytes == model.cost
    model.free_all()
    assert [model.alloc(SLAB_BYTES) for _ in range(slabs)].count(-1) == 0


@given(slabs=SLABS, steps=STEPS, size=SIZE)
def test_memory_that_came_back_serves_any_size(slabs, steps, size):
    """Whatever happened before, an empty arena has room for its budget in blocks of one size."""
    model = Model(slabs)
    for step, argument in steps:
        if step == "alloc":
            model.alloc(argument)
        elif model.lent:
            model.free(list(model.lent)[argument % len(model.lent)])
    model.free_all()
    size = max(size, 4000)  # thousands of small blocks would take the model seconds
    while model.alloc(size) != -1:
        pass
    assert len(model.lent) == slabs * (SLAB_BYTES // rounded(size))
    assert model.arena.used_bytes == model.bytes_max


@pytest.mark.parametrize("size", BLOCK_SIZES)
def test_one_slab_holds_as_many_blocks_as_fit(size):
    model = Model(1)
    arena = model.arena
    positions = [arena.alloc(size) for _ in range(SLAB_BYTES // size)]
    assert sorted(positions) == list(range(0, SLAB_BYTES, size))
    assert arena.alloc(1) == -1
    assert arena.used_bytes == SLAB_BYTES


@given(size=SIZE, victim=st.integers(0, 1000))
def test_full_says_so_and_recovers_with_the_first_block_that_comes_back(size, victim):
    model = Model(2)
    size = max(size, 4000)
    while model.alloc(size) != -1:
        pass
    assert model.alloc(size) == -1
    pos = list(model.lent)[victim % len(model.lent)]
    model.free(pos)
    assert model.alloc(size) == pos
    assert model.alloc(size) == -1


@given(order=st.permutations(range(8)))
def test_one_slab_that_empties_serves_another_size_while_the_other_is_in_use(order):
    model = Model(2)
    quarter = SLAB_BYTES // 4
    positions = [model.alloc(quarter) for _ in range(8)]
    for number in order:
        model.free(positions[number])
        slabs_in_use = {pos // SLAB_BYTES for pos in model.lent}
        if len(slabs_in_use) < 2:
            break
    whole = model.alloc(SLAB_BYTES)
    assert whole != -1
    assert whole // SLAB_BYTES not in slabs_in_use


@pytest.mark.parametrize("size", [SLAB_BYTES + 1, 2**31, 2**31 + 1, 2**40, 2**63 - 1])
def test_what_no_block_can_hold_is_refused(size):
    arena = core.Arena(4 * SLAB_BYTES)
    assert arena.alloc(size) == -1
    assert arena.used_bytes == 0


@pytest.mark.parametrize(
    ("budget", "slabs"), [(0, 1), (1, 1), (SLAB_BYTES, 1), (2 * SLAB_BYTES - 1, 1), (5 * SLAB_BYTES, 5)]
)
def test_the_budget_is_whole_slabs_and_at_least_one(budget, slabs):
    arena = core.Arena(budget)
    assert arena.slab_count == slabs
    assert core.arena_bytes(arena, slabs * SLAB_BYTES - 1, 1) == b"\0"
    with pytest.raises(IndexError):
        core.arena_bytes(arena, slabs * SLAB_BYTES, 1)
