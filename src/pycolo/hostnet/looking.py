"""Reads facts from the kernel: interfaces, bridges, and a bridge's port with all its settings."""

import socket
import struct
from pathlib import Path
from typing import Final

from pycolo.errors import ConnectError
from pycolo.hostnet import silence
from pycolo.hostnet.facts import FORWARDING, PORT_OPTIONS, Address, Bridge, BridgePlace, Link, Vlan
from pycolo.hostnet.netlink import Attributes, Netlink, attribute, attributes, each_attribute, number, text, u32

# linux/rtnetlink.h, linux/if_link.h, linux/if_bridge.h, linux/neighbour.h
GETLINK: Final = 18
_GETADDR: Final = 22
_GETNEIGH: Final = 30
_GETMDB: Final = 86
AF_BRIDGE: Final = 7
_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_MASTER: Final = 10
_IFLA_PROTINFO: Final = 12
_IFLA_TXQLEN: Final = 13
_IFLA_OPERSTATE: Final = 16
_IFLA_LINKINFO: Final = 18
_IFLA_IFALIAS: Final = 20
_IFLA_AF_SPEC: Final = 26
_IFLA_EXT_MASK: Final = 29
_IFLA_CARRIER: Final = 33
_VLANS: Final = 2
"""RTEXT_FILTER_BRVLAN."""

_INFO_KIND: Final = 1
_INFO_DATA: Final = 2
_TUN_TYPE: Final = 3
_TUN_VNET_HDR: Final = 5
_TUN_PERSIST: Final = 6
_TUN_MULTI_QUEUE: Final = 7
_TYPE_TAP: Final = 2
_BR_FORWARD_DELAY: Final = 1
_BR_STP_STATE: Final = 5
_BR_VLAN_FILTERING: Final = 7
_BRPORT_STATE: Final = 1
_BRIDGE_VLAN_INFO: Final = 2
VLAN_PVID: Final = 2
VLAN_UNTAGGED: Final = 4
_IFF_UP: Final = 1
_OPER_UNKNOWN: Final = 0
_OPER_UP: Final = 6
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_NDA_LLADDR: Final = 2
_NDA_VLAN: Final = 5
_NDA_FLAGS_EXT: Final = 15
NUD_PERMANENT: Final = 0x80
NUD_NOARP: Final = 0x40
NTF_SELF: Final = 0x02
NTF_EXT_LEARNED: Final = 0x10
_MDB_ENTRY_BYTES: Final = 28
_MDB_PERMANENT: Final = 1

LINK: Final = struct.Struct("=BxHiII")
"""ifinfomsg."""

NEIGHBOUR: Final = struct.Struct("=BxxxiHBB")
"""ndmsg: family, ifindex, state, flags, type."""

_ENODEV: Final = 19
STP_OF_THE_KERNEL: Final = 1
"""linux/if_bridge.h, BR_KERNEL_STP."""

_HZ: Final = 100
"""USER_HZ: what the kernel counts a bridge's times in."""


def find_link(netlink: Netlink, name: str) -> Link | None:
    """The interface of this name in this network namespace; None when there is none."""
    body = netlink.ask(GETLINK, LINK.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name), (_ENODEV,))
    return None if body is None else _link(netlink, body)


def need_link(netlink: Netlink, name: str, what: str) -> Link:
    """As `find_link`. Raises `ConnectError`, which begins with `what`."""
    link = find_link(netlink, name)
    if link is None:
        raise ConnectError(f"{what} {name}: this host (this network namespace) has no such interface")
    return link


def name_of(netlink: Netlink, index: int) -> str:
    """The name of the interface with this index; empty when there is none."""
    body = netlink.ask(GETLINK, LINK.pack(0, 0, index, 0, 0), (_ENODEV,))
    return "" if body is None else _string(attributes(body[LINK.size :]), _IFLA_IFNAME)


