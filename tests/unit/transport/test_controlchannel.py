"""The control connection: a living node is never suspected, a dead one soon, a leaving one not at all."""

import itertools
import queue
import re
import socket
import sys
import threading
import time
from contextlib import suppress

import pytest

from pycolo import limits
from pycolo.errors import StateError
from pycolo.failover.heartbeat import SuspicionReason
from pycolo.link import codec
from pycolo.link.codec import CONTROL_TYPES, Goodbye, GoodbyeReason, Heartbeat, MessageType, TakeoverNotice
from pycolo.transport.controlchannel import (
    OUTBOX_MESSAGES_MAX,
    SWITCH_INTERVAL_S,
    ChannelClosed,
    ControlChannel,
    Heard,
    PeerGoodbye,
    PeerState,
    PeerTakeover,
    Suspected,
)
from pycolo.transport.linksocket import CONTROL_QUEUE_BYTES_MAX, control_link_socket

TIMES = {"interval_ms": 25, "timeout_ms": 150, "own_stall_ms": limits.OWN_STALL_MS}
"""The time-out is shorter than a node's default: tests wait for it."""

PATIENT = {**TIMES, "timeout_ms": 60_000}
"""For what has nothing to do with silence: a test that is not run for a while has said nothing for that long."""


class Side:
    """One end of a control connection and the events of its channel."""

    def __init__(self, sock, name, on_event=None, times=PATIENT, clock_ns=time.monotonic_ns):
        self.events = queue.Queue()
        self.state = (1, 0)
        self.link = control_link_socket(sock, name, CONTROL_TYPES)
        self.channel = ControlChannel(
            self.link, lambda: self.state, on_event or self.events.put, clock_ns=clock_ns, **times
        )

    def next(self, kind, timeout_s=20):
        """The next event of `kind`; none but states may come before it."""
        while True:
            event = self.events.get(timeout=timeout_s)
            if isinstance(event, kind):
                return event
            assert isinstance(event, PeerState), event

    def rest(self):
        found = []
        while not self.events.empty():
            found.append(self.events.get())
        return found


def paired(stack, **how):
    names = ("link to b", "link to a")
    sides = [Side(sock, name, **how) for sock, name in zip(socket.socketpair(), names, strict=True)]
    for side in sides:
        stack.callback(side.channel.close)
        side.channel.start()
    return sides


@pytest.fixture
def pair(stack):
    return paired(stack)


def alone(stack, times, clock_ns=time.monotonic_ns):
    """A channel that does not run yet, and the bare socket at its other end."""
    ours, theirs = socket.socketpair()
    side = Side(ours, "link to b", times=times, clock_ns=clock_ns)
    stack.callback(side.channel.close)
    stack.enter_context(theirs)
    theirs.settimeout(20)
    return side, theirs


@pytest.fixture
def lone(stack):
    """A channel and the bare socket at its other end."""
    side, theirs = alone(stack, PATIENT)
    side.channel.start()
    return side, theirs


def heartbeat(sequence=1, term=1, epoch=0, heard_ns=0, sender_ns=0):
    return codec.message(MessageType.HEARTBEAT, Heartbeat(sequence, sender_ns, term, epoch, heard_ns).pack())


def everything(peer):
    """All messages until the connection's end."""
    octets = b""
    while part := peer.recv(4096):
        octets += part
    found = []
    while octets:
        message_type, length = codec.parse_header(octets, 0, CONTROL_TYPES, "peer", 0)
        found.append((message_type, octets[codec.HEADER_BYTES : codec.HEADER_BYTES + length]))
        octets = octets[codec.HEADER_BYTES + length :]
    return found


def wait_until(condition):
    until_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.002)


def spin(until_ns):
    """What a thread does that does not let the interpreter go."""
    count = 0
    while time.process_time_ns() < until_ns:
        for _ in range(1000):
            count += 1


@pytest.fixture
def node_switch_interval():
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    yield
    sys.setswitchinterval(before)


