"""What a node is told at start: what cannot work is refused there, not at the takeover."""

from pathlib import Path

import pytest

from pycolo.errors import ConfigError
from pycolo.failover.heartbeat import HeartbeatDetector
from pycolo.link.hello import Role
from pycolo.node.options import NodeOptions
from pycolo.transport.linksetup import Address
from pycolo.transport.portspec import parse_port


def options(role=Role.PRIMARY, lan="unix:/l", guest="unix:/g", **given):
    lan, guest = parse_port(lan, "--lan"), parse_port(guest, "--guest")
    ports = {"lan_in": lan, "lan_out": lan, "guest_in": guest, "guest_out": guest}
    return NodeOptions(role=role, **{"link": Address("127.0.0.1", 9000), **ports, **given})


def test_the_defaults_are_sound():
    for role in Role:
        found = options(role)
        assert not found.has_vnet
        assert len(found.ports()) == 4


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pair": "a b"}, "--pair"),
        ({"heartbeat_interval_ms": 25, "heartbeat_timeout_ms": 74}, "at least three intervals of 25 ms"),
        ({"guest": "unix:/g,vnet_hdr=on"}, "the same for all ports"),
        ({"guest": "unix:/l"}, "another port than the LAN's"),
        ({"role": Role.SECONDARY, "guest_out": None}, "--guest"),
        ({"role": Role.SECONDARY, "link": Address("127.0.0.1", 0)}, "a port from 1 to 65535"),
        ({"tls": Path("/c"), "insecure": True}, "either --tls or --insecure"),
        ({"tls": Path("/c"), "insecure_link": "eth0"}, "either --tls or --insecure"),
        ({"insecure_link": "eth0"}, "--insecure with it"),
        ({"arbiter": "pacemaker"}, "--peer-node is missing"),
        ({"peer_node": "b"}, "--arbiter pacemaker"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(given, said):
    with pytest.raises(ConfigError) as caught:
        options(**given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_primary_without_a_port_to_its_guest_is_sound():
    assert len(options(guest_out=None).ports()) == 3


@pytest.mark.parametrize("interval_ms", [1, 2, 5, 9, 10, 25, 29, 31, 50, 1_000, 60_000])
@pytest.mark.parametrize("times", [3, 4, 6, 100])
def test_every_pair_of_heartbeat_options_makes_a_detector(interval_ms, times):
    found = options(heartbeat_interval_ms=interval_ms, heartbeat_timeout_ms=times * interval_ms)
    HeartbeatDetector(0, interval_ms, times * interval_ms, found.own_stall_ms)