def _link(netlink: Netlink, body: bytes) -> Link:
    _, _, index, flags, _ = LINK.unpack_from(body)
    found = attributes(body[LINK.size :])
    name = _string(found, _IFLA_IFNAME)
    kind, data = _kind(found)
    return Link(
        index=index,
        name=name,
        mac=found.get(_IFLA_ADDRESS, b"").hex(":"),
        mtu=number(found[_IFLA_MTU]),
        queue=number(found.get(_IFLA_TXQLEN, b"")),
        is_up=bool(flags & _IFF_UP),
        kind=kind,
        alias=_string(found, _IFLA_IFALIAS),
        master=number(found.get(_IFLA_MASTER, b"")),
        has_carrier=bool(number(found.get(_IFLA_CARRIER, b""))),
        is_tap=kind == "tun" and number(data.get(_TUN_TYPE, b"")) == _TYPE_TAP,
        has_vnet=bool(number(data.get(_TUN_VNET_HDR, b""))),
        is_multiqueue=bool(number(data.get(_TUN_MULTI_QUEUE, b""))),
        is_persistent=bool(number(data.get(_TUN_PERSIST, b""))),
        is_silenced=silence.is_silenced(netlink, index),
        has_ipv6=has_ipv6(name),
        qdiscs=silence.qdiscs(netlink, index),
        addresses=_addresses(netlink, index),
    )


def _kind(found: Attributes) -> tuple[str, Attributes]:
    info = attributes(found.get(_IFLA_LINKINFO, b""))
    return _string(info, _INFO_KIND), attributes(info.get(_INFO_DATA, b""))


def _string(found: Attributes, kind: int) -> str:
    return found.get(kind, b"").rstrip(b"\0").decode(errors="replace")


def _addresses(netlink: Netlink, index: int) -> tuple[str, ...]:
    """IP addresses of global scope."""
    found = []
    for body in netlink.dump(_GETADDR, struct.pack("=BBBBi", 0, 0, 0, 0, index)):
        family, prefix, _, scope, at = struct.unpack_from("=BBBBi", body)
        if at == index and scope == 0:
            values = attributes(body[8:])
            octets = values.get(_IFA_LOCAL, values.get(_IFA_ADDRESS, b""))
            found.append(f"{socket.inet_ntop(family, octets)}/{prefix}")
    return tuple(sorted(found))


# ── bridges ─────────────────────────────────────────────────────────────────────────────────────────────────


def find_bridge(netlink: Netlink, name: str) -> Bridge | None:
    """The Linux bridge of this name; None when there is none, or something else."""
    body = netlink.ask(GETLINK, LINK.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name), (_ENODEV,))
    if body is None:
        return None
    found = attributes(body[LINK.size :])
    kind, data = _kind(found)
    if kind != "bridge":
        return None
    return Bridge(
        index=LINK.unpack_from(body)[2],
        name=name,
        mac=found.get(_IFLA_ADDRESS, b"").hex(":"),
        stp=number(data.get(_BR_STP_STATE, b"")),
        forward_delay_ms=number(data.get(_BR_FORWARD_DELAY, b"")) * 1000 // _HZ,
        is_filtering=bool(number(data.get(_BR_VLAN_FILTERING, b""))),
    )


def ports_of(netlink: Netlink, bridge: int) -> list[int]:
    """The indices of a bridge's ports."""
    answers = netlink.dump(GETLINK, LINK.pack(AF_BRIDGE, 0, 0, 0, 0))
    return [
        LINK.unpack_from(answer)[2]
        for answer in answers
        if number(attributes(answer[LINK.size :]).get(_IFLA_MASTER, b"")) == bridge
        and LINK.unpack_from(answer)[2] != bridge
    ]


def port_of(netlink: Netlink, link: Link, bridge: Bridge) -> BridgePlace:
    """The settings of a bridge's port."""
    is_running = _is_running(netlink, link.index)
    options, state = port_options(netlink, link.index)
    # A port that does not run is disabled, with STP the bridge decides.
    is_chosen = bridge.stp == 0 and is_running and state != FORWARDING
    return BridgePlace(
        bridge=bridge.name,
        options=options,
        vlans=port_vlans(netlink, link.index),
        addresses=tuple(sorted(_chosen(netlink, link, bridge))),
        groups=tuple(sorted(group.hex() for group in port_groups(netlink, link.index) if group[0] == _MDB_PERMANENT)),
        state=state if is_chosen else None,
    )


