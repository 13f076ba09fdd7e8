"""A pair of guests with a service whose threads wake up when they like, clients that wait for each answer, a clock.

::

    clients ──► order ──► primary's guest ──► order ──┐
                  └─ link ─► order ──► secondary's ───┴─ both the same: to the client; else a checkpoint

The guests differ in nothing but when their threads run. A checkpoint makes the secondary's guest a copy of the
primary's. The cores of `pycolo.order` and its tuner are the real ones; what compares is a few lines here.
"""

import copy
import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pycolo.core import PrimaryOrder, SecondaryOrder
from pycolo.order.tuner import LOOK_US, Setting, Tuner
from support.segments import Flow, Tcp, batch, frame, read, unbatch

PORT = 5432
LINK_US = 100
CHECKPOINT_US = 18_000
TIMEOUT_US = 100_000
SERVICE_US = 300
JITTER_US = 400
OVERTAKES = 0.25
"""How often a lock does not go to the one that has waited longest."""


@dataclass
class Service:
    """What a guest does. `kind`: counter, lock, own, noise.

    A counter is taken by each request. A lock is taken by the first of a transaction's requests and given back by the
    third, mostly to the one that has waited longest; the second says how much the account has. `own`: no answer
    depends on another connection. `noise`: each answer is different.
    """

    kind: str
    count: int = 0
    holder: int | None = None
    waiters: list[int] = field(default_factory=list)
    steps: dict[int, int] = field(default_factory=dict)

    def serve(self, who: int, dice: random.Random) -> list[tuple[int, bytes]]:
        """Answers, in order; a request that waits for the lock has none yet."""
        step = self.steps[who] = self.steps.get(who, -1) + 1
        if self.kind == "own":
            return [(who, b"%d" % step)]
        if self.kind == "noise":
            return [(who, b"%d" % dice.getrandbits(60))]
        if self.kind == "counter":
            self.count += 1
            return [(who, b"%d" % self.count)]
        if step % 3 == 0:
            if self.holder is not None:
                self.waiters.append(who)
                return []
            self.holder = who
            return [(who, b"locked")]
        self.count += 1
        if step % 3 == 1:
            return [(who, b"balance %d" % self.count)]
        place = dice.randrange(len(self.waiters)) if self.waiters and dice.random() < OVERTAKES else 0
        self.holder = self.waiters.pop(place) if self.waiters else None
        woken = [(self.holder, b"locked")] if self.holder is not None else []
        done = [(who, b"done")]
        return woken + done if dice.random() < 0.5 else done + woken


class Guest:
    """One machine with one processor. `say(who, data)`: an answer leaves it."""

    def __init__(self, world: "World", service: Service, say: Callable[[int, bytes], None], seed: int) -> None:
        self.world, self.service, self.say = world, service, say
        self.dice = random.Random(seed)
        self.awake: list[tuple[int, int, int]] = []
        self.leaving: list[tuple[int, int, int, bytes]] = []
        self.numbers = itertools.count()
        self.is_stopped = False
        self.free_us = 0
        self.woken: int | None = None

    def ask(self, who: int) -> None:
        """A request arrives; its thread wakes up."""
        heapq.heappush(self.awake, (self.world.now + self.dice.randrange(JITTER_US), next(self.numbers), who))
        self._plan()

    def _plan(self) -> None:
        """Run when there is something to do."""
        dues = [max(self.awake[0][0], self.free_us)] if self.awake else []
        due = min([*dues, self.leaving[0][0]] if self.leaving else dues, default=None)
        if due is not None and (self.woken is None or due < self.woken):
            self.woken = due
            self.world.at(due, self.run)

    def run(self) -> None:
        """Say what is ready, and serve whose thread is awake, one after the other."""
        self.woken = None
        if self.is_stopped:
            return
        while self.leaving and self.leaving[0][0] <= self.world.now:
            _, _, who, data = heapq.heappop(self.leaving)
            self.say(who, data)
        while self.awake and self.awake[0][0] <= self.world.now and self.free_us <= self.world.now:
            _, _, who = heapq.heappop(self.awake)
            self.free_us = self.world.now + SERVICE_US
            for other, data in self.service.serve(who, self.dice):
                heapq.heappush(self.leaving, (self.free_us, next(self.numbers), other, data))
        self._plan()

    @property
    def is_asleep(self) -> bool:
        return not self.awake and not self.leaving and self.free_us + 1000 <= self.world.now

    def got(self, who: int) -> int:
        """How many requests of a client have reached it."""
        return self.service.steps.get(who, -1) + 1 + sum(one == who for _, _, one in self.awake)

    def load(self, other: "Guest") -> None:
        """Be a copy of the other one."""
        self.service = copy.deepcopy(other.service)
        self.awake, self.leaving = list(other.awake), list(other.leaving)


