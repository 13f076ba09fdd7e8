"""Both nodes' data paths in QEMU's sockets: the first synchronisation, checkpoints, and every way in which they end."""

import random
import time

import pytest

from pycolo import limits
from pycolo.core import Rewriter
from pycolo.errors import LinkError, StateError
from pycolo.link.codec import MessageType, offsets_payloads
from pycolo.node.secondarypath import SecondaryPath
from support.nodes import wait_for
from support.pathpair import Pair
from support.paths import Qemu, Threads, link_pair, send, tell
from support.segments import Flow, Tcp, batch, frame, mss, read, timestamps, udp

pytestmark = pytest.mark.slow

QUIET_S = 0.15

PRIMARY_ISN, SECONDARY_ISN = 1_000, 50_000


@pytest.fixture
def pair(tmp_path):
    made = []

    def build(**options):
        made.append(Pair(tmp_path / str(len(made)), **options))
        return made[-1]

    def make(**options):
        (tmp_path / str(len(made))).mkdir()
        return build(**options)

    yield make
    for one in made:
        one.close()


def from_client(seq, flags, data=b"", ack=0, **more):
    return frame(Tcp(seq, flags, data, ack=ack, from_client=True, **more))


def wait_held(both, count):
    wait_for(lambda: both.counters(both.primary)["held"] == count, f"{count} frames to be held")


def shake_hands(pair, flow=Flow()):  # noqa: B008 - frozen
    """A connection whose secondary has numbers of its own; both guests and the client have said all three parts."""
    pair.p.tells(from_client(0, "S", options=mss(1460), flow=flow))
    for guest, isn in ((pair.p, PRIMARY_ISN), (pair.s, SECONDARY_ISN)):
        assert read(guest.gets()).flags == "S"
        guest.says(frame(Tcp(isn, "SA", ack=1, options=mss(1460), flow=flow)))
    assert read(pair.p.hears()).seq == PRIMARY_ISN
    pair.p.tells(from_client(1, "A", ack=PRIMARY_ISN + 1, flow=flow))
    assert read(pair.p.gets()).ack == PRIMARY_ISN + 1
    assert read(pair.s.gets()).ack == SECONDARY_ISN + 1


# ── the first state ─────────────────────────────────────────────────────────────────────────────────────────


def test_before_the_first_state_the_primary_serves_alone(pair):
    both = pair()
    both.p.tells(udp(b"in", from_client=True))
    assert both.p.gets() == udp(b"in", from_client=True)
    both.p.says(udp(b"out"))
    assert both.p.hears() == udp(b"out")
    assert both.counters(both.primary)["link_bytes_sent"] == 0


def test_from_the_first_state_on_both_are_compared(pair):
    both = pair().synchronised()
    both.p.says(udp(b"x"))
    assert both.p.hears(QUIET_S) is None
    both.s.says(udp(b"x"))
    assert both.p.hears() == udp(b"x")


def test_what_the_primary_had_said_before_it_stopped_for_the_first_state_leaves(pair):
    both = pair()
    flow = Flow(client_port=7)
    both.p.chardevs["guest-in"].send(*[udp(bytes([i]), flow) for i in range(50)])
    both.synchronised()
    assert [both.p.hears() for _ in range(50)] == [udp(bytes([i]), flow) for i in range(50)]


# ── a checkpoint ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("E1")
def test_a_commit_releases_and_discards_and_says_how_much(pair):
    both = pair().synchronised()
    both.p.says(udp(b"one"), udp(b"three"))
    both.s.says(udp(b"other", Flow(client_port=9)))  # no difference, which would have it discarded after 50 ms
    wait_for(lambda: both.counters(both.primary)["held"] == 3, "all to be held")
    answer = both.checkpoint(2)
    sizes = len(udp(b"one")) + len(udp(b"three"))
    assert answer == {"released_frames": 2, "released_bytes": sizes, "discarded_frames": 1}
    assert [both.p.hears() for _ in range(2)] == [udp(b"one"), udp(b"three")]


