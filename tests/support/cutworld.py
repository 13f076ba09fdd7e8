"""Two nodes' deciders, permissions and fencing arbiters, on a virtual clock, with a power switch and cables to cut.

The pair table, `Decider`, `Permission`, `ArbiterRunner`, the core of the arbiter `command` and its placeholders are the
product's. Guests, records, links and the switch are the world's. Law: never do both nodes serve.
"""

import asyncio
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

from pycolo import arbiters
from pycolo.arbiters.usercommand import Ended
from pycolo.failover.pair import Pair, Record, Settings, Told, restarted
from pycolo.failover.pairstates import FREE, IN_STEP, Command, Fact, Role, State
from pycolo.node.decider import Decider
from pycolo.node.permission import Permission
from support.etcd import Settings as ArbiterSettings
from support.pairworld import ASKS_PATHS

C, F, S = Command, Fact, State

TIMEOUT_MS: Final = 150
HEAD_START_MS: Final = 2_000
NAMES: Final = ("a", "b")
WORDS: Final = ("fence", "{peer}", "{role}", "{term}")


class Fenced:
    """What the switch was told: by which node, in which role, under which term."""

    def __init__(self, by: "Host", target: "Host", role: str, term: int) -> None:
        self.by, self.target, self.role, self.term = by.name, target.name, role, term
        self.is_true = role == by.pair.role.value and term > by.pair.term


