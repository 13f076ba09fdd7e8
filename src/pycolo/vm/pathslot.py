"""Holds the data paths of this host's guest, one for each card, if there are any."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from pycolo.errors import StateError
from pycolo.failover.pair import Told
from pycolo.failover.pairstates import Fact
from pycolo.node.datalinks import DataLinks
from pycolo.node.datapath import DataPath, halt_paths
from pycolo.node.nopath import NoPath
from pycolo.transport.linksocket import LinkSocket
from pycolo.vm.guesthost import GuestHost
from pycolo.vm.memory import trim_heap

P = TypeVar("P", bound=DataPath)
T = TypeVar("T")

PATH_ANSWER_S: Final = 5.0
"""The data path answers between two batches; it takes this long only when the process gets no CPU time."""

_ORDER: Final = ("serving", "service", "comparing", "uncompared", "alone", "held", "loading")
"""Modes of data paths; of several cards the last one is shown."""


class PathSlot:
    """Used in asyncio's thread only."""

    def __init__(self, host: GuestHost) -> None:
        self.paths: list[DataPath] = []
        self._host = host
        self._link = 0
        """Number of the link whose data connections are attached. Read in the paths' threads."""

    def callbacks(self) -> dict[str, Any]:
        """The callbacks of a new data path; see `DataPath`."""
        return {
            "on_link_lost": self._link_lost,
            "on_note": self._host.on_note,
            "on_fatal": self._host.on_fatal,
            "spin_us": self._host.spin_us,
        }

    def use(self, paths: Sequence[DataPath]) -> None:
        """Start `paths`; they are the present ones from now on."""
        self.paths = list(paths)
        for path in paths:
            path.start()

    async def drop(self, paths: Sequence[DataPath]) -> None:
        """Stop `paths`, and free their memory."""
        self.paths = [path for path in self.paths if path not in paths]
        for path in paths:
            await asyncio.to_thread(path.stop)
        trim_heap()

    async def stop(self) -> None:
        """Stop the present paths."""
        await self.drop(self.paths)

    async def attach(self, paths: Sequence[DataPath], link: int, data: DataLinks) -> None:
        """Attach the data connections of `link`. Raises `PycoloError`, TimeoutError."""

        def attach(path: DataPath, connection: LinkSocket) -> None:
            self._link = link
            path.attach(connection)

        for path, connection in zip(paths, data, strict=True):
            await ask_path(path, partial(attach, path, connection))

    def halt(self) -> None:
        """Move nothing more: when this returns, nothing does."""
        halt_paths(self.paths)

    def detach(self) -> None:
        """Close the data connections without calling them lost."""
        for path in self.paths:
            path.post(path.detach)

    async def answers(self) -> None:
        """Wait for an answer of each path. Raises TimeoutError."""
        for path in self.paths:
            with suppress(StateError):  # halted
                await ask_path(path, lambda: None)

    async def snapshot(self) -> dict[str, Any]:
        """The paths' counters together; with several cards `cards` has those of each."""
        found: dict[str, dict[str, Any]] = {}
        names = [card.netdev for card in self._host.config.card] or [""]
        for name, path in zip(names, list(self.paths), strict=False):  # a halted node may have none of them left
            with suppress(StateError):
                found[name] = await asyncio.wrap_future(path.ask(path.snapshot))
        if len(found) < 2:
            return next(iter(found.values()), None) or NoPath().snapshot()
        return together(found)

    def _link_lost(self, text: str) -> None:
        """In a path's thread."""
        self._host.call(self._host.tell, Fact.DATA_LOST, Told(link=self._link, text=text))


def together(cards: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Of several cards by their names: the sums, the worst of their modes and holds, and each of them."""
    snapshots = list(cards.values())
    counters: dict[str, int] = {}
    for one in snapshots:
        for name, value in one["counters"].items():
            counters[name] = counters.get(name, 0) + value
    holds = [one["hold_us"] for one in snapshots if one["hold_us"]]
    buckets: dict[int, int] = {}
    for one in snapshots:
        for bound, count in one["hold_histogram"]:
            buckets[bound] = buckets.get(bound, 0) + count
    return {
        "counters": counters,
        **{key: _sums(one.get(key, {}) for one in snapshots) for key in ("masks", "bypassed")},
        "hold_us": {name: max(hold[name] for hold in holds) for name in holds[0]} if holds else None,
        "order": [{"card": name, **port} for name, one in cards.items() for port in one.get("order", [])],
        "hold_histogram": [list(bucket) for bucket in sorted(buckets.items())],
        "mode": max((one["mode"] for one in snapshots), key=_ORDER.index),
        "cards": [{"card": name, "mode": one["mode"], "counters": one["counters"]} for name, one in cards.items()],
    }


def _sums(cards: Iterable[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """Of several cards' counters, by the table that they are of."""
    sums: dict[str, dict[str, int]] = {}
    for tables in cards:
        for table, counted in tables.items():
            found = sums.setdefault(table, {})
            for name, value in counted.items():
                found[name] = found.get(name, 0) + value
    return sums


async def ask_path(path: DataPath, question: Callable[[], T]) -> T:
    """Let the path answer `question` in its thread. Raises `StateError` when it has ended, TimeoutError."""
    async with asyncio.timeout(PATH_ANSWER_S):
        return await asyncio.wrap_future(path.ask(question))


async def ask_paths(paths: Sequence[P], question: Callable[[P], Callable[[], T]]) -> list[T]:
    """The answers of all paths, which are asked at the same time. As `ask_path`."""
    async with asyncio.timeout(PATH_ANSWER_S):
        return list(await asyncio.gather(*(asyncio.wrap_future(path.ask(question(path))) for path in paths)))
