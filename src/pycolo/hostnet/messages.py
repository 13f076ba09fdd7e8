"""What is asked of the kernel: one function per change, from facts to netlink messages."""

import struct
from collections.abc import Iterable, Iterator
from typing import Final

from pycolo.hostnet import looking
from pycolo.hostnet.facts import PORT_OPTIONS, Address, Options, Vlan
from pycolo.hostnet.looking import AF_BRIDGE, LINK, NEIGHBOUR, NTF_EXT_LEARNED, VLAN_PVID, VLAN_UNTAGGED
from pycolo.hostnet.netlink import CREATE, EXCLUSIVE, REPLACE, Message, attribute, nested, text, u32

# linux/rtnetlink.h, linux/if_link.h, linux/if_bridge.h
_NEWLINK: Final = 16
_DELLINK: Final = 17
_SETLINK: Final = 19
_NEWNEIGH: Final = 28
_NEWMDB: Final = 84
_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_MASTER: Final = 10
_IFLA_PROTINFO: Final = 12
_IFLA_TXQLEN: Final = 13
_IFLA_LINKINFO: Final = 18
_IFLA_IFALIAS: Final = 20
_IFLA_AF_SPEC: Final = 26
_INFO_KIND: Final = 1
_INFO_DATA: Final = 2
_AF_INET6: Final = 10
_ADDR_GEN_MODE: Final = 8
_ADDR_GEN_NONE: Final = 1
_BR_FORWARD_DELAY: Final = 1
_BR_STP_STATE: Final = 5
_BR_MCAST_SNOOPING: Final = 23
_BRPORT_STATE: Final = 1
_BRIDGE_VLAN_INFO: Final = 2
_VLAN_RANGE_BEGIN: Final = 8
_VLAN_RANGE_END: Final = 16
_NDA_LLADDR: Final = 2
_NDA_VLAN: Final = 5
_NTF_MASTER: Final = 0x04
_NUD_REACHABLE: Final = 0x02
_MDBA_SET_ENTRY: Final = 1
_IFF_UP: Final = 1
_EEXIST: Final = 17
_ENODEV: Final = 19
_ANY: Final = tuple(range(1, 134))
"""For what only saves time: a bridge learns an address again, and asks for groups again."""


def _set(index: int, what: str, *parts: bytes, flags: int = 0, mask: int = 0) -> Message:
    return Message(_NEWLINK, 0, LINK.pack(0, 0, index, flags, mask) + b"".join(parts), what)


def dress(index: int, name: str, mac: str, mtu: int, queue: int, alias: str) -> Message:
    """The node's TAP: MAC, MTU, queue, no IPv6 address of its own."""
    inet6 = nested(_AF_INET6, [attribute(_ADDR_GEN_MODE, bytes([_ADDR_GEN_NONE]))])
    parts = (
        attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", ""))),
        u32(_IFLA_MTU, mtu),
        u32(_IFLA_TXQLEN, queue),
        text(_IFLA_IFALIAS, alias),
        nested(_IFLA_AF_SPEC, [inet6]),
    )
    return _set(index, f"{name}: MAC {mac}, MTU {mtu}", *parts)


def set_mtu(index: int, name: str, mtu: int) -> Message:
    """The interface's MTU."""
    return _set(index, f"{name}: MTU {mtu}", u32(_IFLA_MTU, mtu))


def make_private(index: int, name: str, alias: str) -> Message:
    """A bridge that the host itself does not use: no IPv6 address of its own."""
    inet6 = nested(_AF_INET6, [attribute(_ADDR_GEN_MODE, bytes([_ADDR_GEN_NONE]))])
    return _set(index, f"{name}: alias", text(_IFLA_IFALIAS, alias), nested(_IFLA_AF_SPEC, [inet6]))


def raise_up(index: int, name: str) -> Message:
    """The interface is up."""
    return _set(index, f"{name}: up", flags=_IFF_UP, mask=_IFF_UP)


def set_queue(index: int, name: str, queue: int) -> Message:
    """The length of an interface's queue."""
    return _set(index, f"{name}: txqueuelen {queue}", u32(_IFLA_TXQLEN, queue))


def join(index: int, name: str, master: int, bridge: str) -> Message:
    """The interface is a port of the bridge, with the settings of a new port."""
    return _set(index, f"{name}: into the bridge {bridge}", u32(_IFLA_MASTER, master))


def leave(index: int, name: str) -> Message:
    """The interface is in no bridge."""
    return _set(index, f"{name}: out of its bridge", u32(_IFLA_MASTER, 0))


def delete(index: int, name: str) -> Message:
    """The interface is gone."""
    return Message(_DELLINK, 0, LINK.pack(0, 0, index, 0, 0), f"{name}: delete", (_ENODEV,))


