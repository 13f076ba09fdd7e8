"""From any thread into asyncio's."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class LoopCall:
    """`call(function, *arguments)` runs it in the thread of the event loop in which this object was made."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def __call__(self, function: Callable[..., None], *arguments: Any) -> None:
        """Does nothing once the loop has ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)
