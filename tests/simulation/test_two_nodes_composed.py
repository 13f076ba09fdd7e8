"""Two whole nodes, but for their sockets and guests, over a link that is cut and healed, on a virtual clock.

Everything from what the control connection hears to what the guests are told is the product's own. Processes die and
come back, connections break, an operator speaks who has looked: either the other node is dead, or it is heard.

Laws: never do both serve. When nothing is broken any more, the pair is whole again within seconds, and no client waits.

`PYCOLO_SEEDS=17,4711 pytest tests/simulation` runs these seeds; `PYCOLO_SEEDS=0-999` that range.
"""

import asyncio
import os
import random

import pytest

from pycolo.failover.heartbeat import SuspicionReason
from pycolo.failover.pair import Record, Settings, restarted
from pycolo.failover.pairstates import IN_STEP, State
from pycolo.failover.pairstates import Role as PairRole
from pycolo.link.codec import Channel, GoodbyeReason
from pycolo.link.hello import Hello, Role, Welcome
from pycolo.node.decider import Decider
from pycolo.node.nopath import NoPath
from pycolo.node.options import NodeOptions
from pycolo.node.ownside import dials
from pycolo.node.roles import put_together
from pycolo.transport import controlchannel as control
from pycolo.transport.linksetup import Address, Established
from pycolo.transport.linksocket import LinkSocket
from pycolo.transport.portspec import parse_port
from pycolo.transport.streamport import StreamPort
from support.virtualloop import VirtualLoop

RUNS = 60
STEPS = 30
TICK_S = 0.005
TIMEOUT_MS = 50
DIAL_TICKS = 8
CALM_S = 5.0


def seeds():
    asked = os.environ.get("PYCOLO_SEEDS")
    if not asked:
        return list(range(RUNS))
    first, _, last = asked.partition("-")
    return list(range(int(first), int(last) + 1)) if last else [int(seed) for seed in asked.split(",")]


class End(LinkSocket):
    """One end of a control connection: what `ControlChannel` is to a node, with the wire in between."""

    stream = "a link of the simulation"

    def __init__(self, world):
        self.world = world
        self.other = None
        self.on_event = None
        self.is_started = self.is_silent = self.is_closed = self.is_suspecting = False
        self.is_paused = lambda: False
        self.inbox = []
        self.heard_s = world.loop.now
        self.trusted_until_ns = 0
        self.shown_term = -1
        self.term = lambda: 0

    # what a node does with it
    def start(self):
        self.is_started = True
        self.heard_s = self.world.loop.now

    def fall_silent(self):
        self.is_silent = True

    def order(self, payload):
        self._say(control.PeerOrder(payload))

    def announce_takeover(self, term, epoch):
        self._say(control.PeerTakeover(term, epoch))

    def close(self, reason=None, text=""):
        if not self.is_closed:
            if reason is not None:
                self._say(control.PeerGoodbye(reason, text))
            self.die()

    def _say(self, event):
        if not self.is_closed and self.other is not None:
            self.other.inbox.append(event)

    # what the world does with it
    def die(self):
        if not self.is_closed:
            self._say(control.ChannelClosed("closed by the other node"))
            self.is_closed = True
            self.inbox.clear()

    def tell(self, event):
        if self.on_event is not None and not self.is_closed:
            self.on_event(event)

    def tick(self):
        now_s, other = self.world.loop.now, self.other
        if not self.is_started or self.is_closed or self.is_paused():
            return
        if self.world.is_wired:
            while self.inbox and not self.is_closed:
                event = self.inbox.pop(0)
                self.tell(event)
                if isinstance(event, control.ChannelClosed):
                    self.is_closed = True
                    return
            if other.is_started and not other.is_closed and not other.is_silent and not other.is_paused():
                self._hear(now_s)
        if now_s - self.heard_s >= TIMEOUT_MS / 1000 and not self.is_suspecting:
            self.is_suspecting = True
            self.tell(control.Suspected(SuspicionReason.SILENCE, TIMEOUT_MS, int(now_s * 1e9), "silent"))

    def _hear(self, now_s):
        self.heard_s = now_s
        if not self.is_silent:
            self.other.trusted_until_ns = int((now_s - TICK_S) * 1e9) + TIMEOUT_MS * 1_000_000
        if self.is_suspecting:
            self.is_suspecting = False
            self.tell(control.Heard(TIMEOUT_MS, int(now_s * 1e9)))
        if (term := self.other.term()) != self.shown_term:
            self.shown_term = term
            self.tell(control.PeerState(term, 0))


