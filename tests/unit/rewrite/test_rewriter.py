"""The rewriter as a shell drives it: what passes untouched, what waits, what is forgotten; batches and counters."""

import re
from pathlib import Path

import pytest

from pycolo import limits
from pycolo.errors import FramingError
from pycolo.rewrite import kinds
from support.segments import Flow, Tcp, arp, batch, frame, read, udp, unbatch
from support.traces import Rewriting

CLIENT_ISN, PRIMARY_ISN, SECONDARY_ISN = 700, 3000, 5000
OFFSET = SECONDARY_ISN - PRIMARY_ISN


def handshake(trace, flow=Flow()):  # noqa: B008 - frozen
    trace.client(Tcp(CLIENT_ISN, "S", flow=flow, from_client=True))
    trace.guest(Tcp(SECONDARY_ISN, "SA", ack=CLIENT_ISN + 1, flow=flow))
    trace.client(Tcp(CLIENT_ISN + 1, ack=PRIMARY_ISN + 1, flow=flow, from_client=True))


def from_guest(at=1, flags="A", data=b"data", **fields):
    return Tcp(SECONDARY_ISN + at, flags, data, CLIENT_ISN + 1, **fields)


def from_client(at=1, flags="A", data=b"", **fields):
    return Tcp(CLIENT_ISN + 1, flags, data, PRIMARY_ISN + at, from_client=True, **fields)


def is_shifted(trace, flow=Flow()):  # noqa: B008 - frozen
    return read(trace.guest(from_guest(flow=flow))[0]).seq == PRIMARY_ISN + 1


@pytest.mark.parametrize("name", ["OffsetState", "ConnectionFlag"])
def test_compiled_code_has_the_same_numbers(name):
    text = Path(kinds.__file__).with_suffix(".pxd").read_text(encoding="utf-8")
    block = re.search(rf"cdef enum {name}:\n((?:    .*\n?)+)", text)
    assert block is not None
    declared = {key: int(value, 0) for key, value in re.findall(r"(\w+) = (\w+)", block[1])}
    assert declared == {member.name: member.value for member in getattr(kinds, name)}


# ── what passes untouched ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "octets",
    [arp(), udp(b"data"), frame(from_guest())[:40], b"\0" * 14, b""],
    ids=["arp", "udp", "cut off", "nothing", "empty"],
)
def test_what_is_not_tcp_passes(octets):
    trace = Rewriting()
    handshake(trace)
    assert trace.client(octets) == [octets]
    assert trace.guest(octets) == [octets]


def test_a_connection_older_than_the_rewriter_passes():
    trace = Rewriting()
    for segment, give in [(from_client(data=b"x"), trace.client), (from_guest(), trace.guest)] * 2:
        assert give(segment) == [frame(segment)]
    assert trace.core.stats.learned == 0


def test_without_rewriting_everything_passes():
    trace = Rewriting()
    trace.core.is_passing = True
    handshake(trace)
    assert not is_shifted(trace)


# ── what waits ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("R3")
def test_waiting_is_bounded():
    trace = Rewriting()
    trace.client(Tcp(CLIENT_ISN, "S", from_client=True))
    for place in range(limits.HANDSHAKE_HELD_PACKETS_MAX + 5):
        assert trace.client(from_client(data=bytes([place]))) == []
    assert trace.core.stats.handshake_held == limits.HANDSHAKE_HELD_PACKETS_MAX
    assert trace.core.stats.handshake_dropped == 5
    trace.guest(Tcp(SECONDARY_ISN, "SA", ack=CLIENT_ISN + 1))
    assert [read(octets).data[0] for octets in trace.to_guest()] == list(range(limits.HANDSHAKE_HELD_PACKETS_MAX))
    assert trace.core.copies.pool.used == 0


