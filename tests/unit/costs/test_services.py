"""Which service a connection belongs to."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.conntrack.key import ConnectionKey
from pycolo.costs.services import EPHEMERAL_FROM, NONE, service_of

ADDRESSES = st.one_of(st.integers(0, (1 << 32) - 1).map(IPv4Address), st.integers(0, (1 << 128) - 1).map(IPv6Address))


@pytest.mark.parametrize(
    ("connection", "service"),
    [
        ("tcp 10.0.0.2:5432 > 10.0.0.9:41000", "tcp port 5432"),
        ("tcp [fd00::2]:443 > [fd00::9]:1024 vlan 7", "tcp port 443"),
        ("tcp 10.0.0.2:41000 > 10.0.0.9:443", "tcp to port 443"),
        ("udp 10.0.0.2:50051 > 10.0.0.9:41000", "udp port 50051"),
        ("tcp 10.0.0.2:443 > 10.0.0.9:41000, card net1", "tcp port 443"),
        ("icmp 10.0.0.2 > 10.0.0.9", "icmp"),
        ("ip-proto-89 10.0.0.2 > 10.0.0.9", "ip-proto-89"),
        (None, NONE),
        ("", NONE),
        ("all connections", NONE),
    ],
)
def test_examples(connection, service):
    assert service_of(connection) == service


@given(st.text("tcp 1.:[]>,é"))
def test_any_text_has_one(text):
    assert service_of(text)


@given(
    st.sampled_from([6, 17]),
    ADDRESSES,
    ADDRESSES,
    st.integers(1, EPHEMERAL_FROM - 1),
    st.integers(EPHEMERAL_FROM, 65535),
    st.lists(st.integers(1, 4094), max_size=2).map(tuple),
)
def test_whoever_opens_it_the_port_below_the_ephemeral_ones_is_named(proto, guest, client, low, high, vlan):
    name = {6: "tcp", 17: "udp"}[proto]
    served = ConnectionKey(proto, guest, client, low, high, vlan)
    assert service_of(str(served)) == f"{name} port {low}"
    assert service_of(str(ConnectionKey(proto, guest, client, high, low, vlan))) == f"{name} to port {low}"
