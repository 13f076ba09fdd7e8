"""The cost of a frame through a packet socket, one per system call and in batches.

    .venv/bin/python benchmarks/device_batches.py [--rounds 15] [--json] [--help]

In a network namespace of its own, over a veth pair. Sending: write(2) and sendmmsg(2), as the nodes do for TAP devices
and for packet sockets (`FrameFd`). Receiving, in C (packets.c): recv(2), as the nodes do; recvmmsg(2) with as many
slots of the largest frame as their batch buffer has room for; the same with 64; and a ring (PACKET_MMAP), with slots
of 2 KiB and larger frames through recv(2), or with slots of the largest frame.

Sent frames meet no socket at the other end; received ones wait in the socket, or in the ring, before the time is taken.
What their arrival costs is paid by the sender, and shown beside it: a ring is filled then. Processor time is that of
the thread, with the kernel's part of it. The ways take turns, in random order; the median of all rounds is shown.
Needs root, iproute2 and a C compiler.
"""

import argparse
import ctypes
import json
import os
import random
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pycolo.core import BATCH_BUFFER_BYTES, FrameFd
from pycolo.transport.ports import DevicePort, open_device
from pycolo.transport.portspec import parse_port

HERE: Final = Path(__file__).resolve().parent
INSIDE: Final = "PYCOLO_DEVICE_BATCHES_INSIDE"
LOADS: Final = [("64 B", 64, 0), ("1514 B", 1514, 0), ("64 KiB, GSO", 65000, 0)] + [
    (f"64 B, {waiting} at a time", 64, waiting) for waiting in (1, 4, 16)
]
"""Name, bytes of a frame, and how many at a time; 0 is as many as fit."""

SEGMENT_BYTES: Final = 1448
BURST_BYTES: Final = 4 << 20
"""At most this much waits to be received: it fits a socket's buffer, with the kernel's overhead."""

BURST_FRAMES_MAX: Final = 400
"""A ring of large slots has no more room."""

ROUND_FRAMES: Final = 20_000
ROUND_BYTES: Final = 8 * BURST_BYTES
SLOTS_MANY: Final = 64
RING_SLOTS: Final = 512
SMALL_SLOT_BYTES: Final = 2 << 10
LARGE_SLOT_BYTES: Final = 128 << 10

Costs = dict[str, float]


def frame(size: int, vnet_len: int) -> bytes:
    """A TCP segment over IPv4 of `size` bytes with its Ethernet header; a large one is left to the card to cut."""
    ethernet = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\x00"
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, size - 14, 1, 0x4000, 64, 6, 0, b"\x0a\0\0\x01", b"\x0a\0\0\x02")
    total = sum(struct.unpack(">10H", ip))
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    tcp = struct.pack(">HHIIBBHHH", 1000, 2000, 1, 1, 0x50, 0x10, 1024, 0, 0)
    octets = ethernet + ip[:10] + struct.pack(">H", checksum) + ip[12:] + tcp
    header = struct.pack("<BBHHHH", 1, 1, len(octets), SEGMENT_BYTES, len(octets) - len(tcp), 16)
    return header[:vnet_len] + octets + bytes(size - len(octets))


