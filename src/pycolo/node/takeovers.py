"""The last takeovers of a node; a service of it, which keeps them over a restart.

All is in asyncio's thread, but for writing the file. A takeover does not wait for that.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from pycolo.errors import ConnectError
from pycolo.node.shownfile import ShownFile

KEPT: Final = 16
"""The last ones. There is one in the life of a healthy pair."""

CAUSE_CHARACTERS_MAX: Final = 1000
"""A fencing command's last line among them."""

BYTES_MAX: Final = 1 << 18
"""`KEPT` of the longest, in four bytes a character, have a quarter of this."""

VERSION: Final = 1

log = structlog.get_logger("colo")


class Takeover(msgspec.Struct):
    """One that is done: `took_ms` since the suspicion, `resent` frames. `at`: ISO 8601."""

    at: str
    kind: str
    cause: str
    took_ms: float
    resent: int = 0


def takeovers_file(directory: Path) -> ShownFile[list[Takeover]]:
    """In `directory`, which is there."""
    path, anew = directory / "takeovers.json", "takeovers are listed anew"
    return ShownFile(path, list[Takeover], "takeovers", anew, version=VERSION, bytes_max=BYTES_MAX)


class Takeovers:
    """`file` None: nothing is kept."""

    def __init__(self, file: ShownFile[list[Takeover]] | None = None) -> None:
        self._file = file
        self._rows: deque[Takeover] = deque(maxlen=KEPT)
        self._news = asyncio.Event()
        self._has_news = False
        self._is_ending = False
        self._task: asyncio.Task[None] | None = None
        if file is not None:
            try:
                self._rows.extend(file.read() or ())
            except ConnectError as error:
                log.warning(str(error))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """As the page shows them, the oldest first."""
        return (msgspec.structs.asdict(row) for row in self._rows)

    def add(self, takeover: Takeover) -> None:
        """It is done."""
        takeover.cause = takeover.cause[:CAUSE_CHARACTERS_MAX]
        self._rows.append(takeover)
        self._tell()

    def resent(self, frames: int) -> None:
        """So many frames were sent again at the last one."""
        if self._rows and self._rows[-1].resent != frames:
            self._rows[-1].resent = frames
            self._tell()

    def _tell(self) -> None:
        self._has_news = True
        self._news.set()

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Write from now on."""
        if self._file is not None:
            self._task = asyncio.get_running_loop().create_task(self._keep_writing(self._file))

    async def close(self) -> None:
        """Write what is new, and end."""
        self._is_ending = True
        self._news.set()
        if self._task is not None:
            await self._task

    async def _keep_writing(self, file: ShownFile[list[Takeover]]) -> None:
        while self._has_news or not self._is_ending:
            if not self._has_news:
                await self._news.wait()
                self._news.clear()
                continue
            self._has_news = False
            octets = file.packed(list(self._rows))
            try:
                await asyncio.to_thread(file.write, octets)
            except ConnectError as error:
                log.warning(str(error))
