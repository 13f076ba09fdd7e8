"""The nodes' own frame: the whole way, compared, and nowhere else."""

import asyncio

import pytest

from pycolo.core import Comparator, Rewriter
from pycolo.node import prober
from pycolo.node.primarypath import PrimaryPath
from pycolo.node.prober import Prober
from pycolo.node.secondarypath import SecondaryPath
from support.paths import Qemu, Threads, link_pair, tell
from support.segments import udp

FOR_EVER_NS = 1 << 62


class Pair:
    """Two data paths in QEMU's sockets, the secondary's in service."""

    def __init__(self, place, has_vnet=False):
        self.threads = Threads()
        more = ",vnet_hdr=on" if has_vnet else ""
        self.p, self.s = Qemu(place / "p"), Qemu(place / "s")
        self.primary = self.threads.start(
            PrimaryPath(
                Comparator(1, has_vnet=has_vnet),
                **self.p.ports(more),
                on_commands=lambda commands: None,
                compares=True,
                **self.threads.base,
            )
        )
        rewriter = Rewriter(2, has_vnet=has_vnet)
        self.secondary = self.threads.start(
            SecondaryPath(rewriter, **self.s.ports(more), on_serving=lambda resent: None, **self.threads.base)
        )
        self.p.accept()
        self.s.accept()
        mine, theirs = link_pair()
        tell(self.primary, self.primary.attach, mine)
        tell(self.secondary, self.secondary.attach, theirs)
        tell(self.primary, self.primary.pair_formed, lambda: FOR_EVER_NS)

    def probe(self, patience_s=30.0):
        return asyncio.run(Prober(lambda: [self.primary]).probe(patience_s))

    def close(self):
        self.threads.close()
        self.p.close()
        self.s.close()


@pytest.fixture
def make(tmp_path):
    made = []

    def build(**options):
        made.append(Pair(tmp_path, **options))
        return made[-1]

    yield build
    for one in made:
        one.close()


@pytest.mark.parametrize("has_vnet", [False, True])
def test_it_comes_back_and_is_compared(make, has_vnet):
    both = make(has_vnet=has_vnet)
    assert both.probe() > 0
    assert both.probe() > 0, "and again"


def test_it_reaches_no_guest_and_no_client(make):
    both = make()
    assert both.probe() > 0
    both.p.tells(udp(b"question", from_client=True))
    assert both.p.gets() == udp(b"question", from_client=True)
    assert both.s.gets() == udp(b"question", from_client=True)
    for guest in (both.p, both.s):
        guest.says(udp(b"answer"))
    assert both.p.hears() == udp(b"answer")
    counters = both.primary.ask(both.primary.snapshot).result(20)["counters"]
    assert (counters["passed"], counters["released"], counters["divergences"]) == (0, 1, 0)


def test_one_that_cannot_come_back_is_said_so(make):
    both = make()
    tell(both.secondary, both.secondary.hold)
    assert both.probe(0.1) is None
    tell(both.secondary, both.secondary.loaded, 0)
    tell(both.primary, both.primary.send_offsets, 0)
    assert both.probe() > 0


def test_of_several_cards_each_must_come_back(tmp_path):
    cards = []
    for name in ("hn0", "hn1"):
        (tmp_path / name).mkdir()
        cards.append(Pair(tmp_path / name))
    try:
        both = Prober(lambda: [card.primary for card in cards])
        assert asyncio.run(both.probe(30.0)) > 0
        tell(cards[1].secondary, cards[1].secondary.hold)
        assert asyncio.run(both.probe(0.1)) is None
    finally:
        for card in cards:
            card.close()


def test_a_checkpoint_costs_no_patience(make, monkeypatch):
    """The secondary stands still while much is copied: that the frame is not back says nothing."""
    monkeypatch.setattr(prober, "AGAIN_S", 0.02)
    both = make()
    tell(both.secondary, both.secondary.hold)
    standing = [True, True, False]

    def is_standing():
        return standing.pop(0)

    assert asyncio.run(Prober(lambda: [both.primary], is_standing).probe(0.01)) is None
    assert standing == []


def test_one_that_was_lost_is_no_part_of_the_time(make, monkeypatch):
    """Otherwise a lost frame would be shown as a slow link."""
    both = make()
    clock = iter(range(10_000))
    tries = []

    async def lost_at_first(path):
        tries.append(path)
        return len(tries) > 1

    monkeypatch.setattr(prober, "_once", lost_at_first)
    monkeypatch.setattr(prober, "monotonic", lambda: next(clock) / 1000)
    assert asyncio.run(Prober(lambda: [both.primary]).probe(30.0)) == pytest.approx(1)
    assert len(tries) == 2


def test_a_node_without_a_primary_s_path_probes_nothing():
    assert asyncio.run(Prober(list).probe()) is None


def test_a_guest_s_frame_of_the_same_type_is_no_probe(make):
    both = make()
    assert both.probe() > 0
    frame = b"\x02" + bytes(5) + b"\x02" + bytes(5) + b"\x88\xb5" + b"pycolo probe ".ljust(46, b"x")
    both.p.says(frame)
    assert both.p.hears() == frame
