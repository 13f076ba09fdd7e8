"""The laws of rewriting, for any numbers that two guests and a client may have chosen."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.examples import examples
from support.frames import NEEDS_CSUM, is_valid
from support.segments import SEQ_MASK, Flow, Tcp, batch, frame, read, sack, timestamps, unbatch, vnet_header
from support.strategies import FRAMES, SEQ, damaged
from support.streams import ahead
from support.traces import Rewriting

EXAMPLES = examples(150)
FLOWS = st.builds(
    Flow, st.integers(1, 65535), st.integers(1, 65535), st.sampled_from([4, 6]), st.sampled_from([(), (5,), (5, 6)])
)


@dataclass(frozen=True)
class Numbers:
    """What a handshake fixes. The clocks are never 0: as an echo that means "nothing"."""

    client_isn: int
    primary_isn: int
    secondary_isn: int
    primary_clock: int
    secondary_clock: int

    @property
    def seq_offset(self) -> int:
        return (self.secondary_isn - self.primary_isn) & SEQ_MASK

    @property
    def ts_offset(self) -> int:
        return (self.secondary_clock - self.primary_clock) & SEQ_MASK


CLOCK = SEQ.filter(bool)
NUMBERS = st.builds(Numbers, SEQ, SEQ, SEQ, CLOCK, CLOCK)


def add(number: int, count: int) -> int:
    return (number + count) & SEQ_MASK


def handshake(trace: Rewriting, numbers: Numbers, flow: Flow, header: bytes = b"", is_late: bool = False) -> None:
    """`is_late`: the secondary answers after the client's ACK has come."""
    syn = Tcp(numbers.client_isn, "S", options=timestamps(1), flow=flow, from_client=True)
    syn_ack = Tcp(
        numbers.secondary_isn,
        "SA",
        ack=add(numbers.client_isn, 1),
        options=timestamps(numbers.secondary_clock, 1),
        flow=flow,
    )
    ack = Tcp(
        add(numbers.client_isn, 1),
        "A",
        ack=add(numbers.primary_isn, 1),
        options=timestamps(1, numbers.primary_clock),
        flow=flow,
        from_client=True,
    )
    trace.client(frame(syn, header))
    if is_late:
        assert trace.client(frame(ack, header)) == []
        trace.guest(frame(syn_ack, header))
        (octets,) = trace.to_guest()
    else:
        trace.guest(frame(syn_ack, header))
        (octets,) = trace.client(frame(ack, header))
    found = read(octets, is_partial=bool(header))
    assert found.ack == add(numbers.secondary_isn, 1)
    assert found.options == timestamps(1, numbers.secondary_clock)


# ── what changes, and what does not ─────────────────────────────────────────────────────────────────────────


@EXAMPLES
@given(
    numbers=NUMBERS,
    flow=FLOWS,
    is_late=st.booleans(),
    is_partial=st.booleans(),
    data=st.binary(max_size=40),
    ack=SEQ,
    echo=SEQ,
    edges=st.lists(SEQ, max_size=4).filter(lambda edges: len(edges) % 2 == 0),
    pad=st.integers(0, 3),
)
def test_towards_the_secondary_only_the_offsets_are_added(
    numbers, flow, is_late, is_partial, data, ack, echo, edges, pad
):
    header = vnet_header(NEEDS_CSUM) if is_partial else b""
    trace = Rewriting(12 if is_partial else None)
    handshake(trace, numbers, flow, header, is_late)

    def segment(shift, clock):
        options = b"\x01" * pad + timestamps(7, add(echo, clock) if echo else 0)[2:]
        options += sack(*(edge + shift for edge in edges))[2:] if edges else b""
        seq = add(numbers.client_isn, 1)
        return frame(Tcp(seq, "PA", data, add(ack, shift), 500, options, flow, from_client=True), header)

    (octets,) = trace.client(segment(0, 0))
    assert octets == segment(numbers.seq_offset, numbers.ts_offset)[len(header) :]