def test_who_has_waited_for_a_commit_is_told_after_it_with_its_epoch(pair):
    both = pair().synchronised()
    both.p.says(udp(b"one"), udp(b"three"))
    wait_for(lambda: both.counters(both.primary)["held"] == 2, "the packets to wait")
    both.checkpoint(2)
    wait_for(lambda: both.waits, "who has waited")
    ((epoch, (wait,)),) = both.waits
    assert (epoch, wait.count, wait.connection.ip_proto) == (2, 1, 17)
    assert wait.waited_us > 0


@pytest.mark.rule("E1")
def test_a_commit_takes_all_that_the_guest_had_sent(pair):
    """More than the queues of an epoch hold: everything sent before the stop is of the old epoch."""
    both = pair(queue_packets_max=4).synchronised()
    said = [udp(bytes([i])) for i in range(100)]
    tell(both.secondary, both.secondary.hold)
    both.p.says(*said)
    tell(both.secondary, both.secondary.loaded, 2)
    answer = tell(both.primary, both.primary.commit, 2)
    assert answer["released_frames"] == 100
    assert [both.p.hears() for _ in said] == said
    assert both.counters(both.primary)["held"] == 0


@pytest.mark.rule("E2")
@pytest.mark.parametrize("seed", range(12))
def test_nothing_of_an_old_state_vouches_for_a_new_one(pair, seed):
    """Whatever the order in which the two connections bring the news, and wherever the old output stands."""
    dice = random.Random(seed)
    both = pair().synchronised()
    for epoch in range(2, 8, 2):
        old = [udp(b"old %d %d" % (epoch, i), Flow(client_port=9)) for i in range(dice.randint(0, 30))]
        both.s.says(*old)
        if dice.random() < 0.5:
            wait_held(both, len(old))
        tell(both.secondary, both.secondary.hold)
        if dice.random() < 0.7:
            tell(both.primary, both.primary.send_offsets, epoch)
        tell(both.secondary, both.secondary.loaded, epoch)
        new = [udp(b"new %d %d" % (epoch, i)) for i in range(dice.randint(1, 30))]
        if dice.random() < 0.5:
            both.s.says(*new)  # the guest runs before the primary hears of it
            time.sleep(dice.choice([0, 0.02]))
            tell(both.primary, both.primary.commit, epoch)
        else:
            tell(both.primary, both.primary.commit, epoch)
            both.s.says(*new)
        both.p.says(*old, *new)
        assert sorted(both.p.hears() for _ in new) == sorted(new)
        assert both.p.hears(0.1) is None, "the old output has vouched"
        assert not both.commands
        both.checkpoint(epoch + 1)
        assert sorted(both.p.hears() for _ in old) == sorted(old)


@pytest.mark.rule("E2")
def test_a_part_of_a_frame_of_the_old_state_is_void(pair):
    both = pair().synchronised()
    octets = bytes(batch([udp(b"old", Flow(client_port=9))]))
    guest = both.s.chardevs["guest-in"].sock
    guest.sendall(octets[:20])
    wait_for(lambda: both.counters(both.secondary)["guest_bytes_in"] == 20, "the part")
    both.checkpoint(2)
    guest.sendall(octets[20:])
    both.s.says(udp(b"new"))
    both.p.says(udp(b"old", Flow(client_port=9)), udp(b"new"))
    assert both.p.hears() == udp(b"new")
    assert both.p.hears(QUIET_S) is None


# ── while the guest is stopped ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("E5")
def test_a_stopped_guest_gets_nothing_and_loses_nothing(pair):
    both = pair().synchronised()
    sent = [udp(bytes([i]) * 50, from_client=True) for i in range(100)]

    def meanwhile():
        both.p.tells(*sent)
        assert [both.p.gets() for _ in sent] == sent
        assert both.s.gets(QUIET_S) is None

    both.checkpoint(2, meanwhile)
    assert [both.s.gets() for _ in sent] == sent