@pytest.mark.slow
@pytest.mark.usefixtures("node_switch_interval")
def test_neither_is_suspected_while_both_live_though_other_threads_hog_the_interpreter(stack):
    """The clock is this process's own processor time: time that other processes take is not silence."""
    times = {**TIMES, "timeout_ms": 600}
    pair = paired(stack, times=times, clock_ns=time.process_time_ns)
    until_ns = time.process_time_ns() + 2_000_000_000
    hogs = [threading.Thread(target=spin, args=(until_ns,)) for _ in range(3)]
    for hog in hogs:
        hog.start()
    for hog in hogs:
        hog.join()
    for side in pair:
        assert [type(event) for event in side.rest()] == [PeerState]
        assert side.channel._last.sequence > 2_000 / times["timeout_ms"]


def test_heartbeats_carry_term_and_epoch_and_a_change_is_an_event(pair):
    a, b = pair
    assert b.next(PeerState) == PeerState(1, 0)
    a.state = (1, 4)
    assert b.next(PeerState) == PeerState(1, 4)
    a.state = (2, 4)
    assert b.next(PeerState) == PeerState(2, 4)


def test_a_confirmed_heartbeat_is_trusted_for_the_time_out_and_no_longer(lone):
    side, peer = lone
    assert side.channel.trusted_until_ns == 0
    size = len(heartbeat())
    own = Heartbeat.unpack(peer.recv(size, socket.MSG_WAITALL)[codec.HEADER_BYTES :])
    peer.sendall(codec.message(MessageType.HEARTBEAT, Heartbeat(1, 77, 1, 0, own.sender_ns).pack()))
    expected_ns = own.sender_ns + PATIENT["timeout_ms"] * 1_000_000
    wait_until(lambda: side.channel.trusted_until_ns == expected_ns)
    assert side.next(PeerState)
    heard_ns = 0
    while not heard_ns:
        octets = peer.recv(size, socket.MSG_WAITALL)
        heard_ns = Heartbeat.unpack(octets[codec.HEADER_BYTES :]).heard_ns
    assert heard_ns == 77, "the other node is told what was heard of it"
    assert side.channel.trusted_until_ns == expected_ns, "what confirms nothing new prolongs nothing"


@pytest.mark.parametrize(
    "farewell",
    [
        codec.message(MessageType.TAKEOVER_NOTICE, TakeoverNotice(2, 0).pack()),
        codec.message(MessageType.GOODBYE, Goodbye(GoodbyeReason.SHUTDOWN, "").pack()),
    ],
)
def test_trust_ends_with_a_takeover_or_a_goodbye_and_does_not_come_back(lone, farewell):
    side, peer = lone
    confirming = codec.message(MessageType.HEARTBEAT, Heartbeat(1, 1, 1, 0, time.monotonic_ns() + 10**12).pack())
    peer.sendall(confirming)
    wait_until(lambda: side.channel.trusted_until_ns > 0)
    latest_ns = time.monotonic_ns() + PATIENT["timeout_ms"] * 1_000_000
    assert side.channel.trusted_until_ns <= latest_ns, "the future cannot be confirmed"
    peer.sendall(farewell + confirming)
    while not isinstance(side.events.get(timeout=20), PeerTakeover | PeerGoodbye):
        pass
    peer.sendall(confirming)
    time.sleep(0.1)
    assert side.channel.trusted_until_ns == 0


def test_two_living_nodes_trust_each_other(pair):
    for side in pair:
        wait_until(lambda side=side: side.channel.trusted_until_ns > time.monotonic_ns())


def test_heartbeats_come_at_the_interval(stack):
    side, peer = alone(stack, PATIENT)
    size = len(heartbeat())
    began_s = time.monotonic()
    side.channel.start()
    octets = b""
    while len(octets) < 20 * size:
        octets += peer.recv(20 * size - len(octets))
        peer.sendall(heartbeat())
    took_ms = (time.monotonic() - began_s) * 1000
    assert 18 * TIMES["interval_ms"] < took_ms < 400 * TIMES["interval_ms"]
    sequences = [int.from_bytes(octets[at + 8 : at + 16]) for at in range(0, len(octets), size)]
    assert sequences == list(range(1, 21))


def test_silence_is_suspected_and_a_late_heartbeat_withdraws_it(stack):
    began_s = time.monotonic()
    side, peer = alone(stack, TIMES)
    side.channel.start()
    suspected = side.next(Suspected)
    took_ms = (time.monotonic() - began_s) * 1000
    assert suspected.reason is SuspicionReason.SILENCE
    assert suspected.silent_ms >= TIMES["timeout_ms"]
    assert suspected.text == f"link to b: no heartbeat for {suspected.silent_ms} ms"
    assert began_s * 1e9 <= suspected.at_ns <= time.monotonic_ns()
    assert TIMES["timeout_ms"] - 10 <= took_ms < 20_000
    peer.sendall(heartbeat(heard_ns=1))
    assert side.next(Heard).silent_ms >= suspected.silent_ms
    assert side.next(Suspected).reason is SuspicionReason.SILENCE


