"""engine.c from Python: sources and outlets over cycles of frames, and the relay's process.

    python engine.py FOLDER WAYS SPIN_US

is the relay: it listens on unix sockets in FOLDER; WAYS is like "pri>out,sec>" (the sink: nothing behind the >). With
"tcp:pri=PORT,sec=PORT,out=PORT" for FOLDER it listens on ports.
"""

import ctypes
import socket
import subprocess
import sys
from array import array
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from loads import UDP, VNET_BYTES, Cycle, Traffic

HERE: Final = Path(__file__).resolve().parent
FOLDER: Final = HERE.parent / "build" / "benchmarks"
_BUFFER_BYTES: Final = (1 << 20) + (128 << 10)


class _Source(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("fd", "number_pos", "checksum_pos", "unused")),
        *((name, ctypes.c_uint32) for name in ("seq_step", "ack_step")),
        *((name, ctypes.c_void_p) for name in ("octets", "starts")),
        *((name, ctypes.c_uint64) for name in ("frames", "size", "at", "renewed", "cycles")),
    )


_COUNTERS: Final = (
    *("octets_per_cycle", "whole_per_cycle", "bare_per_cycle"),
    *("octets", "frames", "whole", "bare", "parts", "wrong", "reordered", "sampled", "sum", "last_ns", "pause_ns"),
)


class _Outlet(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("fd", "words", "is_udp", "is_checked", "client_pos", "number_pos")),
        *((name, ctypes.c_int32) for name in ("checks_ack", "broken")),
        *((name, ctypes.c_uint32) for name in ("flows", "seq_step", "seq_delta", "ack_step", "ack_delta", "unused")),
        *((name, ctypes.c_void_p) for name in ("original", "starts", "first", "order", "next", "passes", "taken")),
        *((name, ctypes.c_uint64) for name in _COUNTERS),
        ("buffer", ctypes.c_void_p),
        ("kept", ctypes.c_uint64),
    )


@cache
def engine() -> ctypes.CDLL:
    """engine.c, compiled when it has changed."""
    source, found = HERE / "engine.c", FOLDER / "engine.so"
    if not found.exists() or found.stat().st_mtime < source.stat().st_mtime:
        FOLDER.mkdir(parents=True, exist_ok=True)
        command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(found), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"error: engine.c does not compile: {done.stderr.strip().splitlines()[-1]}")
    library = ctypes.CDLL(str(found))
    library.drive.restype = ctypes.c_uint64
    library.drive.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64]
    return library


def _address(octets: Any) -> int:
    return ctypes.addressof((ctypes.c_char * len(octets)).from_buffer(octets))


class Source:
    """The input of `end`: a cycle, repeated."""

    def __init__(self, end: socket.socket, cycle: Cycle) -> None:
        self.cycle = cycle
        self._starts = array("Q", cycle.starts)
        self.fields = _Source(
            fd=end.fileno(),
            number_pos=cycle.number_pos,
            checksum_pos=cycle.checksum_pos,
            seq_step=cycle.seq_step,
            ack_step=cycle.ack_step,
            octets=_address(cycle.octets),
            starts=self._starts.buffer_info()[0],
            frames=cycle.frames,
            size=len(cycle.octets),
            renewed=cycle.frames,
        )