def test_offsets_are_gone_after_a_checkpoint(pair):
    both = pair().synchronised()
    shake_hands(both)
    both.p.tells(from_client(1, "A", b"a", ack=PRIMARY_ISN + 1))
    assert both.p.gets()
    assert read(both.s.gets()).ack == SECONDARY_ISN + 1
    both.checkpoint(2, lambda: both.p.tells(from_client(2, "A", b"b", ack=PRIMARY_ISN + 1)))
    assert read(both.s.gets()).ack == PRIMARY_ISN + 1
    both.s.says(frame(Tcp(PRIMARY_ISN + 1, "A", b"answer", ack=3)))
    both.p.says(frame(Tcp(PRIMARY_ISN + 1, "A", b"answer", ack=3)))
    assert read(both.p.hears()).data == b"answer"


@pytest.mark.rule("E1")
def test_until_the_offsets_are_here_nothing_moves(pair):
    both = pair().synchronised()
    tell(both.secondary, both.secondary.hold)
    tell(both.secondary, both.secondary.loaded, 2)
    both.p.tells(udp(b"in", from_client=True))
    both.s.says(udp(b"out"))
    assert both.s.gets(QUIET_S) is None
    assert both.mode == "loading"
    tell(both.primary, both.primary.send_offsets, 1)
    assert both.s.gets(QUIET_S) is None, "those are another epoch's"
    tell(both.primary, both.primary.commit, 2)  # which sends them, since nothing else has
    both.p.tells(udp(b"next", from_client=True))
    assert both.s.gets() == udp(b"next", from_client=True), "the state contains what came before"
    both.p.says(udp(b"out"))
    assert both.p.hears() == udp(b"out")


def test_a_large_table_comes_in_pieces_through_a_full_link(pair):
    both = pair().synchronised()
    rewriter = Rewriter(3, connections_max=1 << 17)
    count = 30_000
    out = bytearray(1 << 22)
    octets = batch([frame(Tcp(7, "SA", ack=2, flow=Flow(client_port=i + 1))) for i in range(count)])
    assert rewriter.guest_frames(octets, 0, len(octets), 0, out, 0) == len(octets)
    table = rewriter.export_offsets()
    assert len(table) > 4 * limits.BATCH_BYTES
    tell(both.secondary, both.secondary.hold)
    tell(both.secondary, both.secondary.loaded, 2)
    for payload in offsets_payloads(2, table):
        tell(both.primary, both.primary._queue_behind, MessageType.OFFSETS, payload)
    wait_for(lambda: both.mode == "service", "the table")
    assert both.counters(both.secondary)["connections"] == count


def test_too_much_input_for_a_stopped_guest_drops_the_oldest(pair, monkeypatch):
    monkeypatch.setattr(limits, "HOLD_INPUT_BYTES_MAX", 100_000)
    both = pair().synchronised()
    sent = [udp(i.to_bytes(2, "big") * 500, from_client=True) for i in range(500)]

    def meanwhile():
        for octets in sent:
            both.p.tells(octets)
            assert both.p.gets() == octets

    tell(both.secondary, both.secondary.hold)
    meanwhile()
    dropped_bytes = sum(map(len, sent)) - limits.HOLD_INPUT_BYTES_MAX
    wait_for(lambda: both.counters(both.secondary)["waiting_dropped_bytes"] >= dropped_bytes, "all to be there")
    take_over(both)  # in its own state, to which all of it belongs
    got = [both.s.gets()]
    while got[-1] != sent[-1]:
        got.append(both.s.gets())
    assert both.s.gets(QUIET_S) is None
    assert 50 < len(got) < 150
    assert got == sent[-len(got) :], "whole frames, in order, the newest"


@pytest.mark.rule("E5")
def test_once_the_table_is_here_input_is_held_back_rather_than_dropped(pair, monkeypatch):
    monkeypatch.setattr(limits, "HOLD_INPUT_BYTES_MAX", 10_000)
    both = pair().synchronised()
    tell(both.secondary, both.secondary.hold)
    tell(both.primary, both.primary.send_offsets, 2)
    sent = [udp(i.to_bytes(2, "big") * 500, from_client=True) for i in range(500)]
    for octets in sent:
        both.p.tells(octets)
        assert both.p.gets() == octets
    time.sleep(0.1)
    tell(both.secondary, both.secondary.loaded, 2)
    assert [both.s.gets() for _ in sent] == sent
    assert both.counters(both.secondary)["waiting_dropped_bytes"] == 0


