"""Keeps a QMP connection: connects, waits until it is lost, connects again."""

import asyncio
from collections.abc import Callable
from typing import Final, NoReturn

from pycolo.errors import ConnectError, QmpTimeout
from pycolo.qmp.client import Qmp

ATTEMPT_S: Final = 2.0
"""One attempt. A socket that is not there yet is looked at every 50 ms meanwhile; a QEMU without a greeting hangs."""

PAUSE_MIN_S: Final = 0.1
"""Before the first attempt after a loss: a QEMU that ends lets its listening socket go a moment later."""

PAUSE_MAX_S: Final = 2.0
"""Attempts become rarer, up to this. A connection that lasts this long starts the count anew."""


class QmpKeeper:
    """Keeps `qmp` connected while `keep_connected` runs.

    `on_state(True, …)` is called when there is a connection, `on_state(False, reason)` when it is lost, and when
    attempts fail: then once for each reason that was not told since the last connection. It must not wait.
    """

    def __init__(
        self,
        qmp: Qmp,
        on_state: Callable[[bool, str], None],
        *,
        attempt_s: float = ATTEMPT_S,
        pause_min_s: float = PAUSE_MIN_S,
        pause_max_s: float = PAUSE_MAX_S,
    ) -> None:
        self._qmp = qmp
        self._on_state = on_state
        self._attempt_s = attempt_s
        self._pause_min_s = pause_min_s
        self._pause_max_s = pause_max_s

    async def keep_connected(self) -> NoReturn:
        """Until cancelled; then the connection is closed."""
        told: set[str] = set()
        pause_s = self._pause_min_s
        loop = asyncio.get_running_loop()
        try:
            while True:
                since = loop.time()
                try:
                    await self._qmp.connect(self._attempt_s)
                except (ConnectError, QmpTimeout) as error:
                    if str(error) not in told:
                        told.add(str(error))
                        self._on_state(False, str(error))
                else:
                    told.clear()
                    self._on_state(True, f"{self._qmp.name}: connected to QEMU {self._qmp.version}")
                    since = loop.time()
                    self._on_state(
                        False, f"{self._qmp.name}: QMP socket {self._qmp.path}: {await self._qmp.wait_closed()}"
                    )
                    if loop.time() - since >= self._pause_max_s:
                        pause_s = self._pause_min_s
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, self._pause_max_s)
        finally:
            await self._qmp.close()
