"""Rule C4: datagrams are a multiset of payloads per connection; the IP header and identification do not count."""

import itertools

import pytest

from pycolo import limits
from pycolo.compare.kinds import DivergencePolicy
from support.segments import GSO_UDP_L4, Flow, Tcp, arp, icmp_echo, ip_packet, udp, vnet_header
from support.traces import Comparing

V4 = Flow()
REORDER_MS = limits.DATAGRAM_REORDER_MS


@pytest.mark.rule("C4")
@pytest.mark.parametrize("is_primary_first", [True, False])
@pytest.mark.parametrize(
    "octets",
    [udp(b"query"), udp(b""), udp(b"x" * 1400), udp(b"v6", Flow(version=6)), icmp_echo(b"ping"), ip_packet(47, b"gre")],
    ids=["udp", "empty", "large", "udp6", "icmp", "gre"],
)
def test_equal_datagrams(octets, is_primary_first):
    trace = Comparing()
    order = [trace.primary, trace.secondary]
    for give in order if is_primary_first else reversed(order):
        assert trace.frames() == []
        give(octets)
    assert trace.frames() == [octets]
    assert trace.commands() == []
    trace.assert_empty()


def with_identification(octets, identification, ttl):
    """The same packet with another IP header (its checksum is not looked at)."""
    changed = bytearray(octets)
    changed[18:20] = identification.to_bytes(2, "big")
    changed[22] = ttl
    return bytes(changed)


@pytest.mark.rule("C4")
def test_the_ip_header_is_not_compared():
    trace = Comparing()
    mine, theirs = with_identification(udp(b"data"), 1, 64), with_identification(udp(b"data"), 77, 63)
    trace.primary(mine)
    trace.secondary(theirs)
    assert trace.frames() == [mine]


@pytest.mark.rule("C4")
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.parametrize("is_primary_first", [True, False])
def test_any_order_of_the_secondary(order, is_primary_first):
    trace = Comparing()
    datagrams = [udp(data) for data in (b"one", b"two", b"three")]
    theirs = [datagrams[place] for place in order]
    if is_primary_first:
        trace.primary(*datagrams)
    trace.secondary(*theirs)
    if not is_primary_first:
        trace.primary(*datagrams)
    assert trace.frames() == datagrams, "in the order of the primary"
    assert trace.commands() == []
    trace.assert_empty()


@pytest.mark.rule("C4")
def test_each_copy_needs_its_own_partner():
    trace = Comparing()
    twice = udp(b"same")
    trace.primary(twice, twice)
    trace.secondary(twice)
    assert trace.frames() == [twice]
    trace.secondary(twice)
    assert trace.frames() == [twice]
    trace.assert_empty()


@pytest.mark.rule("C4")
def test_ports_tell_connections_apart():
    trace = Comparing()
    trace.primary(udp(b"data", Flow(client_port=1)))
    trace.secondary(udp(b"data", Flow(client_port=2)))
    assert trace.frames() == []


@pytest.mark.rule("C4")
def test_payloads_that_differ_behind_what_the_digest_sees():
    """The digest takes the head and the tail: the middle is compared byte by byte."""
    trace = Comparing()
    trace.primary(udp(b"a" * 200 + b"P" + b"z" * 200))
    trace.secondary(udp(b"a" * 200 + b"S" + b"z" * 200))
    assert trace.frames() == []


@pytest.mark.rule("C5")
def test_different_datagrams_are_told_after_the_time_to_overtake():
    trace = Comparing()
    trace.primary(udp(b"an answer"))
    trace.wait(1000)
    trace.secondary(udp(b"an insult"))
    trace.wait(REORDER_MS - 1)
    assert trace.commands() == []
    trace.wait(2)
    (difference,) = trace.differences()
    assert difference.kind.name == "DATAGRAM"
    assert (difference.primary, difference.primary_index) == (b"an answer", 3)
    assert (difference.secondary, difference.secondary_index) == (b"an insult", 3)
    assert difference.connection.ip_proto == 17
    assert trace.frames() == []
    trace.commit()
    assert trace.frames() == [udp(b"an answer")]
    trace.assert_empty()


@pytest.mark.rule("C5")
def test_the_partner_that_comes_in_time_settles_it():
    trace = Comparing()
    trace.primary(udp(b"answer"))
    trace.secondary(udp(b"other"))
    trace.wait(REORDER_MS - 1)
    trace.secondary(udp(b"answer"))
    trace.primary(udp(b"other"))
    trace.wait(10 * REORDER_MS)
    assert trace.commands() == []
    assert trace.frames() == [udp(b"answer"), udp(b"other")]


