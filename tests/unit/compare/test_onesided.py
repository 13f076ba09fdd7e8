"""Rules C8, C9 and C11: what one guest alone does, what is superseded or sent again, options that cannot survive."""

import pytest

from pycolo import limits
from pycolo.compare.kinds import DivergencePolicy
from support.frames import is_valid
from support.referee import Judged
from support.segments import Flow, Tcp, batch, frame, mss, read, sack, scale, timestamps
from support.traces import Comparing

ISN, SECONDARY_ISN = 999, 0x80000007
BASE = ISN + 1
PATIENCE_MS = limits.COMPARE_TIMEOUT_MS + limits.EXPIRED_SCAN_CYCLE_MS


def syn_ack(isn=ISN, ack=100, **fields):
    return Tcp(isn, "SA", ack=ack, **fields)


def both(trace, *segments):
    trace.primary(*segments)
    trace.secondary(*segments)


def established(make=Comparing, **options):
    trace = make(**options)
    trace.primary(syn_ack())
    trace.secondary(syn_ack(SECONDARY_ISN))
    trace.frames()
    return trace


def client(trace, segment):
    buf = batch([frame(segment)])
    trace.core.client_frames(buf, 0, len(buf), trace.now_us)


# ── C8: the secondary alone ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C8")
@pytest.mark.parametrize("policy", list(DivergencePolicy), ids=str)
@pytest.mark.parametrize(
    "alone",
    [Tcp(BASE, "FA", ack=100), Tcp(BASE, "R"), Tcp(7, "S"), syn_ack(77, ack=500), Tcp(BASE, "A", b"more", ack=100)],
    ids=["fin", "rst", "syn", "syn-ack", "payload"],
)
def test_what_the_secondary_alone_does_is_a_difference_in_time(alone, policy):
    trace = established(policy=policy)
    trace.secondary(alone)
    trace.wait(limits.COMPARE_TIMEOUT_MS - 1)
    assert trace.commands() == []
    trace.wait(limits.EXPIRED_SCAN_CYCLE_MS + 2)
    assert [kind for _, kind, _ in trace.commands()] == ["SECONDARY_TIMEOUT"]
    trace.wait(10 * PATIENCE_MS)
    assert trace.commands() == [], "one report answers it"


@pytest.mark.rule("C8")
@pytest.mark.parametrize("side", ["primary", "secondary"])
def test_what_waits_does_not_get_younger_by_what_comes_late(side):
    """C5: it goes in front of what came before it, and waits too."""
    trace = established()
    give = getattr(trace, side)
    give(Tcp(BASE + 4, "A", b"more", ack=100))
    trace.wait(limits.COMPARE_TIMEOUT_MS - 1)
    give(Tcp(BASE, "A", b"late", ack=100))
    assert trace.commands() == []
    trace.wait(limits.EXPIRED_SCAN_CYCLE_MS + 2)
    expected = "TIMEOUT" if side == "primary" else "SECONDARY_TIMEOUT"
    assert [kind for _, kind, _ in trace.commands()] == [expected]


@pytest.mark.rule("C8")
@pytest.mark.parametrize(
    "alone", [Tcp(BASE, "FA", ack=100), Tcp(BASE, "R"), syn_ack(77, ack=500)], ids=["fin", "rst", "syn-ack"]
)
def test_bare_acks_of_the_primary_do_not_keep_it_from_being_noticed(alone):
    trace = established()
    trace.secondary(alone)
    for _ in range(8):
        trace.primary(Tcp(BASE, ack=100))
        trace.wait(PATIENCE_MS / 8)
    assert [kind for _, kind, _ in trace.commands()] == ["SECONDARY_TIMEOUT"]


@pytest.mark.rule("C8")
@pytest.mark.parametrize("alone", [Tcp(7, "S"), syn_ack(77), Tcp(5, "R"), Tcp(5, "FA", ack=9)], ids=lambda s: s.flags)
def test_the_secondary_alone_on_a_connection_that_the_primary_does_not_have(alone):
    trace = Comparing()
    trace.secondary(alone)
    trace.wait(PATIENCE_MS + 1)
    assert [kind for _, kind, _ in trace.commands()] == ["SECONDARY_TIMEOUT"]
    trace.commit()
    trace.wait(10 * PATIENCE_MS)
    assert trace.commands() == []


