"""The comparator as a shell drives it: policies, epochs, time, back-pressure, and batches."""

import pytest

from pycolo import limits
from pycolo.compare.kinds import DivergencePolicy
from pycolo.errors import FramingError
from support.segments import Flow, Tcp, arp, batch, frame, mss, timestamps, udp, unbatch
from support.traces import Comparing

BASE = 1000
TIMEOUT_MS, SCAN_MS = limits.COMPARE_TIMEOUT_MS, limits.EXPIRED_SCAN_CYCLE_MS
CHECKPOINT, REPORT, HOLD, RESET = DivergencePolicy


def both(trace, *items):
    trace.primary(*items)
    trace.secondary(*items)


def on_port(port, seq=BASE, data=b"data", flags="A", **fields):
    return Tcp(seq, flags, data, flow=Flow(client_port=port), **fields)


def diverged(**options):
    """A connection that differs at BASE + 2, `ab` before and `cd` behind."""
    trace = Comparing(**options)
    trace.primary(Tcp(BASE, "A", b"abcd", ack=100))
    trace.secondary(Tcp(BASE, "A", b"abXd", ack=100))
    return trace


# ── policies ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C5")
def test_with_checkpoint_everything_of_it_waits_for_the_commit():
    trace = diverged(policy=CHECKPOINT)
    following = [Tcp(BASE + 4, "A", b"more", ack=100), Tcp(BASE + 8, ack=900, window=9), Tcp(BASE + 8, "R")]
    both(trace, *following)
    trace.wait(10 * TIMEOUT_MS)
    assert trace.frames() == []
    assert trace.commands() == [("RequestCheckpoint", "PAYLOAD", BASE + 2)]
    trace.commit()
    assert trace.out() == [Tcp(BASE, "A", b"abcd", ack=100), *following]
    trace.assert_empty()


@pytest.mark.rule("C5")
@pytest.mark.parametrize("before", [1, 3, 200])
def test_a_difference_of_the_epoch_before_is_no_reason(before):
    """It was found while the last output was read for the commit, and the shell has not asked since."""
    trace = Comparing(connections_max=256)
    for port in range(before):
        trace.primary(on_port(1000 + port, seq=BASE))
        trace.secondary(on_port(1000 + port, data=b"dada"))
    trace.commit()
    trace.primary(on_port(1, seq=7 * BASE))
    trace.secondary(on_port(1, seq=7 * BASE, data=b"dada"))
    told = trace.commands()
    assert [command for command, _, _ in told].count("RequestCheckpoint") == 1
    assert told[-1][0] == "RequestCheckpoint"
    assert before > 64 or told[-1][2] == 7 * BASE + 2, "there was no room for it, and it is asked for all the same"


@pytest.mark.rule("C5")
def test_one_request_per_epoch_and_the_other_differences_are_told():
    trace = diverged()
    trace.primary(on_port(2))
    trace.secondary(on_port(2, data=b"dada"))
    assert [command for command, _, _ in trace.commands()] == ["RequestCheckpoint", "ReportDifference"]
    trace.primary(on_port(3))
    trace.secondary(on_port(3, data=b"dada"))
    assert [command for command, _, _ in trace.commands()] == ["ReportDifference"]
    trace.commit()
    trace.primary(on_port(4))
    trace.secondary(on_port(4, data=b"dada"))
    assert [command for command, _, _ in trace.commands()] == ["RequestCheckpoint"]


@pytest.mark.rule("C5")
def test_with_report_the_connection_goes_on_uncompared():
    trace = diverged(policy=REPORT)
    assert trace.commands() == [("ReportDifference", "PAYLOAD", BASE + 2)]
    following = [Tcp(BASE + 4, "A", b"more", ack=100), Tcp(BASE + 8, ack=9000), Tcp(BASE + 8, "FA", ack=9000)]
    trace.primary(*following)
    trace.secondary(Tcp(BASE + 4, "A", b"else", ack=100), Tcp(BASE + 8, "R"))
    assert trace.out() == [Tcp(BASE, "A", b"abcd", ack=100), *following]
    trace.wait(10 * TIMEOUT_MS)
    assert trace.commands() == []
    trace.assert_empty()