@pytest.mark.rule("R3")
def test_waiting_has_a_deadline():
    """A port that drops everything silently; the frame goes, then the row."""
    trace = Rewriting()
    trace.client(Tcp(CLIENT_ISN, "S", from_client=True), from_client())
    assert trace.core.held.count == 1
    later(trace, limits.HANDSHAKE_HELD_MS)
    assert (trace.core.held.count, trace.core.held.used_bytes, trace.core.copies.pool.used) == (0, 0, 0)
    assert trace.core.stats.handshake_dropped == 1
    assert len(trace.client(from_client())) == 1, "it is no answer that it waits for"
    later(trace, limits.HALF_OPEN_MS)
    assert trace.core.table.used == 0


@pytest.mark.rule("R3")
def test_what_waits_takes_an_eighth_of_the_memory_at_most():
    trace = Rewriting(unacked_bytes_max=1 << 20, connections_max=1 << 12)
    for port in range(1, 400):
        flow = Flow(client_port=port)
        trace.client(Tcp(CLIENT_ISN, "S", flow=flow, from_client=True), from_client(flow=flow, data=bytes(1400)))
    assert trace.core.held.used_bytes <= (1 << 20) // 8
    assert trace.core.stats.handshake_dropped > 0


@pytest.mark.rule("R3")
def test_an_answer_that_refuses_ends_the_waiting():
    trace = Rewriting()
    trace.client(Tcp(CLIENT_ISN, "S", from_client=True), from_client())
    trace.guest(Tcp(0, "RA", ack=CLIENT_ISN + 1))
    assert len(trace.to_guest()) == 1
    assert trace.core.copies.pool.used == 0


def test_a_rst_of_the_client_waits_for_nothing():
    trace = Rewriting()
    trace.client(Tcp(CLIENT_ISN, "S", from_client=True))
    rst = Tcp(CLIENT_ISN + 1, "R", from_client=True)
    assert trace.client(rst) == [frame(rst)]


# ── what is forgotten ───────────────────────────────────────────────────────────────────────────────────────


def close(trace):
    """The guest ends it, then the client."""
    trace.guest(from_guest(1, "FA", b""))
    trace.client(from_client(2, "FA"))
    trace.guest(Tcp(SECONDARY_ISN + 2, ack=CLIENT_ISN + 2))


def later(trace, ms):
    trace.now_ms += ms
    trace.core.timer_fired(round(trace.now_ms * 1000))


@pytest.mark.rule("R3")
def test_an_ended_connection_stays_for_its_grace_time():
    trace = Rewriting()
    handshake(trace)
    close(trace)
    later(trace, limits.CLOSED_GRACE_MS - 1)
    assert read(trace.guest(from_guest(2))[0]).seq == PRIMARY_ISN + 2, "a segment that comes back"
    later(trace, 2 * limits.CLOSED_GRACE_MS)
    assert trace.core.table.used == 0
    assert trace.core.copies.pool.used == 0


@pytest.mark.rule("R3")
def test_fins_that_are_not_acknowledged_end_nothing():
    """The client is away for a while, its FIN and its ACK with it: the guest goes on with the old numbers."""
    for count in (1, 2):
        trace = Rewriting()
        handshake(trace)
        trace.guest(from_guest(1, "FA", b""))
        if count == 2:
            trace.client(from_client(1, "FA"))  # it has not heard of the guest's
        later(trace, 5 * limits.CLOSED_GRACE_MS)
        assert is_shifted(trace)


@pytest.mark.parametrize("away_ms", [limits.CLOSED_GRACE_MS + 1000, 30 * limits.CLOSED_GRACE_MS])
@pytest.mark.parametrize("last", ["guest", "client"])
def test_a_client_that_is_away_gets_no_raw_numbers(away_ms, last):
    """Both have sent FIN, and one of the two is not acknowledged yet: by whom is all the same."""
    trace = Rewriting()
    handshake(trace)
    if last == "client":  # the guest's FIN, and its ack of the client's, wait for the client to come back
        trace.client(from_client(1, "FA"))
        trace.guest(Tcp(SECONDARY_ISN + 1, "FA", ack=CLIENT_ISN + 2))
    else:  # the guest has not got the client's FIN, which acknowledges its own
        trace.guest(from_guest(1, "FA", b""))
        trace.client(from_client(2, "FA"))
    later(trace, away_ms)
    assert is_shifted(trace)
    (again,) = trace.guest(from_guest(1, "FA", b""))
    assert read(again).seq == PRIMARY_ISN + 1


