"""Two guests that answer on many connections and sometimes differ, one or two cards, the real comparators and the real
coordinator, on a virtual clock. Times in microseconds.

::

    inputs ─► primary guest ──────────► comparator (one for each card) ──── commands, late ───► coordinator
         └──► secondary guest ► link ► comparator                             ◄── AskHypervisor, Commit ──┘

A guest is the number of inputs that it has taken, and for each connection what it has said and its *salt*: guests whose
salts are alike say the same. The world gives the secondary a salt of its own now and then (its bytes differ from there
on), or lets it forget an answer (a packet that waits). A checkpoint copies the primary's state at its stop.

It notes when each connection has truly begun to differ, and what each checkpoint has answered: a request for a
connection that does not differ is needless; one that differs and gets no checkpoint is lost.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

from pycolo.checkpoint.commands import AskHypervisor, Commit, Record
from pycolo.checkpoint.coordinator import Coordinator
from pycolo.checkpoint.epoch import Epoch
from pycolo.checkpoint.records import CheckpointRecord, Outcome, Reason, ReasonKind
from pycolo.checkpoint.spacing import Spacing
from pycolo.checkpoint.table import State
from pycolo.compare.difference import Command, ReportDifference, RequestCheckpoint
from pycolo.core import Comparator
from pycolo.costs.reasons import reason_of
from pycolo.frames import batch
from support.segments import Flow, Tcp, frame, read
from support.traces import SMALL

HOST_CLOCK_US = 1_795_445_499_000_000
ISN, SECONDARY_ISN = 999, 70_000


class Guest:
    """See the module."""

    def __init__(self, flows: int, isn: int) -> None:
        self.isn = isn
        self.taken = 0
        self.said = [0] * flows
        self.salts = [0] * flows
        self.is_running = True

    def answer(self, flow: int) -> Tcp:
        at, salt = self.said[flow], self.salts[flow]
        data = b"%06d %06d %06d" % (flow, at, salt)
        self.said[flow] += len(data)
        return Tcp(self.isn + 1 + at, "PA", data, ack=100, flow=Flow(client_port=5000 + flow))

    def copy_of(self, other: "Guest") -> None:
        self.isn, self.taken, self.said, self.salts = other.isn, other.taken, other.said[:], other.salts[:]


class Card:
    """One data path: its comparator, its epoch, what is on the way to it."""

    def __init__(self, world: "World", compare_timeout_ms: int) -> None:
        self.world = world
        self.core = Comparator(1, compare_timeout_ms=compare_timeout_ms, age_cycle_ms=1, **SMALL)
        self.core.pair_formed(0)
        self.epoch = 1
        self.is_acting = False
        self.output: deque[Tcp] = deque()  # the primary has sent it, this node has not read it
        self.front: deque[Tcp | int] = deque()  # of the link, while it waits for `commit`
        self.released = bytearray(1 << 16)

    def primary(self, *segments: Tcp) -> None:
        octets = batch([frame(one) for one in segments])
        self.core.primary_frames(octets, 0, len(octets), self.world.now_us)
        self.act_soon()

    def arrived(self, what: Tcp | int) -> None:
        """A frame of the secondary's, or the marker of an epoch."""
        self.front.append(what)
        self._take_link()
        self.act_soon()

    def _take_link(self) -> None:
        while self.front:
            what = self.front[0]
            if isinstance(what, int):
                if what > self.epoch:
                    return  # `commit` is about to begin it
                self.core.epoch_marker(self.core.epoch)
            else:
                octets = batch([frame(what)])
                self.core.secondary_frames(octets, 0, len(octets), self.world.now_us)
            self.front.popleft()

    def read_output(self) -> None:
        if self.output:
            segments = list(self.output)
            self.output.clear()
            self.primary(*segments)

    def commit(self, epoch: int) -> None:
        """As `PrimaryPath.commit`."""
        self.read_output()
        self.core.checkpoint_committed(self.world.now_us, awaits_marker=True)
        self.epoch = epoch
        self._take_link()
        self.act_soon()

    def act_soon(self) -> None:
        if not self.is_acting:
            self.is_acting = True
            self.world.after(self.world.some(self.world.act_us), self.act)

    def act(self) -> None:
        """Between two batches: what has left, what is asked for, when to look again."""
        self.is_acting = False
        end = self.core.drain(self.released, 0)
        while end:
            self.world.left(bytes(self.released[:end]))
            end = self.core.drain(self.released, 0)
        if found := self.core.commands():
            self.world.found(found, self.epoch)