class Host:
    """One machine. `record` outlives the process and the power."""

    def __init__(self, world: "World", name: str, record: Record) -> None:
        self.world = world
        self.name = name
        self.record = record
        self.has_guest = False
        self.is_on = False
        self.decider: Decider = None  # type: ignore[assignment]
        self.permission: Permission = None  # type: ignore[assignment]
        self.life = 0

    @property
    def other(self) -> "Host":
        return self.world.hosts[1 - NAMES.index(self.name)]

    @property
    def pair(self) -> Pair:
        return self.decider.pair

    @property
    def serves(self) -> bool:
        return self.is_on and self.has_guest and self.pair.state in FREE

    async def boot(self) -> None:
        """From the record."""
        self.life += 1
        self.is_on = True
        settings = Settings(TIMEOUT_MS, head_start_ms=self.world.head_start_ms, back_off_first_ms=0)
        now_ms = int(self.world.loop.time() * 1000)
        self.has_guest |= self.record.role is Role.PRIMARY and not self.record.was_protected
        pair, commands = restarted(settings, self.record, has_guest=self.has_guest, now_ms=now_ms)
        self.decider = Decider(pair._replace(last_link=self.world.link))
        self.decider.does = self.does
        self.decider.watch = lambda fact, before, after: None
        turns_ms = self.world.turns_ms
        options = ArbiterSettings("command", command=WORDS, timeout_ms=HEAD_START_MS, head_start_ms=turns_ms)

        def make(on_change: Callable[[], None]) -> arbiters.ArbiterRunner:
            return arbiters.make(
                options,
                pair="colo",
                role=lambda: self.decider.pair.role.value,
                peer=self.other.name,
                identity=self.name,
                term=self.record.term,
                apart_ms=TIMEOUT_MS,
                on_change=on_change,
            )

        self.permission = Permission(make, self.decider.tell, lambda: self.decider.pair.term)
        await self.permission.start()
        self.decider.begin(commands)

    async def die(self, *, loses_guest: bool) -> None:
        """Its process, or the whole host. What the switch was told stays told."""
        if self.is_on:
            self.is_on = False
            self.life += 1
            self.has_guest &= not loses_guest
            self.decider.close()
            await self.permission.close()
            if self.world.is_wired and self.other.is_on:
                self.other.later(F.LINK_LOST, link=self.other.pair.link)

    def does(self, command: Command, pair: Pair, told: Told) -> None:
        handler: Callable[..., Any] = getattr(self, f"_{command.name.lower()}", lambda pair, told: None)
        handler(pair, told)
        self.world.check()

    def later(self, fact: Fact, *, ask: int = 0, link: int = 0, term: int = 0, role: Role | None = None) -> None:
        """A fact for this node, in a moment, if it lives that long."""
        life = self.life

        def tell() -> None:
            if self.life == life and self.is_on:
                self.decider.tell(fact, Told(term, link, ask, role=role))

        self.world.loop.call_later(self.world.chance.uniform(0.001, 0.01), tell)

    def say(self, fact: Fact, pair: Pair, *, ask: int = 0, link: int | None = None) -> None:
        """To the other node, over the link."""
        if self.world.is_wired:
            self.other.later(fact, ask=ask, link=pair.link if link is None else link, term=pair.term)

    # ── commands ────────────────────────────────────────────────────────────────────────────────────────────

    def _record(self, pair: Pair, told: Told) -> None:
        self.record = pair.record()
        self.later(F.RECORDED, ask=pair.asked)

    def _retire(self, pair: Pair, told: Told) -> None:
        self.has_guest = False
        self.record = Record(Role.SECONDARY, max(pair.term, self.record.term), is_wished=True)
        self.later(F.RETIRED, ask=pair.asked)

    def _switch(self, pair: Pair, told: Told) -> None:
        self.later(F.SERVED, ask=pair.asked)

    def _protect(self, pair: Pair, told: Told) -> None:
        self.say(F.PREPARE_ASKED, pair)
        life, link, asked = self.life, pair.link, pair.asked

        def copied() -> None:
            if self.life == life and self.other.is_on and self.other.pair.link == link:
                self.decider.tell(F.SYNCHRONISED, Told(ask=asked))

        self.world.loop.call_later(0.05, copied)

    def _prepare(self, pair: Pair, told: Told) -> None:
        self.has_guest = True

    def _discard_guest(self, pair: Pair, told: Told) -> None:
        self.has_guest = False

    def _say_protected(self, pair: Pair, told: Told) -> None:
        self.say(F.PEER_PROTECTED, pair)

    def _say_resigned(self, pair: Pair, told: Told) -> None:
        self.say(F.PEER_RESIGNED, pair, link=self.other.pair.link if self.other.is_on else 0)

    def _ask_resign(self, pair: Pair, told: Told) -> None:
        self.say(F.RESIGN_ASKED, pair)

    def _ask_discard(self, pair: Pair, told: Told) -> None:
        self.say(F.DISCARD_ASKED, pair, ask=pair.asked)

    def _promise(self, pair: Pair, told: Told) -> None:
        self.say(F.PROMISED, pair, ask=told.ask, link=0)

    def _ask_paths(self, pair: Pair, told: Told) -> None:
        """Asked again and again, as long as the same is in doubt; a cut cuts the other path as well."""
        if not self.is_on or self.pair.doubt != pair.doubt or self.pair.state not in ASKS_PATHS:
            return
        other = self.other
        fact = other.pair.path_answer if self.world.is_wired and other.is_on else None
        if fact is not None:
            self.later(fact, ask=pair.doubt, term=other.pair.term)
        self.world.loop.call_later(0.5, self._ask_paths, pair, told)

    def _ask_arbiter(self, pair: Pair, told: Told) -> None:
        self.permission.ask()

    def _withdraw(self, pair: Pair, told: Told) -> None:
        self.permission.withdraw()

    def _tell_operator(self, pair: Pair, told: Told) -> None:
        self.permission.operator_confirmed()

    def _tell_resigned(self, pair: Pair, told: Told) -> None:
        self.permission.peer_resigned(told.text)

    def _resign_lease(self, pair: Pair, told: Told) -> None:
        self.permission.resign()

    def _release(self, pair: Pair, told: Told) -> None:
        self.permission.serves()


