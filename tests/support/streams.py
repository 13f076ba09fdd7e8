"""Two guests that say the same in different segments: scripts for the laws of comparison.

A `Script` is a list of facts (side, segment): what the two guests send, in one of the orders in which it may reach
the comparator. Every script begins with the handshake and ends with both sides having sent and acknowledged all.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from support.segments import SEQ_MASK, Tcp, scale
from support.traces import Comparing

PRIMARY, SECONDARY = "primary", "secondary"

BYTES_MAX = 60
ACKED_MAX = 200
SECONDARY_ISN = 0x51515151


@dataclass(frozen=True)
class Script:
    """`isn`, `client_isn`: where both directions begin; `said`: the primary's stream; `shift`: window scale."""

    isn: int
    client_isn: int
    shift: int
    said: bytes
    facts: tuple[tuple[str, Tcp], ...]

    @property
    def base(self) -> int:
        """The sequence number of the first byte."""
        return (self.isn + 1) & SEQ_MASK

    def of(self, side: str) -> list[Tcp]:
        return [segment for giver, segment in self.facts if giver == side]


def ahead(a: int, b: int) -> int:
    """How far `a` is ahead of `b`, as a signed number."""
    return ((a - b + 0x80000000) & SEQ_MASK) - 0x80000000


def diff_edge(segment: Tcp, shift: int) -> int:
    """The right edge of the segment's window."""
    return (segment.ack + (segment.window << (0 if "S" in segment.flags else shift))) & SEQ_MASK


@st.composite
def segmentations(draw: Any, said: bytes, base: int, client_base: int, ends: bool) -> list[Tcp]:
    """One guest's segments: cuts, retransmissions, overlaps, bare ACKs, and some disorder."""
    segments: list[Tcp] = []
    sent, acked = 0, 0
    while sent < len(said):
        acked = draw(st.integers(acked, ACKED_MAX))
        window = draw(st.integers(0, 300))
        kind = draw(st.sampled_from(["data", "data", "data", "again", "ack", "ack"]))
        fields = {"ack": client_base + acked, "window": window}
        if kind == "ack":
            segments.append(Tcp(base + sent, "A", **fields))
            continue
        start = sent if kind == "data" else draw(st.integers(0, sent))
        end = draw(st.integers(start, len(said)) if kind == "again" else st.integers(start + 1, len(said)))
        segments.append(Tcp(base + start, "A", said[start:end], **fields))
        sent = max(sent, end)
    last = {"ack": client_base + ACKED_MAX, "window": 300}
    if ends:
        segments.append(Tcp(base + sent, "FA", **last))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, max(0, len(segments) - 2)))
        segments[place : place + 2] = reversed(segments[place : place + 2])
    return [*segments, Tcp(base + sent + ends, "A", **last)]


def merged(draw: Any, mine: list[Tcp], theirs: list[Tcp]) -> Iterable[tuple[str, Tcp]]:
    """Both lists in one of the orders of arrival that keep each side's own."""
    mine, theirs = mine[:], theirs[:]
    while mine or theirs:
        if mine and (not theirs or draw(st.booleans())):
            yield PRIMARY, mine.pop(0)
        else:
            yield SECONDARY, theirs.pop(0)


SERIAL = st.integers(0, SEQ_MASK) | st.integers(-40, 40).map(lambda near: near & SEQ_MASK)


@st.composite
def scripts(draw: Any, ends: bool | None = None, flipped: bool = False) -> Script:
    """With `flipped`, one byte of the secondary's stream is another (see `flipped_at`)."""
    isn, client_isn, shift = draw(SERIAL), draw(SERIAL), draw(st.sampled_from([0, 0, 3, 7]))
    said = draw(st.binary(min_size=1, max_size=BYTES_MAX))
    base, client_base = isn + 1, client_isn + 1
    ends = draw(st.booleans()) if ends is None else ends
    other = said
    if flipped:
        at = draw(st.integers(0, len(said) - 1))
        other = said[:at] + bytes([said[at] ^ draw(st.integers(1, 255))]) + said[at + 1 :]
    terms = scale(shift) if shift else b""
    # Until both have answered its SYN the client says nothing that they could go on with.
    handshake = [
        (PRIMARY, Tcp(isn, "SA", ack=client_base, options=terms)),
        (SECONDARY, Tcp(SECONDARY_ISN, "SA", ack=client_base, options=terms)),
    ]
    facts = [
        *draw(st.permutations(handshake)),
        *merged(
            draw,
            draw(segmentations(said, base, client_base, ends)),
            draw(segmentations(other, base, client_base, ends)),
        ),
    ]
    return Script(isn, client_isn, shift, said, tuple((side, reduced(segment)) for side, segment in facts))