@pytest.mark.parametrize("stood_still", [True, False])
def test_a_withdrawn_suspicion_says_whether_the_other_node_was_slow_or_the_way(stack, stood_still):
    side, peer = alone(stack, TIMES)
    side.channel.start()
    peer.sendall(heartbeat(1, heard_ns=1))
    side.next(Suspected)
    gap_ns = 10**12 if stood_still else TIMES["interval_ms"] * 10**6
    peer.sendall(heartbeat(2, heard_ns=2, sender_ns=gap_ns))
    text = side.next(Heard).text
    how = "the other node had stood still for" if stood_still else "its heartbeats were late on their way"
    assert re.fullmatch(rf"heard again after \d+ ms: {how}.*", text)


def test_a_node_whose_heartbeats_are_not_confirmed_suspects_too(stack):
    """The cable is cut in one direction: the other node is heard, and hears nothing."""
    now_ns = [time.monotonic_ns()]
    side, peer = alone(stack, TIMES, lambda: now_ns[0])
    side.channel.start()
    found = None
    for sequence in itertools.count(1):
        peer.sendall(heartbeat(sequence, heard_ns=7))
        wait_until(lambda sequence=sequence: side.channel._last and side.channel._last.sequence == sequence)
        now_ns[0] += TIMES["interval_ms"] * 1_000_000  # no time passes in which this test is not heard
        with suppress(queue.Empty):
            while not isinstance(found, Suspected):
                found = side.events.get_nowait()
            break
    assert found.reason is SuspicionReason.SILENCE
    assert found.text == f"link to b: no heartbeat of this node was confirmed for {found.silent_ms} ms"
    assert found.silent_ms >= TIMES["timeout_ms"]
    peer.sendall(heartbeat(sequence + 1, heard_ns=8))
    side.next(Heard)


def test_a_silent_channel_says_what_is_left_to_say_and_no_heartbeat(stack):
    side, peer = alone(stack, PATIENT)
    side.channel.start()
    side.channel.fall_silent()
    said = side.channel._sequence + 1  # the turn under way may say one more
    time.sleep(3 * PATIENT["interval_ms"] / 1000)
    side.channel.announce_takeover(5, 0)
    side.channel.close(None)
    types = [message_type for message_type, _ in everything(peer)]
    assert types[-1] is MessageType.TAKEOVER_NOTICE
    assert types.count(MessageType.HEARTBEAT) <= said
    assert MessageType.GOODBYE not in types


def test_a_connection_that_ends_is_suspected_at_once(lone):
    side, peer = lone
    peer.sendall(heartbeat())
    side.next(PeerState)
    peer.close()
    suspected = side.next(Suspected)
    assert suspected.reason is SuspicionReason.CONNECTION_LOST
    assert suspected.silent_ms < PATIENT["timeout_ms"]
    assert suspected.text in {
        "link to b: closed by the other node",
        "link to b: connection lost: Connection reset by peer",  # it had not read all
    }
    assert side.next(ChannelClosed) == ChannelClosed(suspected.text)


def test_a_peer_that_talks_nonsense_is_suspected_and_left(lone):
    side, peer = lone
    peer.sendall(heartbeat() + b"\xff" * 100)
    assert side.next(Suspected).reason is SuspicionReason.CONNECTION_LOST
    assert f"message at byte {len(heartbeat())} has unknown type 255" in side.next(ChannelClosed).text
    while peer.recv(4096):
        pass


def test_frames_have_no_place_on_the_control_connection(lone):
    side, peer = lone
    peer.sendall(codec.message(MessageType.CLIENT_FRAMES, bytes(64)))
    side.next(Suspected)
    assert "CLIENT_FRAMES, which is not allowed here" in side.next(ChannelClosed).text