@pytest.mark.rule("C5")
def test_with_hold_it_waits_and_no_checkpoint_helps():
    trace = diverged(policy=HOLD, queue_packets_max=4)
    assert trace.commands() == [("ReportDifference", "PAYLOAD", BASE + 2)]
    for _ in range(20):
        trace.primary(Tcp(BASE + 4, "A", b"more", ack=100))
        trace.secondary(Tcp(BASE + 4, "A", b"more", ack=100))
    trace.wait(10 * TIMEOUT_MS)
    assert trace.frames() == []
    assert trace.commands() == []
    assert trace.core.stats.refused_marked == 17
    both(trace, on_port(7))
    assert trace.out() == [on_port(7)], "the others go on"


@pytest.mark.rule("C5")
def test_with_reset_the_client_gets_a_rst_that_it_accepts():
    trace = Comparing(policy=RESET)
    options = timestamps(5, 6)
    both(trace, Tcp(BASE, "A", b"same", ack=100, options=options))
    trace.primary(Tcp(BASE + 4, "A", b"abcd", ack=100, options=options), Tcp(BASE + 8, "A", b"more", ack=100))
    trace.secondary(Tcp(BASE + 4, "A", b"abXd", ack=100))
    same, rst = trace.out()
    assert same.data == b"same"
    # RFC 5961 section 3.2: only the number that the client expects next is believed.
    assert (rst.seq, rst.flags, rst.ack, rst.data) == (BASE + 4, "RA", 100, b"")
    assert trace.commands() == [("ReportDifference", "PAYLOAD", BASE + 6)]
    trace.assert_empty()


def test_with_reset_a_refused_handshake_ends_at_the_clients_side():
    trace = Comparing(policy=RESET)
    trace.primary(Tcp(BASE, "SA", ack=100, options=mss(1460)))
    trace.secondary(Tcp(5, "SA", ack=100))
    (rst,) = trace.out()
    assert (rst.flags, rst.ack) == ("RA", 100), "RFC 9293 section 3.10.7.3: in SYN-SENT the ack decides"


def test_what_was_equal_leaves_whatever_the_policy():
    for policy in DivergencePolicy:
        trace = Comparing(policy=policy)
        trace.primary(Tcp(BASE, "A", b"same", ack=100), Tcp(BASE + 4, "A", b"this", ack=100))
        trace.secondary(Tcp(BASE, "A", b"sameThat", ack=100))
        assert trace.out()[0].data == b"same"


# ── time ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C5")
@pytest.mark.parametrize(
    "item",
    [Tcp(BASE, "A", b"data"), Tcp(BASE, "SA", ack=9), Tcp(BASE, "R"), Tcp(BASE, ack=9), udp(b"data")],
    ids=["data", "syn", "rst", "ack", "udp"],
)
def test_a_primary_packet_without_partner_is_told(item):
    trace = Comparing()
    trace.primary(item)
    trace.wait(TIMEOUT_MS - 1)
    assert trace.commands() == []
    trace.wait(SCAN_MS + 1)
    ((command, kind, _),) = trace.commands()
    assert (command, kind) == ("RequestCheckpoint", "TIMEOUT")
    trace.wait(10 * TIMEOUT_MS)
    assert trace.commands() == []
    assert trace.frames() == []
    trace.commit()
    assert trace.frames() == [item if isinstance(item, bytes) else frame(item)]
    trace.assert_empty()


@pytest.mark.rule("C8")
def test_a_secondary_packet_without_partner_is_told():
    trace = Comparing()
    trace.secondary(Tcp(BASE, "A", b"alone"))
    trace.wait(TIMEOUT_MS + SCAN_MS)
    (difference,) = trace.differences()
    assert (difference.kind.name, difference.seq) == ("SECONDARY_TIMEOUT", BASE)
    assert (difference.primary, difference.secondary) == (b"", b"alone")
    assert difference.waited_ms >= TIMEOUT_MS


