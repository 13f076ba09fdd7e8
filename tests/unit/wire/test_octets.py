"""Loads, stores and comparisons: what they do inside a buffer, and that nothing outside is ever touched."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo import core

SIZE = 16
CONTENT = st.binary(min_size=SIZE, max_size=SIZE)
FORMATS = {16: ">H", 32: ">I"}
WIDTHS = pytest.mark.parametrize("bits", [16, 32])

# Far outside, just outside, and where pos + length would overflow 64 bits.
POSITION = st.integers(-3, SIZE + 3) | st.sampled_from([-(2**63), -(2**62), 2**62, 2**63 - 1])
LENGTH = st.integers(-2, SIZE + 3) | st.sampled_from([-(2**63), 2**62, 2**63 - 1])

# Ends around the buffer's own, where a check that is off by one shows.
RANGE = st.tuples(POSITION, LENGTH) | st.builds(
    lambda end, length: (end - length, length), st.integers(SIZE - 1, SIZE + 1), st.integers(0, SIZE + 1)
)
INSIDE = st.integers(0, SIZE).flatmap(lambda length: st.tuples(st.integers(0, SIZE - length), st.just(length)))


def is_inside(pos, length):
    return pos >= 0 and length >= 0 and pos + length <= SIZE


# ── loads and stores ────────────────────────────────────────────────────────────────────────────────────────


@WIDTHS
@given(content=CONTENT, pos=POSITION)
def test_load_is_big_endian_or_refused(bits, content, pos):
    load = getattr(core, f"load{bits}")
    if is_inside(pos, bits // 8):
        assert load(bytearray(content), pos) == struct.unpack_from(FORMATS[bits], content, pos)[0]
    else:
        with pytest.raises(IndexError):
            load(bytearray(content), pos)


@WIDTHS
@given(content=CONTENT, pos=POSITION, value=st.integers(-(2**63), 2**63 - 1))
def test_store_writes_the_low_bits_and_nothing_else_or_is_refused(bits, content, pos, value):
    store = getattr(core, f"store{bits}")
    buf, expected = bytearray(content), bytearray(content)
    if is_inside(pos, bits // 8):
        struct.pack_into(FORMATS[bits], expected, pos, value % 2**bits)
        store(buf, pos, value)
    else:
        with pytest.raises(IndexError):
            store(buf, pos, value)
    assert buf == expected


# ── ranges ──────────────────────────────────────────────────────────────────────────────────────────────────


@st.composite
def pairs_of_ranges(draw):
    """(position of one, of the other, length): of the two at least one is often inside, so that the other decides."""
    pos, length = draw(RANGE | INSIDE)
    other = draw(POSITION | st.integers(SIZE - length - 1, SIZE - length + 1) | st.integers(0, max(0, SIZE - length)))
    other = min(max(other, -(2**63)), 2**63 - 1)
    return [*draw(st.permutations([pos, other])), length]


@given(a=CONTENT, ranges=pairs_of_ranges(), changes=st.lists(st.integers(0, SIZE - 1), max_size=2))
def test_first_difference_is_the_first_or_the_length(a, ranges, changes):
    first_difference = core.first_difference
    a_pos, b_pos, length = ranges
    b = bytearray(a)
    for change in changes:
        b[change] ^= 0x40
    if is_inside(a_pos, length) and is_inside(b_pos, length):
        pairs = zip(a[a_pos : a_pos + length], b[b_pos : b_pos + length], strict=True)
        expected = next((i for i, (one, other) in enumerate(pairs) if one != other), length)
        assert first_difference(bytearray(a), a_pos, b, b_pos, length) == expected
    else:
        with pytest.raises(IndexError):
            first_difference(bytearray(a), a_pos, b, b_pos, length)


@given(content=CONTENT, change=st.integers(0, SIZE - 1), ranges=INSIDE)
def test_the_first_difference_of_equal_ranges_but_for_one_byte(content, change, ranges):
    pos, length = ranges
    other = bytearray(content)
    other[change] ^= 1
    expected = change - pos if pos <= change < pos + length else length
    assert core.first_difference(bytearray(content), pos, other, pos, length) == expected


def test_a_view_of_a_part_of_a_buffer_is_a_buffer_with_its_own_bounds():
    whole = bytearray(b"outside" + bytes(4) + b"outside")
    part = memoryview(whole)[7:11]
    core.store32(part, 0, 0x01020304)
    assert whole == b"outside\1\2\3\4outside"
    for pos in (-1, 1):
        with pytest.raises(IndexError):
            core.load32(part, pos)


def test_empty_buffers_do_not_differ():
    assert core.first_difference(bytearray(), 0, bytearray(), 0, 0) == 0
