"""Two nodes that cannot see each other never both serve: virtual clocks, a lossy world, real arbiters.

Two nodes, each with its own clock (`DRIFT`), a link between them that is cut again and again, and a store that both
reach now and then: requests and answers are lost, answers come late, requests are done long after the last wait for
them any more, the store's leader changes. Nodes stand still for seconds, crash, come back, resign.

Laws, at every moment: at most one node may release. A node that is granted a term has the state that was served last.
Checked too: that the world can break them, by an arbiter and by clocks that do.

`PYCOLO_SEEDS=17,4711 pytest tests/simulation` runs these seeds; `PYCOLO_SEEDS=0-999` that range.
"""

import heapq
import itertools
import os
import random
from collections import Counter
from collections.abc import Callable

import pytest

from pycolo import limits
from pycolo.failover.arbiter import Arbiter, Decision, FirstToNoticeArbiter
from pycolo.failover.heartbeat import HeartbeatDetector, Suspect
from pycolo.failover.lease import LeaseArbiter
from support.leases import SCAN_MS, ModelStore

RUNS = 150
CONTROL_RUNS = 300
LENGTH_MS = 60_000
TTL_MS = 3000
REQUEST_MS = 500
DRIFT = 0.01
"""How far each clock's rate may be from the true one: a hundred times what NTP corrects."""


def seeds() -> list[int]:
    asked = os.environ.get("PYCOLO_SEEDS")
    if not asked:
        return list(range(RUNS))
    first, _, last = asked.partition("-")
    return list(range(int(first), int(last) + 1)) if last else [int(seed) for seed in asked.split(",")]


class BrokenLawError(AssertionError):
    """What the world is for."""


class Node:
    """One host's node: its clock, its arbiter, what it knows."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.rate = 1 + world.dice.uniform(-world.drift, world.drift)
        self.offset = world.dice.uniform(0, 1e6)
        self.paused_until = 0.0
        self.backlog: list[Callable[[], None]] = []
        self.known_term = 0
        self.state = 0  # which of the histories of service this host's guest has
        self.start(1.0)

    def start(self, _delay: float) -> None:
        """A new process: it knows what stands in its state file."""
        self.core: Arbiter = self.world.make_core(self.known_term, self.name)
        self.is_up = True
        self.serves = False
        self.is_alone = False
        self.is_paired = False
        self.wants_lease = False
        self.detector: HeartbeatDetector | None = None
        self.life = next(self.world.numbers)
        self.request_number = 0

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────

    def ns(self) -> int:
        return int((self.world.now * self.rate + self.offset) * 1e6)

    def ms(self) -> int:
        return self.ns() // 1_000_000

    def later(self, delay_ms: float, action: Callable[[], None]) -> None:
        """After that much of this node's own time, in this process."""
        life = self.life
        self.world.at(self.world.now + delay_ms / self.rate, lambda: self.when_awake(life, action))

    def when_awake(self, life: int, action: Callable[[], None]) -> None:
        if self.life != life or not self.is_up:
            return
        if self.world.now < self.paused_until:
            self.backlog.append(lambda: self.when_awake(life, action))
        else:
            action()
            self.look()

    def pause(self, length_ms: float) -> None:
        self.paused_until = max(self.paused_until, self.world.now + length_ms)
        self.world.at(self.paused_until, self.wake)

    def wake(self) -> None:
        """All that has piled up happens now, in any order: any thread may run first."""
        if self.world.now >= self.paused_until:
            backlog, self.backlog = self.backlog, []
            self.world.dice.shuffle(backlog)
            for action in backlog:
                action()

    # ── the node ────────────────────────────────────────────────────────────────────────────────────────────

    def may_release(self) -> bool:
        """What the data path asks before each write; of a node that stands still: whether it would, on waking up."""
        if not self.is_up or not self.serves:
            return False
        if isinstance(self.core, LeaseArbiter) and not self.world.ignores_bound:
            until_ns = self.core.serve_until_ns()
            return until_ns is not None and self.ns() < until_ns
        return self.is_alone or self.detector is None or not self.detector.silent_ms

    def look(self) -> None:
        """After every fact: what does the arbiter say, and what does it want of the store?"""
        decision, term, _ = self.core.verdict()
        self.known_term = max(self.known_term, term)
        if decision is Decision.DENIED and (self.serves or self.is_paired or self.wants_lease):
            self.count("fenced")
            self.serves = self.is_paired = self.wants_lease = False
            self.later(self.world.dice.uniform(100, 2000), lambda: self.start(0))
        elif decision is Decision.GRANTED and self.is_paired:
            self.count("went alone" if self.serves else "took over")
            self.served_from_here()
        elif self.wants_lease and isinstance(self.core, LeaseArbiter) and self.core.is_held:
            self.wants_lease = False
            self.count("acquired")
            self.served_from_here()
        self.ask()

    def served_from_here(self) -> None:
        self.world.granted(self)
        self.core.acquire_wanted(self.known_term)
        self.serves = self.is_alone = True
        self.is_paired = False
        self.detector = None

    def ask(self) -> None:
        """One request at a time."""
        core = self.core
        if not isinstance(core, LeaseArbiter):
            return
        now_ns = self.ns()
        request = core.request(now_ns)
        if request is None:
            if (due_ns := core.due_ns()) is not None:
                self.later(max(1.0, (due_ns - now_ns) / 1e6), lambda: None)
            return
        self.request_number += 1
        number, life = self.request_number, self.life

        def hear(answer) -> None:
            if number == self.request_number and core is self.core:
                self.request_number += 1
                core.answered(answer, self.ns())

        def give_up() -> None:
            if number == self.request_number and core is self.core:
                self.request_number += 1
                core.unanswered("no answer", self.ns())

        self.world.send(request, lambda answer: self.when_awake(life, lambda: hear(answer)))
        self.later(REQUEST_MS, give_up)

    def count(self, what: str) -> None:
        self.world.counts[what] += 1

    # ── heartbeats ──────────────────────────────────────────────────────────────────────────────────────────

    def paired(self, term: int) -> None:
        self.core.paired(term, self.ms())
        self.is_paired = True
        self.is_alone = False
        self.detector = HeartbeatDetector(self.ms())
        self.look()

    def beat(self) -> None:
        detector = self.detector
        if detector is not None:
            detector.timer_fired(self.ms())
            self.judged(detector)

    def heard(self) -> None:
        if self.detector is not None:
            self.detector.heard(self.ms())
            self.judged(self.detector)

    def judged(self, detector: HeartbeatDetector) -> None:
        for command in detector.commands():
            if isinstance(command, Suspect):
                self.core.suspected(self.ms())
            else:
                self.core.recovered(self.ms())


