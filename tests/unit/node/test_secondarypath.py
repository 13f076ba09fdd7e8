"""The secondary's data path: link to guest and back; after the takeover LAN to guest and back."""

from contextlib import closing

import pytest

from pycolo.core import Rewriter
from pycolo.link.codec import MessageType
from pycolo.node.rowsfile import RowsFile
from pycolo.node.secondarypath import SecondaryPath
from support.nodes import wait_for
from support.paths import Running, payloads, send
from support.segments import Flow, Tcp, arp, batch, frame, mss, read, udp

PRIMARY_ISN, SECONDARY_ISN = 1_000, 50_000


@pytest.fixture
def running(tmp_path):
    served = []

    def path(ports, base):
        return SecondaryPath(
            Rewriter(1), ports["lan"], ports["lan"], ports["guest"], ports["guest"], served.append, **base
        )

    found = Running(tmp_path, path, is_primary=False)
    found.served = served
    yield found
    found.close()


def from_client(seq, flags, data=b"", ack=0, **more):
    return frame(Tcp(seq, flags, data, ack=ack, from_client=True, **more))


def shake_hands(running, end):
    send(end, MessageType.CLIENT_FRAMES, bytes(batch([from_client(0, "S", options=mss(1460))])))
    assert read(running.guest.receive(10)).flags == "S"
    running.guest.send(frame(Tcp(SECONDARY_ISN, "SA", ack=1, options=mss(1460))))
    payloads(end, len(batch([frame(Tcp(0, "SA", options=mss(1460)))])))
    send(end, MessageType.CLIENT_FRAMES, bytes(batch([from_client(1, "A", ack=PRIMARY_ISN + 1)])))
    assert read(running.guest.receive(10)).ack == SECONDARY_ISN + 1


def lan_frames_until(running, data):
    """What leaves for the LAN, up to the segment with `data`."""
    frames = []
    while not frames or frames[-1][12:14] != b"\x08\x00" or read(frames[-1]).data != data:
        frames.append(running.lan.receive(10))
        assert frames[-1] is not None, f"no segment with {data}"
    return frames


def test_in_service_the_guest_is_fed_from_the_link_and_heard_on_it(running):
    end = running.link()
    shake_hands(running, end)
    running.guest.send(frame(Tcp(SECONDARY_ISN + 1, "PA", b"answer", ack=1)))
    octets = payloads(end, len(batch([frame(Tcp(0, "PA", b"answer"))])))
    assert read(octets[4:]).seq == PRIMARY_ISN + 1
    assert running.lan.rest(0.1) == []


def test_what_comes_from_the_lan_in_service_is_ignored(running):
    end = running.link()
    running.lan.send(udp(b"from the lan", from_client=True))
    send(end, MessageType.CLIENT_FRAMES, bytes(batch([udp(b"from the link", from_client=True)])))
    assert running.guest.receive(10) == udp(b"from the link", from_client=True)
    assert running.guest.receive(0.1) is None


@pytest.mark.parametrize("cut", [1, 4, 5, 40])
def test_a_frame_that_stands_across_the_takeover_is_delivered_whole(running, cut):
    running.link()
    octets = bytes(batch([udp(b"ignored", from_client=True), udp(b"across", from_client=True)]))
    first = len(batch([udp(b"ignored", from_client=True)]))
    running.lan.sock.sendall(octets[: first + cut])
    wait_for(lambda: running.counters()["lan_bytes_in"] == first + cut, "the part")
    running.tell(running.path.take_over)
    running.lan.sock.sendall(octets[first + cut :])
    assert running.guest.receive(10) == udp(b"across", from_client=True)


@pytest.mark.rule("R4")
def test_the_takeover_announces_then_sends_again_then_goes_on(running):
    end = running.link()
    shake_hands(running, end)
    running.guest.send(arp())
    running.guest.send(frame(Tcp(SECONDARY_ISN + 1, "PA", b"answer", ack=1)))
    wait_for(lambda: running.counters()["copies"], "the copy")
    running.tell(running.path.take_over)
    running.guest.send(frame(Tcp(SECONDARY_ISN + 7, "PA", b"newer", ack=1)))
    frames = lan_frames_until(running, b"newer")
    assert [octets[12:14] for octets in frames[:2]] == [b"\x08\x06"] * 2
    segments = [read(octets) for octets in frames if octets[12:14] == b"\x08\x00"]
    assert [(segment.seq, segment.data) for segment in segments] == [
        (PRIMARY_ISN + 1, b"answer"),
        (PRIMARY_ISN + 7, b"newer"),
    ]
    assert running.served == [1]
    running.lan.send(from_client(1, "A", ack=PRIMARY_ISN + 12))
    assert read(running.guest.receive(10)).ack == SECONDARY_ISN + 12
    while sum(octets[12:14] == b"\x08\x06" for octets in frames) < 4:
        frames.append(running.lan.receive(10))
        assert frames[-1] is not None, "it is not said again"


def test_a_takeover_without_a_lan_waits_for_it(running):
    end = running.link()
    shake_hands(running, end)
    running.lan.sock.close()
    running.guest.send(frame(Tcp(SECONDARY_ISN + 1, "PA", b"answer", ack=1)))
    wait_for(lambda: running.counters()["copies"], "the copy")
    running.tell(running.path.take_over)
    assert running.served == []
    assert running.lan.reconnect()
    lan_frames_until(running, b"answer")
    wait_for(lambda: running.served, "word that it serves")
    assert running.served == [1]


