"""Two node processes, a client and two guests: what one node's death, sleep or return does to a connection."""

import random
import signal
import threading
import time

import pytest

from support.nodes import HEARTBEAT_TIMEOUT_MS, PATIENCE_S, World, wait_for
from support.segments import Tcp, arp, frame, read, vnet_header


@pytest.fixture
def world(tmp_path):
    found = World(tmp_path)
    yield found
    found.close()


# ── in service ──────────────────────────────────────────────────────────────────────────────────────────────


def test_both_guests_are_asked_their_answers_compared_and_the_primarys_released(world):
    connection = world.protected().connect()
    for i in range(20):
        connection.ask(b"%d" % i)
    asked = [b"%d" % i for i in range(20)]
    assert world.guests["primary"].asked == world.guests["secondary"].asked == asked
    wait_for(lambda: world.primary.counters()["held"] == 0, "everything to be released")
    counters = world.primary.counters()
    assert counters["compared"] >= 20
    assert counters["divergences"] == 0
    assert world.secondary.counters()["rewritten"] >= 40
    assert world.primary.status()["hold_us"]["max"] >= world.primary.status()["hold_us"]["p50"] > 0


@pytest.mark.rule("C1")
def test_nothing_leaves_before_the_secondary_has_answered(world):
    connection = world.protected(primary=("--compare-timeout", "60000")).connect()
    world.guests["secondary"].is_mute = True
    connection.send(b"x")
    wait_for(lambda: world.guests["primary"].asked == [b"x"], "the primary to be asked")
    assert not any(read(octets).data for octets in world.lan.rest())
    world.guests["secondary"].is_mute = False
    connection.answer(b"x")


def test_a_pair_is_probed_and_judged_by_what_was_compared(world):
    def health():
        return world.primary.status()["health"]

    world.protected()
    wait_for(lambda: health()["probe_ms"] is not None, "the nodes' own frame")
    assert (health()["verdict"], health()["age_ms"]) == ("no traffic yet", None)
    world.connect().ask(b"x")
    wait_for(lambda: health()["verdict"] == "well", "the verdict")
    assert health()["compared_bytes"] >= len(b"re:x")
    assert world.secondary.status()["health"] is None


def test_frames_behind_a_vnet_header_that_is_not_expected_are_not_called_protected(world):
    """As from a tap with vnet_hdr, QEMU's default, whose filters do not say so."""
    world.protected()
    wait_for(lambda: world.primary.status()["health"]["probe_ms"] is not None, "what is counted from")
    for guest in world.guests.values():
        guest.wire.send(vnet_header() + frame(Tcp(1, "PA", b"answer", ack=1)))
    assert world.lan.receive(PATIENCE_S).endswith(b"answer"), "it leaves as ARP would"
    world.primary.wait_state("degraded")
    assert "vnet header" in world.primary.status()["health"]["why"]
    world.primary.wait_log("too much leaves uncompared: 100.0% of the payload")


# ── the other node dies ─────────────────────────────────────────────────────────────────────────────────────


def test_the_primary_goes_on_alone_and_releases_what_it_held(world):
    connection = world.protected(primary=("--compare-timeout", "60000")).connect()
    world.guests["secondary"].is_mute = True
    connection.send(b"x")
    wait_for(lambda: world.primary.counters()["held"] > 0, "the answer to be held")
    world.secondary.kill()
    connection.answer(b"x")
    world.primary.wait_state("alone")
    connection.ask(b"y")
    world.connect().ask(b"z")


def test_the_secondary_serves_old_connections_and_new_ones(world):
    connection = world.protected().connect()
    connection.ask(b"before")
    world.primary.kill()
    world.lan = world.lans["secondary"]
    connection.ask(b"after")
    world.connect().ask(b"new")
    status = world.secondary.status()
    assert status["state"] == "serving"
    assert status["term"] == 1
    takeover = status["takeover"]
    assert takeover["suspected_ns"] <= takeover["decided_ns"] <= takeover["done_ns"]


def test_unacknowledged_answers_are_sent_again_and_the_address_is_announced(world):
    connection = world.protected().connect()
    world.secondary.counters()
    world.guests["secondary"].wire.send(arp())
    wait_for(lambda: world.secondary.counters()["neighbours"], "the guest's address to be known")
    world.guests["primary"].is_mute = True  # the client gets nothing, the secondary has its answer
    connection.send(b"x")
    wait_for(lambda: world.guests["secondary"].asked == [b"x"], "the secondary to be asked")
    wait_for(lambda: world.secondary.counters()["copies"], "a copy")
    world.primary.kill()
    lan = world.lans["secondary"]
    assert lan.receive(PATIENCE_S)[12:14] == b"\x08\x06", "the announcement comes first"
    while (octets := lan.receive(PATIENCE_S))[12:14] == b"\x08\x06" or not read(octets).data:
        pass
    assert read(octets).data == b"re:x"
    world.lan = lan


