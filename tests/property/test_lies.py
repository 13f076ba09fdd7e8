"""Law (b): a forged segment of a client changes nothing that a later honest one can notice.

Forged: by a stranger who knows addresses and ports, but no number (stale, far outside the window), or with a wrong
checksum. The comparator sees what the nodes show it of their clients, the rewriter all that comes from outside.
 One trace is played with and without the lies.
"""

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.referee import Judged
from support.rewritereferee import JudgedRewriting
from support.rewritescripts import ENDS, FLOWS, Ends, formed, lives
from support.segments import Flow, Tcp, frame, read, sack, timestamps
from support.streams import PRIMARY, Script, give, scripts

EXAMPLES = settings(max_examples=100)
FAR = st.sampled_from([100_000, -100_000, 1 << 24, 1 << 30, (1 << 31) - 70_000, -(1 << 30)])
FLAGS = st.sampled_from(["S", "SA", "A", "PA", "FA", "R", "RA", "SFRA", ""])


# ── the comparator ──────────────────────────────────────────────────────────────────────────────────────────


def damaged(segment: Tcp) -> bytes:
    octets = bytearray(frame(segment))
    octets[14 + 20 + 16] ^= 0x55
    return bytes(octets)


def honest(script: Script, place: int) -> Tcp:
    """What the client says when it has got all that the primary has sent up to there, and has sent as much."""
    said = [segment for side, segment in script.facts[: place + 1] if side == PRIMARY]
    end = max((segment.end - script.isn) % 2**32 for segment in said) if said else 0
    ack = max((segment.ack - script.client_isn) % 2**32 for segment in said) if said else 1
    return Tcp(script.client_isn + ack, "A", ack=script.isn + end, from_client=True)


@pytest.mark.rule("C8")
@EXAMPLES
@given(
    script=scripts() | scripts(flipped=True),
    seed=st.integers(0, 2**32),
    lies=st.lists(st.tuples(FLAGS, FAR, FAR, st.booleans()), min_size=1, max_size=4),
    waits=st.lists(st.sampled_from([0, 0, 1, 2_000]), min_size=1, max_size=5),
)
def test_a_lie_about_a_client_changes_nothing(script, seed, lies, waits):
    seen = []
    for tells_lies in (False, True):
        dice = random.Random(seed)
        trace = Judged()
        out = []
        for place, (side, segment) in enumerate(script.facts):
            give(trace, side, segment)
            truth = honest(script, place)
            if dice.random() < 0.3:
                trace.client(truth)
            if dice.random() < 0.5 and tells_lies:
                flags, seq, ack, is_damaged = lies[place % len(lies)]
                far = replace(truth, flags=flags, seq=truth.seq + seq, ack=truth.ack + ack, data=b"lie")
                trace.client(damaged(replace(truth, flags=flags)) if is_damaged else far)
            trace.wait(waits[place % len(waits)])
            out.append((trace.frames(), trace.commands()))
        for ms in (10, 5_000, 61_000, 400_000):
            trace.wait(ms)
            out.append((trace.frames(), trace.commands(), trace.core.table.used))
        trace.commit()
        out.append((trace.frames(), trace.core.history.used, trace.core.held_packets()))
        seen.append(out)
    assert seen[0] == seen[1]


# ── the rewriter ────────────────────────────────────────────────────────────────────────────────────────────


@st.composite
def lies(draw: Any, ends: Ends, flow: Flow, honest: list[tuple[str, Any]]) -> tuple[str, list[bytes]]:
    """Any segment with numbers that are far from those of the connection, or with a wrong checksum."""
    told = [segment for who, (_, segment) in honest if who == "client"]
    if told and draw(st.booleans()):
        true = draw(st.sampled_from(told))
        options = draw(st.sampled_from([true.options, timestamps(1, 2**31 - 5), sack(1, 2)]))
        return "lie", formed("damaged", replace(true, options=options), b"")
    flags = draw(st.sampled_from(["S", "S", "SA", "A", "PA", "FA", "R", "RA", "SFRA", ""]))
    options = draw(st.sampled_from([b"", timestamps(7, 8), timestamps(7, 2**31 - 5)]))
    seq, ack = ends.client + draw(FAR), ends.primary + draw(FAR | st.just(1))
    segment = Tcp(seq, flags, draw(st.sampled_from([b"", b"lie"])), ack, 1000, options, flow, from_client=True)
    return "lie", formed(draw(st.sampled_from(["whole", "whole", "fragments", "quoted"])), segment, b"")


@st.composite
def with_lies(draw: Any) -> list[tuple[str, Any]]:
    """An honest life, at most one lie between two of its segments, and what the guest says to a lie (RFC 5961)."""
    ends, flow = draw(ENDS), draw(st.sampled_from(FLOWS))
    honest = draw(lives(ends, flow))
    script: list[tuple[str, Any]] = []
    for place, item in enumerate(honest):
        script.append(item)
        script += [("wait", 61_000)] if draw(st.integers(0, 5)) == 0 else []
        if draw(st.booleans()):
            script.append(draw(lies(ends, flow, honest[: place + 1])))
            said = [segment for who, (_, segment) in honest[: place + 1] if who == "guest"]
            if place > 2 and said and "R" not in said[-1].flags and draw(st.booleans()):
                last = max(said, key=lambda segment: (segment.end - ends.secondary) % 2**32)
                script.append(("reaction", replace(said[-1], seq=last.end, flags="A", data=b"")))
    return script


@pytest.mark.rule("R1")
@EXAMPLES
@given(script=with_lies(), takes_over=st.booleans())
def test_a_lie_changes_nothing_that_an_honest_segment_can_notice(script, takes_over):
    """Nor what is kept for the takeover; and the connection is remembered for no shorter time."""
    seen: list[list[Any]] = []
    remembered: list[list[Any]] = []
    for tells_lies in (False, True):
        trace = JudgedRewriting()
        out: list[Any] = []
        for what, item in script:
            if what == "wait":
                trace.wait(item)
            elif what in {"client", "guest"}:
                give = trace.client if what == "client" else trace.guest
                out.append((give(*formed(*item, b"")), trace.to_guest()))
            elif tells_lies and what == "lie":
                trace.client(*item)
            elif tells_lies:
                trace.guest(item)
        if takes_over:
            again = [read(octets) for octets in trace.take_over()]
            out.append([segment for segment in again if segment.end != segment.seq])
        seen.append(out)
        remembered.append([])
        for _ in range(3):
            trace.wait(61_000)
            remembered[-1] += [trace.offsets(flow) for flow in FLOWS]
    assert seen[0] == seen[1]
    for without, with_them in zip(*remembered, strict=True):
        assert without is None or with_them == without
