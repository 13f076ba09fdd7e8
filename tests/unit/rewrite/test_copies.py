"""What is sent again at takeover: all that the client has not acknowledged, and nothing else."""

from dataclasses import replace

import pytest

from pycolo import limits
from support.frames import is_valid
from support.segments import NEEDS_CSUM, Flow, Tcp, frame, read, timestamps, vnet_header
from support.traces import Rewriting

CLIENT_ISN, PRIMARY_ISN, SECONDARY_ISN = 700, 0xFFFFFFF0, 5000
OFFSET = (SECONDARY_ISN - PRIMARY_ISN) & 0xFFFFFFFF
BASE = SECONDARY_ISN + 1
CLOCK = 90_000  # of the secondary; the primary's is behind by 80 000


def client(ack, echo=10_000, flow=Flow(), flags="A"):  # noqa: B008 - frozen
    options = timestamps(1, echo)
    return Tcp(CLIENT_ISN + 1, flags, b"", ack & 0xFFFFFFFF, 500, options, flow, from_client=True)


def guest(at, flags="PA", data=b"", clock=CLOCK, flow=Flow()):  # noqa: B008 - frozen
    return Tcp(BASE + at, flags, data, CLIENT_ISN + 1, 600, timestamps(clock, 1), flow)


def known(flow=Flow(), vnet_len=None, header=b"", **options):  # noqa: B008 - frozen
    trace = Rewriting(vnet_len, **options)
    trace.client(frame(Tcp(CLIENT_ISN, "S", flow=flow, from_client=True, options=timestamps(1)), header))
    trace.guest(frame(replace(guest(-1, "SA", flow=flow), ack=CLIENT_ISN + 1), header))
    trace.client(frame(client(PRIMARY_ISN + 1, flow=flow), header))
    return trace


def acked(count):
    """The client's ack when it has `count` bytes."""
    return PRIMARY_ISN + 1 + count


def resent(trace):
    trace.core.takeover()
    frames = trace.to_client()
    assert all(is_valid(octets) for octets in frames)
    assert trace.core.stats.resent == len(frames)
    assert trace.core.copies.pool.used == 0
    return [read(octets) for octets in frames]


def brief(segments):
    return [((segment.seq - PRIMARY_ISN - 1) & 0xFFFFFFFF, segment.flags, segment.data) for segment in segments]


@pytest.mark.parametrize("flow", [Flow(), Flow(version=6, tags=(7,))], ids=str)
def test_unacknowledged_payload_in_order_and_translated(flow):
    trace = known(flow)
    trace.guest(guest(0, data=b"one", flow=flow), guest(3, data=b"two", flow=flow), guest(6, "FA", flow=flow))
    assert brief(resent(trace)) == [(0, "PA", b"one"), (3, "PA", b"two"), (6, "FA", b"")]


def test_what_is_acknowledged_is_forgotten():
    trace = known()
    trace.guest(guest(0, data=b"one"), guest(3, data=b"two"), guest(6, data=b"three"))
    trace.client(client(acked(3)))
    trace.client(client(acked(5)))
    assert brief(resent(trace)) == [(3, "PA", b"two"), (6, "PA", b"three")]


def test_an_older_ack_brings_nothing_back():
    trace = known()
    trace.guest(guest(0, data=b"one"), guest(3, data=b"two"))
    trace.client(client(acked(6)), client(acked(0)))
    assert brief(resent(trace)) == []


def test_where_there_is_no_payload_the_latest_bare_ack():
    """The client may wait for just that ack: a guest never repeats it by itself."""
    trace = known()
    trace.guest(replace(guest(0, "A"), ack=CLIENT_ISN + 50), replace(guest(0, "A"), ack=CLIENT_ISN + 90))
    (ack,) = resent(trace)
    assert (ack.ack, ack.data) == (CLIENT_ISN + 90, b"")


def test_payload_carries_the_ack_with_it():
    trace = known()
    trace.guest(guest(0, "A"), guest(0, data=b"one"), guest(3, "A"))
    assert brief(resent(trace)) == [(0, "PA", b"one")]


def test_a_fin_is_acknowledged_by_the_number_behind_it():
    for count, left in [(3, [(0, "FPA", b"end")]), (4, [])]:
        trace = known()
        trace.guest(guest(0, "FPA", b"end"))
        trace.client(client(acked(count)))
        assert brief(resent(trace)) == left


def test_syn_and_rst_are_not_copied():
    trace = known()
    trace.guest(guest(-1, "SA"), guest(0, "RA"))
    assert resent(trace) == []


def test_a_checkpoint_voids_the_copies():
    trace = known()
    trace.guest(guest(0, data=b"one"))
    trace.core.checkpoint_committed()
    assert trace.core.copies.pool.used == 0
    assert resent(trace) == []


def test_after_the_takeover_nothing_is_copied():
    trace = known()
    trace.core.takeover()
    trace.to_client()
    trace.guest(guest(0, data=b"one"))
    assert trace.core.copies.pool.used == 0