def test_an_untouched_lan_stream_of_the_secondary_does_not_desynchronise_it(world):
    """Before the takeover what comes from the LAN is thrown away, at any boundary of the stream."""
    connection = world.protected().connect()
    half = b"\0\0\0\x40" + bytes(10)
    world.lans["secondary"].sock.sendall(half)
    time.sleep(0.05)
    world.primary.kill()
    world.secondary.wait_state("serving")
    world.lans["secondary"].sock.sendall(bytes(0x40 - 10))
    world.lan = world.lans["secondary"]
    connection.ask(b"x")


def test_a_new_secondary_protects_what_begins_after_it(world):
    old = world.protected().connect()
    old.ask(b"1")
    world.secondary.kill()
    world.primary.wait_state("alone")
    world.start("secondary")
    world.attach("secondary")
    world.primary.wait_state("protected")
    old.ask(b"2")  # older than the pair: not compared, not held
    new = world.connect()
    new.ask(b"3")
    assert world.guests["secondary"].asked[-1] == b"3"
    world.primary.wait_log("the pair is whole", 2)
    world.primary.kill()
    world.lan = world.lans["secondary"]
    new.ask(b"4")
    assert world.primary.log.count("the pair is whole") == 2


# ── the manual arbiter ──────────────────────────────────────────────────────────────────────────────────────


def test_with_the_manual_arbiter_nothing_leaves_between_suspicion_and_failover(world):
    manual = ("--arbiter", "manual", "--compare-timeout", "100")
    connection = world.protected(primary=manual, secondary=manual[:2]).connect()
    connection.ask(b"before")
    late = world.primary.counters()["divergences"]  # of a secondary that lived, and was slower than 100 ms
    world.guests["secondary"].is_mute = True
    world.secondary.kill()
    world.primary.wait_state("suspect")
    time.sleep(HEARTBEAT_TIMEOUT_MS / 1000)  # up to then the secondary could not have taken over
    world.lan.rest(0.2)
    connection.send(b"x")
    world.guests["primary"].wire.send(arp())  # passes uncompared in normal service
    wait_for(lambda: world.primary.counters()["passed"] > 0, "the frame to be taken")
    assert world.lan.rest(1.5) == []
    assert world.primary.state == "suspect"
    assert world.primary.counters()["divergences"] == late, "a dead secondary is no divergence"
    world.primary.fail_over("alone")
    connection.answer(b"x")
    assert "nothing to decide" in world.primary.ask("failover")["error"]


def test_with_the_manual_arbiter_the_secondary_serves_when_it_is_told_to(world):
    manual = ("--arbiter", "manual")
    connection = world.protected(primary=manual, secondary=manual).connect()
    world.primary.kill()
    world.secondary.wait_state("suspect")
    assert world.lans["secondary"].rest() == []
    assert world.secondary.fail_over("serving") == 1
    world.lan = world.lans["secondary"]
    connection.ask(b"x")


def test_a_suspected_primary_takes_a_new_secondary_process(world):
    manual = ("--arbiter", "manual")
    world.protected(primary=manual, secondary=manual)
    world.secondary.kill()
    world.primary.wait_state("suspect")
    world.start("secondary", *manual)
    world.attach("secondary")
    world.primary.wait_state("protected")
    world.connect().ask(b"x")


# ── a node sleeps ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("asleep_s", [0.3, 1.5])
def test_a_primary_that_was_stopped_lets_nothing_out_when_it_wakes_up(world, asleep_s):
    connection = world.protected(primary=("--compare-timeout", "50")).connect()
    connection.ask(b"before")
    world.lan.rest(0.1)
    world.primary.signal(signal.SIGSTOP)
    world.secondary.wait_state("serving")
    world.lan.rest(0.1)  # answers to what the client had asked twice
    # What would leave at once on waking up: a frame that passes uncompared, and an answer past its time-out.
    world.guests["primary"].wire.send(arp())
    connection.send(b"x")
    time.sleep(asleep_s)
    world.primary.signal(signal.SIGCONT)
    left = world.lan.rest(3)
    assert left == []
    assert world.primary.end() == 3
    last = world.primary.log.splitlines()[-1]
    assert last.startswith("colo: the other node has taken over under term 1; this node must not serve; ")
    assert "too busy for a heartbeat's " in last
    assert "raise --heartbeat-timeout" in last
    assert "Traceback" not in world.primary.log
    world.lan = world.lans["secondary"]
    connection.ask(b"x")


def test_a_primary_that_slept_and_was_not_replaced_goes_on(world):
    manual = ("--arbiter", "manual")
    connection = world.protected(primary=manual, secondary=manual).connect()
    world.primary.signal(signal.SIGSTOP)
    world.secondary.wait_state("suspect")
    world.primary.signal(signal.SIGCONT)
    world.secondary.wait_state("protected")
    connection.ask(b"x")
    world.primary.wait_state("protected")
    assert world.primary.counters()["divergences"] == 0


