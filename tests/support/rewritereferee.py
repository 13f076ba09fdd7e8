"""The specification beside a trace: every frame that the rewriter gives on is judged by the rules of `pycolo.model`."""

from fractions import Fraction
from typing import Any

from pycolo.model.edits import mention
from pycolo.model.packet import TCP, Key
from pycolo.model.rewriter import Rewriter
from support.segments import CLIENT4, CLIENT6, NEEDS_CSUM, Flow, Tcp
from support.traces import Rewriting, octets_of


class JudgedRewriting(Rewriting):
    """A rewriter whose every step is shown to the referee. Options are the rewriter's; `now_ms` may be moved on."""

    def __init__(self, vnet_len: int | None = None, **options: Any) -> None:
        super().__init__(vnet_len, **options)
        self.referee = Rewriter()
        self._segments: dict[Key, Tcp] = {}
        self._way = self.vnet_len or 0

    @property
    def _now(self) -> Any:
        """What the core is told, in milliseconds, and exactly that."""
        now_us = round(self.now_ms * 1000)
        return now_us // 1000 if now_us % 1000 == 0 else Fraction(now_us, 1000)

    def client(self, *items: Any) -> list[bytes]:
        found = []
        for item in items:
            octets, is_partial = self._heard(item, from_client=True)
            self.referee.client(octets, self._now, is_partial=is_partial)
            for got in super().client(item):
                self.referee.to_guest(got, self._now, is_partial=is_partial)
                found.append(got)
            self._check()
        return found

    def guest(self, *items: Any) -> list[bytes]:
        found = []
        for item in items:
            octets, is_partial = self._heard(item, from_client=False)
            self.referee.guest(octets, self._now, is_partial=is_partial)
            for got in super().guest(item):
                self.referee.to_client(got)
                found.append(got)
            self.to_guest(is_partial=is_partial)
            self._check()
        return found

    def to_guest(self, *, is_partial: bool = False) -> list[bytes]:
        found = super().to_guest()
        for got in found:
            self.referee.to_guest(got, self._now, is_partial=is_partial)
        return found

    def commit(self) -> list[bytes]:
        """What waited for the guest."""
        self._notice_gone()
        self.core.checkpoint_committed()
        self.referee.committed()
        found = self.to_guest()
        self._check()
        return found

    def adopt(self, other: "JudgedRewriting") -> list[bytes]:
        """This guest becomes a copy of one that is itself translated; what waited for it."""
        self._notice_gone()
        other._notice_gone()
        self.core.adopt_offsets(other.core.export_offsets(), round(self.now_ms * 1000))
        self.referee.adopted(other.referee, self._now)
        self._segments |= other._segments
        found = self.to_guest()
        self._check()
        return found

    def take_over(self) -> list[bytes]:
        """What is sent again to the client."""
        self._notice_gone()
        self.core.takeover()
        found = self.to_client()
        for got in found:
            self.referee.again(got)
        self.referee.took_over()
        self._check()
        return found

    def fire(self) -> None:
        """The time is `now_ms`."""
        self.core.timer_fired(round(self.now_ms * 1000))
        self._notice_gone()

    def wait(self, ms: float) -> None:
        self.now_ms += ms
        for _ in range(3):  # a thousand rows each time
            self.core.timer_fired(round(self.now_ms * 1000))
            self.now_ms += 1000
        self._notice_gone()

    def _heard(self, item: Any, *, from_client: bool) -> tuple[bytes, bool]:
        octets = octets_of(item)
        is_partial = bool(self._way and octets[0] & NEEDS_CSUM)
        place = mention(octets[self._way :])
        if place is not None:
            key = place.key.reversed() if from_client == (place.icmp is None) else place.key
            if key.proto == TCP:
                ports = key.source_port, key.destination_port
                is_forwarded = key.source in {CLIENT4, CLIENT6}
                flow = Flow(*(ports[::-1] if is_forwarded else ports), key.version, key.tags)
                self._segments[key] = Tcp(0, flow=flow, from_client=is_forwarded)
        self._notice_gone()
        return octets[self._way :], is_partial

    def _notice_gone(self) -> None:
        for key in list(self.referee.connections):
            if self.known(self._segments[key]) is None:
                self.referee.forgot(key, self._now)

    def _check(self) -> None:
        self.referee.settle()
        self.referee.announced({neighbour.address.packed for neighbour in self.core.neighbours.all()})
        for key, segment in self._segments.items():
            mine, theirs = self.referee.connections.get(key), self.known(segment)
            assert (mine is None) == (theirs is None), f"{key}: {mine}, {theirs}"
            if mine is not None and theirs is not None:
                assert (mine.offsets is not None) == (theirs[0] == 2), f"{key}: {mine}, {theirs}"
                assert self.referee.offsets(key) == theirs[1:], f"{key}: {mine}, {theirs}"
