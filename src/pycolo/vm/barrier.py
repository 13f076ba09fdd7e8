"""The two ends of the exact barrier between epochs (rule E1): what must have happened before a COLO message passes.

Each method `guard` is a relay's `on_message`: it is called in the relay's thread, the message passes when it returns,
and an error ends the stream without it. While a message is held, the QEMU that waits for it stands still.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from pycolo.node.primarypath import PrimaryPath
from pycolo.node.secondarypath import SecondaryPath
from pycolo.vm.guesthost import PrimaryHost, SecondaryHost
from pycolo.vm.relay import ColoMessage

T = TypeVar("T")

PATH_ANSWER_S: Final = 5.0
"""The data path answers between two batches; this long only when the process is starved."""


class PrimaryBarrier:
    """On the primary's node. The decisions are the coordinator's."""

    def __init__(self, path: PrimaryPath, host: PrimaryHost, on_ready: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """`on_ready()`: READY is here. Raises `PycoloError` when protecting was given up meanwhile."""
        self._path = path
        self._host = host
        self._on_ready = on_ready

    def guard(self, word: int) -> None:
        """Do what the primary's QEMU must not hear of `word` before. Raises `PycoloError`: it must never hear of it."""
        match word:
            case ColoMessage.READY:
                # From here on the other node may be told that it can take over: first of all this one must know.
                asyncio.run_coroutine_threadsafe(self._on_ready(), self._host.loop).result()
                epoch = self._host.pair_epoch.number
                self._in_path(lambda: self._path.send_offsets(epoch))
                self._in_path(lambda: self._path.start_comparing(epoch, self._host.trusted_until_ns))
            case ColoMessage.REPLY:
                self._host.checkpoints.heard_reply()
            case ColoMessage.RECEIVED:
                epoch = self._host.pair_epoch.next
                self._in_path(lambda: self._path.send_offsets(epoch))
            case ColoMessage.LOADED:
                self._host.checkpoints.commit_loaded(lambda epoch: self._in_path(lambda: self._path.commit(epoch)))

    def _in_path(self, question: Callable[[], T]) -> T:
        return self._path.ask(question).result(PATH_ANSWER_S)


class SecondaryBarrier:
    """On the secondary's node, whose epoch it counts."""

    def __init__(self, path: SecondaryPath, host: SecondaryHost) -> None:
        self._path = path
        self._host = host

    def guard(self, word: int) -> None:
        """Do what the primary must not hear of `word` before. Raises `PycoloError`: it must never hear of it."""
        match word:
            case ColoMessage.REPLY:
                self._path.ask(self._path.hold).result(PATH_ANSWER_S)
            case ColoMessage.READY | ColoMessage.LOADED:
                epoch = self._host.pair_epoch.begin()
                # Held, nothing is read from the guest: what it sends now is read once this was done, whenever that is.
                self._path.post(lambda: self._path.loaded(epoch))
