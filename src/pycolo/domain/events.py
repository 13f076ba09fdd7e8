"""A domain's events as QEMU says them, told to all that listen: libvirt takes one listener per domain."""

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic_ns
from typing import Any

from pycolo.domain.library import Library
from pycolo.qmp.client import QmpEvent


class DomainEvents:
    """Made in asyncio's thread; listeners are called there."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._listeners: list[Callable[[QmpEvent], None]] = []
        self._registering = threading.Lock()
        self._registered: Any = None

    def listen(self, listener: Callable[[QmpEvent], None]) -> Callable[[], None]:
        """Returns what ends that; it may be called twice."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def register(self, connection: Any, library: Library, domain: Any) -> None:
        """Hear of them over this connection, if that is not so yet. Any thread; raises libvirt's own errors."""
        with self._registering:
            if self._registered is not connection:
                library.qemu.qemuMonitorEventRegister(connection, domain, None, self._heard, None, 0)
                self._registered = connection

    def _heard(
        self, connection: Any, domain: Any, event: str, seconds: int, micros: int, said: str, opaque: Any
    ) -> None:
        """In the thread of libvirt's events."""
        data: Any = None
        with suppress(ValueError):
            data = json.loads(said or "{}")
        made = QmpEvent(event, data if isinstance(data, dict) else {}, seconds * 1_000_000 + micros, monotonic_ns())
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._deliver, made)

    def _deliver(self, event: QmpEvent) -> None:
        for listener in list(self._listeners):
            listener(event)
