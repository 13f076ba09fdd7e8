"""Both ends of the exact barrier between epochs (rule E1): what each node does before it lets a COLO message pass.

Each `guard` method is the `on_message` of a relay. It is called in the relay's thread; the message passes when it
returns, and an error closes the stream without the message. The QEMU that waits for the message is stopped meanwhile.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from functools import partial
from time import monotonic, monotonic_ns, sleep
from typing import Any, Final, Protocol, TypeVar

import structlog

from pycolo.checkpoint.epoch import Epoch
from pycolo.checkpoint.parts import Flow, Moments
from pycolo.errors import CheckpointError
from pycolo.node.primarypath import PrimaryPath
from pycolo.node.secondarypath import SecondaryPath
from pycolo.qmp.cures import Moment
from pycolo.vm.backstream import ColoMessage
from pycolo.vm.checkpointdriver import CheckpointDriver, Follow
from pycolo.vm.curing import Curing

T = TypeVar("T")
P = TypeVar("P", PrimaryPath, SecondaryPath, "HoldsInput")

PATH_ANSWER_S: Final = 5.0
"""The data path answers between two batches; it takes this long only when the process gets no CPU time."""


READ_S: Final = 0.5
"""How long a guest may take to read what its tap holds. Under load most take below 10 ms; what a guest that hangs has
not read by then is thrown away, as a network card does."""

LOOK_S: Final = 0.0003
"""Pause between two looks at the counts."""

log = structlog.get_logger("colo")


class HoldsInput(Protocol):
    """Of a data path."""

    @property
    def guest_name(self) -> str:
        """The port to the guest, for messages."""

    def is_input_read(self) -> bool:
        """Whether the guest has read everything that was sent to it."""

    def give_up_input(self) -> int:
        """Throw away what it has not read. Returns how many frames."""

    def ask(self, question: Callable[[], T]) -> "Future[T]":
        """See `DataPath.ask`."""


def ask_all(paths: Sequence[P], question: Callable[[P], Callable[[], T]]) -> list[T]:
    """The answers of all paths, which are asked at the same time. Raises `PycoloError`, TimeoutError."""
    return [answer.result(PATH_ANSWER_S) for answer in [path.ask(question(path)) for path in paths]]


def wait_until_read(paths: Sequence[HoldsInput], whose: str) -> None:
    """Wait until the guest has read all of its cards' taps, within `READ_S`."""
    until_s = monotonic() + READ_S
    while not all(ask_all(paths, lambda path: path.is_input_read)):
        if monotonic() > until_s:
            for path, lost in zip(paths, ask_all(paths, lambda path: path.give_up_input), strict=True):
                if lost:
                    log.warning(
                        f"{path.guest_name}: the {whose}'s guest does not read it: {lost} frames are lost to it"
                    )
            return
        sleep(LOOK_S)


class PrimaryBarrier:
    """The barrier at the primary's node. The coordinator decides. `paths`: one for each card."""

    def __init__(
        self,
        paths: Sequence[PrimaryPath],
        epoch: Epoch,
        checkpoints: CheckpointDriver,
        on_ready: Callable[[], Coroutine[Any, Any, None]],
        until_ns: Callable[[], int],
        curing: Curing,
        flow: Callable[[], Flow],
        stand_still: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """Made in asyncio's thread, where `on_ready()` is awaited before READY passes; it raises `PycoloError` when
        READY must never pass. `until_ns()`: see `PrimaryPath.start_comparing`. `flow()`: of the state, by the relay.
        `stand_still()`: awaited there before REPLY passes, likewise.
        """
        self._paths = paths
        self._epoch = epoch
        self._checkpoints = checkpoints
        self._on_ready = on_ready
        self._until_ns = until_ns
        self._curing = curing
        self._flow = flow
        self._stand_still = stand_still
        self._moments = Moments()
        self._loop = asyncio.get_running_loop()

    def guard(self, word: int) -> Follow | None:
        """Do what must precede `word` at the primary's QEMU, and return what is to follow it.

        Raises `PycoloError` when `word` must never pass.
        """
        match word:
            case ColoMessage.READY:
                # This node must know first that the pair is whole; only then may the other node take over.
                asyncio.run_coroutine_threadsafe(self._on_ready(), self._loop).result()
                epoch = self._epoch.number
                ask_all(self._paths, lambda path: lambda: path.send_offsets(epoch))
                ask_all(self._paths, lambda path: lambda: path.start_comparing(epoch, self._until_ns))
            case ColoMessage.REPLY:
                self._moments = Moments(replied_us=_now_us())
                if not all(ask_all(self._paths, _hold_primary)):
                    wait_until_read(self._paths, "primary")
                if self._stand_still is not None:
                    asyncio.run_coroutine_threadsafe(self._stand_still(), self._loop).result()
                follow = self._checkpoints.heard_reply()
                self._moments.reply_passed_us = _now_us()
                return follow
            case ColoMessage.RECEIVED:
                self._moments.received_us = _now_us()
                epoch = self._epoch.next
                ask_all(self._paths, lambda path: lambda: path.send_offsets(epoch))
            case ColoMessage.LOADED:
                self._moments.loaded_us = _now_us()
                self._curing.at(Moment.LOADED_HELD)
                return self._checkpoints.commit_loaded(self._commit, self._moments)
        return None

    def _commit(self, epoch: int) -> dict[str, int]:
        done = ask_all(self._paths, lambda path: lambda: path.commit(epoch))
        self._moments.committed_us, self._moments.flow = _now_us(), self._flow()
        return {name: sum(counts[name] for counts in done) for name in done[0]}


def _hold_primary(path: PrimaryPath) -> Callable[[], bool]:
    """Both in one question: each takes two changes of thread."""

    def hold() -> bool:
        path.hold_input()
        return path.is_input_read()

    return hold


def _hold_secondary(path: SecondaryPath) -> Callable[[], tuple[bool, bool]]:
    """Both in one question."""
    return lambda: (path.hold_input(), path.is_input_read())


def _now_us() -> int:
    return monotonic_ns() // 1000


class SecondaryBarrier:
    """The barrier at the secondary's node. Counts that node's epoch."""

    def __init__(self, paths: Sequence[SecondaryPath], epoch: Epoch, curing: Curing) -> None:
        """`paths`: one for each card."""
        self._paths = paths
        self._epoch = epoch
        self._curing = curing

    def guard(self, word: int) -> None:
        """Do what must precede `word` at the primary. Raises `PycoloError` when `word` must never pass."""
        match word:
            case ColoMessage.REPLY:
                ask_all(self._paths, lambda path: path.hold)
                self._curing.at(Moment.REPLY_HELD)
            case ColoMessage.READY | ColoMessage.LOADED:
                self._curing.loaded()
                epoch = self._epoch.begin()
                # The held path reads nothing from the guest: what the guest sends now is read after `loaded`.
                for path in self._paths:
                    path.post(partial(path.loaded, epoch))

    def request(self) -> None:
        """Do what must precede REQUEST at the secondary's QEMU, which stops upon it. Raises as `guard` does."""
        until_s = monotonic() + PATH_ANSWER_S
        found = ask_all(self._paths, _hold_secondary)
        while not all(is_held for is_held, _ in found):
            if monotonic() > until_s:
                raise CheckpointError("requested", "the primary's table of offsets has not come")
            sleep(LOOK_S)
            found = ask_all(self._paths, _hold_secondary)
        if not all(is_read for _, is_read in found):
            wait_until_read(self._paths, "secondary")
