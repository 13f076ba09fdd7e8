"""Keeps the pair's value and its deadline: facts go in, commands come out. The table decides.

Commands are carried out in the order of the table, in asyncio's thread. A fact that is told meanwhile waits until they
are done.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Container
from contextlib import suppress
from typing import Protocol

import structlog

from pycolo.failover.pair import NOTHING_TOLD, Pair, Told
from pycolo.failover.pairstates import Command, Fact, State

log = structlog.get_logger("colo")


class Does(Protocol):
    """What carries out the table's commands."""

    def __call__(self, command: Command, pair: Pair, told: Told) -> None:
        """`pair` is the value after the transition, `told` came with the fact. Must not wait."""


Watch = Callable[[Fact | None, Pair, Pair], None]
"""Called when the state changes, or what has failed in it, before its commands: the fact (None: the deadline),
the old value, the new one.
"""


class Decider:
    """`does` and `watch` are set before `begin`."""

    does: Does
    watch: Watch

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self._loop = asyncio.get_running_loop()
        self._facts: deque[tuple[Fact | None, Told]] = deque()
        self._is_busy = False
        self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[tuple[Container[State], asyncio.Future[Pair]]] = []

    @property
    def now_ms(self) -> int:
        """The loop's clock, which is CLOCK_MONOTONIC, in milliseconds."""
        return int(self._loop.time() * 1000)

    def begin(self, commands: tuple[Command, ...]) -> None:
        """Carry out the commands that a node begins with."""
        self._carry_out(self.pair, commands, NOTHING_TOLD)
        self._arm()

    def close(self) -> None:
        """Ignore every fact from now on."""
        self._is_closed = True
        self._facts.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def tell(self, fact: Fact, told: Told = NOTHING_TOLD) -> None:
        """Tell a fact. When this returns its commands are carried out, unless other facts are being handled."""
        self._take(fact, told)

    async def settled(self, states: Container[State], timeout_s: float) -> Pair:
        """The value when the state is one of `states` for the first time, or after `timeout_s`."""
        if self.pair.state in states:
            return self.pair
        future: asyncio.Future[Pair] = self._loop.create_future()
        entry = (states, future)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            return self.pair
        finally:
            with suppress(ValueError):
                self._waiting.remove(entry)

    def _take(self, fact: Fact | None, told: Told) -> None:
        if self._is_closed:
            return
        self._facts.append((fact, told))
        if self._is_busy:
            return
        self._is_busy = True
        try:
            while self._facts:
                self._step(*self._facts.popleft())
        finally:
            self._is_busy = False
        self._arm()

    def _step(self, fact: Fact | None, told: Told) -> None:
        before, now_ms = self.pair, self.now_ms
        if fact is None:
            self.pair, commands = before.deadline_passed(now_ms)
        else:
            self.pair, commands = before.happened(fact, now_ms, told)
        if self.pair.state is not before.state or self.pair.failed != before.failed:
            self.watch(fact, before, self.pair)
        self._carry_out(self.pair, commands, told)
        for states, future in self._waiting:
            if self.pair.state in states and not future.done():
                future.set_result(self.pair)

    def _carry_out(self, pair: Pair, commands: tuple[Command, ...], told: Told) -> None:
        for command in commands:
            log.debug(f"command: {command.value}", state=pair.state.value)
            self.does(command, pair, told)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.pair.deadline_ms is not None and not self._is_closed:
            self._timer = self._loop.call_at(self.pair.deadline_ms / 1000, self._take, None, NOTHING_TOLD)