@pytest.mark.rule("C8")
@pytest.mark.parametrize("answer", [Tcp(BASE, "FA", ack=100), Tcp(BASE, "R")], ids=lambda s: s.flags)
def test_what_the_primary_does_too_in_time_is_no_difference(answer):
    trace = established()
    trace.secondary(answer)
    trace.wait(limits.COMPARE_TIMEOUT_MS - 1)
    trace.primary(answer)
    assert [segment.flags for segment in trace.out()] == [answer.flags]
    trace.wait(10 * PATIENCE_MS)
    assert trace.commands() == []


@pytest.mark.rule("C8")
def test_a_secondary_that_resets_where_the_primary_sends_payload_is_certain_at_once():
    trace = established()
    trace.secondary(Tcp(BASE, "R"))
    trace.primary(Tcp(BASE, "A", b"payload", ack=100))
    assert trace.out() == []
    assert [kind for _, kind, _ in trace.commands()] == ["RST"]


@pytest.mark.rule("C8")
def test_a_secondary_that_resets_behind_its_last_payload_is_none():
    trace = established()
    trace.secondary(Tcp(BASE, "A", b"last", ack=100), Tcp(BASE + 4, "RA", ack=100))
    trace.primary(Tcp(BASE, "A", b"la", ack=100), Tcp(BASE + 2, "A", b"st", ack=100))
    assert [segment.data for segment in trace.out()] == [b"la", b"st"]
    trace.primary(Tcp(BASE + 4, "RA", ack=100))
    assert [segment.flags for segment in trace.out()] == ["RA"]
    assert trace.commands() == []


@pytest.mark.rule("C8")
def test_a_rst_of_another_life_counts_for_nothing():
    """RFC 5961: the client would not believe its number."""
    trace = established()
    trace.secondary(Tcp(BASE + 0x40000000, "R"))
    trace.primary(Tcp(BASE, "A", b"payload", ack=100))
    trace.secondary(Tcp(BASE, "A", b"payload", ack=100))
    assert [segment.data for segment in trace.out()] == [b"payload"]
    trace.wait(10 * PATIENCE_MS)
    assert trace.commands() == []


def test_a_secondary_that_is_one_life_ahead():
    """Its late RST and the next SYN|ACK come before the primary's same pair."""
    trace = established()
    rst, again = Tcp(BASE, "R"), syn_ack(70000, ack=500)
    trace.secondary(rst, syn_ack(SECONDARY_ISN + 9, ack=500))
    assert trace.out() == []
    trace.primary(rst)
    assert [segment.flags for segment in trace.out()] == ["R"]
    trace.primary(again)
    assert [segment.seq for segment in trace.out()] == [70000]
    trace.wait(10 * PATIENCE_MS)
    assert trace.commands() == []


@pytest.mark.rule("C2")
def test_after_one_rst_of_both_further_ones_pass():
    """A closed socket answers every late segment of the client; the two guests need not have got equally many."""
    trace = established()
    rst = Tcp(BASE, "R", window=0)
    both(trace, rst)
    trace.primary(rst, Tcp(BASE + 1, "R", window=0))
    assert len(trace.out()) == 3
    trace.secondary(rst, rst)
    trace.wait(2 * limits.COMPARE_TIMEOUT_MS)
    assert trace.commands() == []


@pytest.mark.rule("C2")
@pytest.mark.parametrize("is_secondary_first", [False, True])
def test_a_closed_port_answers_each_syn_of_the_client_once(is_secondary_first):
    """The client comes again from the same port: each refusal finds its partner, whichever replica was quicker."""
    trace = Comparing()
    for attempt in (100, 0x80000000, 0xFFFFFFFF, 7):
        refusal = Tcp(0, "RA", ack=attempt, window=0)
        for give in (trace.secondary, trace.primary) if is_secondary_first else (trace.primary, trace.secondary):
            give(refusal)
        assert len(trace.out()) == 1
    trace.wait(2 * PATIENCE_MS)
    assert trace.commands() == []


