"""The guest's addresses as values: a takeover announces them on the LAN (rule R4)."""

from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple


class Neighbour(NamedTuple):
    """`mac`: six bytes; `vlan`: the tags of its frames, as the parser packs them (0: none)."""

    mac: bytes
    address: IPv4Address | IPv6Address
    vlan: int