# ── the primary dies ────────────────────────────────────────────────────────────────────────────────────────


def heard(both):
    """The next segment on the survivor's LAN with payload: not the announcements, not what is sent again."""
    while True:
        octets = both.s.hears()
        assert octets is not None
        if octets[12:14] == b"\x08\x00" and octets[23] == 6 and (segment := read(octets)).data:
            return segment


def take_over(both, *, keeps_rows=False):
    tell(both.primary, both.primary.detach)
    both.threads.lost.get(timeout=20)
    if keeps_rows:
        tell(both.secondary, both.secondary.hold_for_takeover)
        tell(both.secondary, both.secondary.keep_rows)
    tell(both.secondary, both.secondary.take_over)
    wait_for(lambda: both.served, "the takeover")


@pytest.mark.rule("E4")
def test_a_takeover_in_a_checkpoint_that_did_not_come_to_its_end_keeps_the_offsets(pair):
    both = pair().synchronised()
    shake_hands(both)
    tell(both.secondary, both.secondary.hold)
    both.p.tells(from_client(1, "A", b"a", ack=PRIMARY_ISN + 1))
    assert both.p.gets()
    wait_for(lambda: both.counters(both.secondary)["waiting_bytes"], "the frame")
    take_over(both)
    got = read(both.s.gets())
    assert (got.data, got.ack) == (b"a", SECONDARY_ISN + 1)
    both.s.says(frame(Tcp(SECONDARY_ISN + 1, "A", b"answer", ack=2)))
    assert heard(both).seq == PRIMARY_ISN + 1


@pytest.mark.rule("E1")
def test_a_takeover_after_the_primarys_state_was_loaded_has_its_numbers(pair):
    both = pair().synchronised()
    shake_hands(both)
    tell(both.secondary, both.secondary.hold)
    both.p.tells(from_client(1, "A", b"a", ack=PRIMARY_ISN + 1))
    assert both.p.gets()
    wait_for(lambda: both.counters(both.secondary)["waiting_bytes"], "the frame")
    tell(both.secondary, both.secondary.loaded, 2)
    assert both.mode == "loading"
    take_over(both)
    both.s.tells(from_client(2, "A", b"b", ack=PRIMARY_ISN + 1))
    got = read(both.s.gets())
    assert (got.data, got.ack) == (b"b", PRIMARY_ISN + 1), "the state contains what came before"
    both.s.says(frame(Tcp(PRIMARY_ISN + 1, "A", b"answer", ack=2)))
    assert heard(both).seq == PRIMARY_ISN + 1


@pytest.mark.parametrize("keeps_rows", [False, True])
@pytest.mark.parametrize("moment", ["service", "held", "told", "loading", "committed"])
def test_wherever_the_primary_dies_the_survivor_serves(pair, moment, keeps_rows):
    both = pair().synchronised()
    shake_hands(both)
    if moment != "service":
        both.s.says(udp(b"old"))
        tell(both.secondary, both.secondary.hold)
    if moment in ("told", "committed"):
        tell(both.primary, both.primary.send_offsets, 2)
    if moment in ("loading", "committed"):
        tell(both.secondary, both.secondary.loaded, 2)
    if moment == "committed":
        tell(both.primary, both.primary.commit, 2)
        wait_for(lambda: both.mode == "service", "the offsets")
    take_over(both, keeps_rows=keeps_rows)
    isn = PRIMARY_ISN if moment in ("loading", "committed") else SECONDARY_ISN
    both.s.tells(from_client(1, "A", b"a", ack=PRIMARY_ISN + 1), udp(b"in", from_client=True))
    got = read(both.s.gets())
    assert (got.data, got.ack) == (b"a", isn + 1)
    assert both.s.gets() == udp(b"in", from_client=True)
    both.s.says(frame(Tcp(isn + 1, "A", b"answer", ack=2)))
    assert heard(both).seq == PRIMARY_ISN + 1