class Data(LinkSocket):
    stream = "data link of the simulation"

    def __init__(self):
        """No socket."""

    def close(self):
        """Nothing follows."""


class Path(NoPath):
    """A guest's data path: what is posted is done at once."""

    def __init__(self, on_take_over):
        self.is_halted = self.has_taken_over = False
        self.attached = None
        self._on_take_over = on_take_over

    def halt(self):
        self.is_halted = True

    def take_over(self):
        self.has_taken_over = True
        self._on_take_over()

    def attach(self, data):
        self.attached = data

    def detach(self):
        self.attached = None

    def go_alone(self):
        self.attached = None

    def pair_formed(self, until_ns):
        """The gate is asked by the world."""


class Host:
    """One process: a node with its ends."""

    def __init__(self, world, role, tmp_path):
        self.world = world
        self.role = role
        self.instance = next(world.numbers)
        settings = Settings(timeout_ms=TIMEOUT_MS, back_off_first_ms=0, retry_ms=100)
        pair, commands = restarted(settings, Record(PairRole(role.value), is_wished=True), has_guest=True)
        self.node = put_together(
            world.options[role], Decider(pair), commands, lambda spec, option: world.port, self._make_control
        )
        self.path = self.node.parts.guest.path = Path(world.check)
        self.node.parts.sides = type("Sides", (), {"become": lambda self, role: None})()
        self.is_up = True
        self.is_paused = False
        self.ends = []
        self.node.begin()

    def _make_control(self, end, on_event):
        end.on_event = on_event
        end.term = lambda: self.node.pair.term
        end.is_paused = lambda: self.is_paused
        self.ends.append(end)
        return end

    @property
    def pair(self):
        return self.node.pair

    @property
    def is_alive(self):
        return self.is_up and not self.node._done.is_set()

    @property
    def serves(self):
        if not self.is_alive or self.path.is_halted or self.is_paused:
            return False
        if self.role is Role.SECONDARY:
            return self.path.has_taken_over
        return self.node._gate.until_ns() > self.world.loop.now * 1e9

    def die(self):
        self.is_up = False
        self.node.decider.close()
        self.node.parts.links.abandon()
        for end in self.ends:
            end.die()

    def leave(self):
        """Ends by itself, or was told to: what `Node._end` does to the connections."""
        is_orderly = self.node.exit_code == 0
        for end in self.ends:
            end.close(GoodbyeReason.SHUTDOWN if is_orderly else None)
        self.is_up = False


