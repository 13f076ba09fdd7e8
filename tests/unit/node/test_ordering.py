"""The order of requests in both nodes' data paths: rounds, checkpoints, takeovers."""

import os
from ipaddress import IPv4Address

import pytest

from pycolo.compare.difference import Difference, RequestCheckpoint
from pycolo.compare.kinds import DifferenceKind
from pycolo.compare.wait import Wait
from pycolo.conntrack.key import ConnectionKey
from pycolo.core import PrimaryOrder
from pycolo.link.codec import unpack_rounds
from pycolo.node.ordering import Ordering
from pycolo.order.tuner import Mode, Tuner
from support.descriptors import descriptors
from support.nodes import wait_for
from support.pathpair import Pair
from support.paths import tell
from support.segments import Flow, Tcp, frame, mss, read

PORT = 6379
ISN = 1_000
FLOWS = [Flow(PORT, 5000), Flow(PORT, 5001, version=6), Flow(PORT, 5002, tags=(7,))]


@pytest.fixture
def pair(tmp_path):
    made = Pair(tmp_path, tuner=Tuner({PORT: Mode.FOLLOW}))
    yield made.synchronised()
    made.close()


def ask(pair, number, data=b"GET", seq=1):
    pair.p.tells(frame(Tcp(seq, "PA", data, ack=ISN + 1, flow=FLOWS[number], from_client=True)))


def shake_hands(pair, flow):
    """Both guests begin with the same number, so that nothing is translated."""
    pair.p.tells(frame(Tcp(0, "S", options=mss(1460), flow=flow, from_client=True)))
    for guest in (pair.p, pair.s):
        assert read(guest.gets()).flags == "S"
        guest.says(frame(Tcp(ISN, "SA", ack=1, options=mss(1460), flow=flow)))
    assert read(pair.p.hears()).seq == ISN
    pair.p.tells(frame(Tcp(1, "A", ack=ISN + 1, flow=flow, from_client=True)))
    assert not read(pair.p.gets()).data
    assert not read(pair.s.gets()).data


def answer(guest, number, data=b"yes", ack=4):
    guest.says(frame(Tcp(ISN + 1, "PA", data, ack=ack, flow=FLOWS[number])))


def who(octets):
    return FLOWS.index(read(octets).flow)


def busy(pair):
    """Three connections; two have asked, so that none is alone. The round of the second lasts."""
    for flow in FLOWS:
        shake_hands(pair, flow)
    ask(pair, 0)
    assert who(pair.p.gets()) == 0
    answer(pair.p, 0)
    assert who(pair.s.gets()) == 0
    answer(pair.s, 0)
    assert who(pair.p.hears()) == 0
    ask(pair, 1)
    assert who(pair.p.gets()) == 1


def waiting(pair):
    return pair.counters(pair.primary)["ordered_waiting"]


def patient(pair):
    """Limits that no busy machine reaches."""
    for path in (pair.primary, pair.secondary):
        order = path._pump.order
        arguments = (PORT, 1, False, 60_000_000, 0) if path is pair.primary else (PORT, 1, 60_000_000, 0)
        tell(path, order.set_gate, *arguments)


def test_the_second_guest_is_asked_in_the_order_of_the_firsts_answers(pair):
    patient(pair)
    busy(pair)
    assert pair.s.gets(0.1) is None, "not before it is answered"
    ask(pair, 2)
    wait_for(lambda: waiting(pair) == 2, "one to wait for its turn, the other to be mirrored")
    answer(pair.p, 1)
    assert who(pair.p.gets()) == 2
    answer(pair.p, 2)
    assert who(pair.s.gets()) == 1
    assert pair.s.gets(0.1) is None, "one at a time"
    answer(pair.s, 1)
    assert who(pair.s.gets()) == 2
    answer(pair.s, 2)
    assert [who(pair.p.hears()) for _ in "12"] == [1, 2]


def test_a_request_waits_for_its_limit_at_most(pair):
    busy(pair)
    ask(pair, 2)
    assert who(pair.p.gets()) == 2
    wait_for(lambda: pair.counters(pair.primary)["ordered_limited"] == 1, "the limit to be counted")