def test_with_report_every_datagram_stands_alone():
    trace = Comparing(policy=DivergencePolicy.REPORT)
    trace.primary(udp(b"mine"), udp(b"same"))
    trace.secondary(udp(b"theirs"), udp(b"same"))
    trace.wait(2 * REORDER_MS)
    assert [kind for _, kind, _ in trace.commands()] == ["DATAGRAM"]
    assert trace.frames() == [udp(b"mine"), udp(b"same")]
    both = udp(b"again")
    trace.primary(both)
    trace.secondary(both)
    assert trace.frames() == [both]
    trace.assert_empty()


def test_with_report_a_silent_secondary_delays_each_datagram_once():
    trace = Comparing(policy=DivergencePolicy.REPORT)
    datagrams = [udp(bytes([place])) for place in range(20)]
    trace.primary(*datagrams)
    trace.wait(limits.COMPARE_TIMEOUT_MS + limits.EXPIRED_SCAN_CYCLE_MS)
    assert trace.frames() == datagrams
    assert {kind for _, kind, _ in trace.commands()} == {"TIMEOUT"}
    trace.assert_empty()


def test_with_report_a_silent_primary_costs_nothing():
    trace = Comparing(policy=DivergencePolicy.REPORT)
    trace.secondary(udp(b"alone"))
    trace.wait(limits.COMPARE_TIMEOUT_MS + limits.EXPIRED_SCAN_CYCLE_MS)
    (difference,) = trace.differences()
    assert (difference.kind.name, difference.primary, difference.secondary) == ("SECONDARY_TIMEOUT", b"", b"alone")
    trace.assert_empty()


@pytest.mark.parametrize("policy", [DivergencePolicy.HOLD, DivergencePolicy.CHECKPOINT])
def test_with_hold_nothing_of_it_leaves_any_more(policy):
    trace = Comparing(policy=policy)
    trace.primary(udp(b"mine"))
    trace.secondary(udp(b"theirs"))
    trace.wait(2 * REORDER_MS)
    both = udp(b"again")
    trace.primary(both)
    trace.secondary(both)
    trace.wait(10_000)
    assert trace.frames() == []
    assert [kind for _, kind, _ in trace.commands()] == ["DATAGRAM"]


@pytest.mark.rule("C4")
@pytest.mark.parametrize(
    "octets", [arp(), b"\xff" * 12 + b"\x88\xcc" + bytes(40), ip_packet(2, bytes(8))], ids=["arp", "lldp", "igmp"]
)
def test_what_is_never_compared_passes_and_the_secondarys_is_discarded(octets):
    trace = Comparing()
    trace.secondary(octets)
    trace.primary(octets)
    trace.secondary(octets)
    assert trace.frames() == [octets]
    assert trace.core.stats.passed == 1
    assert trace.core.stats.discarded == 2
    trace.assert_empty()


def test_a_refused_frame_passes_uncompared():
    trace = Comparing()
    broken = udp(b"data")[:30]
    trace.primary(broken)
    assert trace.frames() == [broken]
    assert trace.core.stats.refused == 1


def test_tcp_and_udp_with_the_same_ports_are_two_connections():
    trace = Comparing()
    segment = Tcp(1, "A", b"data")
    trace.primary(segment, udp(b"data"))
    trace.secondary(udp(b"data"))
    assert trace.frames() == [udp(b"data")]


# ── C8: one side alone ──────────────────────────────────────────────────────────────────────────────────────

ALONE = pytest.mark.parametrize(
    "octets", [udp(b"alone"), udp(b"v6", Flow(version=6)), icmp_echo(b"ping"), ip_packet(47, b"gre")]
)


@pytest.mark.rule("C8")
@ALONE
@pytest.mark.parametrize("policy", DivergencePolicy)
@pytest.mark.parametrize("side", ["primary", "secondary"])
@pytest.mark.parametrize("is_busy", [False, True])
def test_what_one_side_alone_says_is_a_difference_however_busy_the_other_is(octets, policy, side, is_busy):
    """The other side's datagrams find their partners each time, a little later."""
    trace = Comparing(policy=policy)
    give, answer = (trace.primary, trace.secondary) if side == "primary" else (trace.secondary, trace.primary)
    give(octets)
    for place in range(200):
        if is_busy:
            other = octets[:-1] + bytes([place])
            answer(other)
            trace.wait(10)
            give(other)
        trace.wait(20)
    found = [kind for _, kind, _ in trace.commands()]
    assert found == ["TIMEOUT" if side == "primary" else "SECONDARY_TIMEOUT"]


@pytest.mark.rule("C8")
def test_a_time_out_of_one_side_leaves_the_others_young_datagram_alone():
    trace = Comparing(policy=DivergencePolicy.REPORT)
    trace.primary(udp(b"alone"))
    trace.wait(limits.COMPARE_TIMEOUT_MS + limits.EXPIRED_SCAN_CYCLE_MS - 10)
    trace.secondary(udp(b"young"))
    trace.wait(20)
    assert [kind for _, kind, _ in trace.commands()] == ["TIMEOUT"]
    trace.primary(udp(b"young"))
    assert trace.frames() == [udp(b"alone"), udp(b"young")]
    trace.wait(2 * limits.COMPARE_TIMEOUT_MS)
    assert trace.commands() == []
    trace.assert_empty()