@pytest.mark.rule("C2")
@pytest.mark.parametrize("is_secondary_first", [False, True])
@pytest.mark.parametrize("rst", [Tcp(BASE, "R", window=0), Tcp(BASE, "RA", ack=100, window=0)], ids=["rst", "rst-ack"])
def test_a_reset_of_the_old_life_is_none_of_the_next(rst, is_secondary_first):
    """Each guest resets the connection and answers the client's next SYN, before anything of the other has come."""
    trace = established()
    for give, isn in ((trace.secondary, 0x1234), (trace.primary, 5000))[:: 1 if is_secondary_first else -1]:
        give(rst, syn_ack(isn, ack=500))
    both(trace, Tcp(5001, "A", b"next", ack=500))
    trace.wait(2 * PATIENCE_MS)
    assert trace.commands() == []
    assert trace.out()[-1].data == b"next"


# ── C8: what only the client can end ────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C8")
def test_a_wait_for_the_clients_ack_does_not_age():
    """One guest's congestion window is larger: the other sends when the client has acknowledged, and not before."""
    trace = established()
    both(trace, Tcp(BASE, "A", b"equal", ack=100))
    client(trace, Tcp(100, ack=BASE, from_client=True))
    trace.primary(Tcp(BASE + 5, "A", b"more", ack=100))
    trace.wait(5 * PATIENCE_MS)
    assert trace.commands() == []
    client(trace, Tcp(100, ack=BASE + 5, from_client=True))
    trace.wait(limits.COMPARE_TIMEOUT_MS - 1)
    assert trace.commands() == []
    trace.wait(limits.EXPIRED_SCAN_CYCLE_MS + 2)
    assert [kind for _, kind, _ in trace.commands()] == ["TIMEOUT"]


@pytest.mark.rule("C8")
def test_a_client_that_stays_away_has_a_deadline_too():
    trace = established()
    both(trace, Tcp(BASE, "A", b"equal", ack=100))
    client(trace, Tcp(100, ack=BASE, from_client=True))
    trace.primary(Tcp(BASE + 5, "A", b"more", ack=100))
    trace.wait(limits.CLIENT_WAIT_MS + limits.EXPIRED_SCAN_CYCLE_MS + 1)
    assert [kind for _, kind, _ in trace.commands()] == ["TIMEOUT"]


@pytest.mark.rule("C8")
@pytest.mark.parametrize(
    "lie",
    [
        Tcp(100, ack=BASE + 4000, from_client=True),
        Tcp(0x40000000, ack=BASE + 5, from_client=True),
        Tcp(99, ack=BASE + 5, from_client=True),
        Tcp(100, "R", ack=BASE + 5, from_client=True),
    ],
    ids=["ack of nothing that left", "number far outside", "number that was taken", "rst"],
)
def test_a_client_that_lies_is_not_believed(lie):
    trace = established()
    both(trace, Tcp(BASE, "A", b"equal", ack=100))
    client(trace, lie)
    trace.primary(Tcp(BASE + 5, "A", b"more", ack=100))
    trace.wait(PATIENCE_MS)
    assert [kind for _, kind, _ in trace.commands()] == ["TIMEOUT"], "as if the client's segments were not seen"


@pytest.mark.rule("C8")
def test_a_damaged_segment_of_the_client_says_nothing():
    trace = established()
    both(trace, Tcp(BASE, "A", b"equal", ack=100))
    client(trace, Tcp(100, ack=BASE, from_client=True))
    trace.primary(Tcp(BASE + 5, "A", b"more", ack=100))
    octets = bytearray(frame(Tcp(100, ack=BASE + 5, from_client=True)))
    octets[-1] ^= 1
    buf = batch([bytes(octets)])
    trace.core.client_frames(buf, 0, len(buf), trace.now_us)
    trace.wait(2 * PATIENCE_MS)
    assert trace.commands() == []


@pytest.mark.rule("C10")
def test_a_row_goes_when_both_fins_are_acknowledged_and_not_before():
    trace = established(Judged)
    both(trace, Tcp(BASE, "FA", ack=100))
    trace.client(frame(Tcp(100, ack=BASE + 1, from_client=True)))
    trace.wait(2 * limits.CLOSED_GRACE_MS)
    assert trace.core.table.used == 1, "half-closed: the client may go on for hours"
    trace.client(frame(Tcp(100, "FA", ack=BASE + 1, from_client=True)))
    both(trace, Tcp(BASE + 1, ack=101))
    trace.wait(limits.CLOSED_GRACE_MS + PATIENCE_MS)
    assert trace.core.table.used == 0
    trace.frames()


def ended(*acks, **options):
    """Both guests have sent FIN and then these acks; the client is not seen."""
    trace = established(Judged, **options)
    both(trace, Tcp(BASE, "FA", ack=100), *(Tcp(BASE + 1, ack=ack) for ack in acks))
    trace.frames()
    return trace


