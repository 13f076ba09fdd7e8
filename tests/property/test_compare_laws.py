"""The laws of comparison, for any two segmentations of a stream in any order of arrival."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo import limits
from support.examples import examples
from support.segments import batch, frame
from support.streams import (
    PRIMARY,
    SEQ_MASK,
    SERIAL,
    Script,
    ahead,
    assert_all_left,
    diff_edge,
    give,
    scripts,
    shifted,
)
from support.traces import Comparing

EXAMPLES = examples(150)


def played(script, waits=None, **options):
    """What left after each fact. `waits`: milliseconds before each fact, so that frames are split."""
    trace = Comparing(**options)
    left = []
    for place, (side, segment) in enumerate(script.facts):
        if waits and place:
            trace.wait(waits[place % len(waits)])
            left[-1] += trace.out()
        give(trace, side, segment)
        left.append(trace.out())
    return trace, left


def flat(left):
    return [segment for part in left for segment in part]


# ── 8: segmentation ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C1")
@EXAMPLES
@given(script=scripts(), waits=st.lists(st.sampled_from([0, 0, 1, 5]), max_size=5))
def test_how_the_streams_are_cut_does_not_matter(script, waits):
    """Law 8."""
    trace, left = played(script, waits)
    assert trace.commands() == []
    assert assert_all_left(script.of(PRIMARY), flat(left)) == trace.acks_added()
    trace.assert_empty()


@EXAMPLES
@given(script=scripts(), waits=st.lists(st.sampled_from([0, 0, 1, 5]), max_size=5))
def test_with_acks_at_once_every_packet_is_untouched(script, waits):
    trace, left = played(script, waits, commits_input=False)
    assert trace.commands() == []
    assert assert_all_left(script.of(PRIMARY), flat(left)) == 0
    if not trace.core.stats.splits:
        assert sorted(map(frame, flat(left))) == sorted(map(frame, script.of(PRIMARY)))
    trace.assert_empty()


# ── 7: shift ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C1")
@EXAMPLES
@given(script=scripts() | scripts(flipped=True), count=SERIAL, acks=SERIAL)
def test_where_the_numbers_begin_does_not_matter(script, count, acks):
    """Law 7."""
    waits = [0, 3, 0]
    trace, left = played(script, waits)
    other, other_left = played(shifted(script, count, acks), waits)
    back = [
        [shifted(Script(0, 0, 0, b"", ((PRIMARY, segment),)), -count, -acks).facts[0][1] for segment in part]
        for part in other_left
    ]
    assert back == left
    assert [(command, kind, (seq - count) & SEQ_MASK) for command, kind, seq in other.commands()] == trace.commands()


# ── 9: a difference ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C1", "C5")
@EXAMPLES
@given(script=scripts(flipped=True), waits=st.lists(st.sampled_from([0, 0, 5]), max_size=5))
def test_one_byte_that_differs(script, waits):
    """Law 9."""
    trace, left = played(script, waits)
    heard = heard_of_secondary(script)
    at = next(place for place, octet in enumerate(script.said) if heard[place] != octet)
    (command,) = trace.core.commands()
    difference = command.difference
    assert type(command).__name__ == "RequestCheckpoint"
    assert difference.kind.name == "PAYLOAD"
    assert difference.seq == (script.base + at) & SEQ_MASK
    assert difference.primary[difference.primary_index] == script.said[at]
    assert difference.secondary[difference.secondary_index] == heard[at]
    for segment in flat(left):
        has_bytes = segment.data or "F" in segment.flags
        assert not has_bytes or ahead(segment.end, difference.seq) <= 0, "what differs, or lies behind it, has left"
    trace.commit()
    assert assert_all_left(script.of(PRIMARY), flat(left) + trace.out()) == trace.acks_added()
    trace.assert_empty()


def heard_of_secondary(script):
    heard = bytearray(len(script.said))
    for side, segment in script.facts:
        if side != PRIMARY and "S" not in segment.flags:
            start = ahead(segment.seq, script.base)
            heard[start : start + len(segment.data)] = segment.data
    return bytes(heard)


# ── 10: input is committed by both ──────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C1", "C3")
@EXAMPLES
@given(script=scripts(), waits=st.lists(st.sampled_from([0, 0, 5]), max_size=5))
def test_nothing_leaves_that_the_secondary_has_not_said(script, waits):
    """Law 10: no byte, no ack, no window edge beyond the secondary's."""
    _, left = played(script, waits)
    said = set()
    ack = edge = None
    for (side, segment), part in zip(script.facts, left, strict=True):
        if side != PRIMARY:
            if "S" not in segment.flags:
                start = ahead(segment.seq, script.base)
                said |= set(range(start, start + len(segment.data)))
            if ack is None or ahead(segment.ack, ack) >= 0:
                ack, edge = segment.ack, diff_edge(segment, script.shift)
        for released in part:
            start = ahead(released.seq, script.base)
            assert set(range(start, start + len(released.data))) <= said
            assert ack is not None
            assert ahead(released.ack, ack) <= 0
            assert ahead(diff_edge(released, script.shift), edge) <= 0


