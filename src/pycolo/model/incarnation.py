"""One incarnation of a TCP connection, from its SYN to the next: voices, waiting packets, the client's knowledge."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pycolo.model.masks import OPEN, Expression, masked_end
from pycolo.model.numbers import near
from pycolo.model.packet import Flag, Segment
from pycolo.model.voice import SCALE_MAX, SPAN, SYN_DATA, Voice, terms


@dataclass
class Waiting:
    """A packet of the primary that has not left whole; `at`: the position of its first number."""

    segment: Segment
    at: int
    since_ms: int


@dataclass
class Told:
    """What the client has been told: how often each position, SYN, FIN and RST left, and the promises made."""

    copies: dict[int, int] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)
    end: int = 0
    syns: int = 0
    fins: int = 0
    resets: int = 0
    ack: int = -SPAN
    value: int | None = None


class Incarnation:
    """From one SYN to the next. Positions: see `Voice`."""

    def __init__(self, origin: int, *, has_syn: bool, masks: Sequence[Expression] = ()) -> None:
        self.origin = origin
        self.masks = masks
        self.is_open = False  # the bytes at the frontier differ, and whether a mask hides them will show
        self.primary = Voice()
        self.secondary = Voice()
        self.told = Told()
        self.waiting: list[Waiting] = []
        self.is_reset = False  # by both, as a checkpoint has made sure
        self.vouched: set[int] = set()  # positions that a checkpoint made equal: they were never compared
        self.base = 1 if has_syn else 0
        self.advanced_ms = 0
        self.frontier = self.base
        self.scale_max = SCALE_MAX  # as far as both guests' windows tell, where no SYN was seen

    def place(self, seq: int) -> int:
        """The position of a number on the wire."""
        return near(seq, self.origin + max(self.primary.end, self.frontier)) - self.origin

    @property
    def syns_agree(self) -> bool:
        """Rule C2: both SYNs answer the same, on the same terms. Without any SYN there is nothing to agree on."""
        mine, theirs = self.primary.syn, self.secondary.syn
        if mine is None or theirs is None:
            return mine is theirs
        return answers_same(mine, theirs) and terms(mine) == terms(theirs)

    def advance(self, now_ms: int) -> None:
        """Advance the frontier (C1): all positions below it were sent by both, and are equal; a FIN takes one."""
        before = self.frontier
        self.is_open = False
        while self.syns_agree and (self._is_equal(self.frontier) or self._is_masked(self.frontier)):
            self.frontier += 1
        if self.primary.fin == self.secondary.fin == self.frontier and self.syns_agree:
            self.frontier += 1
        if self.frontier != before:
            self.advanced_ms = now_ms

    def _is_masked(self, place: int) -> bool:
        """C7: whether a mask hides the difference here. The secondary counts as having said the same from then on."""
        mine, theirs = self.primary.octets, self.secondary.octets
        if not self.masks or place not in mine or place not in theirs:
            return False
        first = place
        while first - 1 in mine and first > self.base and first - 1 not in self.vouched:
            first -= 1
        last = min((other for other in self.primary.contradicted if other >= place), default=SPAN)
        end = masked_end(self.masks, mine, theirs, place, first, last)
        self.is_open = end == OPEN
        if end is None or end == OPEN:
            return False
        self.secondary.masked |= set(range(place, end))
        theirs.update((hidden, mine[hidden]) for hidden in range(place, end))
        return True

    def _is_equal(self, place: int) -> bool:
        mine, theirs = self.primary, self.secondary
        known = place in mine.octets and place in theirs.octets
        return known and mine.octets[place] == theirs.octets[place] and place not in mine.contradicted


def answers_same(mine: Segment, theirs: Segment) -> bool:
    """Whether two SYNs belong to one handshake: both open, or both answer the same SYN of the client.

    Its payload (RFC 7413) may be acknowledged by one of them only.
    """
    has_ack = mine.flags & Flag.ACK
    is_near = abs(near(mine.ack, theirs.ack) - theirs.ack) <= SYN_DATA
    return has_ack == theirs.flags & Flag.ACK and (not has_ack or is_near)