# ── USO: frames that the host cuts ──────────────────────────────────────────────────────────────────────────

FOUR = [b"0123", b"4567", b"89ab", b"cd"]
WHOLE = vnet_header()


def uso(data, size, flow=V4):
    return vnet_header(1, GSO_UDP_L4, size) + udp(data, flow)


@pytest.mark.rule("C4")
@pytest.mark.parametrize("flow", [V4, Flow(version=6), Flow(tags=(3, 4))], ids=str)
@pytest.mark.parametrize("cutter", ["primary", "secondary", "both"])
@pytest.mark.parametrize("is_primary_first", [True, False])
def test_a_frame_that_the_host_cuts_is_the_datagrams_that_it_stands_for(flow, cutter, is_primary_first):
    trace = Comparing(12)
    one, many = [uso(b"".join(FOUR), 4, flow)], [WHOLE + udp(data, flow) for data in FOUR]
    mine = many if cutter == "secondary" else one
    theirs = many[::-1] if cutter == "primary" else one
    order = [(trace.primary, mine), (trace.secondary, theirs)]
    for give, frames in order if is_primary_first else reversed(order):
        assert trace.frames_and_headers() == []
        give(*frames)
    assert trace.frames_and_headers() == mine
    assert trace.commands() == []
    trace.assert_empty()


@pytest.mark.rule("C4")
def test_a_frame_that_the_host_cuts_waits_for_the_last_of_its_datagrams():
    trace = Comparing(12)
    trace.primary(uso(b"".join(FOUR), 4), WHOLE + udp(b"next"))
    trace.secondary(*(WHOLE + udp(data) for data in [*FOUR[:3], b"next"]))
    assert trace.frames() == []
    trace.secondary(WHOLE + udp(FOUR[3]))
    assert trace.frames() == [udp(b"".join(FOUR)), udp(b"next")]
    trace.assert_empty()


@pytest.mark.rule("C4")
@pytest.mark.parametrize("policy", DivergencePolicy)
def test_one_datagram_of_a_frame_that_the_host_cuts_differs(policy):
    trace = Comparing(12, policy=policy)
    trace.primary(uso(b"".join(FOUR), 4))
    trace.secondary(*(WHOLE + udp(data) for data in [*FOUR[:2], b"XXXX", FOUR[3]]))
    trace.wait(2 * REORDER_MS)
    (difference,) = trace.differences()
    assert (difference.kind.name, difference.primary, difference.secondary) == ("DATAGRAM", b"89ab", b"XXXX")
    trace.commit()
    assert trace.frames() == [udp(b"".join(FOUR))]
    trace.assert_empty()


@pytest.mark.parametrize("size", [0, 1, 14, 100])
def test_a_frame_that_no_host_cuts_is_one_datagram(size):
    """A size of 0, of all that there is, or one that makes too many."""
    data = bytes(14) if size else bytes(limits.USO_DATAGRAMS_MAX + 1)
    data = bytes(limits.USO_DATAGRAMS_MAX + 1) if size == 1 else data
    trace = Comparing(12)
    trace.primary(uso(data, size))
    trace.secondary(WHOLE + udp(data))
    assert trace.frames() == [udp(data)]
    trace.assert_empty()


@pytest.mark.parametrize("side", ["primary", "secondary"])
def test_a_frame_that_the_host_cuts_needs_room_for_all_of_it(side):
    trace = Comparing(12, held_packets_max=6)
    give = trace.primary if side == "primary" else trace.secondary
    offer = trace.offer_primary if side == "primary" else trace.offer_secondary
    give(WHOLE + udp(b"a"), WHOLE + udp(b"b"))
    assert offer(uso(b"".join(FOUR), 4)) == 0
    assert trace.core.held_packets() == 2
    assert [kind for _, kind, _ in trace.commands()] == ["MEMORY_FULL"]
    trace.commit()
    trace.frames()
    give(uso(b"".join(FOUR), 4))


def test_a_frame_that_the_host_cuts_counts_in_its_queue_as_what_it_stands_for():
    trace = Comparing(12, queue_packets_max=4)
    trace.primary(WHOLE + udp(b"first"))
    assert trace.offer_primary(uso(b"".join(FOUR), 4)) == 0
    trace.secondary(WHOLE + udp(b"first"))
    trace.primary(uso(b"".join(FOUR), 4))
    assert trace.offer_primary(WHOLE + udp(b"x")) == 0
