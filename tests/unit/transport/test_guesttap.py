"""A guest's tap, in a namespace of the test's own; the test plays QEMU."""

import random
import struct

import pytest

from pycolo.core import BATCH_BUFFER_BYTES
from pycolo.errors import ConnectError
from pycolo.transport.guesttap import open_guest
from pycolo.transport.ports import open_device
from pycolo.transport.portspec import parse_port
from support import segments
from support.nodes import wait_for
from support.segments import GSO_TCPV4, NEEDS_CSUM, Flow, Tcp, batch, unbatch, vnet_header
from support.taps import VNET_LEN, Tap
from support.tapworld import FakeInterface, Ring

QUEUE = 50

ETHERNET = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x88\xb5"
"""An ethertype for local experiments (IEEE 802)."""


def numbered(count, start=0):
    return [bytes(VNET_LEN) + ETHERNET + i.to_bytes(4) + b"x" * 46 for i in range(start, start + count)]


@pytest.fixture
def tap(stack, namespace):
    found = Tap(namespace, "guest0", QUEUE)
    stack.callback(found.close)
    return found


@pytest.fixture
def port(stack, tap):
    found = tap.port()
    stack.callback(found.close)
    return found


def give(port, frames):
    """How many of the frames the tap takes now."""
    octets = batch(frames, VNET_LEN)
    end = port.write_batch(octets, 0, len(octets))
    return len(unbatch(bytes(octets[:end]), has_vnet=True))


def listen(port):
    """What waits in the socket, with vnet headers."""
    buf, found = bytearray(BATCH_BUFFER_BYTES), []
    while end := port.read_batch(buf, 0):
        found += unbatch(bytes(buf[:end]), has_vnet=True, keeps_vnet=True)
    return found


def hear(port, expected):
    found = []

    def is_all():
        found.extend(listen(port))
        return len(found) >= len(expected)

    wait_for(is_all, "the frames")
    assert [octets[VNET_LEN:] for octets in found] == [octets[VNET_LEN:] for octets in expected]


def test_a_port_whose_ring_may_not_be_emptied_opens_and_says_so_at_the_purge(monkeypatch):
    """CAP_NET_RAW is enough for a packet socket; txqueuelen takes CAP_NET_ADMIN."""

    def refuse(interface):
        raise ConnectError(f"{interface.name}: its queue cannot be emptied")

    monkeypatch.setattr(FakeInterface, "empty_queue", refuse)
    ring = Ring()
    try:
        octets = batch([b"x" * 20] * 3)
        assert ring.port.write_batch(octets, 0, len(octets)) == len(octets)
        assert len(ring.read(5)) == 3
        assert ring.port.is_input_read()
        with pytest.raises(ConnectError, match="cannot be emptied"):
            ring.port.purge()
    finally:
        ring.close()


@pytest.mark.namespaces
@pytest.mark.tun
@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_order_of_reads_and_writes_the_counts_are_exact(tap, port, seed):
    """The ring takes what it has room for; nothing is lost or turned round; drained is drained."""
    dice = random.Random(seed)
    to_give, given, got, said, heard = numbered(2000), 0, [], [], []
    while given < len(to_give) or len(got) < len(to_give):
        given += give(port, to_give[given : given + dice.choice([1, 7, 80])])
        assert port.sent == given
        assert given - len(got) <= QUEUE
        got += tap.read(dice.choice([0, 0, 1, 30, 1000]))
        assert port.is_input_read() == (given == len(got))
        if dice.random() < 0.3:
            more = numbered(dice.choice([1, 30]), len(said))
            tap.write(more)
            said += more
        if dice.random() < 0.5:
            heard += listen(port)
        assert port.is_output_read() == (len(heard) == len(said))
    heard += listen(port)
    assert got == to_give
    assert [octets[VNET_LEN:] for octets in heard] == [octets[VNET_LEN:] for octets in said]
    assert port.is_input_read()
    assert port.is_output_read()
    assert (port.sent, port.got, port.strayed) == (2000, len(said), None)


@pytest.mark.namespaces
@pytest.mark.tun
def test_a_frame_that_is_read_and_given_up_after_the_stop_was_none_that_counted_as_unread(tap, port):
    """QEMU stops, reads one frame more, and discards it: input is to be drained before."""
    give(port, numbered(3))
    tap.read(2)
    assert not port.is_input_read()
    tap.read(1)  # this one is discarded
    assert port.is_input_read(), "counting cannot tell"


@pytest.mark.namespaces
@pytest.mark.tun
def test_what_is_purged_is_gone_and_what_is_sent_then_is_read(tap, port):
    give(port, numbered(40))
    assert tap.read(15) == numbered(15)
    assert port.purge() == 25
    assert port.is_input_read()
    assert (port.sent, port.counters()["purged"]) == (0, 25)
    assert give(port, numbered(QUEUE, 100)) == QUEUE, "the ring is as long as before"
    assert tap.read() == numbered(QUEUE, 100)
    assert port.is_input_read()
    assert port.strayed is None


