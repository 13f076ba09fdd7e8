"""The loop under both data paths: it wakes up when it must, and sleeps when there is nothing to do."""

import socket
import threading
import time

import pytest
import structlog

from pycolo.core import Comparator, Rewriter
from pycolo.link.codec import MessageType
from pycolo.node.datapath import halt_paths
from pycolo.node.nopath import NoPath
from pycolo.node.primarypath import PrimaryPath
from pycolo.node.secondarypath import SecondaryPath
from support.descriptors import descriptors
from support.nodes import wait_for
from support.paths import Running, send
from support.segments import Flow, Tcp, batch, frame, mss, udp

pytestmark = pytest.mark.slow

LOOK_S = 0.3
TURNS_MAX = 100
"""In LOOK_S; a loop that spins makes thousands."""


class Counting:
    """Counts how often a data path wakes up."""

    turns = 0

    def _turn(self, ready):
        self.turns += 1
        return super()._turn(ready)


class CountingPrimary(Counting, PrimaryPath):
    pass


class CountingSecondary(Counting, SecondaryPath):
    pass


@pytest.fixture
def primary(tmp_path):
    def build(ports, base):
        comparator = Comparator(1, needs_handshake=True, queue_packets_max=4)
        guest = ports["guest"]
        return CountingPrimary(comparator, ports["lan"], ports["lan"], guest, guest, list, compares=True, **base)

    found = Running(tmp_path, build, is_primary=True)
    yield found
    found.close()


@pytest.fixture
def secondary(tmp_path):
    def build(ports, base):
        return CountingSecondary(Rewriter(1), ports["lan"], ports["lan"], ports["guest"], ports["guest"], str, **base)

    (tmp_path / "secondary").mkdir()
    found = Running(tmp_path / "secondary", build, is_primary=False)
    yield found
    found.close()


def assert_sleeps(running):
    time.sleep(0.05)
    before, began_s = running.path.turns, time.monotonic()
    time.sleep(LOOK_S)
    turns, looked_s = running.path.turns - before, time.monotonic() - began_s
    assert turns < TURNS_MAX * max(1, looked_s / LOOK_S)


def test_an_idle_path_sleeps(primary, secondary):
    assert_sleeps(primary)
    assert_sleeps(secondary)
    primary.link()
    assert_sleeps(primary)


def test_a_path_whose_streams_have_ended_sleeps(primary, secondary):
    for running in (primary, secondary):
        running.lan.sock.close()
        running.guest.sock.close()
        assert_sleeps(running)


def test_a_path_whose_guest_has_gone_while_frames_wait_for_it_sleeps(primary):
    primary.guest.sock.close()
    primary.lan.send(udp(b"x", from_client=True))
    assert_sleeps(primary)
    primary.lan.sock.close()
    assert_sleeps(primary)


def test_a_serving_secondary_without_a_lan_sleeps(secondary):
    secondary.lan.sock.close()
    secondary.guest.send(udp(b"x"))
    secondary.tell(secondary.path.take_over)
    secondary.guest.send(*[udp(b"y")] * 100)
    assert_sleeps(secondary)


def test_a_dead_link_whose_messages_are_not_taken_yet_does_not_keep_the_path_awake(primary):
    end = primary.link()
    primary.tell(lambda: primary.path.pair_formed(lambda: 1 << 62))
    flow = Flow()
    frames = [frame(Tcp(999, "SA", ack=1, options=mss(1460), flow=flow))]
    frames += [frame(Tcp(1000 + i, "PA", b"x", ack=1, flow=flow)) for i in range(50)]
    send(end, MessageType.GUEST_FRAMES, bytes(batch(frames)))
    wait_for(lambda: primary.counters()["link_frames"], "the first frames")
    end.close()
    assert_sleeps(primary)


def test_a_path_that_is_not_vouched_for_looks_now_and_then(primary):
    primary.link()
    primary.tell(lambda: primary.path.pair_formed(lambda: 0))
    primary.guest.send(udp(b"x"))
    assert_sleeps(primary)


def test_a_paused_path_sleeps_moves_nothing_and_loses_nothing(primary):
    primary.tell(primary.path.pause)
    octets = udp(b"x")
    primary.guest.send(octets)
    assert_sleeps(primary)
    assert primary.counters()["guest_frames"] == 0
    primary.tell(primary.path.go_on)
    assert primary.lan.receive(10) == octets


def test_what_is_posted_is_done_at_once_and_in_order(primary):
    done = []
    for i in range(100):
        primary.path.post(lambda i=i: done.append(i))
    assert primary.path.ask(lambda: list(done)).result(10) == list(range(100))


def test_descriptors_may_come_back_under_the_same_number(primary):
    """Streams and links that come and go reuse numbers; each new one is heard."""
    for i in range(20):
        end = primary.link()
        primary.tell(lambda: primary.path.pair_formed(lambda: 1 << 62))
        primary.lan.reconnect()
        octets = udp(b"%d" % i, Flow(client_port=6000 + i))
        send(end, MessageType.GUEST_FRAMES, bytes(batch([octets])))
        primary.guest.send(octets)
        assert primary.lan.receive(10) == octets
        if i % 2:
            end.close()
            assert primary.lost.get(timeout=10)
        else:
            primary.tell(primary.path.detach)


def test_a_halted_path_has_ended_its_batch(primary):
    """The node says that it resigns as soon as `halt_paths` returns: no frame may follow."""
    busy, may_end = threading.Event(), threading.Event()

    def batch_of_a_thread_without_cpu_time():
        busy.set()
        assert may_end.wait(20)

    primary.path.post(batch_of_a_thread_without_cpu_time)
    assert busy.wait(20)
    halting = threading.Thread(target=halt_paths, args=([primary.path, NoPath()],))
    halting.start()
    halting.join(LOOK_S)
    assert halting.is_alive()
    may_end.set()
    halting.join(20)
    assert not halting.is_alive()
    primary.path.join(20)
    assert not primary.path.is_alive()


def test_a_path_that_hangs_is_waited_for_within_bounds(primary, monkeypatch):
    monkeypatch.setattr("pycolo.node.datapath.HALT_S", 0.01)
    may_end = threading.Event()
    primary.path.post(lambda: may_end.wait(20))
    with structlog.testing.capture_logs() as said:
        halt_paths([primary.path])
    may_end.set()
    assert [entry["log_level"] for entry in said] == ["warning"]


def test_paths_that_have_ended_are_not_waited_for(primary):
    primary.path.stop()
    halt_paths([primary.path])


def test_stopping_closes_streams_and_link(primary):
    end = primary.link()
    before = descriptors()
    primary.path.stop()
    assert not primary.path.is_alive()
    assert primary.lan.rest() == primary.guest.rest() == []
    assert not primary.lan.path.exists()
    assert before - descriptors()
    end.close()
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(OSError, match="No such file"):
        sock.connect(str(primary.lan.path))
