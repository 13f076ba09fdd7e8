"""`--pcap FILE`: each packet that a colo-compare received, with its fate as a comment.

A packet is written when its fate is known, with its arrival time: a primary packet when it leaves, a secondary packet
when it is discarded. A packet that differs is written at once, and again when it leaves. What is still held is written
when the process ends. Wireshark sorts by time; the comments are the column `frame.comment`.
"""

import threading
from pathlib import Path
from time import monotonic_ns, time_ns
from typing import Final

from pycolo.compare.kinds import PacketFate
from pycolo.compare.trace import TracedPacket
from pycolo.core import Comparator
from pycolo.transport.pcapng import CaptureFile

TRACE_BYTES: Final = 16 << 20
"""Records between two reads of the trace: sixty batches' worth, since one secondary packet may release a full queue."""


class Capture:
    """One file for all colo-compare objects of a process; their threads write one at a time."""

    def __init__(self, path: Path, object_ids: list[str]) -> None:
        """Raises `ConnectError` when the file cannot be created."""
        names = [f"{object_id} {side}" for object_id in object_ids for side in ("primary_in", "secondary_in")]
        offset_us = (time_ns() - monotonic_ns()) // 1000
        self._file = CaptureFile(path, names, offset_us)
        self._interface = {object_id: 2 * index for index, object_id in enumerate(object_ids)}
        self._lock = threading.Lock()

    def take(self, object_id: str, comparator: Comparator) -> str:
        """Write what the comparator has noted. Returns one line for the user when the file has just failed, else ""."""
        packets = comparator.held.trace.take()
        if not packets:
            return ""
        with self._lock:
            before = self._file.failure
            base = self._interface[object_id]
            for packet in packets:
                self._file.packet(base + packet.side, packet.arrived_us, packet.frame, comment_on(packet))
            return self._file.failure if self._file.failure != before else ""

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()


def comment_on(packet: TracedPacket) -> str:
    """The fate of a packet, for people."""
    match packet.fate:
        case PacketFate.RELEASED:
            return f"released, held for {packet.aux} µs"
        case PacketFate.CLAMPED:
            return f"released with ack or window lowered to the secondary's, held for {packet.aux} µs"
        case PacketFate.MADE:
            return "made here and released"
        case PacketFate.DISCARDED:
            return "discarded"
        case PacketFate.DIFFERS:
            return f"differs at byte {packet.aux}"
        case PacketFate.MASKED:
            return f"discarded; what differs from byte {packet.aux} on may differ: a mask"
        case PacketFate.HELD:
            return f"still held at the end, for {packet.aux} µs so far"
