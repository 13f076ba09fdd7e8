"""Traces: facts in, commands and frames out, for the comparator and the rewriter. Times in milliseconds."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from support.segments import FLOW, Flow, Tcp, batch, frame, read, unbatch

Load = Callable[[str], ModuleType]

# Small, so that thousands of cores can be made.
SMALL = {"held_bytes_max": 1 << 21, "held_packets_max": 4096, "connections_max": 64}


def octets_of(item: Tcp | bytes) -> bytes:
    return frame(item) if isinstance(item, Tcp) else item


class Comparing:
    """A comparator with a clock. What is given is taken whole, unless `offer_…` is used.

    `vnet_len`: batches carry vnet headers; the frames that are given begin with one.
    """

    def __init__(self, build: Load, vnet_len: int | None = None, **options: Any) -> None:
        module = build("pycolo.compare.comparator")
        self.core = module.Comparator(1, has_vnet=vnet_len is not None, **{**SMALL, **options})
        self.now_ms = 0.0
        self.vnet_len = vnet_len
        self._out = bytearray(1 << 21)

    @property
    def now_us(self) -> int:
        return round(self.now_ms * 1000)

    def offer_primary(self, *items: Tcp | bytes) -> int:
        """How many of the frames were taken."""
        return self._offer(self.core.primary_frames, items)

    def offer_secondary(self, *items: Tcp | bytes) -> int:
        return self._offer(self.core.secondary_frames, items)

    def primary(self, *items: Tcp | bytes) -> None:
        assert self.offer_primary(*items) == len(items), "back-pressure that was not expected"

    def secondary(self, *items: Tcp | bytes) -> None:
        assert self.offer_secondary(*items) == len(items), "back-pressure that was not expected"

    def _offer(self, take: Callable[[bytearray, int, int, int], int], items: tuple[Tcp | bytes, ...]) -> int:
        buf = batch([octets_of(item) for item in items], self.vnet_len)
        taken = take(buf, 0, len(buf), self.now_us)
        return len(unbatch(bytes(buf[:taken]), has_vnet=self.vnet_len is not None))

    def client(self, item: Tcp | bytes) -> bool:
        """A frame of the client that the comparator is shown; whether the secondary is to get it too."""
        buf = batch([octets_of(item)], self.vnet_len)
        until, behind = self.core.client_frames(buf, 0, len(buf), self.now_us)
        assert behind == len(buf)
        return bool(until == behind)

    def wait(self, ms: float) -> None:
        """Let time pass as a shell does: the timer is called when it is due, and at the end."""
        until = self.now_ms + ms
        calls = 0
        while (due := self.core.deadline_us()) is not None and due / 1000 <= until:
            calls = calls + 1 if due / 1000 <= self.now_ms else 0
            assert calls < 100, "the timer asks to be called again and again"
            self.now_ms = max(self.now_ms, due / 1000)
            self.core.timer_fired(self.now_us)
        self.now_ms = until
        self.core.timer_fired(self.now_us)

    def commit(self, **options: Any) -> None:
        self.core.checkpoint_committed(self.now_us, **options)

    def frames(self) -> list[bytes]:
        """What has left since the last call, vnet headers taken off."""
        return [octets[self.vnet_len or 0 :] for octets in self.frames_and_headers()]

    def frames_and_headers(self) -> list[bytes]:
        """What has left since the last call, with vnet headers."""
        end = self.core.drain(self._out, 0)
        return unbatch(bytes(self._out[:end]), has_vnet=self.vnet_len is not None, keeps_vnet=True)

    def out(self) -> list[Tcp]:
        """The same as segments, with their checksums checked."""
        return [read(octets) for octets in self.frames()]

    def commands(self) -> list[tuple[str, str, int]]:
        """(command, kind, sequence number) of each."""
        return [
            (type(command).__name__, command.difference.kind.name, command.difference.seq)
            for command in self.core.commands()
        ]

    def differences(self) -> list[Any]:
        return [command.difference for command in self.core.commands()]

    def acks_added(self) -> int:
        """How many more bare ACKs left than the primary has sent."""
        return self.core.stats.acks_made - self.core.stats.acks_owed

    def assert_empty(self) -> None:
        """Nothing is held, nothing is left in memory but what a retransmission will be compared with."""
        assert self.frames() == []
        assert self.core.held_packets() == 0
        assert self.core.held_bytes() == 0


class Rewriting:
    """A rewriter with a clock. Frames that go on come back from the call, those that wait from the drains."""

    def __init__(self, build: Load, vnet_len: int | None = None, **options: Any) -> None:
        module = build("pycolo.rewrite.rewriter")
        self._packets = build("pycolo.wire.packet")
        small = {"unacked_bytes_max": 1 << 20, "connections_max": 64}
        self.core = module.Rewriter(1, has_vnet=vnet_len is not None, **{**small, **options})
        self.now_ms = 0.0
        self.vnet_len = vnet_len
        self._out = bytearray(1 << 21)

    def client(self, *items: Tcp | bytes) -> list[bytes]:
        """Frames from outside: what the guest gets now."""
        return self._give(self.core.client_frames, items, self.core.drain_guest)

    def guest(self, *items: Tcp | bytes) -> list[bytes]:
        """Frames of the guest: what goes to the primary node, or to the client."""
        return self._give(self.core.guest_frames, items, None)

    def _give(self, take: Any, items: tuple[Tcp | bytes, ...], drain: Any) -> list[bytes]:
        buf = batch([octets_of(item) for item in items], self.vnet_len)
        assert take(buf, 0, len(buf), round(self.now_ms * 1000), self._out, 0) == len(buf)
        end = self.core.out_end
        if drain is not None:
            end = drain(self._out, end)
        return unbatch(bytes(self._out[:end]), has_vnet=self.vnet_len is not None)

    def to_guest(self) -> list[bytes]:
        """Held client frames that have become ready."""
        return unbatch(bytes(self._out[: self.core.drain_guest(self._out, 0)]), has_vnet=self.vnet_len is not None)

    def to_client(self) -> list[bytes]:
        """What a takeover sends again."""
        return unbatch(bytes(self._out[: self.core.drain_client(self._out, 0)]), has_vnet=self.vnet_len is not None)

    def offsets(self, flow: Flow = FLOW) -> tuple[int, int, int] | None:
        """(state, seq_offset, ts_offset) of a connection."""
        return self.known(Tcp(0, flow=flow))

    def known(self, segment: Tcp) -> tuple[int, int, int] | None:
        """The same of the connection of which that is a segment of the guest."""
        module = self._packets
        octets = bytearray(frame(segment))
        packet = module.Packet()
        module.parse_frame(octets, 0, len(octets), 0, packet)
        return self.core.seq_offset(packet)
