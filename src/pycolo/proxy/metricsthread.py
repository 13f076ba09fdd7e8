"""`--metrics`: a thread with an HTTP server. It imports what the server needs once the objects listen."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from pycolo.metrics.listening import listen
from pycolo.proxy.path import ObjectState

if TYPE_CHECKING:
    import asyncio


class MetricsThread:
    """Serves `states()` at `address` until `stop`. Raises `ConnectError` if the address cannot be opened."""

    def __init__(self, address: tuple[str, int], states: Callable[[], list[ObjectState]]) -> None:
        host, port = address
        self._states = states
        self._listening = listen(host, port, f"--metrics {host}:{port}")
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._listening.getsockname()[1]}/metrics"
        self._is_told = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._until: asyncio.Future[None] | None = None
        self._lock = threading.Lock()  # over the two above
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the server; harmless if it was never started."""
        self._is_told.set()
        with self._lock:
            if self._loop is not None and self._until is not None:
                self._loop.call_soon_threadsafe(self._end)
        if self._thread.is_alive():
            self._thread.join()
        self._listening.close()

    def _end(self) -> None:
        if self._until is not None and not self._until.done():
            self._until.set_result(None)

    def _run(self) -> None:
        import asyncio  # noqa: PLC0415 - takes longer than all that the objects need to listen

        asyncio.run(self._serve())

    async def _serve(self) -> None:
        import asyncio  # noqa: PLC0415

        from pycolo.proxy.exposition import serve  # noqa: PLC0415

        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._until = self._loop.create_future()
            if self._is_told.is_set():
                return
        try:
            await serve(self._listening, self._states, self._until)
        finally:
            with self._lock:
                self._loop = None