def make_bridge(name: str) -> Message:
    """A bridge without STP and snooping; nothing where it is already."""
    data = (u32(_BR_STP_STATE, 0), u32(_BR_FORWARD_DELAY, 0), attribute(_BR_MCAST_SNOOPING, b"\0"))
    info = nested(_IFLA_LINKINFO, [text(_INFO_KIND, "bridge"), nested(_INFO_DATA, data)])
    body = LINK.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name) + info
    return Message(_NEWLINK, CREATE | EXCLUSIVE, body, f"{name}: add a bridge", (_EEXIST,))


# ── a bridge's port ─────────────────────────────────────────────────────────────────────────────────────────


def set_options(index: int, name: str, options: Options) -> Message:
    """Settings of a bridge's port."""
    parts = []
    for option, value in options.items():
        kind, size = PORT_OPTIONS[option]
        parts.append(attribute(kind, struct.pack({1: "=B", 2: "=H", 4: "=I"}[size], value)))
    shown = ", ".join(f"{option} {value}" for option, value in options.items())
    body = LINK.pack(AF_BRIDGE, 0, index, 0, 0) + nested(_IFLA_PROTINFO, parts)
    return Message(_SETLINK, 0, body, f"{name}: bridge port settings {shown}")


def set_state(index: int, name: str, state: int) -> Message:
    """State of a bridge's port: linux/if_bridge.h, BR_STATE_*."""
    part = nested(_IFLA_PROTINFO, [attribute(_BRPORT_STATE, bytes([state]))])
    return Message(_SETLINK, 0, LINK.pack(AF_BRIDGE, 0, index, 0, 0) + part, f"{name}: bridge port state {state}")


def add_vlans(index: int, name: str, vlans: Iterable[Vlan]) -> Message:
    """VLANs of a bridge's port, or other flags of those that it has."""
    return Message(_SETLINK, 0, _vlans(index, vlans), f"{name}: bridge vlan add {_shown(vlans)}")


def delete_vlans(index: int, name: str, vlans: Iterable[Vlan]) -> Message:
    """The bridge's port carries these VLANs no longer."""
    return Message(_DELLINK, 0, _vlans(index, vlans), f"{name}: bridge vlan del {_shown(vlans)}")


def _shown(vlans: Iterable[Vlan]) -> str:
    return " ".join(str(vlan.vid) for vlan in vlans)


def _vlans(index: int, vlans: Iterable[Vlan]) -> bytes:
    parts = [attribute(_BRIDGE_VLAN_INFO, struct.pack("=HH", flags, vid)) for flags, vid in _ranges(vlans)]
    return LINK.pack(AF_BRIDGE, 0, index, 0, 0) + attribute(_IFLA_AF_SPEC, b"".join(parts))


def _ranges(vlans: Iterable[Vlan]) -> Iterator[tuple[int, int]]:
    """Flags and number of each; neighbours with equal flags as a first and a last. A PVID is never in a range."""
    runs: list[list[Vlan]] = []
    for vlan in sorted(vlans):
        last = runs[-1][-1] if runs else None
        is_next = last is not None and vlan.vid == last.vid + 1 and vlan.is_untagged == last.is_untagged
        if is_next and not vlan.is_pvid and last is not None and not last.is_pvid:
            runs[-1].append(vlan)
        else:
            runs.append([vlan])
    for run in runs:
        flags = VLAN_PVID * run[0].is_pvid | VLAN_UNTAGGED * run[0].is_untagged
        if len(run) == 1:
            yield flags, run[0].vid
        else:
            yield flags | _VLAN_RANGE_BEGIN, run[0].vid
            yield flags | _VLAN_RANGE_END, run[-1].vid


def move_address(index: int, name: str, address: Address, more: bytes = b"") -> Message:
    """An entry of the bridge's forwarding table is at this port, wherever it was."""
    state = address.state if address.state & (looking.NUD_NOARP | looking.NUD_PERMANENT) else _NUD_REACHABLE
    flags = _NTF_MASTER | (address.flags & NTF_EXT_LEARNED)
    body = NEIGHBOUR.pack(AF_BRIDGE, index, state, flags, 0)
    body += attribute(_NDA_LLADDR, bytes.fromhex(address.mac.replace(":", "")))
    if address.vlan:
        body += attribute(_NDA_VLAN, struct.pack("=H", address.vlan))
    tolerated = () if state != _NUD_REACHABLE else _ANY
    return Message(_NEWNEIGH, CREATE | REPLACE, body + more, f"{name}: bridge fdb replace {address.mac}", tolerated)


def add_group(index: int, name: str, bridge: int, group: bytes) -> Message:
    """A multicast group, as `looking.port_groups` has it, is also at this port. Its flags are the kernel's own."""
    entry = struct.pack("=IBB", index, group[0], 0) + group[2:]
    body = struct.pack("=BxxxI", AF_BRIDGE, bridge) + attribute(_MDBA_SET_ENTRY, entry)
    tolerated = (_EEXIST,) if group[0] else _ANY
    return Message(_NEWMDB, CREATE, body, f"{name}: bridge mdb add", tolerated)
