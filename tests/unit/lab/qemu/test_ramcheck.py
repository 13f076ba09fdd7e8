"""Which pages are compared, and which difference is a lost change."""

import asyncio
import itertools
import random
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pycolo_lab.qemu.ramcheck import (
    PAGE_BYTES,
    RUN_PAGES,
    SAVED_PAGES_MAX,
    TOGGLED_BYTES_MAX,
    choose,
    read,
    runs_of,
    stale,
)

OLD, NEW = b"o" * PAGE_BYTES, b"n" * PAGE_BYTES
MIB = 1 << 20


@given(st.sets(st.integers(0, 300)))
def test_runs_are_the_pages_again(pages):
    runs = runs_of(sorted(pages))
    assert {page for start, end in runs for page in range(start, end)} == pages
    assert all(first[1] < second[0] for first, second in itertools.pairwise(runs))


def test_a_long_run_is_asked_for_in_pieces_for_which_there_is_room():
    runs = runs_of(list(range(7, 7 + 2 * SAVED_PAGES_MAX + 1)))
    assert [end - start for start, end in runs] == [SAVED_PAGES_MAX, SAVED_PAGES_MAX, 1]
    assert runs[0][0] == 7
    assert all(first[1] == second[0] for first, second in itertools.pairwise(runs))


def test_all_pages_or_a_sample_of_runs_are_compared_and_then_always_the_same():
    chance = random.Random(1)
    assert choose(MIB, None, {}, chance) == list(range(256))
    sample = choose(64 * MIB, 2 * RUN_PAGES, {}, chance)
    assert len(set(sample)) == 2 * RUN_PAGES
    assert all(page < 64 * 256 for page in sample)
    assert choose(64 * MIB, 2 * RUN_PAGES, dict.fromkeys(sample, b""), chance) == sample


def test_a_change_that_the_secondary_has_not_got_is_stale():
    assert stale({1: OLD}, {1: NEW}, {1: OLD}) == [1]


def test_what_is_equal_or_the_secondary_s_own_is_not_stale():
    assert stale({1: OLD}, {1: NEW}, {1: NEW}) == []
    assert stale({1: OLD}, {1: NEW}, {1: b"s" * PAGE_BYTES}) == []
    assert stale({}, {1: NEW}, {1: OLD}) == [], "not known what it was before"


def test_a_lock_that_is_free_again_is_not_stale():
    held = b"x" * TOGGLED_BYTES_MAX + OLD[TOGGLED_BYTES_MAX:]
    assert stale({1: OLD}, {1: held}, {1: OLD}) == []


def test_pages_are_read_from_where_they_are(tmp_path):
    memory = b"".join(bytes([page]) * PAGE_BYTES for page in range(16))

    class Qemu:
        async def execute(self, command, arguments=None):
            assert command == "pmemsave"
            start = arguments["val"]
            Path(arguments["filename"]).write_bytes(memory[start : start + arguments["size"]])

    found = asyncio.run(read(Qemu(), tmp_path / "ram", [1, 2, 9]))
    assert {page: set(octets) for page, octets in found.items()} == {1: {1}, 2: {2}, 9: {9}}
    assert list(tmp_path.iterdir()) == []