ENDING_MS = limits.ENDING_SILENT_MS + limits.EXPIRED_SCAN_CYCLE_MS + 1


@pytest.mark.rule("C10")
@pytest.mark.parametrize("acks", [(101,), (150, 151), (150, 151, 151)], ids=str)
def test_where_the_client_is_not_seen_a_row_goes_when_its_fin_is_acknowledged_and_all_is_silent(acks):
    trace = ended(*acks)
    trace.wait(limits.ENDING_SILENT_MS - 1)
    assert trace.core.table.used == 1, "a FIN that is not acknowledged comes again"
    trace.wait(ENDING_MS)
    assert (trace.core.table.used, trace.core.table.evicted_closed) == (0, 1)


@pytest.mark.parametrize("policy", [DivergencePolicy.CHECKPOINT, DivergencePolicy.HOLD], ids=str)
def test_a_passive_close_is_one_too(policy):
    trace = established(Judged, policy=policy)
    both(trace, Tcp(BASE, ack=101), Tcp(BASE, "A", b"last", ack=101), Tcp(BASE + 4, "FA", ack=101))
    trace.frames()
    trace.wait(ENDING_MS)
    assert trace.core.table.used == 0


def test_each_fin_that_comes_again_begins_the_silence_anew():
    trace = ended(101)
    for _ in range(6):
        trace.wait(limits.ENDING_SILENT_MS - 1)
        both(trace, Tcp(BASE, "FA", ack=101))
        assert len(trace.frames()) == 1, "it is known, and compared"
    trace.wait(ENDING_MS)
    assert trace.core.table.used == 0


@pytest.mark.rule("C3")
@pytest.mark.parametrize("acks", [(), (150,), (101, 150)], ids=str)
def test_a_half_closed_connection_stays_and_keeps_what_was_promised(acks):
    trace = ended(*acks)
    trace.wait(limits.CONNECTION_IDLE_MS - 1000)
    assert trace.core.table.used == 1
    trace.primary(Tcp(BASE + 1, ack=300))
    assert trace.out() == []
    trace.secondary(Tcp(BASE + 1, ack=300))
    assert [segment.ack for segment in trace.out()] == [300]


@pytest.mark.rule("C3")
def test_what_looked_as_if_it_had_ended_keeps_what_was_promised():
    """The client's last segment was a single byte; it goes on after its row was forgotten."""
    trace = ended(101)
    trace.wait(ENDING_MS)
    assert trace.core.table.used == 0
    trace.primary(Tcp(BASE + 1, ack=300))
    assert trace.out() == []
    trace.secondary(Tcp(BASE + 1, ack=200))
    assert {segment.ack for segment in trace.out()} <= {200}
    trace.secondary(Tcp(BASE + 1, ack=300))
    assert [segment.ack for segment in trace.out()] == [300]
    trace.wait(10 * PATIENCE_MS)
    assert trace.commands() == []


def test_one_guest_alone_that_has_acknowledged_it_ends_nothing():
    trace = ended()
    trace.secondary(Tcp(BASE + 1, ack=101))
    trace.wait(2 * ENDING_MS)
    assert trace.core.table.used == 1


def test_where_the_client_is_seen_its_fin_decides():
    trace = ended()
    assert trace.client(frame(Tcp(100, "PA", b"x", ack=BASE + 1, from_client=True)))
    both(trace, Tcp(BASE + 1, ack=101))
    trace.frames()
    trace.wait(2 * ENDING_MS)
    assert trace.core.table.used == 1, "it was a byte"


def test_what_seemed_to_have_ended_and_goes_on_stays():
    trace = ended(101)
    both(trace, Tcp(BASE + 1, ack=150))
    trace.wait(2 * ENDING_MS)
    assert trace.core.table.used == 1, "it was a byte"
    trace = ended(101)
    trace.client(frame(Tcp(101, ack=BASE + 1, from_client=True)))
    trace.wait(2 * ENDING_MS)
    assert trace.core.table.used == 1, "from now on the client tells when it ends"


def test_a_fin_that_a_checkpoint_made_equal_counts():
    trace = established(Judged)
    trace.primary(Tcp(BASE, "FA", ack=100))
    trace.commit()
    assert len(trace.frames()) == 1
    both(trace, Tcp(BASE + 1, ack=101))
    trace.frames()
    trace.wait(ENDING_MS)
    assert trace.core.table.used == 0