@pytest.mark.namespaces
@pytest.mark.tun
def test_frames_of_others_are_noticed(stack, namespace, tap, port):
    other = open_device(parse_port(f"packet:guest0,netns={namespace.path}", "--lan"), "--lan")
    stack.callback(other.close)

    def is_noticed():
        give(other, numbered(1))
        tap.read()
        listen(port)
        return port.strayed

    wait_for(lambda: is_noticed() and port.tap.read_by_guest, "a frame")
    port.purge()
    assert port.strayed is None
    before = port.got
    assert "of others were sent" in wait_for(is_noticed, "a frame")
    assert port.got == before, "they are not the guest's"


@pytest.mark.namespaces
@pytest.mark.tun
def test_more_reads_than_frames_are_noticed(stack, tap, port):
    other = tap.port()
    stack.callback(other.close)
    give(other, numbered(1))
    tap.read()
    assert "1 frames more were read" in port.strayed
    port.purge()
    assert port.strayed is None


@pytest.mark.namespaces
@pytest.mark.tun
def test_the_output_can_be_counted_anew(tap, port):
    tap.write(numbered(5))
    hear(port, numbered(5))
    port.recount_output()
    assert port.is_output_read()
    tap.write(numbered(2))
    assert not port.is_output_read()
    port.recount_output()
    assert not port.is_output_read(), "two are still in the socket"
    hear(port, numbered(2))
    assert port.is_output_read()


def large(seq):
    vnet = bytearray(vnet_header(NEEDS_CSUM, GSO_TCPV4, 1000, size=VNET_LEN))
    vnet[2:4] = (54).to_bytes(2, "little")
    return segments.frame(Tcp(seq, "PA", bytes([seq % 251]) * 20_000, from_client=True), bytes(vnet))


@pytest.mark.namespaces
@pytest.mark.tun
def test_a_large_frame_that_the_guest_does_not_take_is_cut_across_a_full_ring(tap, port):
    tap.offer(0)
    frames = [large(1), *numbered(10), large(20_001), *numbered(40, 10), large(40_001)]
    given, got, dice = 0, [], random.Random(1)
    while given < len(frames):
        given += give(port, frames[given:])
        got += tap.read(dice.choice([1, 5, 30]))
        assert port.sent >= len(got)
    got += tap.read()
    small = [octets for octets in got if octets[VNET_LEN + 12 : VNET_LEN + 14] == b"\x88\xb5"]
    assert small == numbered(50)
    cut = [segments.read(octets[VNET_LEN:]) for octets in got if octets not in small]
    assert [segment.seq for segment in cut] == [start + 1000 * i for start in (1, 20_001, 40_001) for i in range(20)]
    assert [i for i, segment in enumerate(cut) if "P" in segment.flags] == [19, 39, 59]
    assert port.tap.cut == 3
    assert port.is_input_read()


@pytest.mark.namespaces
@pytest.mark.tun
@pytest.mark.parametrize("tags", [(), (5,), (7, 9)])
@pytest.mark.parametrize("is_large", [False, True])
def test_what_a_vnet_header_says_of_a_frame_is_the_same_on_both_sides(tap, port, tags, is_large):
    """Both ways, with VLAN tags: what is left to be cut or summed, and where."""
    l4 = 34 + 4 * len(tags)
    gso, size, length = (GSO_TCPV4, 1000, 20_000) if is_large else (0, 0, 900)
    said = struct.pack("<BBHHHH", NEEDS_CSUM, gso, l4 + 20, size, l4, 16)
    octets = segments.frame(Tcp(1, "A", bytes(length), flow=Flow(tags=tags), from_client=True), said)

    def told(octets):
        flags, gso, header, size, start, offset = struct.unpack_from("<BBHHHH", octets)
        return flags, gso, header if gso else 0, size, start, offset, octets[VNET_LEN:]

    assert give(port, [octets]) == 1
    assert [told(got) for got in tap.read()] == [told(octets)]
    tap.write([octets])
    assert [told(got) for got in listen(port)] == [told(octets)]


@pytest.mark.namespaces
@pytest.mark.tun
def test_two_queues_are_counted_as_one(stack, namespace):
    """Frames of one connection stay in one queue; which queue is read first is the guest's affair."""
    tap = Tap(namespace, "guest1", queues=2)
    stack.callback(tap.close)
    port = tap.port()
    stack.callback(port.close)
    given = [bytes(VNET_LEN) + segments.udp(i.to_bytes(4), Flow(i % 37 + 1), from_client=True) for i in range(400)]
    assert give(port, given) == 400
    first = tap.read_queue(1)
    assert not port.is_input_read()
    second = tap.read_queue(0)
    assert port.is_input_read()
    assert sorted(first + second) == sorted(given)
    assert first, "else there is nothing to see"
    assert second, "else there is nothing to see"
    for got in (first, second):
        assert got == [octets for octets in given if octets in got], "each queue keeps its order"