class World:
    """See the module. `make_core(term, name)` gives each node's arbiter."""

    def __init__(self, seed: int, arbiter: str, *, drift=DRIFT, ignores_bound=False, shows_terms=True, only=()) -> None:
        self.dice = random.Random(seed)
        self.arbiter = arbiter
        self.drift = drift
        self.ignores_bound = ignores_bound
        self.mischiefs = only or ("lose_store", "elect", "crash", "resign", "cut_link", "cut_link", "pause", "pause")
        self.now = 0.0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.numbers = itertools.count()
        self.counts: Counter[str] = Counter()
        self.store = ModelStore(self.dice, 1 + self.dice.uniform(-drift, drift), shows_terms=shows_terms)
        self.link_is_up = True
        self.store_loss = 0.0
        self.versions = itertools.count(1)
        self.latest = 0
        self.nodes = [Node(self, "a"), Node(self, "b")]

    def make_core(self, term: int, name: str) -> Arbiter:
        return LeaseArbiter(term, name, TTL_MS) if self.arbiter == "etcd" else FirstToNoticeArbiter(term)

    def at(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self.events, (moment, next(self.numbers), action))

    def every(self, period: float, action: Callable[[], None]) -> None:
        def again() -> None:
            action()
            self.at(self.now + period, again)

        self.at(self.dice.uniform(0, period), again)

    def run(self) -> Counter[str]:
        self.begin()
        self.every(SCAN_MS, lambda: self.store.scan(self.now))
        self.every(limits.HEARTBEAT_INTERVAL_MS, self.heartbeats)
        self.every(300, self.pair)
        self.at(self.dice.uniform(500, 3000), self.mischief)
        while self.events and self.now < LENGTH_MS:
            self.now, _, action = heapq.heappop(self.events)
            action()
            self.check()
        return self.counts

    def begin(self) -> None:
        first = self.nodes[0]
        if isinstance(first.core, LeaseArbiter):
            first.wants_lease = True
            first.core.acquire_wanted()
            first.look()
        else:
            first.serves = True

    def check(self) -> None:
        able = [node for node in self.nodes if node.may_release()]
        if len(able) > 1:
            raise BrokenLawError(f"{self.now:.0f} ms: both may release: {[node.core.verdict() for node in able]}")
        self.counts["moments in service"] += len(able)
        self.counts["moments"] += 1

    def granted(self, node: Node) -> None:
        if node.state != self.latest and self.arbiter == "etcd":
            raise BrokenLawError(f"{self.now:.0f} ms: {node.name} serves with the state of {node.state}")
        node.state = self.latest = next(self.versions)

    # ── link and store ──────────────────────────────────────────────────────────────────────────────────────

    def heartbeats(self) -> None:
        for node, other in (self.nodes, self.nodes[::-1]):
            if node.is_up and self.now >= node.paused_until:
                node.beat()
                if self.link_is_up and other.is_paired and node.is_paired:
                    life = other.life
                    self.at(self.now + self.dice.uniform(0, 3), lambda o=other, n=life: o.when_awake(n, o.heard))
                node.look()

    def pair(self) -> None:
        """The node that serves copies its guest to the other one, which then has the same state."""
        for server, other in (self.nodes, self.nodes[::-1]):
            is_awake = all(node.is_up and self.now >= node.paused_until for node in self.nodes)
            if not (is_awake and self.link_is_up and server.may_release()) or other.serves or other.wants_lease:
                continue
            if server.is_paired and other.is_paired and server.detector and not server.detector.silent_ms:
                continue
            term = server.core.verdict().term
            if term < other.known_term:
                if isinstance(server.core, LeaseArbiter):
                    server.core.acquire_wanted(other.known_term)
                    server.look()
                continue
            if self.dice.random() < 0.5 or other.core.is_decided:
                other.start(0)
            if self.dice.random() < 0.6:
                self.counts["paired"] += 1
                other.state = server.state
                server.paired(term)
                other.paired(term)
            return

    def send(self, request, hear: Callable[[object], None]) -> None:
        if self.dice.random() < self.store_loss:
            return
        late = self.dice.random() < 0.03  # held up on its way, and done long after anybody waits for it
        arrival = self.now + (self.dice.uniform(500, 6000) if late else self.dice.uniform(0.2, 30))

        def arrive() -> None:
            answer = self.store.apply(request, self.now)
            if self.dice.random() >= self.store_loss + 0.03:
                self.at(self.now + self.dice.choice([0.3, 5, 80, 450, 700]), lambda: hear(answer))

        self.at(arrival, arrive)

    # ── what goes wrong ─────────────────────────────────────────────────────────────────────────────────────

    def mischief(self) -> None:
        getattr(self, self.dice.choice(self.mischiefs))(self.dice.choice(self.nodes))
        self.at(self.now + self.dice.choice([20, 300, 1500, 4000]), self.mischief)

    def pause(self, node: Node) -> None:
        node.pause(self.dice.choice([50, 200, 1000, 3000, 6000]))

    def cut_link(self, _node: Node) -> None:
        self.link_is_up = False
        self.at(self.now + self.dice.choice([100, 400, 3000, 8000]), lambda: setattr(self, "link_is_up", True))

    def lose_store(self, _node: Node) -> None:
        self.store_loss = self.dice.choice([0.2, 0.6, 1.0])
        self.at(self.now + self.dice.choice([300, 2000, 5000]), lambda: setattr(self, "store_loss", 0.0))

    def elect(self, _node: Node) -> None:
        self.store.change_leader(self.now, self.dice.choice([0, 500, 4000, 9000]))

    def crash(self, node: Node) -> None:
        if not node.is_up:
            return
        self.counts["crashed"] += 1
        node.is_up = False
        node.backlog.clear()

        def restart() -> None:
            node.start(0)
            if self.dice.random() < 0.5 and isinstance(node.core, LeaseArbiter):
                node.wants_lease = True
                node.core.acquire_wanted(node.known_term)
                node.look()

        self.at(self.now + self.dice.choice([20, 500, 5000, 9000]), restart)

    def resign(self, node: Node) -> None:
        other = self.nodes[1 - self.nodes.index(node)]
        is_able = isinstance(node.core, LeaseArbiter) and node.is_up and self.now >= node.paused_until
        if is_able and node.serves and node.is_paired and other.is_paired and self.link_is_up:
            self.counts["resigned"] += 1
            node.core.resigned()
            node.serves = node.is_paired = False
            node.look()
            other.when_awake(other.life, lambda: other.core.suspected(other.ms()))