# ── C9 ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C9")
@pytest.mark.parametrize("policy", [DivergencePolicy.CHECKPOINT, DivergencePolicy.HOLD], ids=str)
def test_what_a_new_life_supersedes_never_leaves(policy):
    trace = established(policy=policy)
    trace.primary(Tcp(BASE, "A", b"secret", ack=100))
    trace.secondary(Tcp(BASE, "A", b"public", ack=100))
    trace.frames()
    trace.primary(syn_ack(70000, ack=500))
    assert trace.frames() == [], "a SYN|ACK of another number is no reason to let anything out"
    trace.secondary(syn_ack(SECONDARY_ISN + 9, ack=500))
    assert [segment.seq for segment in trace.out()] == [70000]
    trace.commit()
    assert trace.frames() == []


@pytest.mark.rule("C9")
@pytest.mark.parametrize("cut", [0, 3])
def test_payload_that_is_sent_again_with_other_bytes_does_not_leave(cut):
    """An honest trigger: sendfile of a page that has changed since."""
    trace = established()
    both(trace, Tcp(BASE, "A", b"first version", ack=100))
    assert len(trace.frames()) == 1
    trace.primary(Tcp(BASE + cut, "A", b"first variant"[cut:], ack=100))
    assert trace.frames() == []
    (difference,) = trace.differences()
    assert (difference.kind.name, difference.seq) == ("PAYLOAD", BASE + 7)
    assert difference.primary[difference.primary_index] == ord("a")
    assert difference.secondary[difference.secondary_index] == ord("e")


@pytest.mark.rule("C9")
def test_payload_that_is_sent_again_in_other_pieces_leaves():
    trace = established()
    both(trace, Tcp(BASE, "A", b"abc", ack=100), Tcp(BASE + 3, "A", b"defg", ack=100))
    trace.frames()
    trace.primary(Tcp(BASE + 1, "A", b"bcde", ack=100), Tcp(BASE, "A", b"abcdefg", ack=100))
    assert [segment.data for segment in trace.out()] == [b"bcde", b"abcdefg"]
    assert trace.commands() == []


@pytest.mark.rule("C9")
def test_what_the_client_has_is_not_kept():
    trace = established()
    both(trace, *(Tcp(BASE + 10 * i, "A", b"ten bytes.", ack=100) for i in range(10)))
    trace.frames()
    client(trace, Tcp(100, ack=BASE + 100, from_client=True))
    both(trace, Tcp(BASE + 100, ack=100))
    assert trace.core.history.used <= 1
    trace.frames()


@pytest.mark.rule("C9")
def test_what_is_kept_is_bounded():
    trace = established()
    for i in range(3 * limits.RETAINED_PACKETS_MAX):
        both(trace, Tcp(BASE + i, "A", b"x", ack=100))
        trace.frames()
    assert trace.core.history.used <= limits.RETAINED_PACKETS_MAX
    trace.wait(limits.CONNECTION_IDLE_MS + PATIENCE_MS)
    assert trace.core.history.used == trace.core.pool.used == 0


@pytest.mark.rule("C9")
def test_what_is_kept_gives_way_to_what_must_be_held():
    trace = Comparing(held_packets_max=16)
    for port in range(1, 40):
        flow = Flow(client_port=port)
        both(trace, Tcp(BASE, "A", b"equal", ack=100, flow=flow))
        assert len(trace.frames()) == 1
    assert trace.commands() == []


# ── C3: debts are state ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C3")
def test_equal_payload_does_not_wait_behind_a_bare_ack_that_is_ahead():
    trace = established()
    trace.primary(Tcp(BASE, ack=300), *(Tcp(BASE + i, "A", b"x", ack=300) for i in range(3)))
    assert trace.out() == []
    trace.secondary(Tcp(BASE, "A", b"xxx", ack=200))
    assert [(segment.data, segment.ack) for segment in trace.out()] == [(b"x", 200)] * 3
    trace.secondary(Tcp(BASE + 3, ack=300))
    assert [(segment.data, segment.ack) for segment in trace.out()] == [(b"", 300)]
    trace.assert_empty()


