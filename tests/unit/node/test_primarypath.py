"""The primary's data path: mirror, compare, release; and nothing more while the secondary does not vouch for it."""

import time

import pytest

from pycolo.core import Comparator
from pycolo.link.codec import MessageType
from pycolo.node.primarypath import PrimaryPath
from support.nodes import wait_for
from support.paths import Running, payloads, send
from support.segments import Flow, Tcp, arp, batch, frame, mss, read, udp

NOT_VOUCHED_NS = 0
FOR_EVER_NS = 1 << 62


@pytest.fixture
def make(tmp_path):
    made = []

    def build(has_guest_out=True, compares=True, **options):
        commands = []

        def path(ports, base):
            patient = {"compare_timeout_ms": 60_000}  # a machine may stand still for longer than the default
            comparator = Comparator(1, needs_handshake=True, primary_name="--guest", **patient | options)
            guest_out = ports["guest"] if has_guest_out else None
            return PrimaryPath(
                comparator,
                ports["lan"],
                ports["lan"],
                ports["guest"],
                guest_out,
                commands.extend,
                compares=compares,
                **base,
            )

        found = Running(tmp_path, path, is_primary=True)
        found.commands = commands
        made.append(found)
        return found

    yield build
    for one in made:
        one.close()


def pair(running, trusted_until_ns=lambda: FOR_EVER_NS):
    end = running.link()
    running.tell(lambda: running.path.pair_formed(trusted_until_ns))
    return end


def test_without_a_secondary_everything_passes_both_ways(make):
    running = make()
    running.lan.send(udp(b"in", from_client=True))
    assert running.guest.receive(10) == udp(b"in", from_client=True)
    running.guest.send(udp(b"out"))
    assert running.lan.receive(10) == udp(b"out")


def test_frames_from_the_lan_are_mirrored_and_given_to_the_guest(make):
    running = make()
    end = pair(running)
    frames = [udp(bytes([i]) * i, from_client=True) for i in range(50)]
    running.lan.send(*frames)
    assert [running.guest.receive(10) for _ in frames] == frames
    octets = bytes(batch(frames))
    assert payloads(end, len(octets)) == octets
    assert running.counters()["link_bytes_sent"] > len(octets)


@pytest.mark.rule("R1")
def test_the_secondary_does_not_get_what_this_guest_turns_down(make):
    """Rule R1: it would take the number for the primary's. The RST of this guest is of no use to any client."""
    running = make()
    end = pair(running)
    syn, ack = (Tcp(100 + at, flags, ack=1001, from_client=True) for at, flags in enumerate("SA"))
    lies = [Tcp(101, "A", data, ack=4711, from_client=True) for data in (b"", b"x")]
    running.lan.send(frame(syn), frame(lies[0]))
    assert [read(running.guest.receive(10)) for _ in "12"] == [syn, lies[0]]
    for sender in (running.guest.send, lambda *frames: send(end, MessageType.GUEST_FRAMES, bytes(batch(list(frames))))):
        sender(frame(Tcp(1000, "SA", ack=101)))
    running.guest.send(frame(Tcp(4711, "R")))
    assert read(running.lan.receive(10)).flags == "SA"
    running.lan.send(*(frame(segment) for segment in (*lies, ack, lies[1], ack)))
    assert [read(running.guest.receive(10)) for _ in range(5)] == [*lies, ack, lies[1], ack]
    mirrored = bytes(batch([frame(segment) for segment in (syn, ack, lies[1], ack)]))
    assert payloads(end, len(mirrored)) == mirrored, "once it is complete both guests judge alike"
    wait_for(lambda: running.counters()["dropped"] == 1, "the RST to be dropped")
    assert running.commands == []


def test_with_a_guest_that_gets_its_frames_elsewhere_they_are_only_mirrored(make):
    running = make(has_guest_out=False)
    end = pair(running)
    running.lan.send(udp(b"x", from_client=True))
    payloads(end, len(batch([udp(b"x", from_client=True)])))
    assert running.guest.receive(0.1) is None


def test_the_guests_answer_waits_for_the_secondarys(make):
    running = make()
    end = pair(running)
    running.guest.send(udp(b"x"))
    assert running.lan.receive(0.2) is None
    send(end, MessageType.GUEST_FRAMES, bytes(batch([udp(b"x")])))
    assert running.lan.receive(10) == udp(b"x")
    assert running.counters()["compared"] == 1


def test_a_difference_is_reported(make):
    running = make(policy=1)
    end = pair(running)
    flow = Flow()
    for base, sender in (
        (1000, running.guest.send),
        (1000, lambda *frames: send(end, MessageType.GUEST_FRAMES, bytes(batch(list(frames))))),
    ):
        data = b"a" if sender == running.guest.send else b"b"
        sender(
            frame(Tcp(base, "SA", ack=1, options=mss(1460), flow=flow)),
            frame(Tcp(base + 1, "PA", data, ack=1, flow=flow)),
        )
    wait_for(lambda: running.commands, "the report")
    assert running.commands[0].difference.primary.endswith(b"a")


def test_going_alone_releases_what_was_held(make):
    running = make()
    pair(running)
    running.guest.send(udp(b"x"), udp(b"y"))
    wait_for(lambda: running.counters()["held"] == 2, "both to be held")
    running.tell(running.path.go_alone)
    assert [running.lan.receive(10) for _ in range(2)] == [udp(b"x"), udp(b"y")]


def test_the_negative_control_releases_everything_at_once(make):
    running = make(compares=False)
    pair(running)
    running.guest.send(udp(b"x"))
    assert running.lan.receive(10) == udp(b"x")