@pytest.mark.parametrize("seed", seeds())
def test_two_nodes_with_a_lease_never_both_serve(seed):
    World(seed, "etcd").run()


def test_the_world_is_not_idle():
    counts: Counter[str] = Counter()
    for seed in range(20):
        counts += World(seed, "etcd").run()
    for what in ("acquired", "paired", "took over", "went alone", "fenced", "resigned", "crashed"):
        assert counts[what] >= 5, counts
    assert counts["moments in service"] > counts["moments"] / 3, counts


@pytest.mark.parametrize(
    ("arbiter", "options"),
    [
        pytest.param("first-to-notice", {"only": ("cut_link",)}, id="first-to-notice"),
        pytest.param("etcd", {"ignores_bound": True}, id="a node that does not look at its bound"),
        pytest.param(
            "etcd", {"drift": 0.5, "only": ("pause", "lose_store", "cut_link")}, id="clocks that differ by a half"
        ),
        pytest.param(
            "etcd",
            {"shows_terms": False, "only": ("elect", "cut_link")},
            id="a store that does not show a change of its leader",
        ),
    ],
)
def test_the_world_finds_a_broken_law(arbiter, options):
    """Negative controls: what the law rests on, taken away."""

    def search() -> None:
        for seed in range(CONTROL_RUNS):
            World(seed, arbiter, **options).run()

    with pytest.raises(BrokenLawError, match="both may release"):
        search()