@pytest.mark.parametrize("policy", DivergencePolicy)
def test_the_context_of_a_time_out_is_of_the_side_that_waited(policy):
    trace = Comparing(policy=policy)
    trace.secondary(on_port(1, data=b"theirs"))
    trace.primary(on_port(2, data=b"mine"))
    trace.wait(TIMEOUT_MS + SCAN_MS)
    found = {difference.kind.name: difference for difference in trace.differences()}
    if "TIMEOUT" in found:
        assert (found["TIMEOUT"].primary, found["TIMEOUT"].secondary) == (b"mine", b"")
    if "SECONDARY_TIMEOUT" in found:
        assert (found["SECONDARY_TIMEOUT"].primary, found["SECONDARY_TIMEOUT"].secondary) == (b"", b"theirs")
    assert len(found) == (1 if policy == CHECKPOINT else 2)


def test_streams_that_turn_out_equal_before_the_commit_leave():
    trace = Comparing()
    trace.primary(Tcp(BASE, "A", b"data", ack=100))
    trace.wait(TIMEOUT_MS + SCAN_MS)
    assert len(trace.commands()) == 1
    trace.secondary(Tcp(BASE, "A", b"data", ack=100))
    assert len(trace.out()) == 1


def test_with_report_a_time_out_lets_the_connection_through():
    trace = Comparing(policy=REPORT)
    trace.primary(Tcp(BASE, "A", b"1"), Tcp(BASE + 1, "A", b"2"))
    trace.wait(TIMEOUT_MS + SCAN_MS)
    assert [segment.data for segment in trace.out()] == [b"1", b"2"]
    trace.primary(Tcp(BASE + 2, "A", b"3"))
    assert [segment.data for segment in trace.out()] == [b"3"]


def test_without_packets_there_is_no_deadline():
    trace = Comparing()
    assert trace.core.deadline_us() is None
    trace.primary(arp())
    assert trace.core.deadline_us() is None
    both(trace, udp(b"x"))
    assert trace.core.deadline_us() is not None
    trace.frames()
    trace.wait(2 * limits.DATAGRAM_IDLE_MS)
    assert trace.core.table.used == 0
    assert trace.core.deadline_us() is None


@pytest.mark.rule("C10")
def test_ended_and_silent_connections_are_forgotten():
    trace = Comparing()
    both(trace, Tcp(BASE, "SA", ack=5), Tcp(BASE + 1, "R", ack=5))
    both(trace, on_port(2))
    trace.wait(limits.CLOSED_GRACE_MS + SCAN_MS)
    assert trace.core.table.used == 1
    trace.wait(limits.CONNECTION_IDLE_MS + SCAN_MS)
    assert trace.core.table.used == 0
    trace.frames()
    trace.assert_empty()


def test_what_waits_for_a_checkpoint_is_not_forgotten():
    trace = Comparing(policy=CHECKPOINT)
    trace.primary(Tcp(BASE, "FA", b"x"))
    trace.secondary(Tcp(BASE, "A", b"y"))
    trace.wait(3 * limits.CONNECTION_IDLE_MS)
    assert trace.core.table.used == 1
    trace.commit()
    assert len(trace.out()) == 1


# ── epochs ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_after_a_commit_both_go_on_from_where_the_primary_was():
    trace = diverged()
    trace.commit()
    trace.frames()
    both(trace, Tcp(BASE + 4, "A", b"next", ack=150))
    assert [segment.data for segment in trace.out()] == [b"next"]
    assert trace.commands()[1:] == []
    trace.assert_empty()


@pytest.mark.rule("C3")
def test_a_commit_takes_the_secondarys_ack_back_to_the_primarys():
    """The old secondary had acknowledged more than the new one, which is the primary as it was."""
    trace = Comparing()
    both(trace, Tcp(BASE, ack=100))
    trace.secondary(Tcp(BASE, ack=900))
    trace.commit()
    trace.frames()
    trace.primary(Tcp(BASE, ack=500))
    assert trace.out() == []
    trace.secondary(Tcp(BASE, ack=500))
    assert [segment.ack for segment in trace.out()] == [500]


