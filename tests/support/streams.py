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


def assert_all_left(expected: list[Tcp], found: list[Tcp], is_lenient: bool = False) -> int:
    """Every primary packet left exactly once, a split one in parts; how many bare ACKs were not the primary's.

    In order, too: only payload that was sent again may overtake (when `is_lenient`, any payload). Where a segment may
    be one packet or the first part of another that repeats it, some way of telling them apart must work out.
    """
    failures = []
    for ties in range(1 << AMBIGUITIES_MAX):
        try:
            return _attributed(expected, found, is_lenient, ties)
        except AssertionError as failure:
            failures.append(failure)
    raise failures[0]


AMBIGUITIES_MAX = 6
"""The scripts are short: more overlapping packets that were all split are not drawn."""


def _attributed(expected: list[Tcp], found: list[Tcp], is_lenient: bool, ties: int) -> int:
    """`ties`: bit by bit, whether the next ambiguous segment is a first part rather than a whole packet, or the second
    of two that are the same."""
    waiting = list(enumerate(expected))
    order, extra = [], 0
    for segment in found:
        candidates = waiting
        if (segment.flags, segment.data) == ("A", b""):
            # One of ours looks like one of the primary's: it counts as that only where that is next.
            candidates = [item for item in waiting if not may_overtake(expected, item[0], is_lenient)][:1]
        same = [item for item in candidates if said_of(item[1]) == said_of(segment)]
        if len(same) > 1:  # a packet, and the last part of another that repeats it: either may be meant
            is_later, ties = ties & 1, ties >> 1
            same = same[is_later:]
        match = same[0] if same else None
        whole = next((item for item in waiting if is_first_part(segment, item[1])), None)
        if match is not None and whole is not None:
            is_part, ties = ties & 1, ties >> 1
            match, whole = (None, whole) if is_part else (match, None)
        if match is not None:
            waiting.remove(match)
            order.append(match[0])
        elif whole is not None:
            place, first = whole
            count = len(segment.data)
            rest = reduced(replace(first, seq=first.seq + count, data=first.data[count:]))
            waiting[waiting.index(whole)] = (place, rest)
        else:
            assert (segment.flags, segment.data) == ("A", b""), f"nobody sent {segment}; waiting: {waiting}"
            extra += 1
    assert waiting == []
    fresh = [place for place in order if not may_overtake(expected, place, is_lenient)]
    assert fresh == sorted(fresh)
    return extra


def may_overtake(sent: list[Tcp], place: int, is_lenient: bool) -> bool:
    segment = sent[place]
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
