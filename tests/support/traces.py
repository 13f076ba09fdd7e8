"""Traces: facts in, commands and frames out, for the comparator and the rewriter. Times in milliseconds.

`pycolo.Comparator` and `pycolo.Rewriter` with a clock, small tables, and segments instead of bytes.
"""

from typing import Any

from pycolo import Comparator, Rewriter
from support.segments import FLOW, Flow, Tcp, frame, read

# Small, so that thousands of cores can be made.
SMALL = {"held_bytes_max": 1 << 21, "held_packets_max": 4096, "connections_max": 64}
SMALL_REWRITER = {"unacked_bytes_max": 1 << 20, "connections_max": 64}


def octets_of(item: Tcp | bytes) -> bytes:
    return frame(item) if isinstance(item, Tcp) else item


class Comparing:
    """A comparator with a clock. What is given is taken whole, unless `offer_…` is used.

    `vnet_len`: batches carry vnet headers; the frames that are given begin with one.
    """

    def __init__(self, vnet_len: int | None = None, **options: Any) -> None:
        self.api = Comparator(vnet_header_bytes=vnet_len, seed=1, **{**SMALL, **options})
        self.core = self.api.core
        self.now_ms = 0.0
        self.vnet_len = vnet_len

    @property
    def now_us(self) -> int:
        return round(self.now_ms * 1000)

    def offer_primary(self, *items: Tcp | bytes) -> int:
        """How many of the frames were taken."""
        return self.api.primary(*map(octets_of, items), at_us=self.now_us)

    def offer_secondary(self, *items: Tcp | bytes) -> int:
        return self.api.secondary(*map(octets_of, items), at_us=self.now_us)

    def primary(self, *items: Tcp | bytes) -> None:
        assert self.offer_primary(*items) == len(items), "back-pressure that was not expected"

    def secondary(self, *items: Tcp | bytes) -> None:
        assert self.offer_secondary(*items) == len(items), "back-pressure that was not expected"

    def client(self, item: Tcp | bytes) -> bool:
        """A frame of the client that the comparator is shown; whether the secondary is to get it too."""
        return self.api.client(octets_of(item), at_us=self.now_us) != []

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
        self.api.checkpoint_committed(at_us=self.now_us, **options)

    def frames(self) -> list[bytes]:
        """What has left since the last call, vnet headers taken off."""
        return [octets[self.vnet_len or 0 :] for octets in self.frames_and_headers()]

    def frames_and_headers(self) -> list[bytes]:
        """What has left since the last call, with vnet headers."""
        return self.api.released()

    def out(self) -> list[Tcp]:
        """The same as segments, with their checksums checked."""
        return [read(octets) for octets in self.frames()]

    def commands(self) -> list[tuple[str, str, int]]:
        """(command, kind, sequence number) of each."""
        return [
            (type(command).__name__, command.difference.kind.name, command.difference.seq)
            for command in self.api.commands()
        ]

    def differences(self) -> list[Any]:
        return self.api.differences()

    def acks_added(self) -> int:
        """How many more bare ACKs left than the primary has sent."""
        return self.core.stats.acks_made - self.core.stats.acks_owed

    def assert_empty(self) -> None:
        """Nothing is held, nothing is left in memory but what a retransmission will be compared with."""
        assert self.frames() == []
        assert self.api.held_packets == 0
        assert self.api.held_bytes == 0


class Rewriting:
    """A rewriter with a clock. Frames that go on come back from the call, those that wait from the drains."""

    def __init__(self, vnet_len: int | None = None, **options: Any) -> None:
        self.api = Rewriter(vnet_header_bytes=vnet_len, seed=1, **{**SMALL_REWRITER, **options})
        self.core = self.api.core
        self.now_ms = 0.0
        self.vnet_len = vnet_len

    @property
    def _at_us(self) -> int:
        return round(self.now_ms * 1000)

    def client(self, *items: Tcp | bytes) -> list[bytes]:
        """Frames from outside: what the guest gets now."""
        passed = self.api.client(*map(octets_of, items), at_us=self._at_us)
        return self._bare(passed) + Rewriting.to_guest(self)

    def guest(self, *items: Tcp | bytes) -> list[bytes]:
        """Frames of the guest: what goes to the primary node, or to the client."""
        return self._bare(self.api.guest(*map(octets_of, items), at_us=self._at_us))

    def _bare(self, frames: list[bytes]) -> list[bytes]:
        return [octets[self.vnet_len or 0 :] for octets in frames]

    def to_guest(self) -> list[bytes]:
        """Held client frames that have become ready."""
        return self._bare(self.api.to_guest())

    def to_client(self) -> list[bytes]:
        """What a takeover sends again."""
        return self._bare(self.api.to_client())

    def offsets(self, flow: Flow = FLOW) -> tuple[int, int, int] | None:
        """(state, seq_offset, ts_offset) of a connection."""
        return self.known(Tcp(0, flow=flow))

    def known(self, segment: Tcp) -> tuple[int, int, int] | None:
        """The same of the connection of which that is a segment of the guest."""
        return self.api.offset_of(bytes(self.vnet_len or 0) + frame(segment))