def test_a_commit_forgets_an_ack_that_the_primary_has_not_matched():
    trace = Comparing()
    trace.secondary(Tcp(BASE, ack=900))
    trace.commit()
    trace.primary(Tcp(BASE, ack=500))
    assert trace.out() == []


@pytest.mark.rule("C3")
def test_a_commit_pays_what_is_owed():
    trace = Comparing()
    trace.primary(Tcp(BASE, "A", b"data", ack=300, window=700))
    trace.secondary(Tcp(BASE, "A", b"data", ack=200))
    assert [segment.ack for segment in trace.out()] == [200]
    trace.commit()
    assert [(segment.ack, segment.window) for segment in trace.out()] == [(300, 700)]
    trace.assert_empty()


@pytest.mark.rule("C3")
def test_a_pair_that_is_lost_pays_what_is_owed():
    trace = Comparing()
    trace.primary(Tcp(BASE, "A", b"data", ack=300))
    trace.secondary(Tcp(BASE, "A", b"data", ack=200))
    trace.frames()
    trace.core.pair_lost(trace.now_us)
    assert [segment.ack for segment in trace.out()] == [300]
    trace.assert_empty()


def test_a_commit_in_the_middle_of_a_handshake():
    trace = Comparing()
    trace.primary(Tcp(BASE, "SA", ack=100))
    trace.commit()
    assert [segment.flags for segment in trace.out()] == ["SA"]
    # The new secondary is the primary: it repeats the same SYN|ACK, and goes on from there.
    both(trace, Tcp(BASE, "SA", ack=100), Tcp(BASE + 1, "A", b"data", ack=100))
    assert [segment.flags for segment in trace.out()] == ["SA", "A"]
    assert trace.commands() == []


@pytest.mark.rule("E2")
def test_what_comes_before_the_marker_is_of_the_old_secondary():
    trace = Comparing()
    both(trace, Tcp(BASE, "A", b"data", ack=100))
    trace.frames()
    trace.commit(awaits_marker=True)
    assert trace.core.epoch == 1
    trace.primary(Tcp(BASE + 4, "A", b"more", ack=100))
    trace.secondary(Tcp(BASE + 4, "A", b"lies", ack=999))
    assert trace.frames() == []
    trace.core.epoch_marker(0)
    trace.secondary(Tcp(BASE + 4, "A", b"lies", ack=999))
    trace.core.epoch_marker(1)
    trace.secondary(Tcp(BASE + 4, "A", b"more", ack=100))
    assert [segment.data for segment in trace.out()] == [b"more"]
    assert trace.commands() == []


def test_a_lost_pair_releases_everything_and_passes_on():
    trace = diverged()
    trace.primary(on_port(2), udp(b"alone"))
    trace.core.pair_lost(trace.now_us)
    held = [frame(Tcp(BASE, "A", b"abcd", ack=100)), frame(on_port(2)), udp(b"alone")]
    assert sorted(trace.frames()) == sorted(held)
    trace.primary(on_port(2, BASE + 4), udp(b"more"))
    trace.secondary(on_port(2, BASE + 4, b"else"))
    assert trace.frames() == [frame(on_port(2, BASE + 4)), udp(b"more")]
    trace.wait(10 * TIMEOUT_MS)
    assert [command for command, _, _ in trace.commands()] == ["ReportDifference"], "nothing to ask for"
    trace.assert_empty()


def test_a_new_pair_that_copies_no_state_leaves_older_connections_alone():
    trace = Comparing(needs_handshake=True)
    trace.core.pair_lost(trace.now_us)
    trace.primary(Tcp(BASE, "A", b"older", ack=100))
    trace.core.pair_formed(trace.now_us)
    trace.primary(Tcp(BASE + 5, "A", b"still", ack=100))
    assert len(trace.out()) == 2
    trace.primary(on_port(2, flags="SA", data=b""), udp(b"x"))
    assert trace.frames() == []
    trace.secondary(on_port(2, 77, flags="SA", data=b""), udp(b"x"))
    assert len(trace.frames()) == 2


