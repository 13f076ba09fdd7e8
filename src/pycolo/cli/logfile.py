"""Standard error for a process that must not wait for its reader, and the format of the lines.

A full disk, a closed pipe or a full pipe costs log lines, never a takeover: a thread of its own writes the lines
(`logging`'s QueueHandler and QueueListener), and what cannot be written is dropped and counted.

Lines are text for people (`text`) or JSON objects, one per line (`json`): time (UTC, ISO 8601, µs), level, event, pair,
role, term, epoch, and the event's own fields. Warnings and errors that asyncio and libraries send to Python's `logging`
are written in the same way, with the key `logger`.
"""

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum
from logging.handlers import QueueHandler, QueueListener
from math import isfinite
from queue import Full, Queue
from time import monotonic_ns
from typing import Any, Final, Literal, get_args

from pycolo.cli.streams import PLAIN
from pycolo.errors import ConfigError

LINES_MAX: Final = 1_000
"""Lines that wait to be written. A longer backlog would not be read."""

FLUSH_S: Final = 1.0
"""How long the process waits for its last lines when it ends."""

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

FACTS: Final = ("pair", "role", "term", "epoch")
"""Keys of every JSON line after time, level and event; null where the value is unknown."""

NESTED_MAX: Final = 8
"""In a JSON line, deeper nesting is shown as text."""

_OWN: Final = logging.getLogger("colo")
"""The logger that carries structlog's events."""

_OWN.addHandler(logging.NullHandler())  # once the file is closed, events go nowhere else

Facts = Callable[[], Mapping[str, Any]]
EventDict = MutableMapping[str, Any]
Processor = Callable[[Any, str, EventDict], Any]


class LogFile:
    """Standard error's file descriptor, written by a thread of its own: a queue of `logging` between them.

    `dropped_line(count)` returns the line that replaces dropped ones.
    """

    def __init__(self, fd: int, encoding: str = "utf-8") -> None:
        self.dropped_line: Callable[[int], str] = lambda count: f"({_dropped(count)})"
        self.handler = _Enqueuing(Queue(LINES_MAX))
        self._listener = _Listener(self.handler.queue, _Writing(fd, encoding, self._lost))
        self._listener.start()

    def write(self, line: str) -> None:
        """Queue a line without its newline; never waits, never fails."""
        self.handler.enqueue(logging.LogRecord("colo", logging.INFO, "", 0, line, None, None))

    def close(self) -> None:
        """Wait up to `FLUSH_S` for the last lines."""
        for logger in (logging.root, _OWN):
            logger.removeHandler(self.handler)
        _OWN.propagate = True
        self._listener.stop()

    def _lost(self) -> str:
        """The line about lines dropped since the last call, or ""."""
        count = self.handler.take_dropped()
        return self.dropped_line(count) if count else ""


class _Enqueuing(QueueHandler):
    """Formats the line in the thread that logs, and queues it. If the queue is full, the line is counted as dropped."""

    queue: "Queue[logging.LogRecord | None]"

    def __init__(self, queue: "Queue[logging.LogRecord | None]") -> None:
        super().__init__(queue)
        self._dropped = 0
        self._counting = threading.Lock()  # over it

    def take_dropped(self) -> int:
        """The number of lines dropped since the last call."""
        with self._counting:
            count, self._dropped = self._dropped, 0
        return count

    def filter(self, record: logging.LogRecord) -> Any:
        """Of what does not come from structlog, only warnings and errors."""
        return (isinstance(record.msg, dict) or record.levelno >= logging.WARNING) and super().filter(record)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """See `QueueHandler`. A library's arguments need not fit its format."""
        if not isinstance(record.msg, dict):
            try:
                record.getMessage()
            except Exception:
                record = logging.makeLogRecord(record.__dict__ | {"msg": str(record.msg), "args": None})
        prepared: logging.LogRecord = super().prepare(record)
        return prepared

    def enqueue(self, record: logging.LogRecord) -> None:
        """Without waiting."""
        try:
            self.queue.put_nowait(record)
        except Full:
            with self._counting:
                self._dropped += 1

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Drop a withheld line. A line that cannot be formatted must not end the thread that logs it."""


class _Writing(logging.Handler):
    """In the queue's other thread: write the bytes; an error is ignored."""

    def __init__(self, fd: int, encoding: str, lost: Callable[[], str]) -> None:
        super().__init__()
        self._fd = fd
        self._encoding = encoding
        self._lost = lost

    def createLock(self) -> None:  # noqa: N802 - logging's name
        """No lock: one thread writes. `logging.shutdown` would wait for it, for a pipe that is never read for ever."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """As `logging.Handler`, which from Python 3.13 on requires a lock."""
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        octets = f"{record.getMessage()}\n".encode(self._encoding, PLAIN)
        if lost := self._lost():
            octets += f"{lost}\n".encode()
        with suppress(OSError):
            while octets:
                octets = octets[os.write(self._fd, octets) :]


class _Listener(QueueListener):
    """A listener whose end waits at most `FLUSH_S`: what the pipe's reader does not accept by then is lost."""

    queue: "Queue[logging.LogRecord | None]"

    def stop(self) -> None:
        """See `QueueListener`."""
        thread, self._thread = self._thread, None
        if thread is not None:
            with suppress(Full):
                self.queue.put(None, timeout=FLUSH_S)
            thread.join(FLUSH_S)


