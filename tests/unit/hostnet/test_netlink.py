"""A batch is tried to its end, an error names the message that it was for, and attributes are read as written."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.hostnet import looking, messages
from pycolo.hostnet.netlink import Netlink, RefusalError, attribute, each_attribute
from support import netns
from support.taphost import inside


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=8))
def test_attributes_are_read_as_written(given_ones: list[tuple[int, bytes]]) -> None:
    octets = b"".join(attribute(kind, value) for kind, value in given_ones)
    assert list(each_attribute(octets)) == given_ones


@given(st.binary(max_size=64))
def test_any_bytes_are_read_to_an_end(octets: bytes) -> None:
    assert all(len(value) <= len(octets) for _, value in each_attribute(octets))


@pytest.fixture
def netlink() -> Iterator[Netlink]:
    namespace = netns.made()
    try:
        with inside(namespace.path), Netlink() as made:
            yield made
    finally:
        namespace.close()


@pytest.mark.namespaces
def test_a_refused_message_is_named_and_the_others_are_carried_out(netlink: Netlink) -> None:
    batch = [messages.make_bridge("one"), messages.leave(999, "nothing"), messages.make_bridge("two")]
    with pytest.raises(RefusalError, match="nothing: out of its bridge: No such device"):
        netlink.carry_out(batch)
    assert looking.find_bridge(netlink, "one")
    assert looking.find_bridge(netlink, "two")


@pytest.mark.namespaces
def test_what_is_so_already_is_no_error(netlink: Netlink) -> None:
    for _ in range(2):
        netlink.carry_out([messages.make_bridge("one")])
    bridge = looking.find_bridge(netlink, "one")
    assert bridge is not None
    for _ in range(2):
        netlink.carry_out([messages.delete(bridge.index, "one")])
    assert looking.find_bridge(netlink, "one") is None
    netlink.carry_out([])


@pytest.mark.namespaces
def test_what_is_not_there_is_none_and_what_is_needed_is_named(netlink: Netlink) -> None:
    assert looking.find_link(netlink, "tap0") is None
    assert looking.name_of(netlink, 999) == ""
    with pytest.raises(Exception, match="the tap tap0: this host"):
        looking.need_link(netlink, "tap0", "the tap")