def test_a_new_connection_with_the_ports_of_an_older_one_is_compared():
    trace = Comparing(needs_handshake=True)
    trace.primary(Tcp(BASE, "A", b"older", ack=100))
    trace.core.pair_formed(trace.now_us)
    trace.frames()
    for order in ([trace.primary, trace.secondary], [trace.secondary, trace.primary]):
        isn = {trace.primary: 7 + trace.now_us, trace.secondary: 9 + trace.now_us}
        for give in order:
            assert trace.out() == []
            give(Tcp(isn[give], "SA", ack=500))
        assert [segment.flags for segment in trace.out()] == ["SA"]
        trace.now_ms += 1


def test_the_guests_new_syn_on_an_older_connection():
    """A SYN has no ack: it must not count as one."""
    trace = Comparing(needs_handshake=True)
    trace.primary(Tcp(BASE, "A", b"older", ack=100))
    trace.frames()
    trace.secondary(Tcp(9, "S"))
    trace.primary(Tcp(7, "S"), Tcp(8, ack=0x90000000))
    assert [segment.flags for segment in trace.out()] == ["S"]
    trace.secondary(Tcp(8, ack=0x90000000))
    assert [segment.flags for segment in trace.out()] == ["A"]


def test_without_needs_handshake_connections_are_compared_from_where_they_are():
    trace = Comparing()
    trace.primary(Tcp(BASE, "A", b"older", ack=100))
    assert trace.frames() == []
    trace.core.pair_formed(trace.now_us)
    assert len(trace.frames()) == 1
    trace.primary(Tcp(BASE + 5, "A", b"more", ack=100))
    assert trace.frames() == []
    trace.secondary(Tcp(BASE + 5, "A", b"more", ack=100))
    assert len(trace.frames()) == 1


@pytest.mark.rule("E2")
def test_a_new_pair_awaits_no_marker_of_the_old_one():
    trace = Comparing()
    trace.commit(awaits_marker=True)
    trace.core.pair_lost(trace.now_us)
    trace.core.pair_formed(trace.now_us)
    both(trace, udp(b"x"))
    assert trace.frames() == [udp(b"x")]


# ── C6: back-pressure ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C6")
def test_a_full_queue_of_the_primary():
    trace = Comparing(queue_packets_max=3)
    segments = [Tcp(BASE + place, "A", bytes([place]), ack=100) for place in range(5)]
    assert trace.offer_primary(*segments) == 3
    assert trace.offer_primary(*segments[3:]) == 0
    assert [(command, kind) for command, kind, _ in trace.commands()] == [("RequestCheckpoint", "QUEUE_FULL")]
    trace.secondary(segments[0], segments[1])
    assert trace.offer_primary(*segments[3:]) == 2
    trace.secondary(*segments[2:])
    assert trace.out() == segments
    trace.assert_empty()


@pytest.mark.rule("C6")
def test_a_full_queue_of_the_secondary():
    trace = Comparing(queue_packets_max=3)
    segments = [Tcp(BASE + place, "A", bytes([place]), ack=100) for place in range(5)]
    assert trace.offer_secondary(*segments) == 3
    assert [kind for _, kind, _ in trace.commands()] == ["QUEUE_FULL"]
    trace.primary(segments[0])
    assert trace.offer_secondary(*segments[3:]) == 1
    trace.primary(*segments[1:])
    trace.secondary(segments[4])
    assert trace.out() == segments
    trace.assert_empty()


@pytest.mark.rule("C6")
def test_a_commit_ends_back_pressure_and_nothing_is_lost():
    trace = Comparing(queue_packets_max=3)
    segments = [Tcp(BASE + place, "A", bytes([place]), ack=100) for place in range(5)]
    assert trace.offer_primary(*segments) == 3
    trace.commit()
    trace.primary(*segments[3:])
    trace.commit()
    assert trace.out() == segments
    trace.assert_empty()


