"""Against the specification where much waits: long queues are indexed (see compare/payloads.pxi and ordered.pxi)."""

import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycolo.compare.kinds import DivergencePolicy
from support.referee import Judged
from support.segments import GSO_UDP_L4, SEQ_MASK, Tcp, udp, vnet_header

EXAMPLES = settings(max_examples=60)
POLICIES = st.sampled_from([DivergencePolicy.CHECKPOINT, DivergencePolicy.REPORT, DivergencePolicy.HOLD])
DICE = st.integers(0, 2**32).map(random.Random)
PLAIN = vnet_header()
SIZE = 5


# ── datagrams ───────────────────────────────────────────────────────────────────────────────────────────────


def payload(number: int) -> bytes:
    return b"equal head %d equal tail" % number


def said(dice: random.Random, count: int, kinds: int) -> bytes:
    """A datagram of few kinds, or several in one frame."""
    if dice.random() < 0.1:
        return vnet_header(1, GSO_UDP_L4, 20) + udp(b"".join(payload(dice.randrange(kinds)) for _ in range(3)))
    return PLAIN + udp(payload(count if dice.random() < 0.3 else dice.randrange(kinds)))


@pytest.mark.rule("C4")
@EXAMPLES
@given(dice=DICE, policy=POLICIES, kinds=st.sampled_from([1, 3, 12, 60]))
def test_datagrams_in_any_order(dice, policy, kinds):
    trace = Judged(12, policy=policy)
    for _ in range(8):
        both: tuple[list[bytes], list[bytes]] = ([], [])
        for count in range(dice.randrange(40)):
            octets = said(dice, count, kinds)
            for side in both:
                if dice.random() < 0.97:
                    side.insert(dice.randrange(len(side) + 1) if dice.random() < 0.5 else len(side), octets)
        while any(both):
            side = dice.randrange(2)
            for octets in both[side][: dice.choice([1, 3, 30])]:
                both[side].pop(0)
                trace.primary(octets) if side else trace.secondary(octets)
        if dice.random() < 0.4:
            trace.wait(dice.choice([1.0, 51.0, 3000.0, 4001.0]))
        if dice.random() < 0.2:
            trace.commit()
    trace.wait(5_000)
    trace.commit()
    trace.frames()
    trace.assert_empty()


# ── TCP ─────────────────────────────────────────────────────────────────────────────────────────────────────


def segments(dice: random.Random, stream: bytes, base: int, lies: float) -> list[Tcp]:
    """What one guest sends: small segments, some again, in other cuts, late, or (`lies`) with other bytes; or a FIN."""
    found, at, ack = [], 0, 1
    while at < len(stream):
        ack += dice.choice([0, 0, 3])
        kind = dice.random()
        begin, end = at, min(len(stream), at + dice.randint(1, SIZE))
        if kind < 0.25:
            begin = max(0, at - dice.choice([1, 3, 20, 200]))
            end = min(len(stream), begin + dice.choice([1, 4, 30, 300]))
        elif kind < 0.35:
            found.append(Tcp(base + at, "A", ack=ack))
            continue
        data = bytearray(stream[begin:end])
        if data and dice.random() < lies:
            data[dice.randrange(len(data))] ^= 1
        found.append(Tcp((base + begin) & SEQ_MASK, "A", bytes(data), ack=ack))
        at = max(at, end)
    if dice.random() < 0.5:
        found.append(Tcp((base + at) & SEQ_MASK, "FA", ack=ack))
    for _ in range(len(found) // 6):
        one, other = dice.randrange(len(found)), dice.randrange(len(found))
        found.insert(other, found.pop(one)) if dice.random() < 0.5 else None
    return found


def assert_in_order(trace: Judged) -> None:
    """The lists of the first connection say the same of what is held as its queues do."""
    mine, (loose, leads, tree), theirs, other_tree = trace.core.held.lists(0)
    listed = loose + [record for leader, followers, _, _ in leads for record in (leader, *followers)]
    assert listed == [record for record, is_bare in mine.items() if not is_bare]
    for extents in ([lead[2:] for lead in leads], [extent[1:] for extent in theirs]):
        for (one, one_end), (other, other_end) in itertools.pairwise(extents):
            assert (other - one) & SEQ_MASK < 1 << 31, "beginnings rise"
            assert 0 < (other_end - one_end) & SEQ_MASK < 1 << 31, "ends rise"
    for found, extents in ((tree, leads), (other_tree, [(record, (), *ends) for record, *ends in theirs])):
        if found is not None:
            absent = {extent[0] for extent in extents} - set(found)
            assert found == [extent[0] for extent in extents if extent[0] not in absent]
            # Only what is left of a frame that was split, where the next one begins no later: see Trees.put_first.
            assert len(absent) <= 2


@pytest.mark.rule("C1")
@EXAMPLES
@given(
    dice=DICE,
    isn=st.sampled_from([0, 1000, SEQ_MASK - 100]),
    lies=st.sampled_from([0.0, 0.0, 0.003]),
    burst=st.sampled_from([3, 60, 400]),
)
def test_streams_in_any_cuts(dice, isn, lies, burst):
    trace = Judged(settles_every_ms=1)
    base = (isn + 1) & SEQ_MASK
    trace.primary(Tcp(isn, "SA", ack=1))
    trace.secondary(Tcp(isn, "SA", ack=1))
    stream = dice.randbytes(600)
    both: list[list[Any]] = [segments(dice, stream, base, lies), segments(dice, stream, base, lies)]
    while any(both):
        side = dice.randrange(2)
        for one in both[side][: dice.randint(1, burst)]:
            both[side].pop(0)
            trace.primary(one) if side else trace.secondary(one)
            assert_in_order(trace)
        if dice.random() < 0.3:
            trace.wait(dice.choice([1.0, 5.0]))
    trace.wait(1)
    trace.settle()
    trace.commit()
    trace.wait(10)


@pytest.mark.rule("C9")
def test_what_is_of_no_window_is_dropped():
    """RFC 7323 section 2.3: no client takes what lies farther than 1 GiB from what it has."""
    trace = Judged()
    trace.primary(Tcp(0, "SA", ack=1))
    trace.secondary(Tcp(0, "SA", ack=1))
    for far in (1 + 2**30 + 1, (1 - 2**30 - 1) & SEQ_MASK, 2**31):
        trace.primary(Tcp(far, "A", b"far", ack=1), Tcp(far, "FA", ack=1))
        trace.secondary(Tcp(far, "A", b"other", ack=1))
    assert trace.core.stats.dropped == 6
    assert trace.core.held_packets() == trace.core.history.used
    trace.primary(Tcp(1, "A", b"near", ack=1))
    trace.secondary(Tcp(1, "A", b"near", ack=1))
    assert [segment.data for segment in trace.out()] == [b"", b"near"]
