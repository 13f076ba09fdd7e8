"""From any thread into asyncio's."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class LoopCall:
    """`call(function, *arguments)` has it done in the thread of the loop in which this was made."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def __call__(self, function: Callable[..., None], *arguments: Any) -> None:
        """After the loop's end nothing happens."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)
