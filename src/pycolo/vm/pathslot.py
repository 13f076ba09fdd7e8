"""Holds the data path of this host's guest, if there is one."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

from pycolo.errors import StateError
from pycolo.failover.pair import Told
from pycolo.failover.pairstates import Fact
from pycolo.node.datapath import DataPath
from pycolo.node.nopath import NoPath
from pycolo.transport.linksocket import LinkSocket
from pycolo.vm.guesthost import GuestHost
from pycolo.vm.memory import trim_heap

T = TypeVar("T")

PATH_ANSWER_S: Final = 5.0
"""The data path answers between two batches; it takes this long only when the process gets no CPU time."""


class PathSlot:
    """Used in asyncio's thread only."""

    def __init__(self, host: GuestHost) -> None:
        self.path: DataPath | NoPath = NoPath()
        self._host = host

    def callbacks(self) -> dict[str, Any]:
        """The callbacks of a new data path; see `DataPath`."""
        return {
            "on_link_lost": self._link_lost,
            "on_note": self._host.on_note,
            "on_fatal": self._host.on_fatal,
            "spin_us": self._host.spin_us,
        }

    def use(self, path: DataPath) -> None:
        """Start `path`; it is the present one from now on."""
        self.path = path
        path.start()

    async def drop(self, path: DataPath) -> None:
        """Stop `path`, and free its memory."""
        if self.path is path:
            self.path = NoPath()
        await asyncio.to_thread(path.stop)
        trim_heap()

    async def stop(self) -> None:
        """Stop the present path, if there is one."""
        if isinstance(self.path, DataPath):
            await self.drop(self.path)

    async def attach(self, path: DataPath, link: int, data: LinkSocket) -> None:
        """Attach the data connection of `link`. Raises `PycoloError`, TimeoutError."""

        def attach() -> None:
            self._link = link
            path.attach(data)

        await ask_path(path, attach)

    def halt(self) -> None:
        """Move nothing more."""
        self.path.post(self.path.halt)

    def detach(self) -> None:
        """Close the data connection without calling it lost."""
        self.path.post(self.path.detach)

    async def answers(self) -> None:
        """Wait for an answer of the path. Raises TimeoutError."""
        with suppress(StateError):  # halted
            await ask_path(self.path, lambda: None)

    async def snapshot(self) -> dict[str, Any]:
        """The path's counters, if it runs."""
        path = self.path
        try:
            return await asyncio.wrap_future(path.ask(path.snapshot))
        except StateError:
            return NoPath().snapshot()

    def _link_lost(self, text: str) -> None:
        """In the path's thread."""
        self._host.call(self._host.tell, Fact.DATA_LOST, Told(link=self._link, text=text))

    _link = 0
    """Number of the link whose data connection is attached. Used in the path's thread."""


async def ask_path(path: DataPath | NoPath, question: Callable[[], T]) -> T:
    """Let the path answer `question` in its thread. Raises `StateError` when it has ended, TimeoutError."""
    async with asyncio.timeout(PATH_ANSWER_S):
        return await asyncio.wrap_future(path.ask(question))