class Outlet:
    """The output of `end`: the frames of a cycle. Without `traffic` they are only counted.

    `shifted`: what is added to sequence and acknowledgement numbers; None: acknowledgements are not looked at.
    `from_client`: who sends them.
    """

    def __init__(
        self,
        end: socket.socket,
        cycle: Cycle,
        traffic: Traffic | None = None,
        shifted: tuple[int, int] | None = None,
        from_client: bool = False,
    ) -> None:
        self._buffer = bytearray(_BUFFER_BYTES)
        self.fields = _Outlet(fd=end.fileno(), octets_per_cycle=len(cycle.octets), buffer=_address(self._buffer))
        if traffic is None:
            return
        words = 8 if traffic.vnet else 4
        is_udp = traffic.protocol == UDP
        self._original = bytearray(cycle.octets)
        self._starts = array("Q", [*cycle.starts, len(cycle.octets)])
        head = words + (VNET_BYTES if traffic.vnet else 0) + 14 + (28 if is_udp else 40)
        by_flow: list[list[int]] = [[] for _ in range(cycle.flows)]
        for number, flow in enumerate(cycle.flow_of):
            if self._starts[number + 1] - self._starts[number] > head:
                by_flow[flow].append(number)
        self._order = array("I", [number for numbers in by_flow for number in numbers])
        self._first = array("I", [0])
        for numbers in by_flow:
            self._first.append(self._first[-1] + len(numbers))
        self._next = array("I", bytes(4 * cycle.flows))
        self._passes = array("I", bytes(4 * cycle.flows))
        self._taken = array("I", bytes(4 * cycle.flows))
        fields = self.fields
        fields.words, fields.is_udp, fields.is_checked, fields.flows = words, is_udp, True, cycle.flows
        fields.client_pos = 12 if from_client else 16
        fields.number_pos, fields.seq_step, fields.ack_step = cycle.number_pos, cycle.seq_step, cycle.ack_step
        fields.checks_ack = shifted is not None
        fields.seq_delta, fields.ack_delta = (delta & 0xFFFFFFFF for delta in shifted or (0, 0))
        fields.original = _address(self._original)
        fields.whole_per_cycle = len(self._order)
        fields.bare_per_cycle = cycle.frames - len(self._order)
        for name in ("starts", "first", "order", "next", "passes", "taken"):
            setattr(fields, name, getattr(self, f"_{name}").buffer_info()[0])


def drive(sources: Sequence[Source], outlets: Sequence[Outlet], seconds: float) -> tuple[float, int]:
    """Send for about that time. Returns the time until all was out, and the cycles that each source has sent."""
    ins = (_Source * max(1, len(sources)))(*(one.fields for one in sources))
    outs = (_Outlet * max(1, len(outlets)))(*(one.fields for one in outlets))
    took = engine().drive(ins, len(sources), outs, len(outlets), int(seconds * 1e9))
    for one, fields in zip(sources, ins, strict=False):
        one.fields = fields
    for outlet, fields in zip(outlets, outs, strict=False):
        outlet.fields = fields
    return took / 1e9, int(max((one.fields.cycles for one in sources), default=1))


def latencies(ends: Sequence[socket.socket], source: Source, count: int, silence_us: int) -> list[float]:
    """Microseconds for each of `count` pairs; `ends`: primary, secondary, outlet."""
    took = (ctypes.c_uint32 * count)()
    fds = [end.fileno() for end in ends]
    for end in ends:
        end.setblocking(True)
    back = engine().latency(*fds, ctypes.byref(source.fields), count, ctypes.c_uint64(silence_us * 1000), took)
    return [took[number] / 1000 for number in range(back)]


# ── the relay's process ─────────────────────────────────────────────────────────────────────────────────────


def relay(place: str, ways: str, spin_us: int) -> None:
    pairs = [way.split(">") for way in ways.split(",")]
    ports = dict(word.split("=") for word in place.removeprefix("tcp:").split(",")) if place.startswith("tcp:") else {}
    listening = {}
    for name in (name for pair in pairs for name in pair if name):
        if ports:
            listening[name] = socket.create_server(("127.0.0.1", int(ports[name])))
        else:
            listening[name] = socket.socket(socket.AF_UNIX)
            listening[name].bind(f"{place}/{name}")
            listening[name].listen(1)
    ends = {name: end.accept()[0] for name, end in listening.items()}
    count = len(pairs)
    from_fds = (ctypes.c_int * count)(*(ends[source].fileno() for source, _ in pairs))
    to_fds = (ctypes.c_int * count)(*(ends[sink].fileno() if sink else -1 for _, sink in pairs))
    engine().relay(from_fds, to_fds, count, ctypes.c_uint64(spin_us * 1000))


if __name__ == "__main__":
    relay(sys.argv[1], sys.argv[2], int(sys.argv[3]))