@pytest.mark.rule("C6")
def test_a_full_memory():
    trace = Comparing(held_bytes_max=1 << 17, held_packets_max=4096)
    segments = [Tcp(BASE + 1000 * place, "A", bytes(1000), ack=100) for place in range(200)]
    taken = trace.offer_primary(*segments)
    assert 32 <= taken < 200
    assert [kind for _, kind, _ in trace.commands()] == ["MEMORY_FULL"]
    out = []
    trace.commit()
    while taken < len(segments):
        out += trace.out()
        taken += trace.offer_primary(*segments[taken:])
        trace.commit()
    assert out + trace.out() == segments
    trace.assert_empty()


@pytest.mark.rule("C6")
def test_no_record_left():
    trace = Comparing(held_packets_max=10)
    segments = [udp(bytes([place])) for place in range(20)]
    assert trace.offer_primary(*segments) == 10
    assert trace.offer_secondary(segments[15]) == 0
    trace.secondary(segments[0])  # is compared where it is, and needs none
    trace.commit()
    assert trace.frames() == segments[:10]
    assert trace.offer_primary(*segments[10:]) == 10


@pytest.mark.rule("C6")
def test_a_full_table():
    trace = Comparing(connections_max=3)
    segments = [on_port(port) for port in range(1, 6)]
    assert trace.offer_primary(*segments) == 3
    assert trace.offer_secondary(segments[4]) == 0
    assert [kind for _, kind, _ in trace.commands()] == ["TABLE_FULL"]
    assert trace.core.table.used == 3
    trace.secondary(segments[1])
    assert trace.offer_primary(*segments[3:]) == 1, "the row that holds nothing is given up"
    trace.commit()
    trace.primary(segments[4])
    trace.commit()
    assert sorted(trace.frames()) == sorted(map(frame, segments))
    trace.assert_empty()


def test_the_table_grows():
    trace = Comparing(connections_max=1 << 14, held_packets_max=1 << 15, held_bytes_max=1 << 23)
    buckets = trace.core.table.buckets
    segments = [on_port(port + 1) for port in range(buckets + 10)]
    trace.primary(*segments)
    trace.secondary(*segments)
    assert trace.core.table.buckets == buckets + 10
    out = []
    while len(out) < len(segments):
        out += trace.out()
    assert out == segments
    trace.assert_empty()


# ── batches ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_incomplete_frame_is_left_for_the_next_batch():
    trace = Comparing()
    octets = batch([udp(b"one"), udp(b"two")])
    end = len(octets) - 1
    assert trace.core.primary_frames(octets, 0, end, 0) == len(octets) // 2
    assert trace.core.primary_frames(octets, len(octets) // 2, len(octets), 0) == len(octets)
    assert trace.core.stats.primary_bytes == len(octets)
    trace.commit()
    assert trace.frames() == [udp(b"one"), udp(b"two")]


def test_a_stream_that_cannot_be_read_on_is_named():
    trace = Comparing(primary_name="primary_in", secondary_name="the link")
    good = batch([udp(b"x")])
    for take, name in [(trace.core.primary_frames, "primary_in"), (trace.core.secondary_frames, "the link")]:
        octets = good + b"\xff\xff\xff\xff"
        with pytest.raises(FramingError, match=name):
            take(octets, 0, len(octets), 0)
    assert trace.frames() == [udp(b"x")], "what came before it counts"


def test_frames_keep_their_vnet_headers():
    trace = Comparing(vnet_len=12)
    header = bytes(range(12))
    trace.primary(header + udp(b"x"))
    trace.secondary(bytes(12) + udp(b"x"))
    out = bytearray(200)
    end = trace.core.drain(out, 0)
    assert bytes(out[8:20]) == header
    assert unbatch(bytes(out[:end]), has_vnet=True) == [udp(b"x")]


def test_counters():
    trace = Comparing()
    segment = Tcp(BASE, "A", b"data", ack=100)
    both(trace, segment, udp(b"x"), arp())
    trace.frames()
    stats = trace.core.stats
    assert (stats.primary_frames, stats.secondary_frames) == (3, 3)
    assert (stats.compared, stats.compared_bytes) == (2, 5)
    assert (stats.released, stats.discarded, stats.passed) == (3, 3, 1)
