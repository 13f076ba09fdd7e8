"""The Python view of a connection's key."""

from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

_PROTO_NAMES = {
    1: "icmp",
    6: "tcp",
    17: "udp",
    33: "dccp",
    50: "esp",
    51: "ah",
    58: "icmp6",
    132: "sctp",
    136: "udplite",
}


class ConnectionKey(NamedTuple):
    """(ip proto, source, destination, source port, destination port) as the guest sends; QEMU's `ConnectionKey`.

    `vlan`: the 802.1Q/802.1ad identifiers, outermost first; the same addresses on two VLANs are two connections. Ports
    are 0 if the protocol has none; for ESP, AH and SCTP they hold what QEMU uses as ports.
    """

    ip_proto: int
    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    source_port: int
    destination_port: int
    vlan: tuple[int, ...] = ()

    def __str__(self) -> str:
        name = _PROTO_NAMES.get(self.ip_proto, f"ip-proto-{self.ip_proto}")
        tags = "".join(f" vlan {tag}" for tag in self.vlan)
        return f"{name} {_end(self.source, self.source_port)} > {_end(self.destination, self.destination_port)}{tags}"

    def reversed(self) -> "ConnectionKey":
        """The key of the opposite direction."""
        return self._replace(
            source=self.destination,
            destination=self.source,
            source_port=self.destination_port,
            destination_port=self.source_port,
        )


def _end(address: IPv4Address | IPv6Address, port: int) -> str:
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"{host}:{port}" if port else host


def key_from_words(words: list[int]) -> ConnectionKey:
    """From the eleven words that `conntrack.table` stores (its docstring has their layout)."""
    proto, version = words[9] & 0xFF, words[9] >> 8
    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    if version == 4:
        source, destination = IPv4Address(words[0]), IPv4Address(words[4])
    else:
        source = IPv6Address(_join(words[0:4]))
        destination = IPv6Address(_join(words[4:8]))
    tags = words[10]
    vlan = tuple(tag & 0xFFF for tag in (tags >> 13, tags & 0x1FFF) if tag & 0x1000)
    return ConnectionKey(proto, source, destination, words[8] & 0xFFFF, words[8] >> 16, vlan)


def _join(words: list[int]) -> int:
    return (words[0] << 96) | (words[1] << 64) | (words[2] << 32) | words[3]
