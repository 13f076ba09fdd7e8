"""Law (a): what a client could notice, and one guest alone has done, is reported within compare_timeout and one scan.

Two guests do the same for a while; then one of them does something alone, while its neighbours go on and a client
lies. The wait that only a client's ACK can end is excepted (rule C8). The referee in test_compare_lives.py holds any
two guests to the same; here it is said without it.
"""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycolo import limits
from pycolo.compare.kinds import DivergencePolicy
from support.segments import Flow, Tcp, fragments, frame, icmp_echo, udp, udp_body
from support.traces import Comparing

EXAMPLES = settings(max_examples=200)
LATE_MS = limits.COMPARE_TIMEOUT_MS + limits.EXPIRED_SCAN_CYCLE_MS
ISN, CLIENT_ISN = 1000, 5000
FLOW, NEIGHBOUR = Flow(), Flow(client_port=7)
PRIMARY, SECONDARY = True, False

ALONE = {
    "payload": lambda at: frame(Tcp(at, "PA", b"alone", ack=CLIENT_ISN + 1)),
    "FIN": lambda at: frame(Tcp(at, "FA", ack=CLIENT_ISN + 1)),
    "RST": lambda at: frame(Tcp(at, "R")),
    "RST and ACK": lambda at: frame(Tcp(at, "RA", ack=CLIENT_ISN + 1)),
    "SYN": lambda at: frame(Tcp(at + 77_000, "S")),
    "SYN and ACK": lambda at: frame(Tcp(at + 77_000, "SA", ack=CLIENT_ISN + 9_001)),
    "SYN of another flow": lambda _: frame(Tcp(5, "S", flow=Flow(client_port=8))),
    "RST of another flow": lambda _: frame(Tcp(0, "RA", ack=99, flow=Flow(client_port=8))),
    "datagram": lambda _: udp(b"alone"),
    "ping": lambda _: icmp_echo(b"alone"),
    "datagram in fragments": lambda _: b"",
    "part of a datagram": lambda _: b"",
}


def frames_of(kind: str, at: int) -> list[bytes]:
    parts = fragments(17, udp_body(bytes(40)), [16], 9)
    if kind == "datagram in fragments":
        return parts
    return parts[:1] if kind == "part of a datagram" else [ALONE[kind](at)]


def agreed(trace: Comparing, draw: Any) -> int:
    """Both guests open a connection, or had it before, and say the same; where their next byte stands."""
    at = ISN + 1
    facts = [Tcp(ISN, "SA", ack=CLIENT_ISN + 1)] if draw(st.booleans()) else []
    for data in draw(st.lists(st.sampled_from([b"a", b"four"]), min_size=not facts, max_size=4)):
        facts.append(Tcp(at, "A", data, ack=CLIENT_ISN + 1))
        at += len(data)
    for segment in facts:
        sides = [trace.primary, trace.secondary]
        for give in sides if draw(st.booleans()) else reversed(sides):
            give(segment)
    return at


@pytest.mark.rule("C8")
@EXAMPLES
@given(
    data=st.data(),
    kind=st.sampled_from(sorted(ALONE)),
    side=st.sampled_from([PRIMARY, SECONDARY]),
    policy=st.sampled_from(list(DivergencePolicy)),
)
def test_what_one_guest_does_alone_is_reported_in_time(data, kind, side, policy):
    trace = Comparing(policy=policy)
    at = agreed(trace, data.draw)
    trace.wait(data.draw(st.sampled_from([0, 10, 999, 5_000])))
    if data.draw(st.booleans()):  # the client has got all, and says so
        trace.client(Tcp(CLIENT_ISN + 1, "A", ack=at, from_client=True))
    trace.frames()
    assert trace.commands() == []
    for octets in frames_of(kind, at):
        trace.primary(octets) if side == PRIMARY else trace.secondary(octets)
    if side == PRIMARY:
        assert trace.frames() == [], "nothing leaves that only the primary has sent"
    lies = data.draw(st.lists(st.sampled_from(["A", "FA", "R", "S"]), max_size=3))
    step_ms = LATE_MS / 8
    found = []
    for tick in range(8):
        for flags in lies:
            trace.client(Tcp(CLIENT_ISN + 900_000, flags, ack=at + 900_000, from_client=True))
        both = Tcp(1 + 4 * tick, "A", b"next", ack=3, flow=NEIGHBOUR)
        trace.primary(both)
        trace.secondary(both)
        trace.wait(step_ms)
        found += trace.commands()
    assert found, f"{kind} of one side alone is not reported"
    assert len({name for name, _, _ in found} & {"RequestCheckpoint"}) <= 1