@EXAMPLES
@given(
    numbers=NUMBERS,
    flow=FLOWS,
    is_partial=st.booleans(),
    flags=st.sampled_from(["A", "PA", "FA", "R", "RA"]),
    data=st.binary(max_size=40),
    at=SEQ,
    clock=SEQ,
)
def test_from_the_secondary_only_the_offsets_are_taken_away(numbers, flow, is_partial, flags, data, at, clock):
    header = vnet_header(NEEDS_CSUM) if is_partial else b""
    trace = Rewriting(12 if is_partial else None)
    handshake(trace, numbers, flow, header)

    def segment(isn, base):
        return frame(Tcp(isn + at, flags, data, 9, 500, timestamps(base + clock, 3), flow), header)

    (octets,) = trace.guest(segment(numbers.secondary_isn, numbers.secondary_clock))
    assert octets == segment(numbers.primary_isn, numbers.primary_clock)[len(header) :]
    assert is_partial or is_valid(octets)


@EXAMPLES
@given(numbers=NUMBERS, flow=FLOWS, at=SEQ, clock=SEQ, data=st.binary(max_size=20))
def test_there_and_back_is_identity(numbers, flow, at, clock, data):
    """Law 5: what the client acknowledges and echoes is, for the guest, what it sent."""
    trace = Rewriting()
    handshake(trace, numbers, flow)
    sent = Tcp(add(numbers.secondary_isn, at), "A", data, 9, 500, timestamps(clock, 3), flow)
    seen = read(trace.guest(sent)[0])
    value = int.from_bytes(seen.options[4:8], "big")
    answer = Tcp(5, "A", b"", seen.end, 500, timestamps(4, value), flow, from_client=True)
    got = read(trace.client(answer)[0])
    assert got.ack == sent.end
    assert got.options == timestamps(4, clock if value else 0)


@EXAMPLES
@given(numbers=NUMBERS, counts=st.tuples(SEQ, SEQ, SEQ), at=SEQ)
def test_where_the_numbers_begin_does_not_matter(numbers, counts, at):
    """Law 7."""
    seen = []
    for client_count, primary_count, secondary_count in [(0, 0, 0), counts]:
        moved = replace(
            numbers,
            client_isn=add(numbers.client_isn, client_count),
            primary_isn=add(numbers.primary_isn, primary_count),
            secondary_isn=add(numbers.secondary_isn, secondary_count),
        )
        trace = Rewriting()
        handshake(trace, moved, Flow())
        segment = read(trace.guest(Tcp(moved.secondary_isn + at, "A", b"x", moved.client_isn))[0])
        seen.append((add(segment.seq, -moved.primary_isn), add(segment.ack, -moved.client_isn)))
    assert seen[0] == seen[1]


@pytest.mark.rule("E1")
@EXAMPLES
@given(numbers=NUMBERS, flows=st.lists(FLOWS, min_size=1, max_size=5, unique=True), at=SEQ)
def test_after_a_checkpoint_nothing_changes_any_more(numbers, flows, at):
    """Law 6."""
    trace = Rewriting()
    for flow in flows:
        handshake(trace, numbers, flow)
    trace.core.checkpoint_committed()
    for flow in flows:
        theirs = frame(Tcp(at, "A", b"data", 9, 500, timestamps(7, 8), flow))
        mine = frame(Tcp(9, "A", b"data", at, 500, timestamps(7, 8), flow, from_client=True))
        assert trace.guest(theirs) == [theirs]
        assert trace.client(mine) == [mine]


# ── copies ──────────────────────────────────────────────────────────────────────────────────────────────────


@EXAMPLES
@given(numbers=NUMBERS, steps=st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=30))
def test_what_is_sent_again_is_what_is_not_acknowledged(numbers, steps):
    """Against a list: the guest sends in order, the client acknowledges any of it."""
    trace = Rewriting()
    handshake(trace, numbers, Flow())
    sent: list[Tcp] = []
    end, acked = 0, 0
    for is_data, count in steps:
        if is_data and count:
            segment = Tcp(add(numbers.secondary_isn, 1 + end), "A", bytes(count), add(numbers.client_isn, 1))
            trace.guest(segment)
            sent.append(replace(segment, seq=add(numbers.primary_isn, 1 + end)))
            end += count
        else:
            acked = max(acked, min(count, end))
            ack = add(numbers.primary_isn, 1 + min(count, end))
            trace.client(Tcp(add(numbers.client_isn, 1), "A", ack=ack, from_client=True))
    expected = [segment for segment in sent if ahead(segment.end, add(numbers.primary_isn, 1 + acked)) > 0]
    trace.core.takeover()
    assert [read(octets) for octets in trace.to_client()] == [read(frame(segment)) for segment in expected]
    assert trace.core.copies.pool.used == 0


