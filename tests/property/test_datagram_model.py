"""Datagrams and fragments against the specification: what left was allowed, what must leave or be told has been."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.compare.kinds import DivergencePolicy
from support.examples import examples
from support.referee import Judged
from support.segments import GSO_UDP_L4, Flow, fragments, icmp_echo, ip_packet, udp, udp_body, vnet_header
from support.traces import SMALL

EXAMPLES = examples(300)
PRIMARY, SECONDARY = True, False
PLAIN = vnet_header()
FLOWS = st.sampled_from([Flow(), Flow(client_port=2), Flow(version=6)])
SIDES = st.sampled_from([PRIMARY, SECONDARY])
BYTES = bytes(range(64))
PAYLOADS = st.sampled_from([b"", b"a", b"b", b"abababab", BYTES[:16], BYTES[8:16], BYTES[:8], BYTES])


@st.composite
def datagrams(draw: Any) -> bytes:
    payload = draw(PAYLOADS)
    return PLAIN + draw(
        st.sampled_from([icmp_echo(payload), ip_packet(47, payload)]) | FLOWS.map(lambda flow: udp(payload, flow))
    )


@st.composite
def uso_frames(draw: Any) -> bytes:
    """A UDP frame that the host is to cut; 0 and sizes that make it one, or too many, too."""
    header = vnet_header(1, GSO_UDP_L4, draw(st.sampled_from([0, 1, 8, 8, 8, 64, 100])))
    return header + udp(draw(st.sampled_from([BYTES[:16], BYTES, BYTES[:12], bytes(24), bytes(200)])), draw(FLOWS))


@st.composite
def parts(draw: Any) -> bytes:
    """Of few datagrams, in few cuts, that overlap, repeat, contradict one another or go beyond the end."""
    flow = draw(FLOWS)
    proto = draw(st.sampled_from([17, 17, 17, 17, 1, 60]))
    body = draw(st.sampled_from([udp_body(BYTES[:16], flow), udp_body(BYTES[:15], flow), bytes(32)]))
    cuts = draw(st.sampled_from([[8], [8], [16], [8, 16], [8, 8], [12]]))
    frames = fragments(proto, body, cuts, draw(st.integers(1, 3)), flow)
    return PLAIN + draw(st.sampled_from(frames))


WAITS = st.sampled_from([1.0, 30.0, 49.0, 51.0, 500.0, 2949.0, 2999.0, 3000.0, 3500.0, 4001.0, 61_000.0])
GIVEN = st.tuples(SIDES, datagrams() | datagrams() | parts() | uso_frames())
STEPS = st.lists(GIVEN | GIVEN | GIVEN | WAITS | st.just("commit"), max_size=40)


def run(steps: Any, **options: Any) -> Judged:
    trace = Judged(12, **options)
    for step in steps:
        match step:
            case "commit":
                trace.commit()
            case float(ms):
                trace.wait(ms)
            case (side, octets):
                trace.primary(octets) if side == PRIMARY else trace.secondary(octets)
    return trace


@pytest.mark.rule("C4", "C5", "C8", "C9")
@EXAMPLES
@given(
    steps=STEPS, policy=st.sampled_from([DivergencePolicy.CHECKPOINT, DivergencePolicy.REPORT, DivergencePolicy.HOLD])
)
def test_any_datagrams(steps, policy):
    trace = run(steps, policy=policy)
    trace.wait(5_000)
    trace.commit()
    trace.wait(70_000)
    assert trace.core.primary_fragments.used == trace.core.secondary_fragments.used == 0
    trace.frames()
    trace.assert_empty()


@st.composite
def twins(draw: Any) -> list[tuple[bool, bytes]]:
    """Two guests that say the same, each in its own order, cut in its own way."""
    flow = draw(FLOWS)
    said = draw(st.lists(st.sampled_from([BYTES, BYTES[:40], bytes(48)]), min_size=1, max_size=4))
    facts = []
    for side in (PRIMARY, SECONDARY):
        frames: list[bytes] = []
        for identification, data in enumerate(draw(st.permutations(said))):
            match draw(st.sampled_from(["whole", "fragments", "uso"])):
                case "whole":
                    frames += [PLAIN + udp(data[at : at + 8], flow) for at in range(0, len(data), 8)]
                case "uso":
                    frames.append(vnet_header(1, GSO_UDP_L4, 8) + udp(data, flow))
                case "fragments":
                    for at in range(0, len(data), 8):
                        name = 100 * identification + at
                        body = udp_body(data[at : at + 8], flow)
                        frames += draw(st.permutations([PLAIN + each for each in fragments(17, body, [8], name, flow)]))
        facts.append([(side, octets) for octets in frames])
    return list(draw(st.permutations([*facts[0], *facts[1]])))


@pytest.mark.rule("C4")
@EXAMPLES
@given(steps=twins())
def test_equal_guests_never_differ(steps):
    trace = run(steps)
    assert trace.commands() == []
    sent = sorted(octets[12:] for side, octets in steps if side == PRIMARY)
    assert sorted(trace.frames()) == sent
    trace.assert_empty()


@pytest.mark.rule("C10")
@EXAMPLES
@given(steps=STEPS, policy=st.sampled_from([DivergencePolicy.REPORT, DivergencePolicy.HOLD, DivergencePolicy.RESET]))
def test_after_all_deadlines_nothing_is_left(steps, policy):
    """Law: where nothing is open memory, rows and records are zero, without any checkpoint."""
    trace = run([step for step in steps if step != "commit"], policy=policy)
    trace.wait(700_000)
    trace.frames()
    assert trace.core.table.used == 0
    assert trace.core.primary_fragments.used == trace.core.secondary_fragments.used == 0
    assert trace.core.deadline_us() is None
    trace.assert_empty()


assert SMALL["held_packets_max"] >= 4096, "these traces are to meet no lack of room"