def batches(octets: bytes, vnet_len: int, count: int) -> list[bytearray]:
    """`count` frames in QEMU's framing, in buffers as full as the nodes' are."""
    framed = struct.pack(">II", len(octets), vnet_len)[: 8 if vnet_len else 4] + octets
    each = max(1, (256 << 10) // len(framed))
    return [bytearray(framed * min(each, count - first)) for first in range(0, count, each)]


def send(fd: FrameFd, filled: list[bytearray]) -> None:
    """All of them, again where the device has no room."""
    for octets in filled:
        pos = 0
        while pos < len(octets):
            pos = fd.write_batch(octets, pos, len(octets))


def timed(work: Callable[[], object]) -> tuple[int, int]:
    """Nanoseconds that passed, and those of the processor."""
    wall, cpu = time.monotonic_ns(), time.thread_time_ns()
    work()
    return time.monotonic_ns() - wall, time.thread_time_ns() - cpu


class Load:
    """One row: `ways` by name, each a function that is timed once per round."""

    def __init__(self, size: int, at_a_time: int, library: ctypes.CDLL) -> None:
        self._library = library
        self._has_vnet = size > 1514
        with_room = min(BURST_FRAMES_MAX, BURST_BYTES // size)
        self._burst = at_a_time or with_room
        self._bursts = min(ROUND_FRAMES, ROUND_BYTES // size) // self._burst
        self._sender = self._opened("one")
        vnet_len = self._sender.vnet_len
        self._filled = batches(frame(size, vnet_len), vnet_len, self._burst)

    def _opened(self, name: str) -> DevicePort:
        return open_device(parse_port(f"packet:{name},vnet_hdr={'on' if self._has_vnet else 'off'}", name), name)

    def out(self, *, is_socket: bool) -> Costs:
        """Sending alone."""
        fd = FrameFd(self._sender.fileno(), self._sender.vnet_len, is_socket=is_socket)
        wall, cpu = timed(lambda: [send(fd, self._filled) for _ in range(self._bursts)])
        assert fd.frames_out == self._bursts * self._burst, f"{fd.dropped} frames refused, errno {fd.last_errno}"
        return {"wall": wall / fd.frames_out, "cpu": cpu / fd.frames_out}

    def _taken(self, drain: Callable[[], int]) -> Costs:
        """Receiving: after each burst, everything that it brought."""
        fd = FrameFd(self._sender.fileno(), self._sender.vnet_len, is_socket=True)
        frames = wall = cpu = arrival = 0
        for _ in range(self._bursts):
            arrival += timed(lambda: send(fd, self._filled))[1]
            count: list[int] = []
            part, own = timed(lambda count=count: count.append(drain()))  # type: ignore[misc]
            assert count == [self._burst], f"{count[0]} of {self._burst} frames have come"
            frames, wall, cpu = frames + count[0], wall + part, cpu + own
        return {"wall": wall / frames, "cpu": cpu / frames, "arrival": arrival / frames}

    def by_recv(self) -> Costs:
        """recv(2)."""
        port, octets = self._opened("two"), (ctypes.c_char * BATCH_BUFFER_BYTES)()
        try:
            return self._taken(
                lambda: int(self._library.receive_each(port.fileno(), octets, ctypes.c_long(len(octets))))
            )
        finally:
            port.close()

    def by_slots(self, slots: int, room: int) -> Costs:
        """recvmmsg(2)."""
        port, octets = self._opened("two"), (ctypes.c_char * room)()
        try:
            return self._taken(
                lambda: int(self._library.receive_many(port.fileno(), octets, ctypes.c_long(room), slots))
            )
        finally:
            port.close()

    def by_ring(self, slot_bytes: int) -> Costs:
        """PACKET_MMAP."""
        port, room = self._opened("two"), BATCH_BUFFER_BYTES
        octets, following = (ctypes.c_char * room)(), ctypes.c_int(0)
        ring = self._library.ring_open(port.fileno(), slot_bytes, RING_SLOTS)
        assert ring, "the kernel has made no ring"
        arguments = (port.fileno(), ctypes.c_void_p(ring), slot_bytes, RING_SLOTS, ctypes.byref(following), octets)
        receive = self._library.receive_ring
        try:
            return self._taken(lambda: int(receive(*arguments, ctypes.c_long(room), port.vnet_len)))
        finally:
            self._library.ring_close(ctypes.c_void_p(ring), slot_bytes, RING_SLOTS)
            port.close()

    def ways(self) -> dict[str, Callable[[], Costs]]:
        """Send all of them."""
        return {
            "out: write": lambda: self.out(is_socket=False),
            "out: sendmmsg": lambda: self.out(is_socket=True),
            "in: recv": self.by_recv,
            "in: recvmmsg, 4 slots": lambda: self.by_slots(4, BATCH_BUFFER_BYTES),
            "in: recvmmsg, 64 slots": lambda: self.by_slots(SLOTS_MANY, SLOTS_MANY * (70 << 10)),
            "in: ring, 2 KiB": lambda: self.by_ring(SMALL_SLOT_BYTES),
            "in: ring, 128 KiB": lambda: self.by_ring(LARGE_SLOT_BYTES),
        }

    def close(self) -> None:
        """Give the socket back."""
        self._sender.close()


def measured(load: Load, rounds: int) -> dict[str, Costs]:
    """Medians by way, of ways that took turns."""
    found: dict[str, list[Costs]] = {}
    ways = load.ways()
    for _ in range(rounds):
        for name in random.sample(list(ways), len(ways)):  # what one way leaves in the caches costs the next
            found.setdefault(name, []).append(ways[name]())
    return {
        name: {part: statistics.median(costs[part] for costs in found[name]) for part in found[name][0]}
        for name in ways
    }


def compiled() -> ctypes.CDLL:
    """packets.c."""
    found = HERE.parent / "build" / "benchmarks" / "packets.so"
    found.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(found), str(HERE / "packets.c")], check=True)
    library = ctypes.CDLL(str(found))
    library.receive_each.restype = library.receive_many.restype = library.receive_ring.restype = ctypes.c_long
    library.ring_open.restype = ctypes.c_void_p
    return library


def raise_pair() -> None:
    """Two cards with a cable, in this process's namespace."""
    subprocess.run(["ip", "link", "add", "one", "type", "veth", "peer", "name", "two"], check=True)
    for name in ("one", "two"):
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1", encoding="ascii")
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
    time.sleep(1)


def main() -> int:
    """Rows as Markdown, or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="of each way (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="nanoseconds per frame")
    arguments = parser.parse_args()
    if INSIDE not in os.environ:
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])
    library = compiled()
    raise_pair()
    rows: dict[str, dict[str, Costs]] = {}
    for name, size, at_a_time in LOADS:
        load = Load(size, at_a_time, library)
        rows[name] = measured(load, arguments.rounds)
        load.close()
    if arguments.json:
        print(json.dumps(rows))
        return 0
    print("| | | frames/s | s per million | arrival, s per million |\n|---|---|--:|--:|--:|")
    for name, ways in rows.items():
        for way, costs in ways.items():
            arrival = f"{costs['arrival'] / 1000:.2f}" if "arrival" in costs else ""
            print(f"| {name} | {way} | {1e6 / costs['wall']:.0f}k | {costs['cpu'] / 1000:.2f} | {arrival} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
