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
from pycolo.transport.linksocket import LinkSocket
from pycolo.transport.ports import DevicePort
from support.paths import stream
from support.segments import batch, udp, unbatch

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


@pytest.fixture(params=[Device, Stream])
def pair(request, tmp_path):
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
