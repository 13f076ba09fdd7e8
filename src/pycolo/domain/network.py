"""A network of libvirt's, by which a card names its bridge: what it is on this host. Pure."""

import xml.etree.ElementTree as ET
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
"""Modes in which libvirt makes the bridge, and in which it is this host's alone, unless an administrator joins them."""


class Network(NamedTuple):
    """Of this host, at one moment."""

    name: str
    mode: str
    """libvirt's forward mode; "isolated" for none."""
    bridge: str | None
    """None: guests' cards are in no bridge, but macvtaps or devices of the host."""
    is_active: bool
    starts_by_itself: bool

    @property
    def why_not(self) -> str | None:
        """Why a card on it cannot be protected, with what to do; None: it can."""
        if self.bridge is None or self.mode not in (BRIDGED, *_OF_ONE_HOST):
            return f"network {self.name} (forward mode {self.mode}) has no bridge: use one that has"
        if not self.is_active:
            return f"network {self.name} is not active on this host: virsh net-start {self.name}"
        return None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed, and may not be what is wanted, a line each."""
        found = []
        if not self.starts_by_itself:
            found.append(
                f"network {self.name} does not start with this host, which then cannot take over: "
                f"virsh net-autostart {self.name}"
            )
        if self.mode in _OF_ONE_HOST:
            found.append(
                f"network {self.name} ({_OF_ONE_HOST[self.mode]}) is this host's own: clients reach the guest after a "
                f"failover only if bridge {self.bridge} and that of the other host are one network; "
                "a network with <forward mode='bridge'/> is"
            )
        return tuple(found)


def network(xml: str, *, is_active: bool, starts_by_itself: bool) -> Network:
    """Of its definition. Raises `PeerError`."""
    try:
        root = ET.fromstring(xml)  # noqa: S314 - of this host's libvirt
    except ET.ParseError as error:
        raise PeerError(f"a network's definition cannot be parsed: {error}") from error
    forward, bridge = root.find("forward"), root.find("bridge")
    mode = "isolated" if forward is None else forward.get("mode", "nat")
    name = bridge.get("name") if bridge is not None else None
    return Network(root.findtext("name", ""), mode, name, is_active, starts_by_itself)


def missing(name: str) -> str:
    """What is said where a host has no network of that name."""
    return f"this host has no network {name}: virsh net-define it here, as on the other host"
