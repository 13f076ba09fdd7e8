"""One connection to this host's libvirtd, opened when it is needed and again when it was lost.

Each call blocks, and some without limit: a command to a QEMU that hangs, a libvirtd that was stopped. So each has a
thread and a time-out of its own; what does not come back is left behind in its thread.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

from pycolo.domain.library import Library, load
from pycolo.errors import ConnectError, PeerError, PycoloError

CALL_S: Final = 5.0
"""A call takes a few milliseconds; defining a domain and starting one take more."""

UNANSWERED_MAX: Final = 64
"""Calls that have not come back, each with a thread: more than a QEMU's monitor is ever asked at a time."""

KEEPALIVE_S: Final = 5
KEEPALIVE_COUNT: Final = 3
"""A libvirtd that says nothing for so many intervals is given up; one that is only slow is not."""

CLOSE_S: Final = 1.0
"""A libvirtd that does not answer ends a connection itself, when this program has ended."""

T = TypeVar("T")


class DomainTimeout(PeerError):  # noqa: N818 - a time-out is the whole of what is known
    """libvirt has not answered in time; it may still carry the call out."""


class Connection:
    """`uri`: libvirt's own words, qemu:///system. Used in asyncio's thread."""

    def __init__(self, uri: str, library: Callable[[], Library] = load) -> None:
        self.uri = uri
        self._library = library
        self._loop = asyncio.get_running_loop()
        self._opening = threading.Lock()
        self._open: Any = None
        self._unanswered = 0
        self._listeners: list[Callable[[str], None]] = []

    def on_lost(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """`listener(reason)` is called each time libvirtd has gone; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    async def close(self) -> None:
        """Let libvirtd go; a later call opens another connection."""
        made, self._open = self._open, None
        if made is not None:
            with suppress(PycoloError):
                await self._in_thread("close", lambda library: _close(made), CLOSE_S)

    async def call(self, what: str, function: Callable[[Any, Library], T], timeout_s: float = CALL_S) -> T:
        """`function(connection, library)`, in a thread. `what` begins the message of a failure.

        Raises `ConnectError` when libvirtd is not there, or goes; `PeerError` when it refuses; `DomainTimeout`.
        """
        return await self._in_thread(
            what, lambda library: self._carry_out(library, what, function, timeout_s), timeout_s
        )

    async def _in_thread(self, what: str, work: Callable[[Library], T], timeout_s: float) -> T:
        if self._unanswered >= UNANSWERED_MAX:
            raise DomainTimeout(f"{what}: not asked: libvirt owes {UNANSWERED_MAX} answers")
        future: asyncio.Future[T] = self._loop.create_future()
        self._unanswered += 1
        threading.Thread(target=self._run, args=(future, work), name="libvirt call", daemon=True).start()
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise DomainTimeout(f"{what}: libvirt ({self.uri}) has not answered within {timeout_s:g} s") from None

    def _run(self, future: "asyncio.Future[T]", work: Callable[[Library], T]) -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = work(self._library())
        except BaseException as failure:  # handed over, whatever it is
            error = failure
        try:
            self._loop.call_soon_threadsafe(self._came_back, future, result, error)
        except RuntimeError:  # the loop has ended before libvirt answered
            return

    def _carry_out(self, library: Library, what: str, function: Callable[[Any, Library], T], timeout_s: float) -> T:
        try:
            open_one = self._opened(library, timeout_s)
        except library.core.libvirtError as error:
            raise ConnectError(f"{what}: libvirt ({self.uri}) cannot be reached: {_words(error)}") from error
        try:
            return function(open_one, library)
        except library.core.libvirtError as error:
            if not open_one.isAlive():
                raise ConnectError(f"{what}: libvirt ({self.uri}) has gone: {_words(error)}") from error
            raise PeerError(f"{what}: {_words(error)}") from error

    def _opened(self, library: Library, timeout_s: float) -> Any:
        if not self._opening.acquire(timeout=timeout_s):
            raise DomainTimeout(f"libvirt ({self.uri}) accepts no connection")
        try:
            if self._open is None or not self._open.isAlive():
                made = library.core.open(self.uri)
                made.setKeepAlive(KEEPALIVE_S, KEEPALIVE_COUNT)
                made.registerCloseCallback(self._heard_close, None)
                self._open = made
            return self._open
        finally:
            self._opening.release()

    def _heard_close(self, connection: Any, reason: int, opaque: Any) -> None:
        """In the thread of libvirt's events."""
        try:
            self._loop.call_soon_threadsafe(self._lost, connection)
        except RuntimeError:
            return

    def _lost(self, connection: Any) -> None:
        if self._open is connection:
            self._open = None
        for listener in list(self._listeners):
            listener(f"libvirt ({self.uri}) has ended, or was restarted")

    def _came_back(self, future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
        self._unanswered -= 1
        if future.done():
            return
        if error is None:
            future.set_result(result)
        elif isinstance(error, Exception):
            future.set_exception(error)
        else:
            future.set_exception(PycoloError(f"a call of libvirt ended with {type(error).__name__}"))


def _close(connection: Any) -> None:
    connection.unregisterCloseCallback()
    connection.close()


def _words(error: Exception) -> str:
    """On one line."""
    return " ".join(str(error).split())