def configure_log(
    file: LogFile,
    format: str = "text",  # noqa: A002 - the key's name in the configuration file
    level: str = "info",
    facts: Facts | None = None,
) -> None:
    """Log to standard error from `level` on. Raises `ConfigError`.

    `facts()` gives pair, role, term and epoch for each JSON line, in the thread that logs it. Equal lines are written
    at most five times a second; the next one says how many were `withheld`. Colours only on a terminal.
    """
    import structlog  # noqa: PLC0415 - keeps `colo --help` fast

    from pycolo.metrics.limiter import Limiter  # noqa: PLC0415

    for name, value, known in (("log.format", format, LogFormat), ("log.level", level, LogLevel)):
        if value not in get_args(known):
            raise ConfigError(name, f"one of {', '.join(get_args(known))}", value)
    rendering: list[Processor]
    if format == "json":
        json_line = JsonLines(facts)
        rendering = [structlog.processors.format_exc_info, json_line]
        file.dropped_line = lambda count: json_line(None, "", {"level": "warning", "event": _dropped(count)})
    else:
        rendering = [
            _one_line,
            structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False),
            # A traceback is the same with and without rich, and is rendered where Debian's structlog can do it.
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(
                0, colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    withholding = _Withholding(Limiter())
    file.handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
            foreign_pre_chain=[_foreign, withholding],
        )
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            withholding,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_name: _OWN,
    )
    for logger in (logging.root, _OWN):
        for handler in [handler for handler in logger.handlers if isinstance(handler, _Enqueuing)]:
            logger.removeHandler(handler)
        logger.addHandler(file.handler)
    _OWN.setLevel(logging.DEBUG)  # structlog has filtered already
    _OWN.propagate = False  # another handler could not format an event


def _dropped(count: int) -> str:
    return f"{count} log lines were dropped: standard error was not read"


# ── JSON lines ──────────────────────────────────────────────────────────────────────────────────────────────


class JsonLines:
    """A structlog renderer: one JSON object in ASCII, for any event."""

    def __init__(self, facts: Facts | None) -> None:
        self._facts = facts

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> str:
        """The line. The event's own fields override those of `facts`."""
        known = dict.fromkeys(FACTS) | (self._known() if self._facts is not None else {})
        line = {
            "time": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": event.pop("level", "info"),
            "event": _text_of(event.pop("event", "")),
            **known,
        }
        return json.dumps(as_json(line | {str(key): value for key, value in event.items() if key != "time"}))

    def _known(self) -> dict[str, Any]:
        assert self._facts is not None
        try:
            said = self._facts()
            return {name: said.get(name) for name in FACTS}
        except Exception:  # a line without its facts is better than none
            return {}


def as_json(value: object, depth: int = 0) -> Any:
    """A value that JSON can represent: bytes as hex, Enum members by name, sets as lists, unknown types as text."""
    if depth > NESTED_MAX:
        return _text_of(value)
    match value:
        case Enum():
            return value.value if isinstance(value.value, str) else (value.name or "0").lower()
        case None | bool():
            return value
        case int():
            return int(value) if abs(value) < 1 << 64 else hex(value)
        case str():
            return str(value)
        case float():
            return value if isfinite(value) else str(value)
        case bytes() | bytearray() | memoryview():
            return value.hex()
        case Mapping():
            return {_key(key): as_json(entry, depth + 1) for key, entry in value.items()}
        case set() | frozenset():
            return _list(sorted(value, key=repr), depth)
        case list() | tuple():
            return _list(value, depth)
        case _:
            return _text_of(value)


def _key(key: object) -> str:
    said = as_json(key)
    return said if isinstance(said, str) else _text_of(key)


def _list(values: Iterable[object], depth: int) -> list[Any]:
    return [as_json(value, depth + 1) for value in values]


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception:  # its text cannot be obtained
        return f"<{type(value).__name__}>"


# ── both formats ────────────────────────────────────────────────────────────────────────────────────────────

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _one_line(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Text from the other node or QEMU may contain newlines and terminal sequences: escape them, so that it stays on
    its line."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = _CONTROL.sub(lambda found: repr(found[0])[1:-1], value)
    return event


class _Withholding:
    """A structlog processor: drops an equal line when its limiter does not admit it."""

    def __init__(self, limiter: Any) -> None:
        self._limiter = limiter
        self._lock = threading.Lock()

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        import structlog  # noqa: PLC0415

        key = repr(sorted((name, _text_of(value)) for name, value in event.items() if not name.startswith("_")))
        with self._lock:
            withheld = self._limiter.admit(key, monotonic_ns() // 1_000_000)
        if withheld is None:
            raise structlog.DropEvent
        if withheld:
            event["withheld"] = withheld
        return event


def _foreign(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Adds level and logger of a record from Python's own logging."""
    record: logging.LogRecord = event["_record"]
    event["level"] = "warning" if record.levelno < logging.ERROR else "error"
    event["logger"] = record.name
    return event