@pytest.mark.rule("R1")
def test_a_forged_fin_ends_nothing():
    """It has a number that the guest comes to by itself, and goes beyond."""
    trace = Rewriting()
    handshake(trace)
    trace.guest(from_guest(1, "FA", b""))
    forged = Tcp(CLIENT_ISN + 101, "FA", ack=PRIMARY_ISN + 2, from_client=True)
    trace.client(from_client(2), forged)
    trace.guest(Tcp(SECONDARY_ISN + 2, ack=CLIENT_ISN + 102), Tcp(SECONDARY_ISN + 2, ack=CLIENT_ISN + 202))
    later(trace, 5 * limits.CLOSED_GRACE_MS)
    assert is_shifted(trace)


@pytest.mark.rule("R1")
@pytest.mark.parametrize("at", [-1, 1, 5, 999, 70_000, -70_000, 1 << 31])
def test_only_a_rst_with_the_number_that_the_guest_expects_counts(at):
    """RFC 5961 section 3.2; one that is only in the window the guest answers, if it has not just answered another."""
    trace = Rewriting()
    handshake(trace)
    trace.guest(from_guest())
    rst = Tcp(CLIENT_ISN + 1 + at, "R", from_client=True)
    assert trace.client(rst) == [frame(rst)]
    later(trace, 2 * limits.CLOSED_GRACE_MS)
    assert is_shifted(trace)


@pytest.mark.rule("R3")
def test_a_rst_that_counts_ends_the_connection():
    for is_behind_data in (False, True):
        trace = Rewriting()
        handshake(trace)
        trace.guest(from_guest())
        if is_behind_data:
            trace.client(from_client(5, data=b"bye"))  # the guest has not acknowledged it
        trace.client(Tcp(CLIENT_ISN + 1 + 3 * is_behind_data, "R", from_client=True))
        later(trace, 2 * limits.CLOSED_GRACE_MS)
        assert trace.core.table.used == 0


@pytest.mark.rule("R3")
def test_what_the_guest_goes_on_with_has_not_ended():
    trace = Rewriting()
    handshake(trace)
    trace.client(Tcp(CLIENT_ISN + 1, "R", from_client=True))
    trace.guest(Tcp(SECONDARY_ISN + 1, ack=CLIENT_ISN + 1))
    later(trace, 5 * limits.CLOSED_GRACE_MS)
    assert is_shifted(trace)


@pytest.mark.rule("R1")
def test_a_rst_with_a_wrong_checksum_is_none():
    trace = Rewriting()
    handshake(trace)
    octets = bytearray(frame(Tcp(CLIENT_ISN + 1, "R", from_client=True)))
    octets[-4] ^= 1
    trace.client(bytes(octets))
    later(trace, 5 * limits.CLOSED_GRACE_MS)
    assert is_shifted(trace)


