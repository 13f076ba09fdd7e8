"""Both nodes' data paths beside a guest's tap: what the guests get at a checkpoint, and when one dies in it."""

import pytest

from pycolo.core import Comparator, Rewriter
from pycolo.node import primarypath, secondarypath
from pycolo.node.primarypath import PrimaryPath
from pycolo.node.secondarypath import SecondaryPath
from support.nodes import wait_for
from support.paths import Qemu, Threads, link_pair, tell
from support.segments import udp

FOR_EVER_NS = 1 << 62
QUIET_S = 0.15


class Tap:
    """A `GuestWire` whose guest reads when the test says so. The frames go through QEMU's sockets."""

    strayed = None

    def __init__(self):
        self.is_read = True
        self.purged = self.recounted = 0
        self.is_heard = True

    def is_input_read(self):
        return self.is_read

    def is_output_read(self):
        return self.is_heard

    def purge(self):
        self.purged += 1
        self.strayed = None
        return 3

    def recount_output(self):
        self.recounted += 1

    def forget_begun(self):
        """Nothing is begun."""


class Pair:
    """A primary and a secondary that is a copy of it, in epoch 1."""

    def __init__(self, place):
        self.threads = Threads()
        for name in ("p", "s"):
            (place / name).mkdir()
        self.p, self.s = Qemu(place / "p"), Qemu(place / "s")
        self.taps = Tap(), Tap()
        self.served, self.strays = [], []
        self.primary = self.threads.start(
            PrimaryPath(
                Comparator(1, compare_timeout_ms=60_000),
                **self.p.ports(),
                on_commands=lambda found: None,
                compares=True,
                tap=self.taps[0],
                on_stray=lambda *told: self.strays.append(told),
                mirrors_at_once=False,
                **self.threads.base,
            )
        )
        self.secondary = self.threads.start(
            SecondaryPath(
                Rewriter(2), **self.s.ports(), on_serving=self.served.append, tap=self.taps[1], **self.threads.base
            )
        )
        self.p.accept()
        self.s.accept()
        mine, theirs = link_pair()
        tell(self.secondary, self.secondary.hold)
        tell(self.primary, self.primary.attach, mine)
        tell(self.secondary, self.secondary.attach, theirs)
        tell(self.secondary, self.secondary.loaded, 1)
        tell(self.primary, self.primary.start_comparing, 1, lambda: FOR_EVER_NS)
        wait_for(lambda: self.mode == "service", "the first state")

    @property
    def mode(self):
        return self.secondary.ask(self.secondary.snapshot).result(20)["mode"]

    def counters(self):
        return self.secondary.ask(self.secondary.snapshot).result(20)["counters"]

    def waiting(self):
        return self.counters()["waiting_bytes"]

    def tells(self, text):
        """A client's datagram; the primary gets it."""
        self.p.tells(udp(text, from_client=True))
        assert self.p.gets() == udp(text, from_client=True)

    def requested(self):
        """REQUEST is held, and then a datagram reaches the primary alone."""
        assert tell(self.secondary, self.secondary.hold_input)
        self.tells(b"part of the state")
        wait_for(self.waiting, "the datagram")

    def replied(self):
        """REPLY is held at both nodes."""
        tell(self.secondary, self.secondary.hold)
        tell(self.primary, self.primary.hold_input)

    def take_over(self):
        tell(self.primary, self.primary.detach)
        self.threads.lost.get(timeout=20)
        tell(self.secondary, self.secondary.take_over)
        wait_for(lambda: self.served, "the takeover")

    def close(self):
        self.threads.close()
        self.p.close()
        self.s.close()


@pytest.fixture
def pair(tmp_path):
    made = Pair(tmp_path)
    yield made
    made.close()


@pytest.mark.rule("E1")
def test_what_the_loaded_state_contains_is_not_given_twice(pair):
    pair.requested()
    pair.replied()
    tell(pair.primary, pair.primary.send_offsets, 2)
    tell(pair.secondary, pair.secondary.loaded, 2)
    tell(pair.primary, pair.primary.commit, 2)
    wait_for(lambda: pair.mode == "service", "the secondary to go on")
    pair.tells(b"of the new epoch")
    assert pair.s.gets() == udp(b"of the new epoch", from_client=True)
    assert pair.waiting() == 0