def test_what_the_guest_has_got_is_mirrored_before_the_offsets_and_belongs_to_the_state(pair):
    """So the second guest, which has loaded that state, does not get it."""
    patient(pair)
    busy(pair)
    ask(pair, 2)
    wait_for(lambda: waiting(pair) == 2, "one to wait for its turn, the other to be mirrored")
    tell(pair.primary, pair.primary.hold_input)
    pair.checkpoint(2, between=lambda: answer(pair.p, 1))
    assert who(pair.p.hears()) == 1, "the checkpoint lets it go"
    assert who(pair.p.gets()) == 2, "the round is over"
    answer(pair.p, 2)
    assert who(pair.s.gets()) == 2


def test_the_next_is_given_after_the_checkpoint_only(pair):
    patient(pair)
    busy(pair)
    tell(pair.primary, pair.primary.hold_input)
    ask(pair, 2)
    answer(pair.p, 1)
    assert pair.p.gets(0.1) is None
    pair.checkpoint(2)
    assert who(pair.p.gets()) == 2


def test_a_takeover_gives_the_second_guest_what_was_mirrored_without_rounds(pair):
    patient(pair)
    busy(pair)
    answer(pair.p, 1)
    assert who(pair.s.gets()) == 1
    ask(pair, 2)
    assert who(pair.p.gets()) == 2
    answer(pair.p, 2)
    wait_for(lambda: pair.counters(pair.secondary)["ordered_waiting"] == 1, "it to wait for its turn")
    tell(pair.secondary, pair.secondary.take_over)
    assert who(pair.s.gets()) == 2
    wait_for(lambda: pair.mode == "serving", "the takeover")
    assert pair.counters(pair.secondary)["ordered_waiting"] == 0


def test_a_primary_that_is_alone_gives_everything(pair):
    patient(pair)
    busy(pair)
    ask(pair, 2)
    wait_for(lambda: waiting(pair) == 2, "one to wait for its turn, the other to be mirrored")
    tell(pair.primary, pair.primary.go_alone)
    assert who(pair.p.gets()) == 2
    assert waiting(pair) == 0


def test_the_status_says_what_is_done_and_why(pair):
    busy(pair)
    (port,) = pair.primary.ask(pair.primary.snapshot).result(20)["order"]
    assert (port["port"], port["mode"], port["is_ordered"], port["width"]) == (PORT, "follow", True, 1)
    assert port["requests"] == 2
    assert port["why"] == "configured"


def test_a_thread_that_is_gone_is_watched_no_longer():
    ordering = Ordering(Tuner({}), PrimaryOrder())
    before = descriptors()
    ordering.watch([os.getpid(), 1 << 30])
    assert descriptors() <= before
    ordering.watch([os.getpid()])
    assert len(descriptors() - before) == 4
    ordering.unwatch()
    assert descriptors() <= before


def test_a_port_is_ordered_when_its_clients_wait_for_checkpoints():
    """And not the others, whose answers were only let go by the same checkpoints."""
    ordering = Ordering(Tuner({}, Mode.AUTO), PrimaryOrder())
    ordering.begin(0)
    keys = {port: ConnectionKey(6, IPv4Address("10.0.0.2"), IPv4Address("10.0.0.9"), port, 40_000) for port in (22, 80)}
    ask = RequestCheckpoint(Difference(DifferenceKind.PAYLOAD, keys[80], 1, 0))
    waits = [Wait(key, 1, 50_000, 50_000, 0) for key in (*keys.values(), None)]
    told = b""
    for now in range(0, 2_000_000, 100_000):
        told += ordering.differed([ask], now)
        told += ordering.waited(waits, now + 50_000)
    assert next((one.port, one.width) for one in unpack_rounds(told, "link")) == (80, 1)
    assert [port["port"] for port in ordering.ports()] == [80]


def test_mutual_waits_are_told_from_other_differences():
    """They begin order long before a second is over."""
    key = ConnectionKey(6, IPv4Address("10.0.0.2"), IPv4Address("10.0.0.9"), PORT, 40_000)
    begun = {}
    for kind in (DifferenceKind.MUTUAL_WAIT, DifferenceKind.PAYLOAD):
        ordering = Ordering(Tuner({}, Mode.AUTO), PrimaryOrder())
        ordering.begin(0)
        for now in range(0, 2_000_000, 100_000):
            ordering.differed([RequestCheckpoint(Difference(kind, key, 1, 0))], now)
            if ordering.waited([Wait(key, 1, 50_000, 50_000, 0)], now + 50_000):
                begun.setdefault(kind, now)
    assert begun[DifferenceKind.MUTUAL_WAIT] < 500_000 < begun[DifferenceKind.PAYLOAD]
