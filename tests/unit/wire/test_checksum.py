"""The internet checksum: RFC 1071's examples, scapy as the oracle, and: incremental is recomputed."""

import struct

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scapy.layers.inet import IP, in4_pseudoheader
from scapy.layers.inet6 import IPv6, in6_pseudoheader
from scapy.utils import checksum as scapy_checksum

from pycolo import core
from support.strategies import IPV4_ADDRESS, IPV6_ADDRESS, U16, U32

# RFC 1071 section 3.
RFC_1071_OCTETS = bytes([0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7])
RFC_1071_SUM = 0xDDF2

LENGTH = st.integers(0, 2**17)
PROTO = st.integers(0, 255)


def complement(total):
    return 0xFFFF - total


def test_the_example_of_rfc_1071():
    ones_sum = core.ones_sum
    assert ones_sum(bytearray(RFC_1071_OCTETS), 0, 8) == RFC_1071_SUM


def test_the_sum_in_groups_of_rfc_1071():
    """Section 3's second example: the sum of the parts' sums, the second of which begins at an odd byte."""
    ones_sum = core.ones_sum
    buf = bytearray(RFC_1071_OCTETS)
    first = ones_sum(buf, 0, 3)
    second = ones_sum(buf, 3, 5)
    swapped = (second & 0xFF) << 8 | second >> 8
    assert ones_sum(buf, 0, 0, first + swapped) == RFC_1071_SUM


def test_the_example_of_rfc_1624():
    """Section 4: equation 3 gives 0x0000 where RFC 1141's gave 0xFFFF."""
    buf = bytearray(struct.pack(">H", 0xDD2F))
    core.replace16(buf, 0, 0x5555, 0x3285)
    assert bytes(buf) == b"\0\0"


@given(octets=st.binary(max_size=200), before=st.binary(max_size=3), after=st.binary(max_size=3))
def test_the_sum_is_scapys_at_any_position(octets, before, after):
    total = core.ones_sum(bytearray(before + octets + after), len(before), len(octets))
    assert complement(total) == scapy_checksum(octets)


@pytest.mark.parametrize("is_wide", [True, False])
@given(
    length=LENGTH,
    seed=st.randoms(use_true_random=False),
    before=st.integers(0, 9),
    fill=st.sampled_from([None, 0, 255]),
)
def test_a_long_sum_is_that_of_its_words(is_wide, length, seed, before, fill):
    """Whichever instructions take it, and where every word carries."""
    octets = seed.randbytes(length) if fill is None else bytes([fill]) * length
    core.use_wide_sum(is_wide)
    total = core.ones_sum(bytearray(before) + octets, before, length)
    core.use_wide_sum(True)
    expected = int.from_bytes(octets + bytes(length % 2)) % 0xFFFF
    assert total == (expected or 0xFFFF * any(octets))


@given(octets=st.binary(max_size=100), initial=st.integers(0, 2**40))
def test_an_initial_sum_is_added(octets, initial):
    alone = core.ones_sum(bytearray(octets), 0, len(octets))
    assert core.ones_sum(bytearray(octets), 0, len(octets), initial) == core.fold(alone + initial)


@given(total=st.integers(0, 2**62))
def test_folding_keeps_the_residue_and_fits_in_16_bits(total):
    folded = core.fold(total)
    assert 0 <= folded <= 0xFFFF
    assert folded % 0xFFFF == total % 0xFFFF
    assert (folded == 0) == (total == 0)


@pytest.mark.parametrize(("pos", "length"), [(-1, 1), (0, 9), (8, 1), (9, 0), (0, -1), (2**62, 2**62)])
def test_a_range_outside_the_buffer_is_refused(pos, length):
    with pytest.raises(IndexError):
        core.ones_sum(bytearray(8), pos, length)


@given(source=IPV4_ADDRESS, destination=IPV4_ADDRESS, proto=PROTO, length=st.integers(0, 0xFFFF))
def test_the_ipv4_pseudo_header_is_scapys(source, destination, proto, length):
    ip = IP(src=source, dst=destination)
    buf = bytearray(ip.build()[12:20])
    total = core.pseudo_sum(buf, 0, 8, proto, length)
    assert complement(total) == scapy_checksum(in4_pseudoheader(proto, ip, length))


