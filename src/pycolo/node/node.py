"""One node, composed: its life from start to exit code. What it decides is in the pair table.

    decider     the pair's value: facts in, commands out (`failover.pair`)
    commands    carries them out, each by the part that it is for
    guest       this host's guest with its data path
    links       the link to the other node, with its control connection
    sides       where links come from: listening, dialing
    permission  the arbiter
    record      what a restarted node must know
    journal     what the user is told
    services    the control socket, and what else lasts as long as the node

Everything here runs in asyncio's thread; other threads' news comes through `LoopCall`.

**A primary that was stopped and wakes up** (SIGSTOP, a swapped-out host) may find that the secondary has taken over
meanwhile, and must let nothing out before it knows. No thread can count on running first, so the data path itself
asks the `Gate` before each write whether the secondary has confirmed a heartbeat that is younger than the time-out: so
long it cannot have given this node up. It does not see a host whose CLOCK_MONOTONIC stood still as well (a paused
virtual machine): that takes an arbiter that fences.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, Protocol

import structlog

from pycolo.errors import PycoloError
from pycolo.failover.pair import Pair, Told
from pycolo.failover.pairstates import FREE, Command, Fact, State
from pycolo.link.codec import GoodbyeReason
from pycolo.node.commands import Commands, Parts
from pycolo.node.decider import Decider, Watch
from pycolo.node.gate import Gate
from pycolo.node.journal import Journal
from pycolo.node.operator import Operator
from pycolo.transport.controlchannel import SWITCH_INTERVAL_S

STOP_S: Final = 10.0
"""Time limit for the secondary's promise when a primary is told to end."""

_ENDED_PAIR: Final = FREE | {State.RETIRING, State.PRIMARY_SUSPECT, State.PRIMARY_EMPTY}

log = structlog.get_logger("colo")


class ClosableSides(Protocol):
    """See `pycolo.node.commands.Sides`."""

    async def close(self) -> None:
        """No further link."""


class Service(Protocol):
    """Lasts as long as the node."""

    async def start(self) -> None:
        """Raises `ConnectError`."""

    async def close(self) -> None:
        """Ends it."""


class Given(NamedTuple):
    """What a node begins with: see `failover.pair.restarted`; `services` are started in order, then."""

    commands: tuple[Command, ...]
    warning: str = ""
    services: Sequence[Service] = ()
    close: Callable[[], Awaitable[None]] | None = None
    """The very last thing that it does."""


class Node:
    """Runs until `stop`, or until it must not go on. `run` returns the process's exit code."""

    def __init__(
        self,
        decider: Decider,
        parts: Parts,
        sides: ClosableSides,
        gate: Gate,
        journal: Journal,
        operator: Operator,
        commands: Commands,
        given: Given,
        watch: Watch = lambda fact, before, after: None,
    ) -> None:
        """`watch` is called at each change of state, before its commands."""
        self.decider = decider
        self.parts = parts
        self.journal = journal
        self.operator = operator
        self.gave_up = ""
        """Why it ended by itself, on one line."""
        self.exit_code = 0
        self._sides = sides
        self._gate = gate
        self._given = given
        self._done = asyncio.Event()
        self._is_stopping = False
        self._task: asyncio.Task[None] | None = None
        self._watches = [watch]
        self._services = list(given.services)
        decider.does = commands
        decider.watch = self._changed
        gate.set(decider.pair.release)

    def add(self, service: Service, watch: Watch, *, without: Command) -> None:
        """One part more, before `run`; the node does not begin with the command `without`."""
        self._services.append(service)
        self._watches.append(watch)
        self._given = self._given._replace(commands=tuple(c for c in self._given.commands if c is not without))

    @property
    def pair(self) -> Pair:
        """As it is now."""
        return self.decider.pair

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> int:
        """Raises `ConnectError` when an address or the control socket cannot be had."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)  # a busy data path must not hold the heart back
        started: list[Service] = []
        try:
            self.parts.guest.start()
            await self.parts.permission.start()
            if self._given.warning:
                log.warning(self._given.warning)
            self.begin()
            for service in self._services:
                started.append(service)
                await service.start()
            await self._done.wait()
        finally:
            for service in reversed(started):
                await service.close()
            await self._end()
        return self.exit_code

    def begin(self) -> None:
        """Carry out the commands that it begins with."""
        self.decider.begin(self._given.commands)

    def stop(self, why: str) -> None:
        """End in order: a primary first asks the secondary not to serve. A second call ends the node at once."""
        log.info("stopping", why=why)
        if not self._is_stopping:
            self._is_stopping = True
            self.decider.tell(Fact.STOPPING)
            if self.pair.state is State.DISSOLVING:
                self._task = asyncio.get_running_loop().create_task(self._stop_without_pair())
                return
        self.finish(0)

    async def _stop_without_pair(self) -> None:
        pair = await self.decider.settled(_ENDED_PAIR, STOP_S)
        if pair.state is State.DISSOLVING:
            log.error(f"no promise from the other node within {STOP_S:g} s: clients wait until this node is back")
        self.finish(0)

    async def _end(self) -> None:
        self.decider.close()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._sides.close()
        await self.parts.permission.close()
        await self.parts.links.close(GoodbyeReason.SHUTDOWN, "the node was stopped")
        await self.parts.guest.stop()
        if self._given.close is not None:
            await self._given.close()

    def finish(self, exit_code: int, why: str = "") -> None:
        """End the process; the first call counts."""
        if self._done.is_set():
            return
        self.exit_code = exit_code
        self.gave_up = why
        self.decider.close()
        self.parts.links.seal()
        self._done.set()

    # ── news of the parts ───────────────────────────────────────────────────────────────────────────────────

    def _changed(self, fact: Fact | None, before: Pair, after: Pair) -> None:
        self._gate.set(after.release)
        links = self.parts.links
        for watch in self._watches:
            watch(fact, before, after)
        self.journal.changed(fact, before, after, links.suspected_ns)
        if after.state in (State.PRIMARY_PROTECTED, State.SECONDARY_PROTECTED):
            links.suspected_ns = 0

    def data_lost(self, link: int, text: str) -> None:
        """The data connection has failed; with the other node's death the control connection ends as well."""
        if link == self.pair.link and not self._done.is_set():
            log.warning(text)
        self.decider.tell(Fact.DATA_LOST, Told(link=link))

    def failed(self, error: BaseException) -> None:
        """The data path has ended: so does the process, without a goodbye. The recovery is the other's failover."""
        if isinstance(error, PycoloError):
            why = str(error)
            log.error(why)
        else:
            why = "the data path has failed; this is a bug"
            log.critical(why, exc_info=error)
        self.parts.links.abandon()
        self.finish(70, why)
