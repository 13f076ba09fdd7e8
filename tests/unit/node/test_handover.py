"""The path with which a node took over becomes a primary's: no byte is lost, no port closed, no number changed."""

import threading
import time

import pytest

from pycolo.core import Comparator, Rewriter
from pycolo.link.codec import MessageType
from pycolo.node.primarypath import PrimaryPath
from pycolo.node.rowsfile import RowsFile
from pycolo.node.secondarypath import SecondaryPath
from pycolo.path.clock import now_us
from support.nodes import wait_for
from support.paths import Qemu, Threads, link_pair, send, tell
from support.segments import Tcp, batch, frame, mss, read, udp

pytestmark = pytest.mark.slow

FOR_EVER_NS = 1 << 62
PRIMARY_ISN, SECONDARY_ISN = 1_000, 50_000


class Survivor:
    """A node that has taken over, with one connection whose client has the dead primary's numbers."""

    def __init__(self, place, rows=None):
        self.threads, self.served = Threads(), []
        self.qemu = Qemu(place / "survivor")
        self.path = self.threads.start(
            SecondaryPath(
                Rewriter(2), **self.qemu.ports(), on_serving=self.served.append, rows=rows, **self.threads.base
            )
        )
        self.qemu.accept()
        primary, link = link_pair()
        tell(self.path, self.path.attach, link)
        send(primary, MessageType.CLIENT_FRAMES, bytes(batch([from_client(0, "S", options=mss(1460))])))
        assert self.qemu.gets()
        self.qemu.says(frame(Tcp(SECONDARY_ISN, "SA", ack=1, options=mss(1460))))
        wait_for(primary.receive, "the answer")
        send(primary, MessageType.CLIENT_FRAMES, bytes(batch([from_client(1, "A", ack=PRIMARY_ISN + 1)])))
        assert read(self.qemu.gets()).ack == SECONDARY_ISN + 1
        primary.close()
        self.threads.lost.get(timeout=20)
        tell(self.path, self.path.take_over)
        wait_for(lambda: self.served, "the takeover")

    def hand_over(self):
        old = self.path
        state = tell(old, old.hand_over)
        self.path = self.threads.start(
            PrimaryPath.from_state(
                Comparator(1), state, lambda _: None, compares=True, mirrors_at_once=False, **self.threads.base
            )
        )
        old.join(20)
        assert not old.is_alive()

    def protect(self, place):
        """A new secondary, synchronised."""
        qemu = Qemu(place / "new")
        path = self.threads.start(
            SecondaryPath(Rewriter(3), **qemu.ports(), on_serving=self.served.append, **self.threads.base)
        )
        qemu.accept()
        mine, theirs = link_pair()
        tell(path, path.hold)
        tell(self.path, self.path.attach, mine)
        tell(path, path.attach, theirs)
        tell(path, path.loaded, 1)
        tell(self.path, self.path.start_comparing, 1, lambda: FOR_EVER_NS)
        return qemu, path

    def close(self):
        self.threads.close()
        self.qemu.close()


@pytest.fixture
def survivor(tmp_path):
    made = Survivor(tmp_path)
    yield made
    made.close()


def from_client(seq, flags, data=b"", ack=0, **more):
    return frame(Tcp(seq, flags, data, ack=ack, from_client=True, **more))


def heard(qemu):
    """The next segment with payload on its LAN."""
    while True:
        octets = qemu.hears()
        assert octets is not None
        if octets[12:14] == b"\x08\x00" and octets[23] == 6 and (segment := read(octets)).data:
            return segment


def test_the_connection_goes_on_in_the_clients_numbers(survivor):
    survivor.hand_over()
    assert tell(survivor.path, survivor.path.has_offsets)
    survivor.qemu.tells(from_client(1, "A", b"a", ack=PRIMARY_ISN + 1))
    assert read(survivor.qemu.gets()).ack == SECONDARY_ISN + 1
    survivor.qemu.says(frame(Tcp(SECONDARY_ISN + 1, "A", b"answer", ack=2)))
    assert heard(survivor.qemu).seq == PRIMARY_ISN + 1
    assert all(chardev.sock.fileno() >= 0 for chardev in survivor.qemu.chardevs.values())


def test_a_primary_that_is_started_again_has_the_rows_of_its_takeover(tmp_path):
    rows = RowsFile(tmp_path / "rows", "web", lambda: 3)
    before = Survivor(tmp_path, rows)
    before.hand_over()
    before.close()
    rewriter, kept = Rewriter(4), rows.read()
    assert kept.term == 3
    assert kept.restore(rewriter, now_us()).rows == 1
    threads, qemu = Threads(), Qemu(tmp_path / "again")
    path = threads.start(
        PrimaryPath(
            Comparator(1),
            **qemu.ports(),
            on_commands=list,
            compares=True,
            rewriter=rewriter,
            rows=rows,
            **threads.base,
        )
    )
    qemu.accept()
    qemu.tells(from_client(1, "A", b"a", ack=PRIMARY_ISN + 1))
    assert read(qemu.gets()).ack == SECONDARY_ISN + 1
    qemu.says(frame(Tcp(SECONDARY_ISN + 1, "A", b"answer", ack=2)))
    assert heard(qemu).seq == PRIMARY_ISN + 1
    assert tell(path, path.has_offsets)
    threads.close()
    qemu.close()


