"""The loops of both nodes, end to end: ports of either kind, the link between them; nothing lost or turned round."""

import random
import socket
import time
from contextlib import ExitStack, suppress

import pytest

from pycolo.compare.kinds import DifferenceKind
from pycolo.core import Comparator, Rewriter
from pycolo.link.codec import DATA_FROM_PRIMARY, DATA_FROM_SECONDARY
from pycolo.node.primarypath import PrimaryPath
from pycolo.node.secondarypath import SecondaryPath
from pycolo.transport.guesttap import open_guest
from pycolo.transport.linksocket import LinkSocket
from pycolo.transport.ports import DevicePort
from pycolo.transport.portspec import parse_port
from support import netns
from support.nodes import wait_for
from support.paths import stream
from support.segments import batch, udp, unbatch
from support.taps import VNET_LEN, Tap

pytestmark = pytest.mark.slow

PATIENCE_S = 60


class Device:
    """A card that keeps frames apart, as a packet socket does: `port` is the node's end."""

    def __init__(self, place, name):
        near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for sock in (near, self._far):
            sock.setblocking(False)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)
        self.port = DevicePort(f"--{name} {place}", near.fileno(), 0, near)
        self.got = []

    def send(self, frames):
        """As many as there is room for."""
        taken = 0
        with suppress(BlockingIOError):
            for octets in frames:
                self._far.send(octets)
                taken += 1
        return taken

    def listen(self):
        with suppress(BlockingIOError):
            while octets := self._far.recv(1 << 17):
                self.got.append(octets)

    def close(self):
        self._far.close()


class Stream:
    """A chardev: bytes, that come in any pieces."""

    def __init__(self, place, name):
        self.port = stream(place, name)
        self._far = socket.socket(socket.AF_UNIX)
        self._far.connect(str(place / name))
        self._far.setblocking(False)
        self._unsent = b""
        self._octets = b""
        self.got = []

    def send(self, frames):
        if self._unsent:
            frames, taken = [], 0
        else:
            frames, taken = frames[:1], len(frames[:1])
        self._unsent += bytes(batch(frames))
        with suppress(BlockingIOError):
            sent = self._far.send(self._unsent[: random.randint(1, 3000)])
            self._unsent = self._unsent[sent:]
        return taken

    def listen(self):
        with suppress(BlockingIOError):
            while octets := self._far.recv(random.randint(1, 1 << 16)):
                self._octets += octets
        whole, at = len(self._octets), 0
        while at + 4 <= whole and (end := at + 4 + int.from_bytes(self._octets[at : at + 4])) <= whole:
            at = end
        self.got += unbatch(self._octets[:at])
        self._octets = self._octets[at:]

    def close(self):
        self._far.close()


class GuestCard:
    """A real tap where a guest is, with a short queue; a `Device` towards the LAN."""

    namespace = None

    def __init__(self, name):
        self._tap = Tap(self.namespace, name, queue=30)
        self.port = open_guest(
            parse_port(f"packet:{name},netns={self.namespace.path},vnet_hdr=off", "--guest"), "--guest"
        )
        self.got = []

    def send(self, frames):
        self._tap.write([bytes(VNET_LEN) + octets for octets in frames])
        return len(frames)

    def listen(self):
        self.got += [octets[VNET_LEN:] for octets in self._tap.read()]

    def close(self):
        self._tap.close()


def tapped(place, name):
    """What is behind a card of that name."""
    return GuestCard(name) if name.startswith("guest") else Device(place, name)


class Pair:
    """Two nodes with a card each to the LAN and to the guest."""

    def __init__(self, place, make):
        self.commands = []
        self.failures = []
        self.lost = []
        self._stack = ExitStack()
        names = ("lan-p", "guest-p", "lan-s", "guest-s")
        self.cards = {name: make(place, name) for name in names}
        ports = {name: card.port for name, card in self.cards.items()}
        base = {"on_link_lost": self.lost.append, "on_note": str, "on_fatal": self.failures.append}
        self.comparator, self.rewriter = Comparator(1, queue_packets_max=64, compare_timeout_ms=60_000), Rewriter(1)
        self.primary = PrimaryPath(
            self.comparator,
            ports["lan-p"],
            ports["lan-p"],
            ports["guest-p"],
            ports["guest-p"],
            self.commands.extend,
            compares=True,
            **base,
        )
        self.secondary = SecondaryPath(
            self.rewriter, ports["lan-s"], ports["lan-s"], ports["guest-s"], ports["guest-s"], str, **base
        )
        ours, theirs = socket.socketpair()
        links = [LinkSocket(ours, "to b", DATA_FROM_SECONDARY), LinkSocket(theirs, "to a", DATA_FROM_PRIMARY)]
        for path, link in zip((self.primary, self.secondary), links, strict=True):
            path.start()
            self._stack.callback(path.stop)
            path.ask(lambda path=path, link=link: path.attach(link)).result(20)
        self.primary.ask(lambda: self.primary.pair_formed(lambda: 1 << 62)).result(20)

    def close(self):
        self._stack.close()
        for card in self.cards.values():
            card.close()


@pytest.fixture(
    params=[Device, Stream, pytest.param(tapped, marks=[pytest.mark.namespaces, pytest.mark.tun], id="tapped")]
)
def pair(request, tmp_path):
    with ExitStack() as stack:
        if request.param is tapped:
            GuestCard.namespace = netns.made()
            stack.callback(GuestCard.namespace.close)
        found = Pair(tmp_path, request.param)
        yield found
        found.close()
        assert found.failures == []