# ── batches ─────────────────────────────────────────────────────────────────────────────────────────────────


@EXAMPLES
@given(script=scripts() | scripts(flipped=True), cuts=st.randoms(use_true_random=False))
def test_how_the_frames_are_batched_does_not_matter(script, cuts):
    trace, left = played(script)
    other = Comparing()
    for take, octets in runs(other, script):
        feed(take, octets, cuts)
    assert other.out() == flat(left)
    assert other.commands() == trace.commands()


def runs(trace, script):
    """The script's facts, consecutive ones of one side in one stream."""
    side, segments = "", []
    for giver, segment in (*script.facts, ("", None)):
        if giver != side and segments:
            core = trace.core
            yield core.primary_frames if side == PRIMARY else core.secondary_frames, framed(segments)
            segments = []
        side = giver
        segments.append(segment)


def framed(segments):
    return bytes(batch([frame(segment) for segment in segments]))


def feed(take, octets, cuts: random.Random):
    """In pieces that end anywhere, as a socket gives them."""
    kept = bytearray()
    pos = 0
    while pos < len(octets):
        size = cuts.randint(1, 150)
        kept += octets[pos : pos + size]
        pos += size
        taken = take(kept, 0, len(kept), 0)
        del kept[:taken]
    assert not kept


# ── 11: limits ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C6")
@EXAMPLES
@given(script=scripts(), queue_packets_max=st.integers(1, 5), held_packets_max=st.integers(6, 12))
def test_limits_hold_and_back_pressure_loses_nothing(script, queue_packets_max, held_packets_max):
    """Law 11, first half. What is refused is offered again after a checkpoint."""
    trace = Comparing(queue_packets_max=queue_packets_max, held_packets_max=held_packets_max)
    left = []
    for side, segment in script.facts:
        offer = trace.offer_primary if side == PRIMARY else trace.offer_secondary
        if not offer(segment):
            assert trace.core.held.checkpoint_wanted
            trace.commit()
            left += trace.out()
            assert offer(segment) == 1
        left += trace.out()
        assert trace.core.held_packets() <= min(held_packets_max, 2 * queue_packets_max + 1)
    trace.commit()
    left += trace.out()
    assert assert_all_left(script.of(PRIMARY), left) == trace.acks_added()
    trace.assert_empty()


@pytest.mark.rule("C5")
@EXAMPLES
@given(script=scripts(), kept=st.data())
def test_whatever_stays_away_is_asked_for_in_time(script, kept):
    """Law 11, second half: a held packet leads to a request within compare_timeout and one scan."""
    trace = Comparing()
    for side, segment in script.facts:
        if kept.draw(st.booleans()):
            give(trace, side, segment)
    trace.frames()
    held = trace.core.stats.primary_frames - trace.core.stats.released + trace.acks_added()
    commands = trace.commands()
    trace.wait(limits.COMPARE_TIMEOUT_MS + limits.EXPIRED_SCAN_CYCLE_MS)
    commands += trace.commands()
    requests = [command for command, _, _ in commands if command == "RequestCheckpoint"]
    assert len(requests) <= 1
    if held > 0:
        assert requests
    trace.commit()
    trace.frames()
    trace.assert_empty()