def reduced(segment: Tcp) -> Tcp:
    return replace(segment, seq=segment.seq & SEQ_MASK, ack=segment.ack & SEQ_MASK)


def shifted(script: Script, count: int, acks: int) -> Script:
    """The same with `count` added to every sequence number of the guest, and `acks` to the client's."""
    facts = tuple(
        (side, reduced(replace(segment, seq=segment.seq + count, ack=segment.ack + acks)))
        for side, segment in script.facts
    )
    return replace(
        script, isn=(script.isn + count) & SEQ_MASK, client_isn=(script.client_isn + acks) & SEQ_MASK, facts=facts
    )


def give(trace: Comparing, side: str, segment: Tcp) -> None:
    trace.primary(segment) if side == PRIMARY else trace.secondary(segment)


def said_of(segment: Tcp) -> tuple[int, str, bytes, bytes]:
    """All of a segment that C3 may not change."""
    return segment.seq, segment.flags, segment.data, segment.options


def assert_all_left(expected: list[Tcp], found: list[Tcp], is_lenient: bool = False, superseded: int = 0) -> int:
    """Every primary packet left exactly once, a split one in parts; how many more bare ACKs left than were sent.

    In order, too: only payload that was sent again may overtake (when `is_lenient`, any payload). A bare ACK may be
    overtaken, and need not leave itself: what it says is owed. Of what a new life of the connection supersedes, up to
    `superseded` packets do not leave. Where a segment may
    be one packet, another that is the same, or the first part of a third that repeats it, some way of telling them
    apart must work out.
    """
    fresh = {
        place for place in range(len(expected)) if not superseded and not may_overtake(expected, place, is_lenient)
    }
    extra = _attributed(found, 0, list(enumerate(expected)), fresh, set(), superseded)
    assert extra is not None, f"no way to tell what left apart: {found}; sent: {expected}"
    return extra


Waiting = list[tuple[int, Tcp]]


def _attributed(
    found: list[Tcp], at: int, waiting: Waiting, fresh: set[int], dead: set[Any], superseded: int
) -> int | None:
    """How many more bare ACKs of ours than bare ACKs of `waiting` that never left there are in `found` from `at` on.

    None when what was found cannot be what `waiting` has become.

    `fresh`: places that must be done with in order. `dead`: what was tried already.
    """
    if at == len(found):
        lost = sum((whole.flags, whole.data) != ("A", b"") for _, whole in waiting)
        return -len(waiting) if lost <= superseded else None
    state = (at, tuple(waiting))
    if state in dead:
        return None
    segment = found[at]
    first_fresh = next((place for place, _ in waiting if place in fresh), None)
    for index, (place, whole) in enumerate(waiting):
        others = waiting[:index] + waiting[index + 1 :]
        if said_of(whole) == said_of(segment) and (place not in fresh or place == first_fresh):
            extra = _attributed(found, at + 1, others, fresh, dead, superseded)
        elif is_first_part(segment, whole):
            count = len(segment.data)
            rest = reduced(replace(whole, seq=whole.seq + count, data=whole.data[count:]))
            extra = _attributed(
                found, at + 1, [*waiting[:index], (place, rest), *waiting[index + 1 :]], fresh, dead, superseded
            )
        else:
            continue
        if extra is not None:
            return extra
    if (segment.flags, segment.data) == ("A", b""):
        extra = _attributed(found, at + 1, waiting, fresh, dead, superseded)
        if extra is not None:
            return extra + 1
    dead.add(state)
    return None


def may_overtake(sent: list[Tcp], place: int, is_lenient: bool) -> bool:
    segment = sent[place]
    if (segment.flags, segment.data) == ("A", b""):
        return True
    if not segment.data or is_lenient:
        return bool(segment.data)
    return any(ahead(before.end, segment.seq) > 0 for before in sent[:place])


def is_first_part(segment: Tcp, whole: Tcp) -> bool:
    return (
        bool(segment.data)
        and len(segment.data) < len(whole.data)
        and whole.data.startswith(segment.data)
        and (segment.seq, segment.options) == (whole.seq, whole.options)
        and segment.flags == whole.flags.replace("F", "").replace("P", "")
    )