# ── the secondary dies ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("moment", ["before", "marked"])
def test_without_the_secondary_the_primary_holds_until_it_may_go_on(pair, moment):
    both = pair().synchronised()
    tell(both.secondary, both.secondary.hold)
    if moment == "marked":
        tell(both.primary, both.primary.send_offsets, 2)
        tell(both.secondary, both.secondary.loaded, 2)
    both.p.says(udp(b"x"))
    tell(both.secondary, both.secondary.detach)
    if moment == "before":  # behind a marker that waits for its commit the link is not read
        both.threads.lost.get(timeout=20)
    assert both.p.hears(QUIET_S) is None
    tell(both.primary, both.primary.go_alone)
    assert both.p.hears() == udp(b"x")


# ── wrong calls, bad peers ──────────────────────────────────────────────────────────────────────────────────


def test_calls_at_the_wrong_time_are_the_askers(pair):
    both = pair().synchronised()
    with pytest.raises(StateError, match="held"):
        tell(both.secondary, both.secondary.loaded, 2)
    with pytest.raises(StateError, match="serving"):
        tell(both.secondary, both.secondary.hand_over)
    take_over(both)
    with pytest.raises(StateError, match="serving"):
        tell(both.secondary, both.secondary.hold)


@pytest.mark.parametrize("octets", [bytes(16) + b"no table", b"\0" * 12 + b"\0\0\0\7", b"\0" * 8 + b"\xff" * 8])
def test_a_primary_that_sends_no_table_loses_its_connection_only(tmp_path, octets):
    threads, qemu = Threads(), Qemu(tmp_path)
    path = threads.start(SecondaryPath(Rewriter(2), **qemu.ports(), on_serving=lambda _: None, **threads.base))
    qemu.accept()
    primary, link = link_pair()
    tell(path, path.hold)
    tell(path, path.attach, link)
    tell(path, path.loaded, 0)
    if octets[8:] == b"\0" * 8 + b"no table":
        octets = octets[:11] + b"\x08" + octets[12:]
    send(primary, MessageType.OFFSETS, octets)
    line = threads.lost.get(timeout=20)
    assert "\n" not in line
    tell(path, path.take_over)
    qemu.says(udp(b"x"))
    assert qemu.hears() == udp(b"x")
    primary.close()
    threads.close()
    qemu.close()


def test_a_question_to_a_path_that_has_ended_is_refused(pair):
    both = pair()
    both.primary.stop()
    with pytest.raises(StateError, match="ended"):
        tell(both.primary, both.primary.snapshot)


def test_the_link_refuses_a_table_out_of_order(pair):
    both = pair().synchronised()
    pieces = list(offsets_payloads(5, bytes(limits.BATCH_BYTES + 1)))
    with pytest.raises(LinkError, match="do not fit"):
        tell(both.secondary, both.secondary._take_offsets, pieces[1])


def test_timestamps_meet_the_new_state_too(pair):
    both = pair().synchronised()
    flow = Flow(client_port=77)
    terms = mss(1460)
    both.p.tells(from_client(0, "S", options=terms + timestamps(5), flow=flow))
    for guest, isn, clock in ((both.p, PRIMARY_ISN, 300), (both.s, SECONDARY_ISN, 900)):
        assert guest.gets()
        guest.says(frame(Tcp(isn, "SA", ack=1, options=terms + timestamps(clock, 5), flow=flow)))
    assert both.p.hears()
    both.p.tells(from_client(1, "A", ack=PRIMARY_ISN + 1, options=timestamps(6, 300), flow=flow))
    assert read(both.s.gets()).options == timestamps(6, 900)
    both.checkpoint(2)
    both.p.tells(from_client(1, "A", ack=PRIMARY_ISN + 1, options=timestamps(7, 300), flow=flow))
    assert read(both.s.gets()).options == timestamps(7, 300)
