"""Hostile guests: whatever bytes both send, everything of the primary comes out, in order, and nothing is left over.

Except fragments of datagrams that were given up (rule C9), which are counted.
"""

from collections import Counter, defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pycolo.compare.kinds import DivergencePolicy
from pycolo.errors import FramingError
from support.anything import GIVEN, PRIMARY
from support.segments import Flow, Tcp, frame, read
from support.streams import assert_all_left
from support.traces import Comparing

EXAMPLES = settings(max_examples=200)
EVENTS = st.sampled_from(["commit", "commit awaiting", "marker", "lost", "formed"]) | st.sampled_from(
    [1.0, 60.0, 3000.0]
)
STEPS = st.lists(GIVEN | GIVEN | GIVEN | EVENTS, max_size=40)


def run(steps, **options):
    """Every step; whatever is refused is offered again after a commit. Then a last commit."""
    trace = Comparing(connections_max=4, held_packets_max=60, queue_packets_max=8, **options)
    out: list[list[bytes]] = []
    commands = []
    for step in [*steps, "commit"]:
        match step:
            case "commit" | "commit awaiting":
                trace.commit(awaits_marker=step != "commit")
            case "marker":
                trace.core.epoch_marker(trace.core.epoch)
            case "lost":
                trace.core.pair_lost(trace.now_us)
            case "formed":
                trace.core.pair_formed(trace.now_us)
            case float(ms):
                trace.wait(ms)
            case (side, octets):
                offer = trace.offer_primary if side == PRIMARY else trace.offer_secondary
                if not offer(octets):
                    trace.commit()
                    out.append(trace.frames())
                    assert offer(octets) == 1
        out.append(trace.frames())
        commands += trace.commands()
    return trace, [octets for part in out for octets in part], commands


@EXAMPLES
@given(steps=STEPS, needs_handshake=st.booleans(), commits_input=st.booleans())
def test_everything_of_the_primary_comes_out(steps, needs_handshake, commits_input):
    trace, out, _ = run(steps, needs_handshake=needs_handshake, commits_input=commits_input)
    assert_out(trace, steps, out)


@EXAMPLES
@given(steps=STEPS)
def test_everything_comes_out_when_differences_are_only_reported(steps):
    trace, out, commands = run(steps, policy=DivergencePolicy.REPORT)
    assert_out(trace, steps, out)
    assert {command for command, _, _ in commands} <= {"ReportDifference"}


def assert_out(trace, steps, out):
    """Per connection in order; TCP may be clamped, split or superseded, fragments dropped; the rest is untouched."""
    stats = trace.core.stats
    sent = [step[1] for step in steps if isinstance(step, tuple) and step[0] == PRIMARY]
    assert len(out) == len(sent) + trace.acks_added() + stats.splits - stats.superseded - stats.dropped
    found, expected = grouped(out), grouped(sent)
    extra = 0
    for key in found.keys() | expected.keys():
        if isinstance(key, Flow):
            mine, theirs = ([read(octets) for octets in side[key]] for side in (expected, found))
            extra += assert_all_left(mine, theirs, is_lenient=True, superseded=stats.superseded)
        elif key == "udp":
            assert found[key] == expected[key]
        else:
            missing = Counter(expected[key])
            missing.subtract(found[key])
            assert min(missing.values()) >= 0
    assert extra == trace.acks_added() - stats.superseded
    trace.assert_empty()


def grouped(frames):
    """Segments that the tests made, by connection; datagrams of theirs; each other frame for itself."""
    groups: dict[Any, list[bytes]] = defaultdict(list)
    for octets in frames:
        if octets[:12] == OWN_FRAME[:12] and len(octets) > 34 and octets[12:14] == b"\x08\x00":
            if octets[20] & 0x3F or octets[21]:
                groups["fragments"].append(octets)
                continue
            if octets[23] == 6 and octets[14] == 0x45 and is_ours(octets):
                groups[read(octets).flow].append(octets)
                continue
            if octets[23] == 17 and octets[26:34] == OWN_FRAME[26:34]:
                groups["udp"].append(octets)
                continue
        groups[octets].append(octets)
    return groups


OWN_FRAME = frame(Tcp(1))


def is_ours(octets):
    return octets[26:34] == OWN_FRAME[26:34] and octets[34:36] == OWN_FRAME[34:36]


@EXAMPLES
@given(octets=st.binary(max_size=300), vnet=st.booleans())
def test_any_stream_is_read_or_refused(octets, vnet):
    """Not even whole frames: either the stream goes on, or FramingError says why it cannot."""
    trace = Comparing(12 if vnet else None)
    buf = bytearray(octets)
    for take in (trace.core.primary_frames, trace.core.secondary_frames):
        try:
            taken = take(buf, 0, len(buf), 0)
        except FramingError:
            continue
        assert 0 <= taken <= len(buf)
    trace.commit()
    trace.frames()
    trace.assert_empty()
