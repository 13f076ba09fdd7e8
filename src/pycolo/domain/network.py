"""A network of libvirt's, by which a card names its bridge: what it is on this host. Pure."""

import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from pycolo.errors import PeerError

BRIDGED: Final = "bridge"
"""The forward mode of a network that is a bridge of the host's own."""

_OF_ONE_HOST: Final = {
    "nat": "NAT",
    "route": "routed",
    "open": "open",
    "isolated": "isolated",
}
"""Modes in which libvirt makes the bridge, and the host is the guests' gateway, or all that they reach."""

_OPENVSWITCH: Final = "openvswitch"


class Network(NamedTuple):
    """Of this host, at one moment."""

    name: str
    mode: str
    """libvirt's forward mode; "isolated" for none."""
    bridge: str | None
    """None: guests' cards are in no bridge, but macvtaps or devices of the host."""
    is_active: bool
    starts_by_itself: bool
    has_openvswitch: bool = False
    gateway: str = ""
    """The host's MAC and addresses on it, as its definition says them; "" for none."""

    @property
    def is_of_one_host(self) -> bool:
        """Whether another host's network of this name is another network."""
        return self.mode in _OF_ONE_HOST

    @property
    def why_not(self) -> str | None:
        """Why a card on it cannot be protected, with what to do; None: it can."""
        if self.bridge is None or self.mode not in (BRIDGED, *_OF_ONE_HOST):
            return f"network {self.name} (forward mode {self.mode}) has no bridge: use one that has"
        if self.has_openvswitch:
            return f"network {self.name} is Open vSwitch's, which the node moves no domain's tap of: use a Linux bridge"
        if not self.is_active:
            return f"network {self.name} is not active on this host: virsh net-start {self.name}"
        return None

    def warnings(self, accepted: Collection[str]) -> Iterator[str]:
        """What is allowed, and may not be what is wanted. `accepted`: `guest.own_networks`."""
        if self.is_of_one_host and self.name not in accepted:
            yield (
                f"network {self.name} ({_OF_ONE_HOST[self.mode]}) is this host's own, so connections through it do not "
                "outlive a failover: use a bridge that both hosts have, <interface type='bridge'>, or if that is meant "
                f'or the bridges are joined, say own_networks = ["{self.name}"] in [guest] of both files'
            )
        if self.bridge is not None and not self.starts_by_itself:
            yield (
                f"network {self.name} does not start with this host, which then cannot take over: "
                f"virsh net-autostart {self.name}"
            )


def network(xml: str, *, is_active: bool, starts_by_itself: bool) -> Network:
    """Of its definition. Raises `PeerError`."""
    try:
        root = ET.fromstring(xml)  # noqa: S314 - of this host's libvirt
    except ET.ParseError as error:
        raise PeerError(f"a network's definition cannot be parsed: {error}") from error
    forward, bridge = root.find("forward"), root.find("bridge")
    mode = "isolated" if forward is None else forward.get("mode", "nat")
    name = bridge.get("name") if bridge is not None else None
    return Network(
        root.findtext("name", ""),
        mode,
        name,
        is_active,
        starts_by_itself,
        has_openvswitch=any(port.get("type") == _OPENVSWITCH for port in root.iter("virtualport")),
        gateway=", ".join(_gateway(root)),
    )


def _gateway(root: ET.Element) -> Iterator[str]:
    """A guest notes both, its gateway's MAC for a while."""
    addresses = [
        f"{found.get('address')}/{found.get('prefix') or found.get('netmask') or ''}" for found in root.iterfind("ip")
    ]
    mac = root.find("mac")
    if addresses and mac is not None:
        yield mac.get("address", "").lower()
    yield from addresses


def missing(name: str) -> str:
    """What is said where a host has no network of that name."""
    return f"this host has no network {name}: virsh net-define it here, as on the other host"