@pytest.mark.rule("C2")
@pytest.mark.parametrize("taken", [1, 300, 1460])
@pytest.mark.parametrize("is_primary_first", [True, False])
def test_guests_of_which_one_took_the_payload_of_the_clients_syn(is_primary_first, taken):
    """RFC 7413: the client is told no more than both have, and of the rest when the other has it too."""
    for mine, theirs in ((100 + taken, 100), (100, 100 + taken)):
        trace = Judged()
        steps = [
            lambda trace=trace, mine=mine: trace.primary(syn_ack(ack=mine, options=mss(1460))),
            lambda trace=trace, theirs=theirs: trace.secondary(syn_ack(SECONDARY_ISN, theirs, options=mss(1460))),
        ]
        for step in steps if is_primary_first else reversed(steps):
            step()
        assert [(segment.flags, segment.seq, segment.ack) for segment in trace.out()] == [("SA", ISN, 100)]
        late = trace.secondary if mine > theirs else trace.primary
        trace.primary(Tcp(BASE, ack=mine))
        trace.secondary(Tcp(BASE, ack=theirs))
        assert {segment.ack for segment in trace.out()} <= {100}
        late(Tcp(BASE, ack=100 + taken))
        assert [(segment.flags, segment.ack) for segment in trace.out()][-1:] == [("A", 100 + taken)]
        both(trace, Tcp(BASE, "PA", b"answer", ack=100 + taken))
        assert [(segment.data, segment.ack) for segment in trace.out()] == [(b"answer", 100 + taken)]
        trace.wait(10 * PATIENCE_MS)
        assert trace.commands() == []


@pytest.mark.rule("C3")
def test_what_a_syn_ack_could_not_say_is_owed():
    """The primary says nothing more: it has acknowledged everything."""
    trace = Judged()
    trace.primary(syn_ack(ack=400, options=timestamps(5, 6)))
    trace.secondary(syn_ack(SECONDARY_ISN, options=timestamps(7, 6)))
    assert [segment.ack for segment in trace.out()] == [100]
    trace.secondary(Tcp(BASE, ack=400, options=timestamps(8, 6)))
    (paid,) = trace.out()
    assert (paid.flags, paid.seq, paid.ack, paid.options) == ("A", BASE, 400, timestamps(5, 6))
    trace.wait(10 * PATIENCE_MS)
    assert trace.commands() == []


@pytest.mark.rule("C3")
def test_a_debt_holds_no_record():
    trace = Comparing(held_packets_max=64)
    for port in range(1, 60):
        flow = Flow(client_port=port)
        trace.primary(Tcp(BASE, "A", b"x", ack=300, flow=flow))
        trace.secondary(Tcp(BASE, "A", b"x", ack=200, flow=flow))
        assert [segment.ack for segment in trace.out()] == [200]
    assert trace.core.held_packets() == 0
    for port in range(1, 60):
        trace.secondary(Tcp(BASE + 1, ack=300, flow=Flow(client_port=port)))
    assert [segment.ack for segment in trace.out()] == [300] * 59


@pytest.mark.rule("C3")
def test_a_client_with_a_shut_window_hears_that_it_opened_though_the_connection_diverged():
    trace = established(policy=DivergencePolicy.REPORT)
    trace.secondary(Tcp(BASE, ack=100, window=0))
    trace.primary(Tcp(BASE, ack=100, window=5000))
    assert [segment.window for segment in trace.out()] == [0]
    trace.primary(Tcp(BASE, "A", b"one", ack=100, window=5000))
    trace.secondary(Tcp(BASE, "A", b"two", ack=100, window=0))
    assert [(segment.data, segment.window) for segment in trace.out()] == [(b"one", 5000), (b"", 5000)]


@pytest.mark.rule("C11")
@pytest.mark.parametrize("flow", [Flow(), Flow(version=6), Flow(tags=(7,)), Flow(version=6, tags=(7, 8))], ids=str)
def test_a_repeated_ack_has_the_secondarys_sack_blocks(flow):
    """On Linux an ACK without new SACK blocks is no duplicate: the client would wait for its time-out."""
    trace = Comparing()
    time = timestamps(5, 6)
    trace.secondary(Tcp(BASE, ack=200, options=time, flow=flow))
    trace.primary(Tcp(BASE, ack=200, options=time, flow=flow), Tcp(BASE, ack=300, options=time, flow=flow))
    assert len(trace.frames()) == 1
    trace.secondary(Tcp(BASE, ack=200, options=time + sack(250, 300), flow=flow))
    (octets,) = trace.frames()
    assert is_valid(octets)
    repeated = read(octets)
    assert (repeated.ack, repeated.options, repeated.flow) == (200, time + sack(250, 300), flow)