@pytest.mark.namespaces
@pytest.mark.tun
def test_a_frame_that_was_begun_is_finished_before_any_other_or_forgotten(tap, port):
    tap.offer(0)
    give(port, numbered(QUEUE - 5))
    octets = batch([large(1), *numbered(1)], VNET_LEN)
    assert port.tap.take_batch(octets, 0, len(octets)) == (0, 0), "the ring is full again before it is taken"
    assert port.tap.has_begun
    assert len(tap.read()) == QUEUE
    other = batch(numbered(1, 7), VNET_LEN)
    assert port.tap.take_batch(other, 0, len(other)) == (len(other), len(other)), "the caller has given it up"
    assert not port.tap.has_begun
    assert tap.read() == numbered(1, 7)


@pytest.mark.namespaces
@pytest.mark.tun
def test_a_guest_that_is_off_gets_nothing_and_nothing_is_lost(namespace, tap, port):
    """Without QEMU the tap has no carrier; here, it is switched off."""
    frames = numbered(3)
    namespace.run("ip", "link", "set", "guest0", "carrier", "off")
    assert give(port, frames) == 0
    assert port.tap.is_full
    namespace.run("ip", "link", "set", "guest0", "carrier", "on")
    wait_for(lambda: give(port, frames) == 3, "the carrier")
    assert tap.read() == frames


@pytest.mark.namespaces
@pytest.mark.tun
def test_an_interface_of_another_kind_has_its_frames_at_once(stack, namespace):
    namespace.add_pair()
    one, two = (
        open_guest(parse_port(f"packet:{name},netns={namespace.path}", "--guest"), "--guest") for name in ("one", "two")
    )
    for port in (one, two):
        stack.callback(port.close)
    wait_for(lambda: give(one, numbered(1)) and listen(two), "the cable")
    listen(two)
    before = one.sent
    assert give(one, numbered(5)) == 5
    hear(two, numbered(5))
    assert one.sent == before + 5
    assert one.is_input_read()
    assert one.purge() == 0


@pytest.mark.namespaces
@pytest.mark.tun
def test_a_tap_that_is_gone_is_an_error_that_names_it(stack, namespace):
    tap = Tap(namespace, "guest1")
    port = tap.port()
    stack.callback(port.close)
    tap.close()
    buf = bytearray(BATCH_BUFFER_BYTES)
    for question in (port.is_input_read, port.is_output_read, port.purge, lambda: port.read_batch(buf, 0)):

        def says_so(question=question):
            try:
                question()
            except ConnectError as error:
                return str(error).startswith(("--guest guest1: the", "guest1: the"))
            return False

        wait_for(says_so, "the error")


@pytest.mark.namespaces
@pytest.mark.tun
def test_a_tap_that_may_go_gives_nothing_then_and_takes_nothing(stack, namespace):
    """As that of a QEMU that has ended, which others notice."""
    tap = Tap(namespace, "guest1")
    port = tap.port(may_go=True)
    stack.callback(port.close)
    tap.write(numbered(1))
    hear(port, numbered(1))
    tap.close()

    wait_for(lambda: port.tap.read_by_guest < 0, "its end")
    assert listen(port) == []
    assert port.is_output_read()
    assert port.is_input_read()
    assert port.strayed is None
    assert port.purge() == 0, "a checkpoint's state was loaded, and then its QEMU was killed"
    port.recount_output()
    assert give(port, numbered(3)) == 3
    assert (port.counters()["frames_out"], port.counters()["dropped"]) == (0, 3)
    assert listen(port) == []


class Going:
    """A packet socket whose interface goes between two looks at it, after some of them."""

    def __init__(self, sock, looks):
        self._sock = sock
        self._looks = looks

    def getsockname(self):
        self._looks -= 1
        return ("guest1", *self._sock.getsockname()[1:]) if self._looks >= 0 else self._sock.getsockname()

    def __getattr__(self, name):
        return getattr(self._sock, name)


@pytest.mark.namespaces
@pytest.mark.tun
@pytest.mark.parametrize("looks", range(4))
def test_a_tap_that_goes_in_the_midst_of_a_read_ends_nothing(stack, namespace, monkeypatch, looks):
    """It goes down first, and is deleted a moment later. One error tells of both, and only a look tells them apart."""
    tap = Tap(namespace, "guest1")
    port = tap.port(may_go=True)
    stack.callback(port.close)
    tap.close()
    wait_for(lambda: port.tap.read_by_guest < 0, "its end")
    monkeypatch.setattr(port, "_sock", Going(port._sock, looks))
    assert listen(port) == []
    assert port.frames.failed_errno, "else there is nothing to see"
    assert listen(port) == []


@pytest.mark.namespaces
@pytest.mark.tun
def test_a_new_tap_of_that_name_is_counted_from_its_own_start(stack, namespace):
    for _ in range(2):
        tap = Tap(namespace, "guest1")
        port = tap.port()
        assert give(port, numbered(5)) == 5
        assert tap.read() == numbered(5)
        assert port.is_input_read()
        assert port.is_output_read()
        port.close()
        tap.close()


@pytest.mark.namespaces
@pytest.mark.tun
def test_a_queue_that_was_left_empty_is_given_its_usual_length(stack, namespace):
    tap = Tap(namespace, "guest1", queue=0)
    stack.callback(tap.close)
    port = tap.port()
    stack.callback(port.close)
    assert give(port, numbered(100)) == 100