# ── not vouched for ─────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_leaves_while_the_secondary_may_have_taken_over(make):
    """Neither what passes, nor what was compared, nor what timed out; all of it when it is trusted again."""
    until_ns = [NOT_VOUCHED_NS]
    running = make(compare_timeout_ms=50, scan_cycle_ms=10, policy=1)
    end = pair(running, lambda: until_ns[0])
    running.guest.send(arp(), udp(b"compared"), udp(b"alone"))
    send(end, MessageType.GUEST_FRAMES, bytes(batch([udp(b"compared")])))
    wait_for(lambda: running.counters()["compared"] == 1, "the comparison")
    assert running.lan.receive(0.3) is None
    assert running.counters()["divergences"] == 0, "time-outs wait, too"
    running.lan.send(udp(b"in", from_client=True))
    assert running.guest.receive(10) == udp(b"in", from_client=True), "input goes on"
    until_ns[0] = FOR_EVER_NS
    left = [running.lan.receive(10) for _ in range(3)]
    assert sorted(left) == sorted([arp(), udp(b"compared"), udp(b"alone")])


def test_trust_ends_by_itself(make):
    running = make()
    until_ns = [FOR_EVER_NS]
    pair(running, lambda: until_ns[0])
    running.guest.send(arp())
    assert running.lan.receive(10) == arp()
    until_ns[0] = time.monotonic_ns() + 50_000_000
    wait_for(lambda: time.monotonic_ns() > until_ns[0], "the end of trust")
    running.guest.send(arp())
    assert running.lan.receive(0.2) is None
    running.tell(running.path.go_alone)
    assert running.lan.receive(10) == arp()


def test_after_halt_nothing_moves(make):
    running = make()
    pair(running)
    running.guest.send(udp(b"held"))
    wait_for(lambda: running.counters()["held"], "the frame")
    running.path.post(running.path.halt)
    running.path.post(running.path.go_alone)
    running.path.join(10)
    assert running.lan.rest() == []


# ── what goes wrong ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"\xff\xff\xff\xff" + bytes(20), "length word"),
        (bytes(batch([udp(b"x")]))[:-1], "ends within a frame"),
        (bytes(batch([udp(b"x")])) + bytes(3), "ends within a frame"),
    ],
)
def test_a_secondary_that_sends_no_frames_loses_its_connection_only(make, octets, said):
    running = make()
    end = pair(running)
    send(end, MessageType.GUEST_FRAMES, octets)
    line = running.lost.get(timeout=10)
    assert said in line
    assert "\n" not in line
    running.tell(running.path.go_alone)
    running.guest.send(udp(b"x"))
    assert running.lan.receive(10) == udp(b"x")


def test_the_end_of_the_link_is_told_once(make):
    running = make()
    pair(running).close()
    assert "closed by the other node" in running.lost.get(timeout=10)
    running.guest.send(udp(b"x"))
    wait_for(lambda: running.counters()["held"], "the frame to be held")
    assert running.lost.empty()


def test_a_full_link_stops_the_lan_and_goes_on_later(make):
    running = make()
    end = running.link(queue_bytes_max=100_000)
    running.tell(lambda: running.path.pair_formed(lambda: FOR_EVER_NS))
    running.lan.sock.setblocking(False)
    octets = bytes(batch([udp(bytes(60_000), from_client=True)]))
    sent = 0
    blocked_s = None
    while blocked_s is None or time.monotonic() < blocked_s + 0.3:
        try:
            sent += running.lan.sock.send(octets[sent % len(octets) :])
            blocked_s = None
        except BlockingIOError:
            blocked_s = blocked_s or time.monotonic()
        running.guest.rest(0)
    assert sent < 20 << 20
    whole = sent // len(octets) * len(octets)
    received = b""
    while len(received) < whole:
        received += b"".join(bytes(payload) for _, payload in end.receive())
        running.guest.rest(0)
    assert received == octets * (whole // len(octets))


@pytest.mark.rule("C6")
def test_a_secondary_that_is_too_fast_is_held_back_and_loses_nothing(make):
    """Its output waits, message by message, until the primary's has come."""
    running = make(queue_packets_max=8)
    end = pair(running)
    flow = Flow()
    handshake = frame(Tcp(999, "SA", ack=1, options=mss(1460), flow=flow))
    segments = [frame(Tcp(1000 + i, "PA", bytes([i]), ack=1, flow=flow)) for i in range(100)]
    for octets in (handshake, *segments):
        send(end, MessageType.GUEST_FRAMES, bytes(batch([octets])))
    time.sleep(0.05)
    for octets in (handshake, *segments):
        running.guest.send(octets)
    got = b""
    while len(got) < 100:
        left = running.lan.receive(10)
        assert left is not None, running.counters()
        got += read(left).data
    assert got == bytes(range(100))


def test_a_bad_length_word_closes_that_stream_and_keeps_what_came_before_it(make):
    running = make()
    running.guest.sock.sendall(bytes(batch([udp(b"x")])) + b"\xff" * 8)
    assert running.lan.receive(10) == udp(b"x")
    assert "--guest" in running.notes.get(timeout=10)
    assert running.guest.reconnect()
    running.guest.send(udp(b"y"))
    assert running.lan.receive(10) == udp(b"y")


def test_an_error_in_the_thread_is_handed_over_and_everything_closed(make):
    running = make()
    running.path.post(lambda: 1 // 0)
    assert isinstance(running.failures.get(timeout=10), ZeroDivisionError)
    running.path.join(10)
    assert running.lan.rest() == []


def test_a_question_that_fails_is_the_askers(make):
    running = make()
    with pytest.raises(ZeroDivisionError):
        running.tell(lambda: 1 // 0)
    assert running.counters()["guest_frames"] == 0
