"""The packets of one guest in a connection, and what they promise."""

from collections import Counter
from dataclasses import dataclass, field

from pycolo.model.numbers import near
from pycolo.model.packet import FAST_OPEN, MPTCP, MSS, SACK_PERMITTED, TIMESTAMPS, WINDOW_SCALE, Flag, Segment

SYN_DATA = 9_000
"""RFC 7413: a SYN has one segment of payload at most, and a guest may accept it or not."""
SCALE_MAX = 14
"""RFC 7323 section 2.3."""
NEGOTIATED = (MSS, WINDOW_SCALE, SACK_PERMITTED)
STRIPPED = (MPTCP, FAST_OPEN)


def terms(syn: Segment) -> tuple[object, ...]:
    """The options that a SYN negotiates (rule C2): not a timestamp's value, but its presence."""
    return (*(syn.option(kind) for kind in NEGOTIATED), syn.option(TIMESTAMPS) is not None)


@dataclass
class Voice:
    """Everything that one guest has sent in one incarnation of a connection.

    Positions count from its SYN, which is 0; without a SYN, from the first number that either guest has sent. `ack` is
    the client's number, without its wrap; `offers` are (ack, window, whether it is scaled), those that reach farthest
    and the latest; `scale_max` is the largest scale with which none of them withdraws the previous offer. `copies`:
    how often a position was sent, `last` at which step; `masked`: where it may have said something else than the
    primary. `since`: when each event that the client could notice was first sent.
    """

    syn: Segment | None = None
    octets: dict[int, int] = field(default_factory=dict)
    copies: Counter[int] = field(default_factory=Counter)
    last: dict[int, int] = field(default_factory=dict)
    contradicted: set[int] = field(default_factory=set)
    masked: set[int] = field(default_factory=set)
    fin: int | None = None
    resets: list[int] = field(default_factory=list)
    ack: int | None = None
    offers: list[tuple[int, int, bool]] = field(default_factory=list)
    scale_max: int = SCALE_MAX
    blocks: set[tuple[int, int]] = field(default_factory=set)
    end: int = 0
    since: dict[object, int] = field(default_factory=dict)

    def hear(self, segment: Segment, at: int, client_origin: int, now_ms: int, step: int = 0) -> None:
        """Add a segment whose first number is at `at`."""
        if segment.flags & Flag.RST:
            self.resets.append(at)
            self.since.setdefault("RST", now_ms)
            return
        if segment.flags & Flag.SYN:
            self.syn = segment
            self.since.setdefault("SYN", now_ms)
            at += 1
        for place, octet in enumerate(segment.data, at):
            if self.octets.setdefault(place, octet) != octet and place not in self.masked:
                self.contradicted.add(place)
            self.copies[place] += 1
            self.last[place] = step
            self.since.setdefault(place, now_ms)
        at += len(segment.data)
        if segment.flags & Flag.FIN:
            self.fin = at
            self.since.setdefault("FIN", now_ms)
            at += 1
        self.end = max(self.end, at)
        if segment.flags & Flag.ACK:
            self._promise(segment, client_origin)

    def _promise(self, segment: Segment, client_origin: int) -> None:
        """Rule C3 uses the highest ack and offer of a guest: an older segment withdraws nothing."""
        ack = near(segment.ack, client_origin if self.ack is None else self.ack)
        if self.ack is None or ack >= self.ack:
            if self.ack is not None and ack > self.ack:
                self._bound_scale(ack - self.ack, self.offers[-1][1] - segment.window - 1)
            self.ack = ack
            is_scaled = not segment.flags & Flag.SYN
            self.offers = [offer for offer in self.offers if offer[1] > segment.window or (offer[2] and not is_scaled)]
            self.offers.append((ack, segment.window, is_scaled))
        for left, right in segment.sack_blocks:
            self.blocks.add((near(left, ack), near(right, ack)))

    def _bound_scale(self, ahead: int, units: int) -> None:
        """RFC 9293 section 3.8.6.2.1: a window shrinks by what was acknowledged meanwhile, rounded up to one unit."""
        while self.scale_max and units > 0 and units << self.scale_max >= ahead:
            self.scale_max -= 1

    @property
    def said(self) -> int:
        """The position after its last byte, SYN or FIN; a bare ACK may have a number farther on."""
        return max([0, self.fin or 0, *self.octets]) + 1

    def edge(self, scale: int) -> int:
        """The right end of the window: the farthest offer."""
        return max(ack + (window << scale * is_scaled) for ack, window, is_scaled in self.offers)

    def space(self, scale: int) -> int:
        """The latest window."""
        _, window, is_scaled = self.offers[-1]
        return window << scale * is_scaled

    def has(self, left: int, right: int) -> bool:
        """Whether the guest has acknowledged all client bytes of [left, right): cumulatively, or in SACK blocks."""
        at = left
        reach = [(-SPAN, self.ack if self.ack is not None else left), *self.blocks]
        while at < right:
            further = max((end for start, end in reach if start <= at < end), default=at)
            if further == at:
                return False
            at = further
        return True


SPAN = 1 << 40
"""Farther than any position is from another."""
