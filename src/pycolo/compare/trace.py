"""The fate of each packet, as values: the entries that the compiled `Trace` has recorded."""

import struct
from dataclasses import dataclass

from pycolo.compare.kinds import PacketFate

_ENTRY = struct.Struct(">IBBHQqQ")


@dataclass(frozen=True, slots=True)
class TracedPacket:
    """One packet and its fate. `side`: 0 primary, 1 secondary; `aux`: see `PacketFate`; `frame`: no vnet header."""

    side: int
    fate: PacketFate
    arrived_us: int
    aux: int
    frame: bytes


def traced_packets(entries: bytes) -> list[TracedPacket]:
    """The packets of a buffer of entries, in the order in which they were recorded."""
    found = []
    pos = 0
    while pos < len(entries):
        length, side, fate, vnet_len, arrived_us, aux, _ = _ENTRY.unpack_from(entries, pos)
        start = pos + _ENTRY.size
        frame = entries[start + vnet_len : start + length]
        found.append(TracedPacket(side, PacketFate(fate), arrived_us, aux, frame))
        pos = start + length
    return found