def test_an_ack_with_sack_blocks_is_repeated_whatever_its_window():
    """RFC 6675 section 2. Linux widens the window with each segment that it gets out of order."""
    trace = Comparing()
    trace.secondary(Tcp(BASE, ack=200))
    trace.primary(Tcp(BASE, ack=200), Tcp(BASE, ack=300, window=2000), Tcp(BASE, ack=400, window=2000))
    assert [segment.ack for segment in trace.out()] == [200]
    for window, end in ((1010, 300), (1020, 350)):
        trace.secondary(Tcp(BASE, ack=200, window=window, options=sack(250, end)))
        (repeated,) = trace.out()
        assert (repeated.ack, repeated.window, repeated.options) == (200, window, sack(250, end))


def test_an_ack_that_is_repeated_before_the_primary_runs_ahead_is_told_when_it_does():
    """The nodes may take what the secondary has said out of their sockets before what the primary has."""
    trace = established()
    trace.secondary(Tcp(BASE, ack=200))
    for end in (300, 400, 500):
        trace.secondary(Tcp(BASE, ack=200, options=sack(250, end)))
    trace.primary(Tcp(BASE, ack=200))
    assert [(segment.ack, segment.options) for segment in trace.out()] == [(200, b"")]
    trace.primary(Tcp(BASE, ack=400))
    assert [(segment.ack, segment.options) for segment in trace.out()] == [(200, sack(250, 500))]
    trace.primary(Tcp(BASE, ack=500))
    assert trace.out() == []
    trace.secondary(Tcp(BASE, ack=500))
    assert [segment.ack for segment in trace.out()] == [500]
    trace.assert_empty()


@pytest.mark.parametrize(
    "said",
    [
        [Tcp(BASE, ack=200, options=sack(150, 200))],
        [Tcp(BASE, ack=200)],
        [Tcp(BASE, ack=200, options=sack(250, 300)), Tcp(BASE, ack=300)],
    ],
    ids=["something came twice", "no blocks", "what was missing has come"],
)
def test_what_is_no_loss_is_not_told_later(said):
    trace = established()
    trace.secondary(Tcp(BASE, ack=200), *said)
    trace.primary(Tcp(BASE, ack=400))
    assert trace.out() == []


# ── connections older than the pair ─────────────────────────────────────────────────────────────────────────


def test_what_passed_before_the_first_checkpoint_was_noted():
    trace = Comparing(needs_handshake=True)
    trace.primary(Tcp(BASE, "A", b"passes", ack=100, window=700))
    assert len(trace.frames()) == 1
    trace.commit()
    trace.primary(Tcp(BASE, "A", b"passes", ack=100, window=700))
    both(trace, Tcp(BASE + 6, "A", b"new", ack=100, window=700))
    assert [segment.data for segment in trace.out()] == [b"passes", b"new"]
    trace.wait(10 * PATIENCE_MS)
    assert trace.commands() == []


@pytest.mark.parametrize("is_copy", [False, True])
def test_what_comes_first_from_the_secondary_is_no_base(is_copy):
    trace = Comparing()
    if is_copy:
        trace.commit()
    trace.primary(Tcp(BASE, "A", b"abcd", ack=100))
    trace.secondary(Tcp(BASE + 4, "A", b"efgh", ack=100))
    assert trace.out() == [], "nothing has vouched for it"
    trace.secondary(Tcp(BASE, "A", b"abcd", ack=100))
    assert [segment.data for segment in trace.out()] == [b"abcd"]


def test_comparing_begins_where_the_primary_had_come_to():
    """A hole that is sent again is no beginning: what lies behind it was sent before there was a secondary."""
    trace = Comparing()
    trace.core.pair_lost(trace.now_us)
    trace.primary(Tcp(BASE, "A", b"hole", ack=100), Tcp(BASE + 4, "A", b"arrived", ack=100))
    trace.core.pair_formed(trace.now_us)
    trace.commit()
    assert len(trace.frames()) == 2
    trace.primary(Tcp(BASE, "A", b"hole", ack=100))
    both(trace, Tcp(BASE + 11, "A", b"new", ack=100))
    assert [segment.data for segment in trace.out()] == [b"hole", b"new"]
    trace.wait(10 * PATIENCE_MS)
    assert trace.commands() == []


