"""Complete frames of our own: those that tell a LAN of a moved address, and the nodes' probe.

Not on the packet path; plain Python.
"""

from ipaddress import IPv6Address
from struct import pack

from pycolo.core import fold

_BROADCAST = b"\xff" * 6
_PROBE_MAC = bytes.fromhex("020000000000")
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_ALL_NODES = IPv6Address("ff02::1")


def gratuitous_arp(mac: bytes, address: bytes, *, vlan: int = 0, is_reply: bool = False) -> bytes:
    """An ARP packet that announces `address` (4 bytes) at `mac`: RFC 5227 section 3 as a request, or as a reply.

    Hosts differ in which of the two they accept: send both. `vlan`: the tags as the parser packs them.
    """
    target_mac = _BROADCAST if is_reply else b"\0" * 6
    operation = 2 if is_reply else 1
    body = pack("!HHBBH", 1, 0x0800, 6, 4, operation) + mac + address + target_mac + address
    return _ethernet(_BROADCAST, mac, vlan, 0x0806) + body


def unsolicited_advertisement(mac: bytes, address: bytes, *, vlan: int = 0) -> bytes:
    """An unsolicited neighbour advertisement for `address` (16 bytes) at `mac`.

    RFC 4861 section 7.2.6, with the override flag.
    """
    message = pack("!BBHI", 136, 0, 0, 0x20000000) + address + b"\x02\x01" + mac
    pseudo = address + _ALL_NODES.packed + pack("!II", len(message), 58)
    checksum = 0xFFFF - fold(_sum(pseudo) + _sum(message))
    message = message[:2] + pack("!H", checksum) + message[4:]
    header = pack("!IHBB", 0x60000000, len(message), 58, 255) + address + _ALL_NODES.packed
    return _ethernet(_ALL_NODES_MAC, mac, vlan, 0x86DD) + header + message


def probe(token: bytes) -> bytes:
    """A frame of no protocol: IEEE 802 leaves this Ethernet type for local experiments."""
    return (_ethernet(_PROBE_MAC, _PROBE_MAC, 0, 0x88B5) + b"pycolo probe " + token).ljust(60, b"\0")


def _sum(octets: bytes) -> int:
    """RFC 1071 checksum of an even number of bytes."""
    return sum(int.from_bytes(octets[i : i + 2], "big") for i in range(0, len(octets), 2))


def _ethernet(destination: bytes, source: bytes, vlan: int, ethertype: int) -> bytes:
    tags = [tag & 0xFFF for tag in (vlan >> 13, vlan & 0x1FFF) if tag & 0x1000]
    kinds = [0x88A8, 0x8100] if len(tags) == 2 else [0x8100]
    tagged = b"".join(pack("!HH", kind, tag) for kind, tag in zip(kinds, tags, strict=False))
    return destination + source + tagged + pack("!H", ethertype)