def test_client_frames_that_came_before_the_guests_answer_reach_it_afterwards(running):
    end = running.link()
    early = [
        from_client(0, "S", options=mss(1460)),
        from_client(1, "A", ack=PRIMARY_ISN + 1),
        from_client(1, "PA", b"request", ack=PRIMARY_ISN + 1),
    ]
    send(end, MessageType.CLIENT_FRAMES, bytes(batch(early)))
    assert read(running.guest.receive(10)).flags == "S"
    assert running.guest.receive(0.1) is None
    running.guest.send(frame(Tcp(SECONDARY_ISN, "SA", ack=1, options=mss(1460))))
    got = [read(running.guest.receive(10)) for _ in range(2)]
    assert [segment.data for segment in got] == [b"", b"request"]
    assert {segment.ack for segment in got} == {SECONDARY_ISN + 1}


def test_what_the_primary_mirrored_before_it_died_still_reaches_the_guest(running):
    end = running.link()
    frames = [udp(bytes([i]), Flow(client_port=6000 + i), from_client=True) for i in range(50)]
    for octets in frames:
        send(end, MessageType.CLIENT_FRAMES, bytes(batch([octets])))
    wait_for(lambda: running.counters()["link_frames"] == 50, "the frames")
    running.tell(running.path.take_over)
    assert [running.guest.receive(10) for _ in frames] == frames


@pytest.mark.parametrize("octets", [b"\xff" * 12, bytes(batch([udp(b"x")]))[:-1]])
def test_a_primary_that_sends_no_frames_loses_its_connection_only(running, octets):
    end = running.link()
    send(end, MessageType.CLIENT_FRAMES, octets)
    assert "\n" not in running.lost.get(timeout=10)
    running.tell(running.path.take_over)
    running.guest.send(udp(b"x"))
    assert running.lan.receive(10) == udp(b"x")


def test_a_guest_that_goes_and_comes_back_gets_the_frame_that_waited(running):
    end = running.link()
    running.guest.sock.close()
    wait_for(lambda: not running.counters()["guest_connected"], "the end")
    send(end, MessageType.CLIENT_FRAMES, bytes(batch([udp(b"x", from_client=True)])))
    assert running.guest.reconnect()
    assert running.guest.receive(10) == udp(b"x", from_client=True)


# ── rows in a file ──────────────────────────────────────────────────────────────────────────────────────────


def with_rows(place, rows, kept=None):
    """Closed at the end of a `with`."""

    def path(ports, base):
        lan, guest = ports["lan"], ports["guest"]
        made = SecondaryPath(Rewriter(1), lan, lan, guest, guest, lambda resent: None, rows=rows, **base)
        if kept is not None:
            assert made.resume(kept).rows == 1
        return made

    place.mkdir()
    return closing(Running(place, path, is_primary=False))


@pytest.mark.rule("R4")
def test_a_node_that_is_started_again_serves_and_announces(tmp_path):
    rows = RowsFile(tmp_path / "rows", "web", lambda: 1)
    with with_rows(tmp_path / "before", rows) as before:
        shake_hands(before, before.link())
        before.guest.send(arp())
        wait_for(lambda: before.counters()["neighbours"], "the guest's address")
        assert not rows.path.exists()
        before.tell(before.path.take_over)
        assert before.counters()["rows_saved"] == 1
    with with_rows(tmp_path / "again", rows, rows.read()) as again:
        again.lan.send(from_client(1, "PA", b"x", ack=PRIMARY_ISN + 1))
        assert read(again.guest.receive(10)).ack == SECONDARY_ISN + 1
        again.guest.send(frame(Tcp(SECONDARY_ISN + 1, "PA", b"answer", ack=2)))
        frames = lan_frames_until(again, b"answer")
        assert read(frames[-1]).seq == PRIMARY_ISN + 1
        assert again.counters()["rows_restored"] == again.counters()["rows_saved"] == 1
        while not any(octets[12:14] == b"\x08\x06" for octets in frames):
            frames.append(again.lan.receive(10))
            assert frames[-1] is not None, "nothing is announced"


@pytest.mark.rule("R4")
def test_a_node_that_is_killed_before_it_serves_has_kept_its_rows(tmp_path):
    rows = RowsFile(tmp_path / "rows", "web", lambda: 1)
    with with_rows(tmp_path / "before", rows) as before:
        shake_hands(before, before.link())
        before.tell(before.path.hold_for_takeover)
        before.tell(before.path.keep_rows)
        assert before.counters()["rows_saved"] == 1
        before.lan.send(from_client(1, "PA", b"x", ack=PRIMARY_ISN + 1))
        assert before.guest.receive(0.1) is None
    with with_rows(tmp_path / "again", rows, rows.read()) as again:
        again.lan.send(from_client(1, "PA", b"x", ack=PRIMARY_ISN + 1))
        assert read(again.guest.receive(10)).ack == SECONDARY_ISN + 1


def test_a_takeover_whose_rows_cannot_be_written_serves_all_the_same(tmp_path):
    with with_rows(tmp_path / "node", RowsFile(tmp_path / "none" / "rows", "web", lambda: 1)) as running:
        shake_hands(running, running.link())
        running.tell(running.path.take_over)
        assert "a restart of this node will end the connections" in running.notes.get(timeout=20)
        running.lan.send(from_client(1, "PA", b"x", ack=PRIMARY_ISN + 1))
        assert read(running.guest.receive(10)).ack == SECONDARY_ISN + 1