def test_offsets_stay_after_the_takeover_and_new_connections_have_none():
    trace = known()
    trace.core.takeover()
    found = read(trace.guest(guest(0, data=b"one"))[0])
    assert found.seq == (PRIMARY_ISN + 1) & 0xFFFFFFFF
    flow = Flow(client_port=6000)
    trace.client(Tcp(5, "S", flow=flow, from_client=True))
    syn_ack = Tcp(77, "SA", ack=6, flow=flow)
    assert trace.guest(syn_ack) == [frame(syn_ack)]
    ack = Tcp(6, ack=78, flow=flow, from_client=True)
    assert trace.client(ack) == [frame(ack)]
    assert trace.offsets(flow) == (2, 0, 0)


# ── TSval ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_timestamp_is_older_than_what_the_client_has_echoed():
    """PAWS (RFC 7323 section 5) would drop the segment."""
    trace = known()
    trace.guest(guest(0, data=b"one", clock=CLOCK + 5), guest(3, data=b"two", clock=CLOCK + 30))
    trace.client(client(acked(0), echo=10_020))
    first, second = resent(trace)
    assert first.options == second.options == timestamps(10_030, 1), "as new as the newest"


def test_segments_after_the_takeover_are_no_older_either():
    trace = known()
    trace.guest(guest(0, data=b"one", clock=CLOCK + 5))
    trace.client(client(acked(0), echo=10_020))
    resent(trace)
    later = read(trace.guest(guest(3, data=b"two", clock=CLOCK + 5))[0])
    assert later.options == timestamps(10_020, 1)
    echoed = read(trace.client(client(acked(6), echo=10_020))[0])
    assert echoed.options == timestamps(1, CLOCK + 5), "and the guest gets its own clock back"


def test_the_latest_echo_counts_whatever_the_order():
    trace = known()
    trace.guest(guest(0, data=b"one", clock=CLOCK + 5))
    trace.client(client(acked(0), echo=10_020), client(acked(0), echo=10_010))
    assert resent(trace)[0].options == timestamps(10_020, 1)


def test_an_echo_of_nothing_lifts_nothing():
    trace = known()
    trace.client(client(acked(0), echo=0x70000000))
    trace.guest(guest(0, data=b"one", clock=0x90000000 + 80_000))
    trace.client(client(acked(0), echo=0))
    assert resent(trace)[0].options == timestamps(0x90000000, 1)


@pytest.mark.rule("R1")
def test_a_lie_about_the_clock_lifts_nothing():
    """A TSecr far ahead in a segment that the guest would not take, or whose checksum is wrong."""
    trace = known()
    trace.guest(guest(0, data=b"one", clock=CLOCK + 5))
    honest = client(acked(0), echo=0x70000000)
    trace.client(replace(honest, seq=CLIENT_ISN + 70_000), replace(honest, ack=acked(9)), damaged(honest))
    assert resent(trace)[0].options == timestamps(10_005, 1)


# ── lies ────────────────────────────────────────────────────────────────────────────────────────────────────


def damaged(segment):
    """With a wrong checksum."""
    octets = bytearray(frame(segment))
    octets[14 + 20 + 16] ^= 1
    return bytes(octets)


@pytest.mark.rule("R1")
def test_only_a_believable_ack_frees_copies():
    """Beyond what was sent, out of the window, with a wrong checksum: the guest takes none of them."""
    trace = known()
    trace.guest(guest(0, data=b"one"), guest(3, data=b"two"))
    honest = client(acked(6))
    trace.client(client(acked(7)), replace(honest, seq=CLIENT_ISN + 70_000), damaged(honest))
    assert brief(resent(trace)) == [(0, "PA", b"one"), (3, "PA", b"two")]


@pytest.mark.rule("C10")
def test_copies_have_a_deadline():
    trace = known()
    trace.guest(guest(0, data=b"one"), guest(3, "A"))
    trace.now_ms = limits.UNACKED_MS // 2
    trace.guest(guest(3, data=b"two"))
    trace.now_ms = limits.UNACKED_MS + 1000
    trace.core.timer_fired(round(trace.now_ms * 1000))
    assert brief(resent(trace)) == [(3, "PA", b"two")]


# ── room ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C10")
def test_copies_never_take_all_of_the_memory():
    """One eighth is left for client frames that wait for a handshake."""
    trace = known(unacked_bytes_max=1 << 20)
    for place in range(2000):
        trace.guest(guest(1000 * place, data=bytes(1000)))
    assert trace.core.copies.skipped > 0
    used = trace.core.copies.pool.used_bytes
    assert used <= (1 << 20) * 7 // 8 + (1 << 11)
    other = Flow(client_port=6000)
    trace.client(Tcp(5, "S", flow=other, from_client=True))
    trace.client(Tcp(6, ack=9, data=b"early", flow=other, from_client=True))
    assert trace.core.stats.handshake_held == 1


def test_copies_keep_their_vnet_header():
    header = vnet_header(NEEDS_CSUM)
    trace = known(vnet_len=12, header=header)
    trace.guest(frame(guest(0, data=b"one", clock=CLOCK + 5), header))
    trace.client(frame(client(acked(0), echo=10_020), header))
    trace.core.takeover()
    out = bytearray(500)
    end = trace.core.drain_client(out, 0)
    assert bytes(out[4:8]) == bytes([0, 0, 0, 12])
    assert bytes(out[8:20]) == header
    assert read(bytes(out[20:end]), is_partial=True).options == timestamps(10_020, 1)
