"""Guests without a QEMU of this node's: state is not copied, and every command is answered at once.

The primary's data path compares as soon as the nodes are to be a pair, the secondary's feeds its guest. Connections
that are open then are older than the pair (ADR 0008).
"""

import asyncio
from collections.abc import Callable
from typing import Any

from pycolo.failover.pairstates import Fact
from pycolo.node.datalinks import DataLinks
from pycolo.node.datapath import halt_paths
from pycolo.node.gate import Gate
from pycolo.node.guest import Answer, Ready
from pycolo.node.primarypath import PrimaryPath
from pycolo.node.secondarypath import SecondaryPath

OnDataLost = Callable[[int, str], None]
"""`(link, text)`: the data connection of that link has failed. In the data path's thread."""

Retire = Callable[[], None]

SayPrepare = Callable[[], None]
"""Tells the secondary's node to prepare its guest."""


class _PlainGuest:
    """What both have. `on_data_lost` must only pass it on; `on_retired` ends the node's process."""

    path: PrimaryPath | SecondaryPath

    def __init__(self, on_data_lost: OnDataLost, on_retired: Retire) -> None:
        self._on_data_lost = on_data_lost
        self._on_retired = on_retired
        self._link = 0  # the one whose data connection is attached; in the data path's thread
        self._is_halted = False

    def start(self) -> None:
        """See `Guest`."""
        self.path.start()

    async def stop(self) -> None:
        """See `Guest`."""
        await asyncio.to_thread(self.path.stop)

    def halt(self) -> None:
        """See `Guest`."""
        self._is_halted = True
        halt_paths([self.path])

    def discard(self) -> None:
        """The guest itself stays: the primary's clients are not its own any more."""
        self._post(self.path.detach)

    def retire(self, answer: Answer) -> None:
        """This node ends, and its guest is off the network with it."""
        self._on_retired()

    def committed(self) -> None:
        """The data path compares already."""

    async def settled(self) -> None:
        """Nothing takes time."""

    @property
    def is_there(self) -> bool:
        """Not known here."""
        return True

    def hold_back(self) -> None:
        """See `pycolo.node.cluster.Pausable`."""
        self.path.pause()

    async def end(self) -> None:
        """The guest is not this node's."""

    async def pause(self) -> None:
        """See `pycolo.node.cluster.Pausable`."""
        await asyncio.wrap_future(self.path.ask(self.path.pause))

    async def resume(self) -> None:
        """See `pycolo.node.cluster.Pausable`."""
        await asyncio.wrap_future(self.path.ask(self.path.go_on))

    async def snapshot(self) -> dict[str, Any]:
        """See `Guest`."""
        return await asyncio.wrap_future(self.path.ask(self.path.snapshot))

    def data_lost(self, text: str) -> None:
        """The data path's `on_link_lost`."""
        self._on_data_lost(self._link, text)

    def _attach(self, link: int, data: DataLinks) -> None:
        (connection,) = data

        def attach() -> None:
            self._link = link
            self.path.attach(connection)

        self._post(attach)

    def _post(self, action: Callable[[], None]) -> None:
        if not self._is_halted:
            self.path.post(action)


class PlainPrimary(_PlainGuest):
    """Serves until the node ends. `path` is set by the caller, before anything else."""

    path: PrimaryPath

    def __init__(self, gate: Gate, say_prepare: SayPrepare, on_data_lost: OnDataLost, on_retired: Retire) -> None:
        super().__init__(on_data_lost, on_retired)
        self._gate = gate
        self._say_prepare = say_prepare

    def release(self) -> None:
        """See `Guest`."""
        self._post(self.path.go_alone)

    def protect(self, link: int, data: DataLinks, answer: Answer) -> None:
        """Compare what begins from here."""
        self._say_prepare()
        self._attach(link, data)
        self._post(lambda: self.path.pair_formed(self._gate.until_ns))
        answer(Fact.SYNCHRONISED, "")

    def cancel_protect(self, why: str) -> None:
        """See `Guest`."""
        self._post(self.path.go_alone)

    def unlinked(self) -> None:
        """See `Guest`."""
        self._post(self.path.detach)

    def prepare(self, link: int, data: DataLinks, ready: Ready, answer: Answer) -> None:
        """A primary is not prepared."""
        answer(Fact.PREPARE_FAILED, "this node is the primary")

    def switch(self, answer: Answer) -> None:
        """A primary is on the network."""
        answer(Fact.SERVED, "")


class PlainSecondary(_PlainGuest):
    """Follows until it takes over. `path` is set by the caller, before anything else."""

    path: SecondaryPath

    def release(self) -> None:
        """It serves already, or never."""

    def prepare(self, link: int, data: DataLinks, ready: Ready, answer: Answer) -> None:
        """Feed the guest from the link."""
        self._attach(link, data)
        ready({})

    def unlinked(self) -> None:
        """What the primary has still sent belongs to the guest: it is read until the guest is given up, or serves."""

    def switch(self, answer: Answer) -> None:
        """Serve the clients."""
        self._post(self.path.take_over)
        answer(Fact.SERVED, "")

    def protect(self, link: int, data: DataLinks, answer: Answer) -> None:
        """One that serves cannot be protected: its past is in its rewriter."""
        data.close()
        answer(Fact.PROTECT_FAILED, "this node serves after a takeover; it takes no secondary")

    def cancel_protect(self, why: str) -> None:
        """Nothing was begun."""