def test_what_was_sent_between_two_secondaries_is_not_waited_for():
    trace = Comparing()
    both(trace, Tcp(BASE, "A", b"first", ack=100))
    trace.core.pair_lost(trace.now_us)
    trace.primary(Tcp(BASE + 5, "A", b"alone", ack=100))
    trace.core.pair_formed(trace.now_us)
    trace.commit()
    both(trace, Tcp(BASE + 10, "FA", b"new", ack=100))
    assert [segment.data for segment in trace.out()] == [b"first", b"alone", b"new"]
    trace.wait(10 * PATIENCE_MS)
    assert trace.commands() == []


def test_what_a_damaged_segment_acknowledges_is_still_compared():
    """No guest takes it, so the client may still need what it seems to acknowledge."""
    trace = Comparing()
    both(trace, Tcp(BASE, "A", b"abcd", ack=100))
    octets = bytearray(frame(Tcp(100, "FA", ack=BASE + 4, from_client=True)))
    octets[50] ^= 0x55
    trace.client(bytes(octets))
    trace.primary(Tcp(BASE, "A", b"abXd", ack=100))
    assert [segment.data for segment in trace.out()] == [b"abcd"]
    assert [kind for _, kind, _ in trace.commands()] == ["PAYLOAD"]


# ── C11 ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C11")
@pytest.mark.parametrize("flow", [Flow(), Flow(version=6)], ids=str)
def test_no_sack_block_leaves_above_what_the_secondary_has(flow):
    """C11: the client may forget what is in a block only when both have it."""
    trace = Comparing()
    trace.secondary(Tcp(BASE, ack=200, options=sack(300, 400), flow=flow))
    blocks = sack(500, 600, 320, 400, 150, 200)
    trace.primary(Tcp(BASE, ack=200, options=timestamps(1, 2)[2:] + blocks, flow=flow))
    (octets,) = trace.frames()
    assert is_valid(octets)
    left = read(octets).options
    assert sack(320, 400, 150, 200)[2:] in left
    assert left.count(b"\x01") >= 10
    assert sack(500, 600)[4:] not in left


@pytest.mark.rule("C11")
@pytest.mark.parametrize("kind", [30, 34])
@pytest.mark.parametrize("flow", [Flow(), Flow(version=6)], ids=str)
def test_options_that_cannot_survive_are_taken_off(kind, flow):
    trace = Comparing()
    options = mss(1460) + bytes([kind, 12]) + bytes(range(10)) + scale(7)
    trace.primary(syn_ack(options=options, flow=flow))
    trace.secondary(syn_ack(SECONDARY_ISN, options=mss(1460) + bytes([kind, 12]) + bytes(10) + scale(7), flow=flow))
    (octets,) = trace.frames()
    assert is_valid(octets)
    assert read(octets).options == mss(1460) + b"\x01" * 12 + scale(7)
    assert trace.commands() == []


@pytest.mark.rule("C11")
@pytest.mark.parametrize(("kind", "length"), [(19, 18), (29, 16)])
def test_a_signed_connection_is_reported_once_and_left_alone(kind, length):
    trace = Comparing()
    signed = bytes([kind, length]) + bytes(length - 2)
    for isn in (ISN, ISN):
        trace.primary(syn_ack(isn, options=mss(1460) + signed))
        trace.secondary(syn_ack(SECONDARY_ISN, options=mss(1460) + signed))
    trace.primary(Tcp(BASE, "A", b"mine", ack=100))
    assert len(trace.frames()) == 3
    assert [kind for _, kind, _ in trace.commands()] == ["UNPROTECTED"]
    trace.wait(10 * PATIENCE_MS)
    assert trace.commands() == []


@pytest.mark.rule("C2")
def test_payload_on_both_syns_is_compared():
    """TCP Fast Open (RFC 7413): each SYN's payload has its own guest's numbers."""
    for first, second in (("primary", "secondary"), ("secondary", "primary")):
        trace = Comparing()
        isn = {"primary": ISN, "secondary": SECONDARY_ISN}
        for side in (first, second):
            assert trace.out() == []
            getattr(trace, side)(Tcp(isn[side], "S", b"early"))
        assert [segment.data for segment in trace.out()] == [b"early"]
        assert trace.commands() == []
