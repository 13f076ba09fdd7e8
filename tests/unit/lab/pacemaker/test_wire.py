"""What the wire shows: which host served when, and for how long none did."""

import socket
import time
from pathlib import Path
from time import monotonic_ns

import pytest
from pyroute2 import IPRoute

from pycolo_lab.namespaces import Namespace
from pycolo_lab.pacemaker import wire
from pycolo_lab.pacemaker.wire import (
    APART_NS,
    SO_TIMESTAMPNS,
    STAMP,
    STAMP_ROOM,
    Bridged,
    Turn,
    arrived_ns,
    handover_ms,
    turns_of,
)
from pycolo_lab.topology import index_of


def frames(text):
    """One frame per letter, a millisecond apart; a blank is a millisecond without one."""
    return [(number * 1_000_000, letter) for number, letter in enumerate(text) if letter != " "]


def test_frames_of_one_host_are_a_turn():
    assert turns_of(frames("aa")) == [Turn("a", 0, 1_000_000, 2)]
    assert turns_of([]) == []


def test_two_that_serve_at_once_are_more_turns_than_one_change():
    assert [turn.letter for turn in turns_of(frames("aa  bb"))] == ["a", "b"]
    assert [turn.letter for turn in turns_of(frames("aababb"))] == ["a", "b", "a", "b"]


def test_frames_are_in_the_order_of_their_times_whichever_thread_saw_them():
    assert turns_of(reversed(frames("aab"))) == turns_of(frames("aab"))


def test_the_time_without_service_is_between_the_last_frame_and_the_first():
    assert handover_ms(turns_of(frames("aa    bb"))) == 5
    assert handover_ms(turns_of(frames("aaaa"))) is None


def test_a_frame_counts_from_when_the_kernel_had_it():
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        right.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        left.send(b"frame")
        sent_ns = monotonic_ns()
        time.sleep(0.05)  # the watching thread has no CPU time
        _, ancillary, _, _ = right.recvmsg(14, STAMP_ROOM)
    assert arrived_ns(ancillary) < sent_ns + 25_000_000
    assert arrived_ns([]) > sent_ns


@pytest.mark.parametrize("stalled", range(6))
def test_a_thread_that_stands_still_between_two_clocks_dates_no_frame_wrongly(monkeypatch, stalled):
    now_ns, looks = [0], iter(range(1000))

    def look():
        now_ns[0] += 1_000_000_000 if next(looks) == stalled else 100
        return now_ns[0]

    monkeypatch.setattr(wire, "monotonic_ns", look)
    monkeypatch.setattr(wire, "time_ns", lambda: 5_000_000_000 + look())
    stamp = STAMP.pack(5, 7)  # the monotonic clock's 7 ns
    assert abs(arrived_ns([(socket.SOL_SOCKET, SO_TIMESTAMPNS, stamp)]) - 7) <= APART_NS


@pytest.mark.namespaces
def test_a_guests_tap_counts_only_while_it_is_on_the_bridge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pycolo_lab.pacemaker.wire.BRIDGED_NS", 0)
    host = Namespace.create(tmp_path, "host")
    try:
        carries = Bridged(host)
        with host.entered(), IPRoute() as netlink:
            netlink.link("add", ifname="br0", kind="bridge")
            netlink.link("add", ifname="tap0", kind="veth", peer="tap0-peer")
            assert not carries("tap0")
            netlink.link("set", index=index_of(netlink, "tap0"), master=index_of(netlink, "br0"))
            assert carries("tap0")
        assert carries("colo-lab")
        assert not carries("eth0")
    finally:
        host.delete()
