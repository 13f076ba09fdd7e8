"""Announces the guest's addresses on the LAN after a takeover."""

from ipaddress import IPv4Address
from struct import pack
from typing import Final

from pycolo.core import Batch, Neighbours
from pycolo.wire.build import gratuitous_arp, unsolicited_advertisement

ANNOUNCE_AFTER_MS: Final = (0, 200, 1000)
"""The announcement is repeated: one lost frame would leave a switch with the wrong port (RFC 5227 section 2.3)."""

AGAIN_US: Final = 10_000
"""Pause between two attempts while the port to the LAN takes nothing."""


class Announcer:
    """Repeats the announcement after `begin`. `vnet_len`: of the port to the LAN; None: as long as the guest's."""

    def __init__(self, neighbours: Neighbours, vnet_len: int | None) -> None:
        self._neighbours = neighbours
        self._vnet_len = vnet_len
        self._at_us: list[int] = []

    @property
    def due_us(self) -> int | None:
        """When `write` is to be called next, or None."""
        return self._at_us[0] if self._at_us else None

    def begin(self, now_us: int) -> None:
        """Start: the first announcement is due now."""
        self._at_us = [now_us + ms * 1000 for ms in ANNOUNCE_AFTER_MS]

    def is_due(self, now_us: int) -> bool:
        """Whether an announcement is due."""
        return bool(self._at_us) and self._at_us[0] <= now_us

    def write(self, out: Batch) -> None:
        """Write one announcement of every address to `out`, which must be empty."""
        del self._at_us[0]
        out.clear()
        vnet_len = self._neighbours.vnet_len if self._vnet_len is None else self._vnet_len
        words = b"" if self._vnet_len == 0 else pack("!I", vnet_len)
        header = bytes(vnet_len)
        for neighbour in self._neighbours.all():
            address = neighbour.address.packed
            if isinstance(neighbour.address, IPv4Address):
                frames = [
                    gratuitous_arp(neighbour.mac, address, vlan=neighbour.vlan, is_reply=is_reply)
                    for is_reply in (False, True)
                ]
            else:
                frames = [unsolicited_advertisement(neighbour.mac, address, vlan=neighbour.vlan)]
            for frame in frames:
                octets = pack("!I", len(header) + len(frame)) + words + header + frame
                out.buf[out.end : out.end + len(octets)] = octets
                out.end += len(octets)
