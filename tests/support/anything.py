"""Frames of two guests of which nothing is known: few connections, few numbers, and bytes that are no frame at all."""

from typing import Any

from hypothesis import strategies as st

from support.segments import Flow, Tcp, arp, fragments, frame, mss, sack, timestamps, udp, udp_body
from support.strategies import FRAMES, SEQ, damaged

PRIMARY, SECONDARY = True, False
NEAR = st.integers(990, 1030)

# Few connections, few numbers: so that the state machines meet.
SEGMENTS = st.builds(
    Tcp,
    NEAR | SEQ,
    st.sampled_from(["S", "SA", "A", "A", "A", "A", "FA", "R", "RA", "", "SFRA"]),
    st.sampled_from([b"", b"", b"a", b"aa", b"aaaaaaaa", b"ab", b"b"]),
    NEAR | SEQ,
    st.sampled_from([0, 10, 1000, 65535]),
    st.sampled_from([b"", mss(1460), timestamps(5, 6), sack(1, 2)]),
    st.builds(Flow, st.just(80), st.sampled_from([1, 1, 2])),
)
BODIES = st.sampled_from([b"same", b"other", b"", bytes(3000)])
OTHERS = st.one_of(BODIES.map(udp), st.just(arp()), FRAMES, damaged(), st.binary(max_size=60))


@st.composite
def parts_of_datagrams(draw: Any) -> bytes:
    body = udp_body(draw(st.sampled_from([bytes(40), bytes(range(48))])))
    cuts = draw(st.sampled_from([[8], [16], [8, 24]]))
    return draw(st.sampled_from(fragments(17, body, cuts, draw(st.integers(1, 2)))))


SIDES = st.sampled_from([PRIMARY, SECONDARY])
GIVEN = st.tuples(SIDES, SEGMENTS.map(frame) | OTHERS | parts_of_datagrams())