def test_a_path_without_such_connections_says_so(tmp_path):
    threads, qemu = Threads(), Qemu(tmp_path)
    path = threads.start(PrimaryPath(Comparator(1), **qemu.ports(), on_commands=list, compares=True, **threads.base))
    assert not tell(path, path.has_offsets)
    threads.close()
    qemu.close()


def test_under_traffic_no_byte_is_lost_and_none_changed(survivor):
    """Numbered datagrams both ways, in pieces that have nothing to do with frames, while the path changes hands."""
    count = 3000
    frames = {"lan-in": [udp(i.to_bytes(4, "big") * 20, from_client=True) for i in range(count)]}
    frames["guest-in"] = [udp(i.to_bytes(4, "big") * 20) for i in range(count)]
    sinks = {"lan-in": "guest-out", "guest-in": "lan-out"}
    found = {name: [] for name in frames}

    def feed(name):
        octets = bytes(batch(frames[name]))
        sock = survivor.qemu.chardevs[name].sock
        for at in range(0, len(octets), 777):
            sock.sendall(octets[at : at + 777])

    def take(name):
        while len(found[name]) < count:
            octets = survivor.qemu.chardevs[sinks[name]].receive(20)
            if octets is None:
                return
            if octets[12:14] != b"\x08\x06":
                found[name].append(octets)

    threads = [threading.Thread(target=job, args=(name,)) for job in (feed, take) for name in frames]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(found["lan-in"]) > 50, "traffic")
    survivor.hand_over()
    for thread in threads:
        thread.join(60)
    assert found == frames


def test_what_was_stuck_towards_both_sides_comes_along(survivor):
    """Neither QEMU's LAN side nor its guest side reads: buffers are full, frames are written in part."""
    big = [udp(bytes([i]) * 50_000, from_client=True) for i in range(30)]
    out = [udp(bytes([i]) * 50_000) for i in range(30)]
    feeders = [
        threading.Thread(target=survivor.qemu.tells, args=big),
        threading.Thread(target=survivor.qemu.says, args=out),
    ]
    for feeder in feeders:
        feeder.start()
    time.sleep(0.2)
    survivor.hand_over()
    assert [survivor.qemu.gets() for _ in big] == big
    left = []
    while len(left) < len(out):
        octets = survivor.qemu.hears()
        assert octets is not None
        if octets[12:14] == b"\x08\x00":
            left.append(octets)
    assert left == out
    for feeder in feeders:
        feeder.join(20)


def test_mirrored_frames_that_still_wait_come_along_first(survivor):
    path = survivor.path
    waiting = [udp(bytes([i]), from_client=True) for i in range(5)]
    tell(path, path._mirrored.extend, [bytearray(batch(waiting[:2])), bytearray(batch(waiting[2:]))])
    survivor.hand_over()
    survivor.qemu.tells(udp(b"later", from_client=True))
    assert [survivor.qemu.gets() for _ in range(6)] == [*waiting, udp(b"later", from_client=True)]


def test_a_hand_over_at_once_still_announces(survivor):
    survivor.hand_over()
    announced = 0
    while announced < 4:
        octets = survivor.qemu.hears()
        assert octets is not None, "it is not said again"
        announced += octets[12:14] == b"\x08\x06"


def test_a_second_failover_keeps_the_clients_numbers(survivor, tmp_path):
    """The new secondary is a copy of a guest whose numbers the client does not know."""
    survivor.hand_over()
    qemu, path = survivor.protect(tmp_path)
    survivor.qemu.tells(from_client(1, "A", b"a", ack=PRIMARY_ISN + 1))
    for guest in (survivor.qemu, qemu):
        assert read(guest.gets()).ack == SECONDARY_ISN + 1
        guest.says(frame(Tcp(SECONDARY_ISN + 1, "A", b"answer", ack=2)))
    assert heard(survivor.qemu).seq == PRIMARY_ISN + 1
    tell(path, path.hold)
    tell(survivor.path, survivor.path.send_offsets, 2)
    tell(path, path.loaded, 2)
    tell(survivor.path, survivor.path.commit, 2)
    tell(survivor.path, survivor.path.detach)
    survivor.threads.lost.get(timeout=20)
    tell(path, path.take_over)
    qemu.tells(from_client(2, "A", b"b", ack=PRIMARY_ISN + 7))
    assert read(qemu.gets()).ack == SECONDARY_ISN + 7
    qemu.says(frame(Tcp(SECONDARY_ISN + 7, "A", b"more", ack=3)))
    assert heard(qemu).seq == PRIMARY_ISN + 7
    qemu.close()


def test_a_path_whose_qemu_is_not_there_yet_waits_for_it(tmp_path):
    threads, qemu = Threads(), Qemu(tmp_path)
    ports = qemu.ports()
    for chardev in qemu.chardevs.values():
        chardev.close()
    path = threads.start(PrimaryPath(Comparator(1), **ports, on_commands=list, compares=True, **threads.base))
    time.sleep(0.1)
    later = Qemu(tmp_path).accept()
    later.tells(udp(b"in", from_client=True))
    assert later.gets() == udp(b"in", from_client=True)
    later.says(udp(b"out"))
    assert later.hears() == udp(b"out")
    assert path.ask(path.snapshot).result(20)["mode"] == "alone"
    threads.close()
    later.close()
