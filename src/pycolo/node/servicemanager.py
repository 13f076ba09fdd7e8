"""sd_notify(3): what a node tells systemd, in datagrams to the socket that $NOTIFY_SOCKET names.

Without that variable every call does nothing. Nothing here waits or raises: a service manager that does not listen
must not delay a takeover.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Final, Self

STATUS_CHARACTERS_MAX: Final = 400
"""`systemctl status` shows one line."""


class Notifier:
    """Tells the service manager at `address` (a path, or @NAME for an abstract one) about this process.

    `watchdog_us`: the longest time between two calls of `alive`; 0: no watchdog.
    """

    def __init__(self, address: str | None = None, watchdog_us: int = 0) -> None:
        self._address = f"\0{address[1:]}" if address and address.startswith("@") else address
        self._watchdog_us = watchdog_us if address else 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> Self:
        """Also removes the variables: they are not for this process's children, such as a QEMU."""
        address = environment.pop("NOTIFY_SOCKET", None)
        period = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", str(os.getpid()))
        is_ours = pid == str(os.getpid()) and period.isascii() and period.isdigit() and len(period) < 20
        return cls(address, int(period) if is_ours else 0)

    @property
    def watchdog_interval_s(self) -> float | None:
        """How often to call `alive`, half of what is allowed; None when systemd does not ask for it."""
        return self._watchdog_us / 2_000_000 if self._watchdog_us else None

    def ready(self, status: str) -> None:
        """The node does its work: it listens, and its control socket answers."""
        self._send("READY=1", f"STATUS={_line(status)}")

    def status(self, status: str) -> None:
        """A line for `systemctl status`."""
        self._send(f"STATUS={_line(status)}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def stopping(self, status: str = "stopping") -> None:
        """The node ends, as it was told to."""
        self._send("STOPPING=1", f"STATUS={_line(status)}")

    async def watchdog(self, is_well: Callable[[], Awaitable[bool]]) -> None:
        """Call `alive` in time while `is_well()`, until cancelled; return at once without a watchdog."""
        while (interval_s := self.watchdog_interval_s) is not None:
            if await is_well():
                self.alive()
            await asyncio.sleep(interval_s)

    def close(self) -> None:
        """Says nothing; nothing is said afterwards."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *assignments: str) -> None:
        if self._socket is not None and self._address is not None:
            with suppress(OSError):
                self._socket.sendto("\n".join(assignments).encode(), socket.MSG_DONTWAIT, self._address)


def _line(text: str) -> str:
    """One line of UTF-8: a line break would begin another assignment."""
    return " ".join(text.split())[:STATUS_CHARACTERS_MAX].encode("utf-8", "replace").decode()