def _is_running(netlink: Netlink, index: int) -> bool:
    """Not the carrier: the kernel enables a bridge's port only when its operational state has followed that."""
    body = netlink.ask(GETLINK, LINK.pack(0, 0, index, 0, 0), (_ENODEV,))
    if body is None:
        return False
    state = number(attributes(body[LINK.size :]).get(_IFLA_OPERSTATE, b""))
    return bool(LINK.unpack_from(body)[3] & _IFF_UP) and state in (_OPER_UNKNOWN, _OPER_UP)


def port_options(netlink: Netlink, index: int) -> tuple[dict[str, int], int]:
    """The settings of a bridge's port, and its state."""
    for body in netlink.dump(GETLINK, LINK.pack(AF_BRIDGE, 0, 0, 0, 0)):
        if LINK.unpack_from(body)[2] == index:
            found = attributes(attributes(body[LINK.size :]).get(_IFLA_PROTINFO, b""))
            options = {name: number(found[kind]) for name, (kind, _) in PORT_OPTIONS.items() if kind in found}
            return options, number(found.get(_BRPORT_STATE, b""))
    return {}, 0


def port_vlans(netlink: Netlink, index: int) -> tuple[Vlan, ...]:
    """The VLANs of a bridge's port."""
    body = LINK.pack(AF_BRIDGE, 0, 0, 0, 0) + u32(_IFLA_EXT_MASK, _VLANS)
    for answer in netlink.dump(GETLINK, body):
        if LINK.unpack_from(answer)[2] == index:
            spec = attributes(answer[LINK.size :]).get(_IFLA_AF_SPEC, b"")
            found = [struct.unpack("=HH", value) for kind, value in each_attribute(spec) if kind == _BRIDGE_VLAN_INFO]
            return tuple(Vlan(vid, bool(flags & VLAN_PVID), bool(flags & VLAN_UNTAGGED)) for flags, vid in found)
    return ()


def port_state(netlink: Netlink, index: int) -> int:
    """linux/if_bridge.h, BR_STATE_*."""
    return port_options(netlink, index)[1]


def port_addresses(netlink: Netlink, index: int) -> list[tuple[Address, bytes]]:
    """All entries of the forwarding table at a bridge's port, except the device's own; with their attributes."""
    found = []
    for body in netlink.dump(_GETNEIGH, LINK.pack(AF_BRIDGE, 0, index, 0, 0)):
        _, at, state, flags, _ = NEIGHBOUR.unpack_from(body)
        values = attributes(body[NEIGHBOUR.size :])
        if at == index and not state & NUD_PERMANENT and not flags & NTF_SELF and _NDA_LLADDR in values:
            vlan = number(values.get(_NDA_VLAN, b""))
            more = attribute(_NDA_FLAGS_EXT, values[_NDA_FLAGS_EXT]) if _NDA_FLAGS_EXT in values else b""
            address = Address(values[_NDA_LLADDR].hex(":"), vlan, state, flags & NTF_EXT_LEARNED)
            found.append((address, more))
    return found


def _chosen(netlink: Netlink, link: Link, bridge: Bridge) -> set[Address]:
    own = {link.mac, bridge.mac}
    found = {address for address, _ in port_addresses(netlink, link.index)}
    return {one for one in found if one.mac not in own and (one.state & NUD_NOARP or one.flags & NTF_EXT_LEARNED)}


def port_groups(netlink: Netlink, index: int) -> list[bytes]:
    """The multicast groups of a bridge's port, as `struct br_mdb_entry` without the port."""
    found = []
    for body in netlink.dump(_GETMDB, struct.pack("=BxxxI", AF_BRIDGE, 0)):
        for kind, mdb in each_attribute(body[8:]):
            if kind == 1:  # MDBA_MDB
                for _, entry in each_attribute(mdb):
                    for info, value in each_attribute(entry):
                        if info == 1 and number(value[:4]) == index:  # MDBA_MDB_ENTRY_INFO
                            found.append(value[4:_MDB_ENTRY_BYTES])
    return found


# ── IPv6 ────────────────────────────────────────────────────────────────────────────────────────────────────


def ipv6_switch(name: str) -> Path:
    """The file that says whether an interface of this network namespace has no IPv6."""
    return Path("/proc/sys/net/ipv6/conf") / name / "disable_ipv6"


def has_ipv6(name: str) -> bool | None:
    """None where the kernel has no IPv6 at all."""
    try:
        return ipv6_switch(name).read_text(encoding="ascii").strip() == "0"
    except OSError:
        return None
