"""Both ends of the exact barrier between epochs (rule E1): what each node does before it lets a COLO message pass.

Each `guard` method is the `on_message` of a relay. It is called in the relay's thread; the message passes when it
returns, and an error closes the stream without the message. The QEMU that waits for the message is stopped meanwhile.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from pycolo.checkpoint.epoch import Epoch
from pycolo.node.primarypath import PrimaryPath
from pycolo.node.secondarypath import SecondaryPath
from pycolo.qmp.cures import Moment
from pycolo.vm.backstream import ColoMessage
from pycolo.vm.checkpointdriver import CheckpointDriver
from pycolo.vm.curing import Curing

T = TypeVar("T")

PATH_ANSWER_S: Final = 5.0
"""The data path answers between two batches; it takes this long only when the process gets no CPU time."""


class PrimaryBarrier:
    """The barrier at the primary's node. The coordinator decides."""

    def __init__(
        self,
        path: PrimaryPath,
        epoch: Epoch,
        checkpoints: CheckpointDriver,
        on_ready: Callable[[], Coroutine[Any, Any, None]],
        until_ns: Callable[[], int],
        curing: Curing,
    ) -> None:
        """Made in asyncio's thread, where `on_ready()` is awaited before READY passes; it raises `PycoloError` when
        READY must never pass. `until_ns()`: see `PrimaryPath.start_comparing`.
        """
        self._path = path
        self._epoch = epoch
        self._checkpoints = checkpoints
        self._on_ready = on_ready
        self._until_ns = until_ns
        self._curing = curing
        self._loop = asyncio.get_running_loop()

    def guard(self, word: int) -> None:
        """Do what must precede `word` at the primary's QEMU. Raises `PycoloError` when `word` must never pass."""
        match word:
            case ColoMessage.READY:
                # This node must know first that the pair is whole; only then may the other node take over.
                asyncio.run_coroutine_threadsafe(self._on_ready(), self._loop).result()
                epoch = self._epoch.number
                self._in_path(lambda: self._path.send_offsets(epoch))
                self._in_path(lambda: self._path.start_comparing(epoch, self._until_ns))
            case ColoMessage.REPLY:
                self._checkpoints.heard_reply()
            case ColoMessage.RECEIVED:
                epoch = self._epoch.next
                self._in_path(lambda: self._path.send_offsets(epoch))
            case ColoMessage.LOADED:
                self._curing.at(Moment.LOADED_HELD)
                self._checkpoints.commit_loaded(lambda epoch: self._in_path(lambda: self._path.commit(epoch)))

    def _in_path(self, question: Callable[[], T]) -> T:
        return self._path.ask(question).result(PATH_ANSWER_S)


class SecondaryBarrier:
    """The barrier at the secondary's node. Counts that node's epoch."""

    def __init__(self, path: SecondaryPath, epoch: Epoch, curing: Curing) -> None:
        self._path = path
        self._epoch = epoch
        self._curing = curing

    def guard(self, word: int) -> None:
        """Do what must precede `word` at the primary. Raises `PycoloError` when `word` must never pass."""
        match word:
            case ColoMessage.REPLY:
                self._path.ask(self._path.hold).result(PATH_ANSWER_S)
                self._curing.at(Moment.REPLY_HELD)
            case ColoMessage.READY | ColoMessage.LOADED:
                self._curing.loaded()
                epoch = self._epoch.begin()
                # The held path reads nothing from the guest: what the guest sends now is read after `loaded`.
                self._path.post(lambda: self._path.loaded(epoch))
