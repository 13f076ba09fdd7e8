"""The connection key as a value."""

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.conntrack.key import ConnectionKey, key_from_words
from support.strategies import TAGS, U8, U16

IPV4_ENDS = st.tuples(*[st.ip_addresses(v=4)] * 2)
IPV6_ENDS = st.tuples(*[st.ip_addresses(v=6)] * 2)


@st.composite
def keys(draw):
    source, destination = draw(IPV4_ENDS | IPV6_ENDS)
    vlan = tuple(tag & 0xFFF for tag in draw(TAGS))
    return ConnectionKey(draw(U8), source, destination, draw(U16), draw(U16), vlan)


def packed(key):
    """The eleven words of the table's docstring."""
    words = []
    for address in (key.source, key.destination):
        size = 4 * len(address.packed) // 4
        words += [*struct.unpack(f">{size // 4}I", address.packed), 0, 0, 0][:4]
    vlan = 0
    for tag in key.vlan:
        vlan = vlan << 13 | 0x1000 | tag
    version = key.source.version
    return [*words, key.source_port | key.destination_port << 16, key.ip_proto | version << 8, vlan]


@given(keys())
def test_the_words_of_a_key_give_the_key(key):
    words = packed(key)
    assert len(words) == 11
    assert key_from_words(words) == key


@given(keys())
def test_reversed_twice_is_the_same_and_once_swaps_the_ends(key):
    back = key.reversed()
    assert back.reversed() == key
    assert (back.source, back.source_port) == (key.destination, key.destination_port)
    assert (back.destination, back.destination_port) == (key.source, key.source_port)
    assert (back.ip_proto, back.vlan) == (key.ip_proto, key.vlan)


@given(keys(), keys())
def test_two_keys_that_look_the_same_are_the_same(key, other):
    assert (str(key) == str(other)) == (key == other)


V4 = (IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"))
V6 = (IPv6Address("fe80::1"), IPv6Address("2001:db8::2"))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (ConnectionKey(6, *V4, 80, 40000), "tcp 10.0.0.1:80 > 10.0.0.2:40000"),
        (ConnectionKey(17, *V6, 53, 5353), "udp [fe80::1]:53 > [2001:db8::2]:5353"),
        (ConnectionKey(1, *V4, 0, 0), "icmp 10.0.0.1 > 10.0.0.2"),
        (ConnectionKey(47, *V4, 0, 0), "ip-proto-47 10.0.0.1 > 10.0.0.2"),
        (ConnectionKey(6, *V4, 80, 40000, (7,)), "tcp 10.0.0.1:80 > 10.0.0.2:40000 vlan 7"),
        (ConnectionKey(6, *V4, 80, 40000, (7, 0)), "tcp 10.0.0.1:80 > 10.0.0.2:40000 vlan 7 vlan 0"),
    ],
)
def test_a_key_reads_like_tcpdump(key, text):
    assert str(key) == text