# ── totality ────────────────────────────────────────────────────────────────────────────────────────────────


@st.composite
def tcp_noise(draw: Any) -> tuple[bool, bytes]:
    """Any segment of one of two connections: the state machine's corners."""
    from_client = draw(st.booleans())
    segment = Tcp(
        draw(SEQ),
        draw(st.sampled_from(["S", "SA", "A", "A", "A", "FA", "R", "RA", "", "SFRA"])),
        draw(st.binary(max_size=8)),
        draw(SEQ),
        500,
        draw(st.sampled_from([b"", timestamps(0), timestamps(5, 6), sack(1, 2), b"\x05\x0a" + bytes(6)])),
        Flow(client_port=draw(st.sampled_from([1, 2]))),
        from_client,
    )
    return from_client, frame(segment)


ANY = st.tuples(st.booleans(), FRAMES | damaged() | st.binary(max_size=80))
STEPS = st.lists(tcp_noise() | ANY | st.sampled_from(["checkpoint", "takeover", "later"]), max_size=30)


def run(steps):
    """What came out for each step, and how many frames of the client are waiting in the end."""
    trace = Rewriting(connections_max=4)
    out: list[list[bytes]] = []
    for step in steps:
        if step == "checkpoint":
            trace.core.checkpoint_committed()
            out.append(trace.to_guest())
        elif step == "takeover":
            trace.core.takeover()
            out.append(trace.to_client())
        elif step == "later":
            trace.now_ms += 40_000
            trace.core.timer_fired(round(trace.now_ms * 1000))
            out.append([])
        else:
            is_client, octets = step
            out.append(trace.client(octets) if is_client else trace.guest(octets))
            out.append(trace.to_guest())
    return trace, out


@EXAMPLES
@given(steps=STEPS)
def test_any_bytes_pass_and_none_is_lost(steps):
    trace, out = run(steps)
    stats = trace.core.stats
    given_frames = [step for step in steps if not isinstance(step, str)]
    came_out = [octets for part in out for octets in part]
    waiting = stats.handshake_held - sum(
        len(part) for step, part in zip(labels(steps), out, strict=True) if step == "to guest"
    )
    assert len(came_out) == len(given_frames) - stats.handshake_dropped - waiting + stats.resent
    assert waiting >= 0
    lengths = {len(octets) for _, octets in given_frames}
    assert {len(octets) for octets in came_out} <= lengths, "nothing is cut off or added"


def labels(steps):
    for step in steps:
        if isinstance(step, str):
            yield "to guest" if step == "checkpoint" else step
        else:
            yield "passed"
            yield "to guest"


@EXAMPLES
@given(steps=st.lists(tcp_noise(), max_size=20), cuts=st.randoms(use_true_random=False))
def test_how_the_frames_are_batched_does_not_matter(steps, cuts):
    whole = Rewriting()
    pieces = Rewriting()
    out = bytearray(1 << 16)
    for is_client in (True, False):
        frames = [octets for from_client, octets in steps if from_client == is_client]
        expected = whole.client(*frames) if is_client else whole.guest(*frames)
        take = pieces.core.client_frames if is_client else pieces.core.guest_frames
        stream, kept, found = bytes(batch(frames)), bytearray(), bytearray()
        pos = 0
        while pos < len(stream):
            size = cuts.randint(1, 150)
            kept += stream[pos : pos + size]
            pos += size
            taken = take(kept, 0, len(kept), 0, out, 0)
            found += out[: pieces.core.out_end]
            del kept[:taken]
        found += out[: pieces.core.drain_guest(out, 0)] if is_client else b""
        assert unbatch(bytes(found)) == expected
    assert whole.to_guest() == pieces.to_guest()
