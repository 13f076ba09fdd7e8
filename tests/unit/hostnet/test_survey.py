"""A tap is looked at before anything is touched: what the node would do with it, and what it would lose."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pycolo.config import CardOptions
from pycolo.errors import ConfigError
from pycolo.hostnet.facts import BridgePlace, SwitchPlace, Vlan
from pycolo.hostnet.netlink import Netlink
from pycolo.hostnet.survey import check_place, survey
from support.taphost import TapHost, tap_host


@pytest.fixture
def host(tmp_path: Path) -> Iterator[TapHost]:
    with tap_host(tmp_path / "state") as made:
        yield made


@pytest.mark.namespaces
@pytest.mark.tun
def test_nothing_changes_and_everything_is_said(host: TapHost) -> None:
    host.sh(
        "ip link set br0 type bridge stp_state 1 forward_delay 1500",
        "tc qdisc add dev tap0 root tbf rate 1mbit burst 10kb latency 50ms",
    )
    before = host.facts()
    found = survey(CardOptions(netdev="hn0"), 0, "tap0")
    assert isinstance(found.place, BridgePlace)
    assert (found.place.where, found.named) == ("bridge br0", None)
    assert found.warnings == (
        "tap0: its tc qdisc tbf is bypassed",
        "br0: with STP a new port forwards after 30 s: so long takes each move",
    )
    assert host.facts() == before
    assert not host.state.exists()


@pytest.mark.namespaces
@pytest.mark.tun
def test_a_tap_in_no_bridge_gets_what_the_card_names(host: TapHost) -> None:
    host.sh("ip link set tap0 nomaster")
    found = survey(CardOptions(netdev="hn0", bridge="br0"), 0, "tap0")
    assert (found.place, found.named, found.warnings) == (None, BridgePlace("br0"), ())
    with pytest.raises(ConfigError, match=r"card\[0\]\.bridge: expected a Linux bridge or Open vSwitch bridge"):
        survey(CardOptions(netdev="hn0", bridge="br7"), 0, "tap0")


@pytest.mark.namespaces
def test_a_vlan_must_be_the_one_that_the_tap_is_in() -> None:
    tagged = SwitchPlace("ovs0", {"tag": 10})
    filtering = BridgePlace("br0", vlans=(Vlan(5), Vlan(10, is_pvid=True, is_untagged=True)))
    with Netlink() as netlink:
        for place in (tagged, filtering):
            check_place(netlink, "tap0", place, CardOptions(netdev="hn0", vlan=10), "card[0]")
            with pytest.raises(ConfigError, match=r"card\[0\]\.vlan: expected 10, the VLAN of tap0, found 5"):
                check_place(netlink, "tap0", place, CardOptions(netdev="hn0", vlan=5), "card[0]")
        with pytest.raises(ConfigError, match="none: tap0 is in no VLAN of its own, found 5"):
            check_place(netlink, "tap0", SwitchPlace("ovs0"), CardOptions(netdev="hn0", vlan=5), "card[0]")