class World:
    def __init__(self, loop, seed, tmp_path):
        self.loop = loop
        self.chance = random.Random(seed)
        self.numbers = iter(range(1, 1_000_000))
        self.is_wired = True
        self.story = []
        self.ticks = 0
        self.told = 0
        """The secondary's process to which the operator has spoken."""
        self.hosts = {}
        lan, guest = (parse_port(f"unix:{tmp_path}/{name}", f"--{name}") for name in ("lan", "guest"))
        self.options = {
            role: NodeOptions(
                role=role, link=Address("127.0.0.1", 1), lan_in=lan, lan_out=lan, guest_in=guest, guest_out=guest,
                insecure=True, heartbeat_interval_ms=10, heartbeat_timeout_ms=TIMEOUT_MS,
            )
            for role in Role
        }  # fmt: skip
        self.tmp_path = tmp_path

    def boot(self, role):
        old = self.hosts.get(role)
        if old is not None and old.is_up:
            old.leave()
        self.port = StreamPort(self.options[role].lan_in, "--lan")
        self.hosts[role] = Host(self, role, self.tmp_path)

    @property
    def primary(self):
        return self.hosts[Role.PRIMARY]

    @property
    def secondary(self):
        return self.hosts[Role.SECONDARY]

    def check(self):
        assert not (self.primary.serves and self.secondary.serves), f"both serve: {self.story}"

    @property
    def is_over(self):
        return self.secondary.path.has_taken_over or (self.told and not self.primary.is_alive)

    async def run_ticks(self):
        while True:
            await asyncio.sleep(TICK_S)
            self.ticks += 1
            self.tick()

    def tick(self):
        for host in self.hosts.values():
            for end in list(host.ends):
                end.tick()
            host.ends = [end for end in host.ends if not end.is_closed]
            if host.is_up and host.node._done.is_set():
                host.leave()
        self.check()
        if self.ticks % DIAL_TICKS == 0:
            self.dial()

    def dial(self):
        one, other = self.primary, self.secondary
        if one.is_paused or not (self.is_wired and one.is_alive and other.is_alive and dials(other.pair)):
            return
        if one.pair.term < other.pair.term or one.node.parts.links.bound_instance not in (0, other.instance):
            return
        ends = End(self), End(self)
        ends[0].other, ends[1].other = ends[1], ends[0]
        made = []
        for end, theirs in zip(ends, (other, one), strict=True):
            hellos = [
                Hello(
                    program="test", pair="colo", role=theirs.role, channel=channel, term=theirs.pair.term, epoch=0,
                    features=frozenset(), instance=theirs.instance,
                )
                for channel in (Channel.CONTROL, Channel.DATA)
            ]  # fmt: skip
            welcome = Welcome(one.pair.term, frozenset())
            made.append((Established(end, hellos[0], welcome), Established(Data(), hellos[1], welcome)))
        for connection in made[0]:
            one.node.parts.links.accepted(connection)
        if self.chance.random() < 0.1:  # the secondary's process hears of none of it
            ends[1].die()
            return
        other.node.parts.links.dialed(*made[1])

    # ── what happens ────────────────────────────────────────────────────────────────────────────────────────

    def acts(self):
        one, other = self.primary, self.secondary
        found = [self.cut, self.heal, self.heal]
        if one.is_alive and other.is_alive:
            found += [self.lose_control, self.lose_data, self.kill_secondary, self.stop_secondary]
            if self.is_wired and one.pair.state is State.PRIMARY_PROTECTED and other.pair.state in IN_STEP:
                found.append(self.word_at_primary)
                if self.chance.random() < 0.2:
                    found += [self.word_at_secondary, self.kill_primary]
        if not other.is_alive:
            found += [self.boot_secondary, self.boot_secondary]
            if one.pair.state is State.PRIMARY_SUSPECT:
                found.append(self.word_at_primary)
        if not one.is_alive and other.is_alive and not self.told:
            found.append(self.word_at_secondary)
        return found

    def cut(self):
        self.is_wired = False

    def heal(self):
        self.is_wired = True

    def lose_control(self):
        for host in self.hosts.values():
            for end in host.ends:
                end.tell(control.ChannelClosed("connection reset"))
                end.is_closed = True

    def lose_data(self):
        for host in self.chance.sample([self.primary, self.secondary], self.chance.randint(1, 2)):
            if host.pair.link:
                host.node.data_lost(host.pair.link, "gone")

    def kill_primary(self):
        self.primary.die()

    def kill_secondary(self):
        self.secondary.die()

    def boot_secondary(self):
        self.boot(Role.SECONDARY)

    def stop_secondary(self):
        self.secondary.node.stop("SIGTERM")

    def word_at_primary(self):
        self.tasks.append(self.loop.create_task(self.primary.node.operator.failover()))

    def word_at_secondary(self):
        self.told = self.secondary.instance
        self.tasks.append(self.loop.create_task(self.secondary.node.operator.failover()))

    async def live(self):
        self.tasks = []
        for role in Role:
            self.boot(role)
        ticking = self.loop.create_task(self.run_ticks())
        try:
            await asyncio.sleep(0.2)
            assert self.primary.pair.shown == self.secondary.pair.shown == "protected"
            for _ in range(STEPS):
                act = self.chance.choice(self.acts())
                self.story.append((round(self.loop.now - 1_000, 3), act.__name__))
                act()
                await asyncio.sleep(self.chance.choice((0, 0.001, 0.004, 0.02, 0.05, 0.06, 0.2)))
                assert not ticking.done(), ticking.exception()
                if self.is_over:
                    break
            await self.calm()
            for task in self.tasks:
                await task
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)

    async def calm(self):
        """Nothing is broken any more."""
        self.is_wired = True
        if not self.secondary.is_alive and self.primary.is_alive:
            if self.primary.pair.state is State.PRIMARY_SUSPECT:
                self.word_at_primary()
                await asyncio.sleep(0.2)
            self.boot_secondary()
        await asyncio.sleep(CALM_S)
        one, other = self.primary, self.secondary
        if not one.is_alive and other.is_alive and other.pair.state in IN_STEP:
            self.word_at_secondary()  # the one before may have come while the primary was still heard: it is lost
            await asyncio.sleep(CALM_S)
        is_other_process = not other.is_alive or other.instance != self.told
        if not one.is_alive and self.told and is_other_process and not other.path.has_taken_over:
            return  # the secondary has died while the primary was handing over
        states = (one.pair.state, one.is_alive, other.pair.state, other.is_alive)
        assert one.serves or other.serves, f"none serves: {states} {self.story}"
        if one.is_alive and other.is_alive and not other.path.has_taken_over:
            assert one.pair.shown == other.pair.shown == "protected", f"not whole again: {states} {self.story}"


