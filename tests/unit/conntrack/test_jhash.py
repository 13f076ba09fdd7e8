"""jhash against lookup3's published vectors and an oracle of its own."""

import struct
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo import core

U32 = st.integers(0, 2**32 - 1)
U16 = st.integers(0, 2**16 - 1)
U8 = st.integers(0, 255)
WORDS = st.lists(U32, max_size=40)

FOUR_SCORE = b"Four score and seven years ago"

# ── the oracle: lookup3 as two loops over three registers ───────────────────────────────────────────────────


def rotated(value, bits):
    return (value << bits | value >> 32 - bits) % 2**32


def mixed(state):
    for step, bits in enumerate((4, 6, 8, 16, 19, 4)):
        here, before, next_one = step % 3, (step - 1) % 3, (step - 2) % 3
        state[here] = (state[here] - state[before]) % 2**32 ^ rotated(state[before], bits)
        state[before] = (state[before] + state[next_one]) % 2**32
    return state


def finished(state):
    for step, bits in enumerate((14, 11, 25, 16, 4, 14, 24)):
        here, before = (step + 2) % 3, (step + 1) % 3
        state[here] = ((state[here] ^ state[before]) - rotated(state[before], bits)) % 2**32
    return state[2]


def oracle(key, initval):
    state = [(0xDEADBEEF + len(key) + initval) % 2**32] * 3
    blocks = [key[at : at + 12].ljust(12, b"\0") for at in range(0, len(key), 12)]
    for number, block in enumerate(blocks, start=1):
        state = [(old + new) % 2**32 for old, new in zip(state, struct.unpack("<3I", block), strict=True)]
        if number == len(blocks):
            return finished(state)
        state = mixed(state)
    return state[2]


def little_endian(words):
    return struct.pack(f"<{len(words)}I", *words)


# ── vectors ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("key", "initval", "expected"),
    [
        (FOUR_SCORE, 0, 0x17770551),
        (FOUR_SCORE, 1, 0xCD628161),
        (b"", 0, 0xDEADBEEF),
        (b"", 0xDEADBEEF, 0xBD5B7DDE),
    ],
)
def test_lookup3_published_vectors(key, initval, expected):
    assert core.jhash(key, initval) == expected
    assert oracle(key, initval) == expected


# ── laws ────────────────────────────────────────────────────────────────────────────────────────────────────


@given(key=st.binary(max_size=80), initval=U32)
def test_jhash_equals_the_oracle(key, initval):
    assert core.jhash(key, initval) == oracle(key, initval)


@given(key=st.binary(max_size=30), initval=U32)
def test_any_contiguous_buffer_of_bytes_is_a_key(key, initval):
    jhash = core.jhash
    expected = jhash(key, initval)
    assert jhash(bytearray(key), initval) == expected
    assert jhash(memoryview(b"before" + key + b"after")[6 : 6 + len(key)], initval) == expected


@given(words=WORDS, initval=U32)
def test_jhash2_of_words_is_jhash_of_their_little_endian_bytes(words, initval):
    assert core.jhash2(array("I", words), initval) == core.jhash(little_endian(words), initval)


@given(before=WORDS, words=WORDS, after=WORDS, initval=U32)
def test_jhash2_words_sees_only_its_range(before, words, after, initval):
    inside = core.jhash2_words(array("I", before + words + after), len(before), len(words), initval)
    assert inside == core.jhash2(array("I", words), initval)


@pytest.mark.parametrize(("start", "count"), [(0, 4), (3, 1), (4, 0), (-1, 1), (0, -1), (2**62, 2**62)])
def test_jhash2_words_refuses_a_range_outside_the_buffer(start, count):
    with pytest.raises(ValueError, match="outside the buffer"):
        core.jhash2_words(array("I", [1, 2, 3]), start, count, 0)


@given(words=st.lists(U32, min_size=3, max_size=3), initval=U32)
def test_nwords_are_jhash2_of_that_many_words(words, initval):
    one, two, three = words
    assert core.jhash_1word(one, initval) == core.jhash2(array("I", [one]), initval)
    assert core.jhash_2words(one, two, initval) == core.jhash2(array("I", [one, two]), initval)
    assert core.jhash_3words(one, two, three, initval) == core.jhash2(array("I", words), initval)


@given(source=U32, destination=U32, source_port=U16, destination_port=U16, ip_proto=U8, initval=U32)
def test_connection_hash_is_jhash_of_the_packed_key(
    source, destination, source_port, destination_port, ip_proto, initval
):
    numbers = (source, destination, source_port, destination_port, ip_proto)
    packed = struct.pack("<IIHHB", *numbers)
    assert len(packed) == core.CONNECTION_KEY_BYTES
    assert core.connection_hash(*numbers, initval) == oracle(packed, initval)
    assert core.connection_hash(*numbers) == oracle(packed, 0)


def test_connection_hash_of_a_packet_as_qemu_on_x86_sees_it():
    """10.0.0.1:40000 to 10.0.0.2:80, TCP: addresses as they stand in memory, ports after ntohs."""
    memory = bytes([10, 0, 0, 1, 10, 0, 0, 2]) + struct.pack("<HH", 40000, 80) + bytes([6])
    assert core.connection_hash(0x0100000A, 0x0200000A, 40000, 80, 6) == oracle(memory, 0)


@given(key=st.binary(max_size=40), number=st.integers(-(2**62), 2**62))
def test_only_the_low_32_bits_of_a_number_count(key, number):
    low = number % 2**32
    assert core.jhash(key, number) == core.jhash(key, low)
    assert core.jhash_3words(number, number, number, number) == core.jhash_3words(low, low, low, low)


def test_every_bit_of_the_key_and_of_the_seed_changes_the_hash():
    jhash = core.jhash
    hashes = {jhash(FOUR_SCORE, 0)}
    for bit in range(8 * len(FOUR_SCORE)):
        flipped = bytearray(FOUR_SCORE)
        flipped[bit // 8] ^= 1 << bit % 8
        hashes.add(jhash(flipped, 0))
    hashes.update(jhash(FOUR_SCORE, 1 << bit) for bit in range(32))
    assert len(hashes) == 1 + 8 * len(FOUR_SCORE) + 32