@pytest.mark.rule("C10")
def test_half_open_goes_early():
    """A SYN that is not answered, and one that is and goes no further."""
    trace = Rewriting()
    other = Flow(client_port=9)
    trace.client(Tcp(CLIENT_ISN, "S", from_client=True), Tcp(CLIENT_ISN, "S", flow=other, from_client=True))
    trace.guest(Tcp(SECONDARY_ISN, "SA", ack=CLIENT_ISN + 1, flow=other))
    for _ in range(99):  # what comes from outside keeps nothing up
        later(trace, limits.HALF_OPEN_MS // 100)
        trace.client(Tcp(CLIENT_ISN, "S", from_client=True), Tcp(1, ack=5, flow=other, from_client=True))
    later(trace, 2000)
    assert trace.core.table.used == 0


@pytest.mark.rule("R3")
def test_half_closed_is_not_ended():
    trace = Rewriting()
    handshake(trace)
    trace.client(from_client(1, "FA"))
    trace.now_ms = 3 * limits.CLOSED_GRACE_MS
    trace.core.timer_fired(round(trace.now_ms * 1000))
    assert is_shifted(trace)


def test_a_silent_connection_is_forgotten_in_the_end():
    trace = Rewriting()
    handshake(trace)
    trace.now_ms = limits.CONNECTION_IDLE_MS + 1000
    trace.core.timer_fired(round(trace.now_ms * 1000))
    assert trace.core.table.used == 0


def test_a_full_table_gives_up_the_least_recently_seen():
    trace = Rewriting(connections_max=2)
    flows = [Flow(client_port=port) for port in (1, 2, 3)]
    for flow in flows:
        trace.now_ms += 1000
        handshake(trace, flow)
    assert [trace.offsets(flow) is not None for flow in flows] == [False, True, True]
    assert is_shifted(trace, flows[1])
    assert is_shifted(trace, flows[2])


@pytest.mark.rule("C10")
def test_a_full_table_gives_up_what_is_half_open_first():
    """However much of it there is, and whatever waits there: a SYN and a segment to a port that says nothing."""
    trace = Rewriting(connections_max=100)
    handshake(trace)
    assert is_shifted(trace)
    for port in range(10_000, 11_000):
        flow = Flow(client_port=port)
        trace.client(Tcp(CLIENT_ISN, "S", flow=flow, from_client=True), from_client(flow=flow))
    assert trace.core.held.count < 100
    assert is_shifted(trace)
    assert trace.core.table.evicted_half_open == 901
    new = Flow(client_port=7)
    handshake(trace, new)
    assert is_shifted(trace, new)


def test_the_table_grows():
    trace = Rewriting(connections_max=1 << 14)
    buckets = trace.core.table.buckets
    syns = [Tcp(5, "S", flow=Flow(guest_port=port + 1), from_client=True) for port in range(buckets + 5)]
    assert trace.client(*syns) == [frame(syn) for syn in syns]
    assert trace.core.table.buckets == buckets + 5
    assert trace.core.stats.client_frames == len(syns)


# ── batches ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_full_output_buffer_leaves_the_rest():
    trace = Rewriting()
    handshake(trace)
    octets = batch([frame(from_guest(data=bytes([place]))) for place in range(4)])
    size = len(octets) // 4
    out = bytearray(2 * size + 10)
    assert trace.core.guest_frames(octets, 0, len(octets), 0, out, 5) == 2 * size
    assert trace.core.out_end == 5 + 2 * size
    found = unbatch(bytes(out[5 : trace.core.out_end]))
    assert trace.core.guest_frames(octets, 2 * size, len(octets), 0, out, 0) == 4 * size
    found += unbatch(bytes(out[: 2 * size]))
    assert [read(one).data[0] for one in found] == list(range(4))


def test_an_incomplete_frame_is_left():
    trace = Rewriting()
    octets = batch([udp(b"one"), udp(b"two")])
    out = bytearray(1000)
    half = len(octets) // 2
    assert trace.core.client_frames(octets, 0, len(octets) - 1, 0, out, 0) == half
    assert trace.core.client_frames(octets, half, len(octets), 0, out, 0) == len(octets)


def test_a_stream_that_cannot_be_read_on_is_named():
    trace = Rewriting(client_name="the link", guest_name="the tap")
    out = bytearray(1000)
    for take, name in [(trace.core.client_frames, "the link"), (trace.core.guest_frames, "the tap")]:
        octets = batch([udp(b"x" * 900)]) + b"\xff\xff\xff\xff"
        with pytest.raises(FramingError, match=name):
            take(octets, 0, len(octets), 0, out, 0)


def test_counters():
    trace = Rewriting()
    handshake(trace)
    trace.guest(from_guest(), udp(b"x"), b"short")
    trace.client(from_client(), Tcp(1, "R", flow=Flow(client_port=99), from_client=True))
    stats = trace.core.stats
    assert (stats.client_frames, stats.guest_frames) == (4, 4)
    assert (stats.learned, stats.rewritten, stats.refused, stats.untouched) == (1, 3, 1, 1)
    assert stats.client_bytes > 0
