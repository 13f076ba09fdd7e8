"""What a thread opens belongs to the task that waits for it, and is closed when that task does not wait any more."""

import asyncio
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """A connection or a socket."""

    def close(self) -> None:
        """Give back what it holds."""


Made = TypeVar("Made", bound=Closable)


class _Opening(Generic[Made]):
    """One call; `run` and `abandon` are in two threads, in either order."""

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._lock = threading.Lock()  # over the two below
        self._made: Made | None = None
        self._is_abandoned = False

    def run(self) -> Made:
        made = self._make()
        with self._lock:
            self._made = made
            is_abandoned = self._is_abandoned
        if is_abandoned:
            made.close()
        return made

    def abandon(self) -> None:
        with self._lock:
            self._is_abandoned = True
            made = self._made
        if made is not None:
            made.close()


async def opened(make: Callable[[], Made]) -> Made:
    """What `make()` returns, called in a thread; the caller owns it.

    A thread cannot be cancelled as its waiter can: if that happens, what the thread opens later is closed there.
    """
    opening = _Opening(make)
    try:
        return await asyncio.to_thread(opening.run)
    except BaseException:
        opening.abandon()
        raise
