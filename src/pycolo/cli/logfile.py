"""Standard error, for a process that must not wait for whoever reads it.

A full disk, a closed pipe or a pipe that nobody empties costs log lines, never a takeover: lines are written by a
thread of their own, and what cannot be written is dropped and counted.
"""

import os
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import Final, TextIO, cast

LINES_MAX: Final = 1_000
"""Lines that wait to be written; more than that nobody reads anyway."""

FLUSH_S: Final = 1.0
"""How long the end of the process waits for the last lines."""


class LogFile:
    """What structlog needs of a file: `write` and `flush`. A flush hands over what was written since the last one."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._text = ""
        self._lines: deque[bytes] = deque()
        self._dropped = 0
        self._is_closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, text: str) -> int:
        """Keep it until `flush`."""
        self._text += text
        return len(text)

    def flush(self) -> None:
        """Hand it to the thread; never waits, never fails."""
        octets, self._text = self._text.encode("utf-8", "backslashreplace"), ""
        with self._changed:
            if len(self._lines) < LINES_MAX:
                self._lines.append(octets)
                self._changed.notify()
            else:
                self._dropped += 1

    def close(self) -> None:
        """Wait a little for the last lines."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(FLUSH_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._lines and not self._is_closing:
                    self._changed.wait()
                if not self._lines:
                    return
                octets = self._lines.popleft()
                if self._dropped:
                    octets += f"({self._dropped} log lines were dropped: nobody read them)\n".encode()
                    self._dropped = 0
            with suppress(OSError):
                while octets:
                    octets = octets[os.write(self._fd, octets) :]


def configure_log(file: LogFile) -> None:
    """Lines for people on standard error; colours only where there is a terminal."""
    import structlog  # noqa: PLC0415

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, file)),
    )
