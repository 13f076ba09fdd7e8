"""The data paths of the primary's guest, one for each card, and the node's place in its network."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic_ns
from typing import Any

import structlog

from pycolo.compare.difference import Command, on_card
from pycolo.config.ordering import tuner
from pycolo.errors import StateError
from pycolo.link.hello import Role
from pycolo.node.datalinks import DataLinks
from pycolo.node.handover import PathState
from pycolo.node.primarypath import PrimaryPath
from pycolo.node.rowsfile import KeptRows
from pycolo.node.secondarypath import SecondaryPath
from pycolo.qmp.probe import Facts
from pycolo.vm.cardrows import CardRows
from pycolo.vm.guesthost import GuestHost
from pycolo.vm.guestwiring import CardPorts, GuestWiring
from pycolo.vm.machine import Machine
from pycolo.vm.nodeoptions import node_options
from pycolo.vm.paths import make_primary_path, restored_rewriter
from pycolo.vm.pathslot import PathSlot, ask_paths

log = structlog.get_logger("colo")


class PrimaryPaths:
    """`on_differences(commands, epoch)`: see `make_primary_path`; `on_stray(text, epoch)`: see `PrimaryPath`."""

    def __init__(
        self,
        host: GuestHost,
        slot: PathSlot,
        wiring: GuestWiring,
        on_differences: Callable[[list[Command], int], None],
        on_stray: Callable[[str, int], None],
    ) -> None:
        self._slot = slot
        self._wiring = wiring
        self._found = on_differences
        cards = [card.netdev for card in host.config.card]
        self._names = cards if len(cards) > 1 else []
        self._on_stray = on_stray
        self._on_waits = host.note_waits
        self._options = node_options(host.config, Role.PRIMARY)
        self._new_tuner = partial(tuner, host.config.order, host.config.compare.ack_policy)
        self._has_place = False
        """The guest's frames go through this node: its paths and TAPs stay until `withdraw` has changed that."""
        self.move_ms = 0.0
        """What `insert` took: no tap was without its place for longer."""
        self.comparing: list[PrimaryPath] = []
        self.serving: list[SecondaryPath] = []
        """The paths with which this node has taken over, until the next `protect` replaces them."""

    def __bool__(self) -> bool:
        """Whether a data path of this node is in the guest's path."""
        return bool(self.comparing or self.serving)

    def adopt(self, paths: list[SecondaryPath]) -> None:
        """This node has taken over with these."""
        self.serving = paths
        self._has_place = True

    # ── protect ───────────────────────────────────────────────────────────────────────────────────────────────

    async def make_ready(self, facts: Facts) -> None:
        """See `GuestWiring`."""
        await self._wiring.make_ready(facts)

    async def open(self, link: int, data: DataLinks) -> None:
        """Start the data paths, which pass all frames on until the first synchronisation."""
        if not self.comparing:
            begins: Sequence[PathState | CardPorts] = await self._handed_over() or self._wiring.open()
            self.comparing = [
                make_primary_path(self._options, self._callbacks(), self._on_differences(number), one)
                for number, one in enumerate(begins)
            ]
            self.serving = []
            self._slot.use(self.comparing)
        await self._slot.attach(self.comparing, link, data)

    async def watch_processors(self, machine: Machine) -> None:
        """Of a guest that may be ordered: its requests are seen to wait when these sleep."""
        if not self._new_tuner().is_off:
            cpus = await machine.execute("query-cpus-fast")
            threads = [cpu["thread-id"] for cpu in cpus]
            await ask_paths(self.comparing, lambda path: lambda: path.watch_processors(threads))

    def _on_differences(self, number: int) -> Callable[[list[Command], int], None]:
        """Of the card with this number; called in its path's thread."""
        if not self._names:
            return self._found
        name, found = self._names[number], self._found
        return lambda commands, epoch: found(on_card(name, commands), epoch)

    def _callbacks(self) -> dict[str, Any]:
        """Of one path."""
        own = {"on_stray": self._on_stray, "on_waits": self._on_waits, "tuner": self._new_tuner()}
        return {**self._slot.callbacks(), **own}

    async def _handed_over(self) -> list[PathState]:
        states = await ask_paths(self.serving, lambda path: path.hand_over)
        for path in self.serving:
            await asyncio.to_thread(path.join)
        return states

    async def insert(self) -> None:
        """Put the node into the guest's path."""
        began_ns = monotonic_ns()
        await self._wiring.insert()
        self._has_place, self.move_ms = True, (monotonic_ns() - began_ns) / 1e6
        # What the bridge has still sent to a tap is in no count: from here on the node alone sends there.
        await ask_paths(self.comparing, lambda path: path.give_up_input)

    # ── letting go ────────────────────────────────────────────────────────────────────────────────────────────

    async def release_held(self) -> None:
        """Send what is held; compare no longer."""
        with suppress(StateError):  # halted: they send nothing
            await ask_paths(self.comparing, lambda path: path.go_alone)

    async def withdraw(self, machine: Machine) -> None:
        """Connect the guest to its network directly, unless open connections still need their offsets translated."""
        if await self._has_offsets(machine):
            log.info("connections from before a takeover are still open: the node stays in the guest's path")
        else:
            await self._step_aside()
            self._has_place = False

    async def _step_aside(self) -> None:
        """The node's TAPs go while they are open, so the data paths must not look at them."""
        paths = [*self.comparing, *self.serving]
        with suppress(StateError):  # halted
            await ask_paths(paths, lambda path: path.pause)
        try:
            await self._wiring.withdraw()
        except BaseException:
            for path in paths:
                path.post(path.go_on)
            raise

    async def _has_offsets(self, machine: Machine) -> bool:
        """Whether some connection has other sequence numbers on the client's side."""
        if not machine.is_there:
            return False
        with suppress(StateError):  # halted: they translate nothing
            comparing = await ask_paths(self.comparing, lambda path: path.has_offsets)
            return any([*comparing, *await ask_paths(self.serving, lambda path: path.has_offsets)])
        return False

    async def close(self) -> None:
        """End the data paths, unless the guest's frames go through them."""
        if not self._has_place:
            await self._slot.drop([*self.comparing, *self.serving])
            self.comparing, self.serving = [], []

    async def clear(self) -> None:
        """Remove the nodes' TAPs, unless the guest's frames go through them."""
        if not self._has_place:
            await self._wiring.withdraw()

    async def abandon(self) -> None:
        """The guest is gone."""
        self._has_place = False
        await self.close()

    # ── a node that was started again ─────────────────────────────────────────────────────────────────────────

    @property
    def is_left(self) -> bool:
        """See `GuestWiring`."""
        return self._wiring.is_left

    async def resume(self, machine: Machine, kept: Sequence[KeptRows], files: CardRows) -> None:
        """Translate the connections of before a takeover again, if the guest is still wired to this node."""
        if not self._wiring.is_left:
            return
        await self._wiring.make_ready(await machine.probe(is_forced=True))
        for number, (one, file, ports) in enumerate(zip(kept, files, self._wiring.open(), strict=True)):
            rewriter, restored = restored_rewriter(self._options, one)
            log.info(
                f"serving again, as before the restart: {restored.rows} connections of before the takeover go on",
                file=str(file.path),
                term=one.term,
                unreadable=restored.unreadable,
            )
            path = make_primary_path(
                self._options, self._callbacks(), self._on_differences(number), ports, rewriter=rewriter, rows=file
            )
            self.comparing.append(path)
        self._has_place = True
        self._slot.use(self.comparing)
        await self._wiring.serve()  # the node may have been killed before it had all of the guest's place