def test_a_goodbye_is_sent_at_whatever_moment_the_channel_is_closed(lone):
    """Also when the turn that is under way has emptied the outbox already."""
    side, peer = lone
    flush = side.link.flush

    def flush_and_close():
        flush()
        side.link.flush = flush
        side.channel.close(GoodbyeReason.RESIGNED, "its QEMU is gone")

    side.link.flush = flush_and_close
    found = everything(peer)
    assert found[-1] == (MessageType.GOODBYE, Goodbye(GoodbyeReason.RESIGNED, "its QEMU is gone").pack())


def test_a_goodbye_is_no_failure(pair):
    a, b = pair
    a.channel.close(GoodbyeReason.SHUTDOWN, "the service was stopped")
    assert b.next(PeerGoodbye) == PeerGoodbye(GoodbyeReason.SHUTDOWN, "the service was stopped")
    assert b.next(ChannelClosed).text.startswith("link to a: ")
    assert a.next(ChannelClosed).text == "link to b: closed by this node"
    assert all(isinstance(event, PeerState) for event in a.rest())
    assert b.rest() == []


@pytest.mark.parametrize("attempt", range(20))
def test_a_goodbye_is_heard_even_when_it_crosses_a_heartbeat(attempt, lone):
    side, peer = lone
    time.sleep(attempt * TIMES["interval_ms"] / 10_000)
    peer.sendall(heartbeat() + codec.message(MessageType.GOODBYE, Goodbye(GoodbyeReason.OTHER, "").pack()))
    peer.close()
    side.next(PeerGoodbye)
    side.next(ChannelClosed)


def test_a_goodbye_without_an_end_is_no_failure_either(stack):
    side, peer = alone(stack, TIMES)
    peer.sendall(codec.message(MessageType.GOODBYE, Goodbye(GoodbyeReason.OTHER, "").pack()))
    side.channel.start()
    side.next(PeerGoodbye)
    time.sleep(TIMES["timeout_ms"] * 2 / 1000)
    assert side.rest() == []


def test_a_takeover_is_announced(pair):
    a, b = pair
    a.channel.announce_takeover(2, 7)
    assert b.next(PeerTakeover) == PeerTakeover(2, 7)


def test_a_channel_may_be_closed_from_its_own_events(stack):
    ours, theirs = socket.socketpair()
    stack.enter_context(theirs)
    events = queue.Queue()

    def on_event(event):
        events.put(event)
        if isinstance(event, PeerState):
            side.channel.close(GoodbyeReason.REPLACED)

    side = Side(ours, "link to b", on_event)
    side.channel.start()
    theirs.sendall(heartbeat())
    assert isinstance(events.get(timeout=20), PeerState)
    assert events.get(timeout=20) == ChannelClosed("link to b: closed by this node")
    side.channel.close()


def test_a_channel_that_never_ran_can_be_closed(stack):
    ours, theirs = socket.socketpair()
    stack.enter_context(theirs)
    side = Side(ours, "link to b")
    side.channel.close()
    side.channel.close()
    assert theirs.recv(100) == b""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_a_callback_ends_the_connection_at_once(stack):
    ours, theirs = socket.socketpair()
    stack.enter_context(theirs)
    theirs.settimeout(20)

    def on_event(event):
        raise AssertionError(f"a bug, at {event}")

    side = Side(ours, "link to b", on_event)
    stack.callback(side.channel.close)
    side.channel.start()
    theirs.sendall(heartbeat())
    while theirs.recv(4096):
        pass


def test_a_peer_that_never_reads_costs_bounded_memory_and_is_not_waited_for(stack):
    ours, theirs = socket.socketpair()
    stack.enter_context(theirs)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    side = Side(ours, "link to b")
    side.channel.start()
    wait_until(lambda: side.link.queued_bytes)
    began_s = time.monotonic()
    side.channel.close()
    assert time.monotonic() - began_s < 20
    assert side.link.queued_bytes < CONTROL_QUEUE_BYTES_MAX


def test_more_messages_than_make_sense_are_refused_and_a_goodbye_is_still_possible(stack):
    ours, theirs = socket.socketpair()
    stack.enter_context(theirs)
    side = Side(ours, "link to b")
    for _ in range(OUTBOX_MESSAGES_MAX):
        side.channel.announce_takeover(1, 1)
    with pytest.raises(StateError, match="link to b"):
        side.channel.announce_takeover(1, 1)
    side.channel.close()