class World:
    """`clients` clients; `tuner` None: nothing is ordered. `words`: how a client's requests begin, in turn."""

    def __init__(self, kind: str, clients: int, tuner: Tuner | None, seed: int, words: bytes = b"tag") -> None:
        self.words = words
        self.now = 1_000_000
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.numbers = itertools.count()
        self.tuner = tuner
        self.p_order, self.s_order = PrimaryOrder(seed), SecondaryOrder(seed)
        self.p = Guest(self, Service(kind), self._primary_says, seed * 2 + 1)
        self.s = Guest(self, Service(kind), self._secondary_says, seed * 2 + 2)
        self.flows = [Flow(PORT, 40_000 + number) for number in range(clients)]
        self.sent = [0] * clients
        self.answers = [0] * clients
        self.held: list[dict[int, list[tuple[int, bytes]]]] = [{}, {}]
        self.differences: list[int] = []
        self.served = 0
        self.epoch = 0
        self.is_checkpointing = False
        self.settings: list[tuple[int, Setting]] = []
        self.told: list[list[int]] = [[], []]
        self.seen: list[bytes] = []
        self.has_taken_over = False
        if tuner is not None:
            self.p_order.begin()
            self._carry_out(tuner.begin(self.now))
            self.at(self.now + LOOK_US, self._look)
        for who in range(clients):
            self.at(self.now + who, lambda who=who: self._request(who))
        self.at(self.now, self._tick)

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────

    def at(self, moment: int, action: Callable[[], None]) -> None:
        heapq.heappush(self.events, (moment, next(self.numbers), action))

    def run(self, requests: int) -> "World":
        """Until so many requests have been answered."""
        until = self.served + requests
        while self.served < until:
            moment, _, action = heapq.heappop(self.events)
            assert moment < self.now + 10_000_000, "it stands still"
            self.now = max(self.now, moment)
            action()
        return self

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.served / ((self.now - 1_000_000) / 1e6)

    def differences_since(self, moment: int) -> int:
        return sum(when >= moment for when in self.differences)

    def _tick(self) -> None:
        """Twice a millisecond: the limits, and whether the guest sleeps."""
        for order in (self.p_order, self.s_order):
            due = order.deadline_us()
            if due is not None and due <= self.now:
                order.timer(self.now)
        if self.p.is_asleep and not self.p.is_stopped:
            self.p_order.asleep(self.now)
        self._move()
        waits = [since for side in self.held for queue in side.values() for since, _ in queue]
        if waits and min(waits) + TIMEOUT_US < self.now:
            self._differ()
        self.at(self.now + 500, self._tick)

    def _look(self) -> None:
        assert self.tuner is not None
        self._carry_out(self.tuner.looked(self.p_order.counts(), self.now))
        self.at(self.now + LOOK_US, self._look)

    def _carry_out(self, settings: list[Setting]) -> None:
        for one in settings:
            self.settings.append((self.now, one))
            self.p_order.set_gate(one.port, one.width, one.is_early, one.limit_us, self.now)
            told = one
            self.at(
                self.now + LINK_US,
                lambda told=told: self.s_order.set_gate(told.port, told.width, 2 * told.limit_us, self.now),
            )

    # ── frames ──────────────────────────────────────────────────────────────────────────────────────────────

    def kill_primary(self) -> None:
        """The second guest serves on: it gets all that was mirrored, and the clients send again what it has not got."""
        self.has_taken_over = True
        self.p.is_stopped, self.s.is_stopped = True, False
        self.epoch += 1  # what is under way on the link is lost
        rest = self.s_order.flush()
        self.s_order.end()
        for one in unbatch(bytes(rest)):
            self.s.ask(self.flows.index(read(one).flow))
        for who, queue in self.held[1].items():
            for _, data in queue:
                self._release(who, data)
        for who, sent in enumerate(self.sent):
            got = self.s.got(who)
            assert sent - 1 <= got <= sent, "nothing that was answered is lost, nothing is done twice"
            if got < sent:
                self.s.ask(who)
        self.s.run()

    def _request(self, who: int) -> None:
        if self.has_taken_over:
            self.sent[who] += 1
            self.s.ask(who)
            return
        word = bytes([self.words[self.sent[who] % len(self.words)]])
        octets = batch([frame(Tcp(1 + self.sent[who], "PA", word, ack=1, flow=self.flows[who], from_client=True))])
        self.sent[who] += 1
        assert self.p_order.client_frames(octets, 0, len(octets), self.now) == len(octets)
        self._move()

    def _move(self) -> None:
        """What may go to the guests goes there."""
        found = self.p_order.admitted
        while not found.is_empty and not self.p.is_stopped:
            octets = bytearray(found.view[found.start : found.end])
            found.clear()
            self._mirror(self.p_order.mirror.take_ready())
            self._mirror(self.p_order.given_frames(octets, 0, len(octets)))
            for one in unbatch(bytes(octets)):
                who = self.flows.index(read(one).flow)
                self.told[0].append(who)
                self.p.ask(who)
        self._mirror(self.p_order.mirror.take_ready())
        found = self.s_order.admitted
        while not found.is_empty and not self.s.is_stopped:
            octets = bytearray(found.view[found.start : found.end])
            found.clear()
            for one in unbatch(bytes(octets)):
                who = self.flows.index(read(one).flow)
                self.told[1].append(who)
                self.s.ask(who)

    def _mirror(self, octets: bytes) -> None:
        if octets:
            epoch = self.epoch
            self.at(self.now + LINK_US, lambda: self._mirrored(bytearray(octets), epoch))

    def _mirrored(self, octets: bytearray, epoch: int) -> None:
        if epoch == self.epoch:  # else the state that was copied contains it
            assert self.s_order.mirrored_frames(octets, 0, len(octets), self.now) == len(octets)
            self._move()

    def _answer(self, order: Any, who: int, data: bytes) -> None:
        octets = batch([frame(Tcp(1, "PA", data, ack=1 + self.sent[who], flow=self.flows[who]))])
        order.guest_frames(octets, 0, len(octets), self.now)
        self._move()

    # ── the comparison ──────────────────────────────────────────────────────────────────────────────────────

    def _primary_says(self, who: int, data: bytes) -> None:
        self.held[0].setdefault(who, []).append((self.now, data))
        self._answer(self.p_order, who, data)
        self._compare(who)

    def _secondary_says(self, who: int, data: bytes) -> None:
        if self.has_taken_over:
            self._release(who, data)
            return
        self.held[1].setdefault(who, []).append((self.now, data))
        self._answer(self.s_order, who, data)
        self._compare(who)

    def _compare(self, who: int) -> None:
        ours, theirs = (side.get(who, []) for side in self.held)
        while ours and theirs and not self.is_checkpointing:
            if ours[0][1] != theirs[0][1]:
                self._differ()
                return
            theirs.pop(0)
            self._release(who, ours.pop(0)[1])

    def _release(self, who: int, data: bytes) -> None:
        self.seen.append(data)
        self.served += 1
        self.answers[who] += 1
        self.at(self.now + LINK_US, lambda: self._request(who))

    def _differ(self) -> None:
        if self.is_checkpointing or self.has_taken_over:
            return
        self.is_checkpointing = True
        self.differences.append(self.now)
        if self.tuner is not None:
            self._carry_out(self.tuner.differed(PORT, self.now))
        self.p_order.freeze(self.now)
        self.at(self.now + CHECKPOINT_US // 2, self._stop)

    def _stop(self) -> None:
        if self.has_taken_over:
            return
        self.p_order.freeze(self.now, True)
        self.p.is_stopped = self.s.is_stopped = True
        self.p_order.mirror.flush()
        self.epoch += 1
        self.at(self.now + CHECKPOINT_US // 2, self._commit)

    def _commit(self) -> None:
        if self.has_taken_over:
            return
        if self.tuner is not None and (waits := [since for queue in self.held[0].values() for since, _ in queue]):
            self._carry_out(self.tuner.waited(PORT, self.now - min(waits), self.now))
        self.s_order.flush()
        self.s.load(self.p)
        self.p.free_us = self.s.free_us = self.now
        self.held[1].clear()
        held, self.held[0] = self.held[0], {}
        self.p.is_stopped = self.s.is_stopped = self.is_checkpointing = False
        for who, queue in held.items():
            for _, data in queue:
                self._release(who, data)
        self.p_order.thaw(self.now)
        self._move()
        self.p.run()
        self.s.run()
