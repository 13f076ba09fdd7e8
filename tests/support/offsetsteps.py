"""Segments of a few connections, and what a rewriter knows of these: for laws about tables of offsets."""

from hypothesis import strategies as st

from support.segments import Flow, Tcp, frame, read, sack, timestamps
from support.strategies import SEQ

UNKNOWN = 0
FLOWS = [Flow(), Flow(client_port=9), Flow(version=6), Flow(tags=(5, 6)), Flow(version=6, tags=(7,))]
FLAGS_OF_GUEST = ["SA", "S", "A", "PA", "FA", "R", "RA"]
FLAGS_OF_CLIENT = ["S", "SA", "A", "PA", "FA", "R", "RA"]


@st.composite
def segments(draw, kinds=FLAGS_OF_GUEST + FLAGS_OF_CLIENT):
    """(from the client, frame): few numbers, so that they meet."""
    from_client = draw(st.booleans())
    flags = draw(st.sampled_from(FLAGS_OF_CLIENT if from_client else FLAGS_OF_GUEST))
    near = st.sampled_from([1, 2, 100, 2**32 - 1]) | SEQ
    options = draw(st.sampled_from([b"", timestamps(5, 6), timestamps(0), sack(1, 2, 3, 4)]))
    segment = Tcp(
        draw(near), flags, draw(st.binary(max_size=4)), draw(near), 500, options, draw(st.sampled_from(FLOWS))
    )
    return from_client, frame(Tcp(**{**segment.__dict__, "from_client": from_client}))


def give(trace, steps):
    out = []
    for from_client, octets in steps:
        out.append(trace.client(octets) if from_client else trace.guest(octets))
        out.append(trace.to_guest())
    return out


def known(trace, flow=FLOWS[0], primary_isn=100, secondary_isn=7000):
    trace.client(Tcp(1, "S", options=timestamps(1), flow=flow, from_client=True))
    trace.guest(Tcp(secondary_isn, "SA", ack=2, options=timestamps(500, 1), flow=flow))
    trace.client(Tcp(2, "A", ack=primary_isn + 1, options=timestamps(2, 300), flow=flow, from_client=True))


def of_rows(trace, without=frozenset()):
    """What each connection's translation depends on; a connection without offsets and one that is not there are one."""
    found = {flow: trace.offsets(flow) for flow in FLOWS if flow not in without}
    return {flow: row for flow, row in found.items() if row is not None and row[1:] != (0, 0)}


def flows_without_answer(steps):
    """Where the client's SYN was the last thing said; a SYN of the guest's own answers nothing."""
    found = set()
    for from_client, octets in steps:
        segment = read(octets)
        if not from_client and segment.flags != "S":
            found.discard(segment.flow)
        elif from_client and segment.flags == "S":
            found.add(segment.flow)
    return found
