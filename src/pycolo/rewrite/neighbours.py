"""The guest's addresses as values: what a takeover announces on the LAN (rule R4)."""

from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple


class Neighbour(NamedTuple):
    """`mac`: six bytes; `vlan`: the tags of the frames it was seen in, as the parser packs them (0: none)."""

    mac: bytes
    address: IPv4Address | IPv6Address
    vlan: int
