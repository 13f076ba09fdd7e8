"""What silences a device is there as often as wanted, and takes away nothing that others put there."""

from collections.abc import Iterator

import pytest

from pycolo.hostnet import looking, messages, silence
from pycolo.hostnet.netlink import Netlink
from support import netns
from support.taphost import inside

pytestmark = pytest.mark.namespaces


@pytest.fixture
def netlink() -> Iterator[Netlink]:
    namespace = netns.made()
    try:
        with inside(namespace.path), Netlink() as made:
            made.carry_out([messages.make_bridge("one")])
            namespace.run("tc", "qdisc", "add", "dev", "one", "root", "pfifo", "limit", "7")
            yield made
    finally:
        namespace.close()


def test_both_directions_or_not_silenced(netlink: Netlink) -> None:
    bridge = looking.find_bridge(netlink, "one")
    assert bridge is not None
    for _ in range(2):
        assert not silence.is_silenced(netlink, bridge.index)
        for _ in range(2):
            netlink.carry_out(silence.silence(bridge.index, "one"))
            assert silence.is_silenced(netlink, bridge.index)
        for _ in range(2):
            netlink.carry_out([silence.unsilence(bridge.index, "one")])
            assert not silence.is_silenced(netlink, bridge.index)
        netlink.carry_out(silence.silence(bridge.index, "one")[:2])
        assert not silence.is_silenced(netlink, bridge.index), "only one direction"
        assert silence.qdiscs(netlink, bridge.index) == ("clsact",)
        netlink.carry_out([silence.unsilence(bridge.index, "one")])