def test_a_secondary_that_was_stopped_ends_when_it_finds_the_primary_alone(world):
    connection = world.protected().connect()
    world.secondary.signal(signal.SIGSTOP)
    world.primary.wait_state("alone")
    connection.ask(b"x")
    world.secondary.signal(signal.SIGCONT)
    assert world.secondary.end() == 3
    last = world.secondary.log.splitlines()[-1]
    assert last.startswith("colo: the other node has taken over under term 1; this node must not serve; ")
    assert "too busy for a heartbeat's " in last
    assert "raise --heartbeat-timeout" in last
    assert world.lans["secondary"].rest() == []
    connection.ask(b"y")


# ── goodbyes ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_secondary_that_says_goodbye_leaves_the_primary_to_itself(world):
    connection = world.protected(primary=("--arbiter", "manual")).connect()
    world.secondary.signal(signal.SIGTERM)
    assert world.secondary.end() == 0
    world.primary.wait_state("alone")
    assert world.primary.status()["term"] == 0, "no arbiter was needed"
    connection.ask(b"x")
    world.start("secondary")
    world.attach("secondary")
    world.primary.wait_state("protected")
    world.connect().ask(b"y")


def test_a_primary_that_says_goodbye_is_not_taken_over_from(world):
    world.protected()
    world.primary.signal(signal.SIGTERM)
    assert world.primary.end() == 0
    world.secondary.wait_state("waiting")
    assert world.lans["secondary"].rest() == []
    assert "nothing to decide" in world.secondary.ask("failover")["error"]
    world.secondary.signal(signal.SIGINT)
    assert world.secondary.end() == 0


# ── handing over ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("arbiter", ["manual", "first-to-notice"])
def test_a_secondary_that_hears_its_primary_has_it_hand_over(world, arbiter):
    options = ("--arbiter", arbiter)
    connection = world.protected(primary=options, secondary=options).connect()
    connection.ask(b"before")
    assert world.secondary.fail_over("serving") >= 1
    assert world.primary.end() == 3
    assert "the operator wants the other node to serve" in world.primary.log.splitlines()[-1]
    world.lan = world.lans["secondary"]
    connection.ask(b"after")
    world.connect().ask(b"new")


def test_a_primary_that_hears_its_secondary_asks_for_its_promise_and_forms_the_pair_anew(world):
    manual = ("--arbiter", "manual")
    connection = world.protected(primary=manual, secondary=manual).connect()
    assert world.primary.fail_over("alone", "protected") == 0
    connection.ask(b"x")
    for node in world.nodes.values():
        node.wait_log("the pair is whole", 2)
        node.wait_state("protected")
    world.connect().ask(b"y")
    assert "may be dead" not in world.primary.log + world.secondary.log


# ── at random moments ───────────────────────────────────────────────────────────────────────────────────────


def keep_asking(connections, until, seed):
    """Ask on all connections, one after another, until told to stop; the exception, if one failed."""
    chance = random.Random(seed)
    count = 0
    while not until.is_set():
        chance.choice(connections).ask(b"%d:" % count + chance.randbytes(chance.randrange(1, 1200)))
        count += 1


class Asking(threading.Thread):
    def __init__(self, connections, seed):
        super().__init__(daemon=True)
        self.failure = None
        self._until = threading.Event()
        self._work = (connections, self._until, seed)
        self.start()

    def run(self):
        try:
            keep_asking(*self._work)
        except BaseException as error:
            self.failure = error

    def finish(self):
        self._until.set()
        self.join(2 * PATIENCE_S)
        assert not self.is_alive()
        if self.failure is not None:
            raise self.failure


def test_the_secondary_is_killed_at_random_moments(world):
    chance = random.Random(3)
    world.protected()
    connections = [world.connect() for _ in range(3)]
    asking = Asking(connections, 3)
    for _ in range(14):
        time.sleep(chance.random() * 0.15)
        world.secondary.kill()
        if chance.random() < 0.5:
            world.primary.wait_state("alone")
        world.start("secondary")
        world.attach("secondary")
        if chance.random() < 0.7:
            world.primary.wait_state("protected")
    asking.finish()
    world.primary.wait_state("protected")
    for connection in connections:
        connection.ask(b"end")
    assert "Traceback" not in world.primary.log


@pytest.mark.parametrize("seed", range(6))
def test_the_primary_is_killed_at_a_random_moment(world, seed):
    chance = random.Random(seed)
    world.protected()
    connections = [world.connect() for _ in range(3)]
    asking = Asking(connections, seed)
    time.sleep(chance.random() * 0.2)
    world.primary.kill()
    world.lan = world.lans["secondary"]
    world.secondary.wait_state("serving")
    time.sleep(0.1)
    asking.finish()
    for connection in (*connections, world.connect()):
        connection.ask(b"end")
    assert "Traceback" not in world.secondary.log