@pytest.mark.parametrize("asleep_s", [0, 0.001, 0.3])
def test_a_primary_that_was_stopped_does_not_serve_when_it_wakes_up_after_a_takeover(tmp_path, asleep_s):
    """The operator has found its host frozen. Nothing has told it of the takeover yet; the gate alone holds it back."""
    loop = VirtualLoop()

    async def life():
        world = World(loop, 1, tmp_path)
        world.tasks = []
        for role in Role:
            world.boot(role)
        ticking = loop.create_task(world.run_ticks())
        await asyncio.sleep(0.2)
        assert world.primary.serves
        world.primary.is_paused = True
        await asyncio.sleep(2 * TIMEOUT_MS / 1000)
        world.word_at_secondary()
        assert (await world.tasks[0])["state"] == "serving"
        await asyncio.sleep(asleep_s)
        world.primary.is_paused = False
        world.check()
        await asyncio.sleep(1)
        assert not ticking.done()
        ticking.cancel()
        return world.primary.node

    try:
        node = loop.run_until_complete(life())
    finally:
        loop.close()
    assert node.exit_code == 3
    assert "has taken over under term 1" in node.gave_up


@pytest.mark.parametrize("seed", seeds())
def test_never_both_and_whole_again(seed, tmp_path):
    loop = VirtualLoop()
    try:
        loop.run_until_complete(World(loop, seed, tmp_path).live())
    finally:
        loop.close()


def test_the_world_can_break_the_law(tmp_path):
    """Else it would show nothing: an operator who has not looked makes both serve."""
    loop = VirtualLoop()

    async def life():
        world = World(loop, 1, tmp_path)
        world.tasks = []
        for role in Role:
            world.boot(role)
        ticking = loop.create_task(world.run_ticks())
        await asyncio.sleep(0.2)
        world.cut()
        await asyncio.sleep(0.2)
        world.word_at_primary()
        world.word_at_secondary()
        try:
            await ticking
        finally:
            for task in world.tasks:
                task.cancel()
            await asyncio.gather(*world.tasks, return_exceptions=True)

    try:
        with pytest.raises(AssertionError, match="both serve"):
            loop.run_until_complete(life())
    finally:
        loop.close()