class World:
    """`head_start_ms`: D. Use `power_switch` as `pycolo.arbiters.command.run_command`.

    `fails`: how often the switch does nothing and says so. `turns_ms`: of the arbiters, 0: none.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seed: int,
        head_start_ms: int = HEAD_START_MS,
        *,
        fails: float = 0.0,
        turns_ms: int = HEAD_START_MS,
    ) -> None:
        self.loop = loop
        self.chance = random.Random(seed)
        self.head_start_ms = head_start_ms
        self.fails = fails
        self.turns_ms = turns_ms
        self.shot: list[str] = []
        self.is_wired = True
        self.link = 0
        self.fenced: list[Fenced] = []
        self.story: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()
        records = (Record(Role.PRIMARY, 0, is_wished=True), Record(Role.SECONDARY, 0, is_wished=True))
        self.hosts = tuple(Host(self, name, record) for name, record in zip(NAMES, records, strict=True))

    def check(self) -> None:
        assert not all(host.serves for host in self.hosts), f"both serve: {self.story}"

    def serving(self) -> list[Host]:
        return [host for host in self.hosts if host.serves]

    async def power_switch(self, words: list[str], timeout_s: float) -> Ended:
        """Turns the host off while the command runs, which ends within the head start, or is killed."""
        _, peer, role, term = words
        target = self.hosts[NAMES.index(peer)]
        fencing = Fenced(target.other, target, role, int(term))
        self.fenced.append(fencing)
        takes_s = self.chance.uniform(0.01, 0.95) * HEAD_START_MS / 1000

        if self.chance.random() < self.fails:
            await asyncio.sleep(min(takes_s, timeout_s))
            return Ended(1, "busy")

        def turn_off() -> None:
            self.shot.append(target.name)
            task = self.loop.create_task(target.die(loses_guest=True))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        off_s = takes_s * self.chance.random()
        if off_s < timeout_s:
            self.loop.call_later(off_s, turn_off)
        await asyncio.sleep(min(takes_s, timeout_s))
        return Ended(0, "") if takes_s <= timeout_s else Ended(None, "killed")

    async def link_up(self) -> None:
        """The nodes find one another, in their roles of the moment."""
        primary, secondary = sorted(self.hosts, key=lambda host: host.pair.role is not Role.PRIMARY)
        if self.is_wired and all(host.is_on for host in self.hosts) and secondary.pair.role is Role.SECONDARY:
            self.link += 1
            is_in_step = secondary.pair.state in IN_STEP
            secondary.decider.tell(F.LINKED, Told(primary.pair.term, self.link, role=Role.SECONDARY))
            fact = F.LINKED_IN_STEP if is_in_step else F.LINKED
            primary.decider.tell(fact, Told(secondary.pair.term, self.link, role=Role.PRIMARY))
        await asyncio.sleep(0.3)

    async def protected(self) -> None:
        """Start what is off, and wait until the pair is whole."""
        self.is_wired = True
        for _ in range(40):
            for host in self.hosts:
                if not host.is_on:
                    await host.boot()
            if {host.pair.state for host in self.hosts} == {S.PRIMARY_PROTECTED, S.SECONDARY_PROTECTED}:
                return
            if not all(host.pair.link == self.link != 0 for host in self.hosts):
                await self.link_up()
            await asyncio.sleep(0.3)
        raise AssertionError(f"not whole: {[host.pair for host in self.hosts]} {self.story}")

    def primary(self) -> Host:
        return next(host for host in self.hosts if host.pair.role is Role.PRIMARY)

    async def cut(self) -> None:
        """Both links, at one moment. The two suspicions lie up to a heartbeat's time-out apart."""
        self.is_wired = False
        for host in self.hosts:
            fact = self.chance.choice((F.SILENT, F.SILENT, F.LINK_LOST))
            late_s = TIMEOUT_MS / 1000 * (1 + self.chance.random())
            link = host.pair.link
            self.loop.call_later(late_s, self._tell, SimpleNamespace(host=host, life=host.life), fact, link)
        await asyncio.sleep(3 * self.head_start_ms / 1000 + 2)

    def _tell(self, whom: SimpleNamespace, fact: Fact, link: int) -> None:
        if whom.host.is_on and whom.host.life == whom.life:
            whom.host.decider.tell(fact, Told(link=link))

    # ── what changes the roles ──────────────────────────────────────────────────────────────────────────────

    async def hand_over(self) -> None:
        """The operator wants the other node to serve."""
        self.primary().other.decider.tell(F.OPERATOR_CONFIRMED)
        await asyncio.sleep(1)

    async def crash_primary(self) -> None:
        """Its host dies; the secondary fences it, and serves."""
        await self.primary().die(loses_guest=True)
        await asyncio.sleep(2 * self.head_start_ms / 1000 + 2)

    async def restart_secondary(self) -> None:
        """Its process dies and begins anew."""
        await self._restart(self.primary().other)

    async def restart_primary(self) -> None:
        """Its process dies and begins anew; its guest lives on."""
        await self._restart(self.primary())

    async def _restart(self, host: Host) -> None:
        """It may be fenced all the same: its silence is seen at once."""
        await host.die(loses_guest=False)
        await host.boot()
        await asyncio.sleep(self.chance.choice((0.001, 0.02)))
        await self.link_up()
        await asyncio.sleep(self.head_start_ms / 1000 + 1)
