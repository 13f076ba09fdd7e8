from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

class Neighbour(NamedTuple):
    mac: bytes
    address: IPv4Address | IPv6Address
    vlan: int

class Neighbours:
    @property
    def count(self) -> int: ...
    def __init__(self) -> None: ...
    def all(self) -> list[Neighbour]: ...