@pytest.mark.rule("E1")
def test_a_primary_about_to_stop_gets_nothing_until_it_is_committed(pair):
    pair.requested()
    pair.replied()
    pair.p.tells(udp(b"waits", from_client=True))
    assert pair.p.gets(QUIET_S) is None
    tell(pair.secondary, pair.secondary.loaded, 2)
    tell(pair.primary, pair.primary.commit, 2)
    assert pair.p.gets() == udp(b"waits", from_client=True)
    assert pair.s.gets() == udp(b"waits", from_client=True)


def test_without_the_secondary_its_input_flows_again(pair):
    pair.requested()
    pair.replied()
    pair.p.tells(udp(b"waits", from_client=True))
    assert pair.p.gets(QUIET_S) is None
    tell(pair.primary, pair.primary.go_alone)
    assert pair.p.gets() == udp(b"waits", from_client=True)


@pytest.mark.rule("E4")
def test_a_survivor_in_its_own_state_gets_what_waited_for_it(pair):
    pair.requested()
    pair.replied()
    pair.take_over()
    assert pair.s.gets() == udp(b"part of the state", from_client=True)


@pytest.mark.rule("E4")
def test_a_survivor_in_the_primarys_state_has_had_it(pair):
    pair.requested()
    pair.replied()
    tell(pair.secondary, pair.secondary.loaded, 2)
    pair.take_over()
    assert pair.s.gets(QUIET_S) is None


@pytest.mark.rule("E4")
def test_from_the_yank_to_the_takeover_clients_wait_and_the_guest_is_heard(pair):
    """It runs: what it says then is no answer of the survivor's, but it must not find its card full either."""
    tell(pair.secondary, pair.secondary.hold_for_takeover)
    pair.tells(b"waits")
    wait_for(pair.waiting, "the datagram")
    before = pair.counters()["guest_frames"]
    pair.s.says(udp(b"to the other node"))
    wait_for(lambda: pair.counters()["guest_frames"] > before, "the guest to be heard")
    assert pair.s.gets(QUIET_S) is None
    pair.take_over()
    assert pair.s.gets() == udp(b"waits", from_client=True)
    tell(pair.secondary, pair.secondary.hold_for_takeover)  # the plan is run again
    pair.s.tells(udp(b"served", from_client=True))
    assert pair.s.gets() == udp(b"served", from_client=True), "one that serves holds nothing"


def test_the_next_checkpoint_waits_for_the_offsets_of_the_last(pair):
    pair.requested()
    pair.replied()
    tell(pair.secondary, pair.secondary.loaded, 2)
    assert not tell(pair.secondary, pair.secondary.hold_input)
    tell(pair.primary, pair.primary.commit, 2)
    wait_for(lambda: pair.mode == "service", "the secondary to go on")
    assert tell(pair.secondary, pair.secondary.hold_input)


def test_what_a_guest_has_read_is_its_taps_word(pair):
    for path, tap in zip((pair.primary, pair.secondary), pair.taps, strict=True):
        assert tell(path, path.is_input_read)
        tap.is_read = False
        assert not tell(path, path.is_input_read)
        assert tell(path, path.give_up_input) == 3
        assert tap.purged == 1


def test_what_others_send_to_the_primarys_tap_asks_for_a_checkpoint_once(pair):
    pair.taps[0].strayed = "card hn0: 2 frames of others were sent on it"
    pair.tells(b"something happens")
    wait_for(lambda: pair.strays, "word of it")
    assert pair.strays == [("card hn0: 2 frames of others were sent on it", 1)]
    assert pair.taps[0].purged == 1
    assert pair.threads.notes.get(timeout=20) == pair.strays[0][0]


def test_an_output_that_is_counted_wrong_is_counted_anew(pair, monkeypatch):
    monkeypatch.setattr(primarypath, "OUTPUT_US_MAX", 1_000)
    monkeypatch.setattr(secondarypath, "OUTPUT_US_MAX", 1_000)
    pair.requested()
    for tap in pair.taps:
        tap.is_heard = False
    pair.replied()
    tell(pair.secondary, pair.secondary.loaded, 2)
    tell(pair.primary, pair.primary.commit, 2)
    assert [tap.recounted for tap in pair.taps] == [1, 1]
    assert [epoch for _, epoch in pair.strays] == [2], "what comes late belongs to it"
