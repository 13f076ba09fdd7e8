"""Which connections a rule means: by protocol, addresses and ports, as the guest sends (rule C7).

`pycolo.core.Flows` is the same, compiled.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from typing import Final, NamedTuple

Network = IPv4Network | IPv6Network

PORT_MAX: Final = 65_535
ALL_PORTS: Final = (0, PORT_MAX)
"""A protocol without ports has 0."""


class AddressError(ValueError):
    """An address that no packet has; its text says what is expected."""


def network(text: str) -> Network:
    """An address or a prefix, as packets have them. Raises ValueError; `AddressError` for what would never be met."""
    if "%" in text:
        raise AddressError("an address without a zone, which packets do not name")
    found = ip_network(text)
    if isinstance(found, IPv6Network) and found.network_address.ipv4_mapped is not None:
        raise AddressError("an IPv4 address written as such")
    return found


class Flow(NamedTuple):
    """`protocol`: a number of IP, or None for all. The networks are the guest's addresses and those of the other end,
    None for all; the ports are a first and a last one.

    Whatever VLAN a connection is on. `table`: what it is counted under; 0: nowhere.
    """

    protocol: int | None = None
    guest: Network | None = None
    guest_ports: tuple[int, int] = ALL_PORTS
    other: Network | None = None
    other_ports: tuple[int, int] = ALL_PORTS
    table: int = 0

    @property
    def is_possible(self) -> bool:
        """No connection has an IPv4 and an IPv6 address."""
        return self.guest is None or self.other is None or self.guest.version == self.other.version

    def words(self) -> list[int]:
        """As `Flows` reads it: protocol or 256, IP version or 0, each network as four words and the four of its mask,
        and the ports.
        """
        version = next((network.version for network in (self.guest, self.other) if network is not None), 0)
        return [
            256 if self.protocol is None else self.protocol,
            version,
            *_network_words(self.guest),
            *_network_words(self.other),
            *self.guest_ports,
            *self.other_ports,
        ]


def _network_words(network: Network | None) -> list[int]:
    """The address, and the mask; an IPv4 address is in the first word, as in a connection's key."""
    if network is None:
        return [0] * 8
    address, mask = int(network.network_address), int(network.netmask)
    if isinstance(network.network_address, IPv4Address):
        return [address, 0, 0, 0, mask, 0, 0, 0]
    return [*_words(address), *_words(mask)]


def _words(number: int) -> list[int]:
    return [(number >> shift) & 0xFFFF_FFFF for shift in (96, 64, 32, 0)]