class World:
    """One run. `checkpoint_us`: how long the guests stand still for one, about. The distance is fixed,
    unless `max_distance_ms` says otherwise.
    """

    def __init__(
        self,
        seed: int,
        *,
        flows: int = 6,
        cards: int = 1,
        checkpoint_us: int = 8_000,
        call_us: int = 2_000,
        differs: float = 0.1,
        every_us: int = 3_000,
        end_us: int = 1_500_000,
        burst: int = 1,
        burst_us: int = 1,
        read_us: int = 150,
        commit_us: int = 600,
        act_us: int = 1,
        compare_timeout_ms: int = 120,
        max_distance_ms: int = 20,
        max_wait_ms: int = 0,
    ) -> None:
        self.random = random.Random(seed)
        spacing = Spacing(20, max_distance_ms, max_wait_ms=max_wait_ms)
        self.core = Coordinator(epoch=Epoch(1), min_distance_ms=20, max_interval_ms=0, spacing=spacing)
        self.flows, self.end_us = flows, end_us
        self.checkpoint_us, self.call_us, self.differs, self.every_us = checkpoint_us, call_us, differs, every_us
        self.burst, self.burst_us, self.read_us, self.commit_us = burst, burst_us, read_us, commit_us
        self.act_us = act_us
        self.now_us = 0
        self.order = count()
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.inputs: list[tuple[int, bool, bool]] = []  # connection, is forgotten, gets a salt: by the secondary
        self.inputs_due: deque[int] = deque()
        self.primary, self.secondary = Guest(flows, ISN), Guest(flows, SECONDARY_ISN)
        self.state = Guest(flows, ISN)
        self.cards = [Card(self, compare_timeout_ms) for _ in range(cards)]
        self.free_us: dict[str, int] = {}
        self.differing: dict[int, int] = {}  # connection -> since when, in this epoch
        self.held_since: dict[tuple[int, int], int] = {}  # connection, number of the last byte -> when it was said
        self.salt = count(1)
        self.asked: list[tuple[int, tuple[Reason, ...]]] = []
        self.answered: list[tuple[int, dict[int, int]]] = []  # stop -> what differed by then
        self.records: list[CheckpointRecord] = []
        self.waits: list[int] = []
        self.got = [0] * flows
        self.stood_us = 0

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────

    def after(self, delay_us: int, what: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now_us + delay_us, next(self.order), what))

    def some(self, most_us: int) -> int:
        return self.random.randrange(0, max(1, most_us))

    def in_order(self, way: str, most_us: int, what: Callable[[], None]) -> None:
        at_us = max(self.free_us.get(way, 0), self.now_us + self.some(most_us))
        self.free_us[way] = at_us
        self.after(at_us - self.now_us, what)

    def run(self) -> "World":
        self.begin()
        while True:
            due = [card.core.deadline_us() for card in self.cards] + [self.core.deadline_us()]
            if self.events:
                due.append(self.events[0][0])
            now_us = min((one for one in due if one is not None), default=None)
            if now_us is None or now_us > self.end_us + 500_000:
                return self
            self.now_us = max(self.now_us, now_us)
            for card in self.cards:
                if (at_us := card.core.deadline_us()) is not None and at_us <= self.now_us:
                    card.core.timer_fired(self.now_us)
                    card.act_soon()
            if (at_us := self.core.deadline_us()) is not None and at_us <= self.now_us:
                self.tell(self.core.timer_fired)
            while self.events and self.events[0][0] <= self.now_us:
                heapq.heappop(self.events)[2]()

    # ── clients and guests ──────────────────────────────────────────────────────────────────────────────────

    def begin(self) -> None:
        """The handshakes, and a pair that is at rest."""
        for flow in range(self.flows):
            card = self.card(flow)
            options = {"ack": 100, "flow": Flow(client_port=5000 + flow)}
            card.primary(Tcp(ISN, "SA", **options))
            card.arrived(Tcp(SECONDARY_ISN, "SA", **options))
        self.core.synchronised(0)
        self.core.pair_entered_colo(0)
        self.obey()
        self.after(self.some(1_000), self.ask)

    def card(self, flow: int) -> Card:
        return self.cards[flow % len(self.cards)]

    def ask(self) -> None:
        """A client asks something; `burst` of them at once."""
        if self.now_us >= self.end_us:
            return
        differs = self.random.random() < self.differs
        for flow in self.random.sample(range(self.flows), self.burst):
            kind = self.random.random() if differs else 1.0
            self.after(self.some(self.burst_us), lambda flow=flow, kind=kind: self.input(flow, kind))  # type: ignore[misc]
        self.after(self.some(2 * self.every_us), self.ask)

    def input(self, flow: int, kind: float) -> None:
        self.inputs.append((flow, kind < 0.2, kind < 1.0))
        self.step_primary()
        self.in_order("mirror", 400, self.mirrored)

    def step_primary(self) -> None:
        while self.primary.is_running and self.primary.taken < len(self.inputs):
            flow, _, _ = self.inputs[self.primary.taken]
            self.primary.taken += 1
            segment = self.primary.answer(flow)
            self.held_since[flow, self.primary.said[flow]] = self.now_us
            card = self.card(flow)
            card.output.append(segment)
            self.in_order(f"output {self.cards.index(card)}", self.read_us, card.read_output)

    def mirrored(self) -> None:
        self.inputs_due.append(0)
        self.step_secondary()

    def step_secondary(self) -> None:
        while self.secondary.is_running and self.secondary.taken < min(len(self.inputs), len(self.inputs_due)):
            flow, is_forgotten, is_salted = self.inputs[self.secondary.taken]
            self.secondary.taken += 1
            if is_forgotten:
                self.differing.setdefault(flow, self.now_us)
                continue
            if is_salted:
                self.secondary.salts[flow] = next(self.salt)
                self.differing.setdefault(flow, self.now_us)
            self.vouch(self.secondary.answer(flow), self.card(flow))

    def vouch(self, what: Tcp | int, card: Card) -> None:
        self.in_order(f"link {self.cards.index(card)}", 600, lambda: card.arrived(what))

    def left(self, octets: bytes) -> None:
        """Frames for the clients."""
        at = 0
        while at < len(octets):
            length = int.from_bytes(octets[at : at + 4], "big")
            segment = read(octets[at + 4 : at + 4 + length])
            at += 4 + length
            flow = segment.flow.client_port - 5000
            if segment.data:
                said = (segment.seq - ISN - 1) % (1 << 32) + len(segment.data)
                assert said == self.got[flow] + len(segment.data), "each byte of the primary's, once, in order"
                self.got[flow] = said
                self.waits.append(self.now_us - self.held_since[flow, said])

    # ── the coordinator's shell ─────────────────────────────────────────────────────────────────────────────

    def found(self, commands: list[Command], epoch: int) -> None:
        """As the path's thread does it, and then asyncio's."""
        if self.core.answers(epoch):
            commands = [one for one in commands if reason_of(one.difference.kind) is not ReasonKind.TIMEOUT]
        self.in_order("call", self.call_us, lambda: self.want(commands, epoch))

    def want(self, commands: list[Command], epoch: int) -> None:
        for one in commands:
            if isinstance(one, RequestCheckpoint):
                connection = one.difference.connection
                assert connection is not None
                reason = Reason(reason_of(one.difference.kind), str(one.difference), str(connection))
                self.tell(self.core.requested, reason, epoch=epoch)
        if any(isinstance(one, ReportDifference) for one in commands):
            self.tell(self.core.differed, epoch=epoch)

    def tell(self, fact: Callable[..., None], *arguments: Any, **named: Any) -> None:
        fact(*arguments, now_us=self.now_us, **named)
        self.obey()

    def obey(self) -> None:
        for command in self.core.commands():
            match command:
                case AskHypervisor(reasons=reasons):
                    self.asked.append((self.now_us, reasons))
                    self.after(self.some(1_000), self.request)
                case Commit(epoch=epoch):
                    self.commit(epoch)
                case Record(record=record):
                    self.records.append(record)

    # ── a checkpoint ────────────────────────────────────────────────────────────────────────────────────────

    def request(self) -> None:
        self.secondary.is_running = False
        self.after(self.some(800), self.reply)

    def reply(self) -> None:
        self.tell(self.core.secondary_stopped)
        self.after(self.some(500), self.stop)

    def stop(self) -> None:
        self.primary.is_running = False
        self.stopped_us = self.now_us
        self.tell(self.core.primary_stopped, HOST_CLOCK_US + self.now_us)
        self.state.copy_of(self.primary)
        self.after(self.checkpoint_us // 2 + self.some(self.checkpoint_us), self.load)

    def load(self) -> None:
        """The secondary runs the primary's state. What differed before is over; LOADED is on its way."""
        self.secondary.copy_of(self.state)
        self.answered.append((self.stopped_us, self.differing))
        self.differing = {}
        for card in self.cards:
            self.vouch(self.core.epoch + 1, card)
        self.secondary.is_running = True
        self.step_secondary()
        self.after(self.some(400), lambda: self.tell(self.core.loaded))

    def commit(self, epoch: int) -> None:
        """The cards commit one after the other."""
        left = [*self.cards]

        def one() -> None:
            left.pop().commit(epoch)
            self.after(self.some(self.commit_us), one if left else self.committed)

        self.after(self.some(200), one)

    def committed(self) -> None:
        self.tell(self.core.committed, 0, 0, 0)
        self.after(self.some(400), self.resume)

    def resume(self) -> None:
        self.stood_us += self.now_us - self.stopped_us
        self.primary.is_running = True
        at_us = HOST_CLOCK_US + self.now_us
        self.in_order("qmp", 300, lambda: self.tell(self.core.primary_resumed, at_us))
        self.step_primary()

    # ── laws ────────────────────────────────────────────────────────────────────────────────────────────────

    def assert_laws(self, *, is_none_needless: bool = True) -> None:
        committed = [record for record in self.records if record.outcome is Outcome.COMMITTED]
        assert self.core.state is State.IDLE
        assert not self.differing, f"lost: {self.differing} differ, and no checkpoint has answered that"
        assert self.got == self.primary.said, "each byte has reached its client"
        assert not any(card.core.held_packets() for card in self.cards)
        ours = [one for one in committed if one.reasons[0].kind.value in ("divergence", "timeout", "mutual_wait")]
        for record in ours if is_none_needless else []:
            _, differed = self.answered[record.epoch - 2]
            ports = {str(5000 + flow): since_us for flow, since_us in differed.items()}
            for number, reason in enumerate(record.reasons):
                since_us = next((ports[port] for port in ports if port in (reason.connection or "")), None)
                assert since_us is not None, f"needless: epoch {record.epoch} for {reason}, while {ports} differed"
                assert number or since_us <= record.requested_us, f"epoch {record.epoch} for {reason}, of before it"
        assert not self.core.unexpected
