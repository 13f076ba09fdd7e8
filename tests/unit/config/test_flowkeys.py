"""Addresses and ports in a node's file: what is written is what was read, and what is wrong is said."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.config import flowkeys
from pycolo.config.keys import WrongError

PORTS, NETWORKS = flowkeys.ports(), flowkeys.networks()
PORT = st.integers(1, 65_535)
RANGE = st.tuples(PORT, PORT).map(sorted).map(lambda pair: f"{pair[0]}-{pair[1]}")


@given(st.lists(PORT | RANGE, min_size=1, max_size=flowkeys.LISTED_MAX))
def test_ports_are_read_as_first_and_last(given_ports):
    read = PORTS.read(given_ports)
    assert read == PORTS.read(PORTS.write(read))
    assert all(1 <= first <= last <= 65_535 for first, last in read)
    assert [one for one in given_ports if isinstance(one, int)] == [
        first for (first, last), one in zip(read, given_ports, strict=True) if isinstance(one, int) and first == last
    ]


@given(st.lists(st.ip_addresses().flatmap(lambda one: st.integers(0, one.max_prefixlen).map(lambda bits: (one, bits)))))
def test_addresses_are_read_as_prefixes(pairs):
    networks = [ip_network(pair, strict=False) for pair in pairs][: flowkeys.LISTED_MAX]
    networks = [one for one in networks if one.version == 4 or one.network_address.ipv4_mapped is None]
    if networks:
        assert NETWORKS.read([str(one) for one in networks]) == networks
        assert NETWORKS.read(NETWORKS.write(networks)) == networks


@pytest.mark.parametrize("wrong", [0, 65_536, -1, True, 1.5, "80", "80-", "9-8", "0-9", "1-65536", "٣-٤", None, [80]])
def test_other_ports_are_refused_with_their_place(wrong):
    with pytest.raises(WrongError, match="a port from 1 to 65535") as caught:
        PORTS.read([80, wrong])
    assert caught.value.place == "[1]"


@pytest.mark.parametrize("wrong", ["10.0.0.1/8", "10.0.0", "fd00::/129", "example.org", "", 7, None, "1" * 300])
def test_other_addresses_are_refused_with_their_place(wrong):
    with pytest.raises(WrongError, match=r"prefix|zone") as caught:
        NETWORKS.read(["10.0.0.0/8", wrong])
    assert caught.value.place == "[1]"


@pytest.mark.parametrize("key", [PORTS, NETWORKS])
@pytest.mark.parametrize("wrong", [[], "80", None, [1] * (flowkeys.LISTED_MAX + 1)])
def test_what_is_no_such_array_is_refused(key, wrong):
    with pytest.raises(WrongError, match="an array of"):
        key.read(wrong)
