"""What is known of a tap and of its place in the network: values, for plans, the journal and tests."""

from typing import Any, Final

import msgspec

Options = dict[str, int]
"""Settings of a bridge's port by the names of `PORT_OPTIONS`."""

# Name -> (attribute, bytes of its value): linux/if_link.h, IFLA_BRPORT_*. Those that can be set and outlive traffic.
PORT_OPTIONS: Final = {
    "priority": (2, 2),
    "cost": (3, 4),
    "hairpin": (4, 1),
    "guard": (5, 1),
    "root_block": (6, 1),
    "fastleave": (7, 1),
    "learning": (8, 1),
    "flood": (9, 1),
    "proxy_arp": (10, 1),
    "learning_sync": (11, 1),
    "proxy_arp_wifi": (12, 1),
    "mcast_router": (25, 1),
    "mcast_flood": (27, 1),
    "mcast_to_unicast": (28, 1),
    "vlan_tunnel": (29, 1),
    "bcast_flood": (30, 1),
    "group_fwd_mask": (31, 2),
    "neigh_suppress": (32, 1),
    "isolated": (33, 1),
    "backup_port": (34, 4),
    "mcast_eht_hosts_limit": (37, 4),
    "locked": (39, 1),
    "mab": (40, 1),
    "mcast_max_groups": (42, 4),
    "neigh_vlan_suppress": (43, 1),
    "backup_nhid": (44, 4),
}

FORWARDING: Final = 3
"""linux/if_bridge.h, BR_STATE_FORWARDING."""


class Vlan(msgspec.Struct, frozen=True, order=True):
    """A VLAN that a port carries."""

    vid: int
    is_pvid: bool = False
    is_untagged: bool = False


class Address(msgspec.Struct, frozen=True, order=True):
    """An entry of a bridge's forwarding table that was not learned: by the host's administrator, or by libvirt."""

    mac: str
    vlan: int
    state: int
    flags: int = 0


class BridgePlace(msgspec.Struct, frozen=True, tag="bridge"):
    """A port of a Linux bridge. `vlans` None: those that the bridge gives a new port. `groups`: permanent multicast
    groups, as the kernel writes them. `state` None: the bridge decides about it.
    """

    bridge: str
    options: Options = {}
    vlans: tuple[Vlan, ...] | None = None
    addresses: tuple[Address, ...] = ()
    groups: tuple[str, ...] = ()
    state: int | None = None

    @property
    def where(self) -> str:
        """For messages."""
        return f"bridge {self.bridge}"


class SwitchPlace(msgspec.Struct, frozen=True, tag="openvswitch"):
    """A port of an Open vSwitch bridge. `port`, `interface`: columns of its two rows, with values as in RFC 7047."""

    bridge: str
    port: dict[str, Any] = {}
    interface: dict[str, Any] = {}

    @property
    def where(self) -> str:
        """For messages."""
        return f"Open vSwitch bridge {self.bridge}"


Place = BridgePlace | SwitchPlace


class Link(msgspec.Struct, frozen=True):
    """A network interface. `silenced`: see `silence`. `has_ipv6`: None without IPv6 in this kernel."""

    index: int
    name: str
    mac: str
    mtu: int
    queue: int
    is_up: bool
    kind: str
    alias: str = ""
    master: int = 0
    has_carrier: bool = False
    is_tap: bool = False
    has_vnet: bool = False
    is_multiqueue: bool = False
    is_persistent: bool = False
    is_silenced: bool = False
    has_ipv6: bool | None = None
    qdiscs: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


class Bridge(msgspec.Struct, frozen=True):
    """A Linux bridge. `stp`: 0 off, 1 the kernel's, 2 a daemon's."""

    index: int
    name: str
    mac: str
    stp: int
    forward_delay_ms: int
    is_filtering: bool


class Home(msgspec.Struct, frozen=True):
    """What a tap was before the node touched it: what it is put back to."""

    tap: str
    index: int
    queue: int
    has_ipv6: bool | None
    place: Place | None


class Seen(msgspec.Struct, frozen=True):
    """What a plan is made from: both devices and where they are. None: no such device."""

    tap: Link | None
    tap_place: Place | None
    node: Link | None
    node_place: Place | None