@given(source=IPV6_ADDRESS, destination=IPV6_ADDRESS, proto=PROTO, length=LENGTH)
def test_the_ipv6_pseudo_header_is_scapys(source, destination, proto, length):
    ip = IPv6(src=source, dst=destination)
    buf = bytearray(ip.build()[8:40])
    total = core.pseudo_sum(buf, 0, 32, proto, length)
    assert complement(total) == scapy_checksum(in6_pseudoheader(proto, ip, length).build())


# ── incremental is recomputed ───────────────────────────────────────────────────────────────────────────────

CHECKSUM_POS = 16
OCTETS = st.binary(min_size=18, max_size=90)


def with_checksum(octets):
    """`octets` with the checksum of all of them at CHECKSUM_POS; as a segment's, it is never over nothing but 0."""
    buf = bytearray(octets)
    buf[CHECKSUM_POS : CHECKSUM_POS + 2] = b"\0\0"
    assume(any(buf))
    total = core.ones_sum(buf, 0, len(buf))
    struct.pack_into(">H", buf, CHECKSUM_POS, complement(total))
    return buf


def is_clear_of_the_checksum(pos, size):
    return pos + size <= CHECKSUM_POS or pos >= CHECKSUM_POS + 2


@given(octets=OCTETS, word=st.integers(0, 44), new=U16)
def test_a_16_bit_field_replaced(octets, word, new):
    pos = word * 2
    assume(pos + 2 <= len(octets) and is_clear_of_the_checksum(pos, 2))
    buf = with_checksum(octets)
    (old,) = struct.unpack_from(">H", buf, pos)
    struct.pack_into(">H", buf, pos, new)
    expected = with_checksum(buf)
    core.replace16(buf, CHECKSUM_POS, old, new)
    assert buf == expected


@given(octets=OCTETS, pos=st.integers(0, 86), new=U32)
def test_a_32_bit_field_replaced_at_any_position(octets, pos, new):
    """Odd ones too: TCP options need no alignment."""
    assume(pos + 4 <= len(octets) and is_clear_of_the_checksum(pos, 4))
    buf = with_checksum(octets)
    (old,) = struct.unpack_from(">I", buf, pos)
    struct.pack_into(">I", buf, pos, new)
    expected = with_checksum(buf)
    core.replace32(buf, CHECKSUM_POS, old, new, pos % 2 == 1)
    assert buf == expected


@given(checksum=U16, old=U32, new=U32, is_odd=st.booleans())
def test_a_field_that_stays_leaves_the_checksum_valid(checksum, old, new, is_odd):
    """There and back: the same value, but for the two zeros of one's complement."""
    buf = bytearray(struct.pack(">H", checksum))
    core.replace32(buf, 0, old, new, is_odd)
    core.replace32(buf, 0, new, old, is_odd)
    assert struct.unpack(">H", buf)[0] % 0xFFFF == checksum % 0xFFFF


@given(octets=OCTETS, pos=st.integers(0, 60), new=U32, wrong=st.integers(1, 0xFFFE))
def test_a_wrong_checksum_stays_wrong_by_as_much(octets, pos, new, wrong):
    """What was damaged on the way to us must not look sound behind us."""
    assume(pos + 4 <= len(octets) and is_clear_of_the_checksum(pos, 4))
    right = with_checksum(octets)
    damaged = bytearray(right)
    (right_sum,) = struct.unpack_from(">H", right, CHECKSUM_POS)
    struct.pack_into(">H", damaged, CHECKSUM_POS, (right_sum + wrong) % 0xFFFF)
    for buf in (right, damaged):
        (old,) = struct.unpack_from(">I", buf, pos)
        struct.pack_into(">I", buf, pos, new)
        core.replace32(buf, CHECKSUM_POS, old, new, pos % 2 == 1)
    sums = [struct.unpack_from(">H", buf, CHECKSUM_POS)[0] for buf in (damaged, right)]
    assert (sums[0] - sums[1]) % 0xFFFF == wrong