def carry(cards, to_send, expected, dice):
    """Send and listen at random until every card has got what it is to get."""
    until = time.monotonic() + PATIENCE_S
    while any(len(cards[name].got) < count for name, count in expected.items()):
        assert time.monotonic() < until, {name: len(card.got) for name, card in cards.items()}
        for name in dice.sample(sorted(cards), len(cards)):
            left = to_send.get(name, [])
            del left[: cards[name].send(left[: dice.randint(1, 50)])]
            if dice.random() < 0.7:
                cards[name].listen()
        time.sleep(dice.choice([0, 0, 0, 0.002]))


@pytest.mark.parametrize("seed", range(4))
def test_under_load_every_frame_arrives_once_and_in_order(pair, seed):
    """Frames of a LAN at both guests, both guests' answers at the LAN; each side is slow at times."""
    dice = random.Random(seed)
    asked = [udp(number.to_bytes(4) * dice.choice([1, 30, 300]), from_client=True) for number in range(1500)]
    told = [udp(number.to_bytes(4) * dice.choice([1, 30, 300])) for number in range(1500)]
    expected = {"guest-p": len(asked), "guest-s": len(asked), "lan-p": len(told)}
    carry(pair.cards, {"lan-p": [*asked], "guest-p": [*told], "guest-s": [*told]}, expected, dice)
    got = {name: card.got for name, card in pair.cards.items()}
    assert got == {"guest-p": asked, "guest-s": asked, "lan-p": told, "lan-s": []}
    assert {command.difference.kind for command in pair.commands} <= {DifferenceKind.QUEUE_FULL}
    assert pair.lost == []


@pytest.mark.parametrize("seed", range(2))
def test_after_a_takeover_the_secondary_carries_them_all(pair, seed):
    dice = random.Random(seed)
    pair.primary.stop()
    pair.secondary.ask(pair.secondary.take_over).result(20)
    asked = [udp(number.to_bytes(4) * dice.choice([1, 300]), from_client=True) for number in range(1500)]
    told = [udp(number.to_bytes(4) * dice.choice([1, 300])) for number in range(1500)]
    expected = {"guest-s": len(asked), "lan-s": len(told)}
    cards = {name: pair.cards[name] for name in expected}
    carry(cards, {"lan-s": [*asked], "guest-s": [*told]}, expected, dice)
    assert cards["guest-s"].got == asked
    assert cards["lan-s"].got == told


# ── a guest's own tap ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def on_taps(tmp_path):
    with ExitStack() as stack:
        GuestCard.namespace = netns.made()
        stack.callback(GuestCard.namespace.close)
        found = Pair(tmp_path, tapped)
        yield found
        found.close()
        assert found.failures == []


def numbered(count, start=0):
    return [udp(number.to_bytes(4) * 10, from_client=True) for number in range(start, start + count)]


def told(path, change):
    """In the path's thread."""
    return path.ask(change).result(PATIENCE_S)


def until_got(card, count):
    wait_for(lambda: card.listen() or len(card.got) >= count, f"{count} frames")
    return card.got


@pytest.mark.namespaces
@pytest.mark.tun
def test_the_secondary_gets_what_the_primarys_tap_has_taken_and_no_more(on_taps):
    """The primary's guest does not read: its ring of 30 fills up."""
    cards = on_taps.cards
    asked = numbered(100)
    assert cards["lan-p"].send(asked[:60]) == 60
    assert until_got(cards["guest-s"], 30) == asked[:30]
    for _ in range(5):
        told(on_taps.primary, lambda: None)
        told(on_taps.secondary, lambda: None)
        cards["guest-s"].listen()
    assert cards["guest-s"].got == asked[:30], "nothing that its ring had no room for"
    assert until_got(cards["guest-p"], 60) == asked[:60]
    assert until_got(cards["guest-s"], 60) == asked[:60]


@pytest.mark.namespaces
@pytest.mark.tun
def test_what_the_primarys_tap_refuses_is_not_mirrored(on_taps):
    """A frame that is longer than the guest's card takes; the secondary's would."""
    cards = on_taps.cards
    GuestCard.namespace.run("ip", "link", "set", "guest-s", "mtu", "9000")
    asked = numbered(20)
    asked[5] = asked[13] = udp(bytes(4000), from_client=True)
    kept = [octets for octets in asked if len(octets) < 1500]
    assert cards["lan-p"].send(asked) == 20
    assert until_got(cards["guest-p"], 18) == kept
    assert until_got(cards["guest-s"], 18) == kept
    assert told(on_taps.primary, lambda: cards["guest-p"].port.tap.refused) == 2


@pytest.mark.namespaces
@pytest.mark.tun
def test_while_input_is_held_no_guest_gets_any_and_their_output_goes_on(on_taps):
    cards, taps = on_taps.cards, {name: on_taps.cards[name].port for name in ("guest-p", "guest-s")}
    asked = numbered(20)
    cards["lan-p"].send(asked[:10])
    until_got(cards["guest-p"], 10)
    until_got(cards["guest-s"], 10)
    pump = on_taps.primary._pump
    told(on_taps.primary, lambda: setattr(pump, "is_input_held", True))
    assert told(on_taps.primary, lambda: pump.is_input_given() and taps["guest-p"].is_input_read())
    cards["lan-p"].send(asked[10:])
    answers = [udp(number.to_bytes(4)) for number in range(10)]
    for name in ("guest-p", "guest-s"):
        cards[name].send(answers)
    assert until_got(cards["lan-p"], 10) == answers
    assert told(on_taps.primary, lambda: taps["guest-p"].sent) == 10
    assert told(on_taps.secondary, lambda: taps["guest-s"].sent) == 10
    told(on_taps.primary, lambda: setattr(pump, "is_input_held", False))
    assert until_got(cards["guest-p"], 20) == asked
    assert until_got(cards["guest-s"], 20) == asked
