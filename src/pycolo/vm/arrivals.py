"""A connection that another process opens has one owner at any moment, also when the task that waits is cancelled.

A future that has its result as its task is cancelled is dropped, and with it what it has brought.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing

from pycolo.node.inthread import Made


async def arrived(arrival: "asyncio.Future[Made]", asking: Awaitable[object], limit_s: float) -> Made:
    """What `arrival` brings within `limit_s` after `asking`; the caller owns it. Closed if it comes and this fails.

    If it has not come, `arrival` is cancelled: one who sees it done closes what is made. Raises `TimeoutError`, and
    what `asking` raises.
    """
    try:
        await asking
        async with asyncio.timeout(limit_s):
            return await arrival
    except BaseException:
        if not arrival.cancel() and not arrival.cancelled():
            arrival.result().close()
        raise


class Accepting:
    """Takes one connection at `listening`, which does not block, and passes it to `on_made` at once; until `close`."""

    def __init__(self, listening: socket.socket, on_made: Callable[[socket.socket], None]) -> None:
        self._listening = listening
        self._on_made = on_made
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listening, self._accept)

    def _accept(self) -> None:
        try:
            made, _ = self._listening.accept()
        except OSError:  # it has gone again; or the process has no descriptor left, and the other end is not heard
            return
        self.close()
        made.setblocking(False)
        self._on_made(made)

    def close(self) -> None:
        """Accept no more; to be called before `listening` is closed."""
        self._loop.remove_reader(self._listening)


async def accepted(listening: socket.socket, asking: Awaitable[object], limit_s: float) -> socket.socket:
    """One connection, as `arrived`; `listening` does not block."""
    came: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
    with closing(Accepting(listening, lambda made: made.close() if came.done() else came.set_result(made))):
        return await arrived(came, asking, limit_s)
