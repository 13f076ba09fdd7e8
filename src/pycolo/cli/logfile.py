"""Standard error, for a process that must not wait for whoever reads it; and what the lines look like.

A full disk, a closed pipe or a pipe that nobody empties costs log lines, never a takeover: lines are written by a
thread of their own, and what cannot be written is dropped and counted.

Lines are for people (`text`), or JSON objects, one a line (`json`): time (UTC, ISO 8601, µs), level, event, pair, role,
term, epoch, and what else the event has to say. What Python's own `logging` gets from asyncio and from libraries comes
the same way, from warnings on, with the key `logger`.
"""

import json
import logging
import os
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum
from math import isfinite
from time import monotonic_ns
from typing import Any, Final, Literal, TextIO, cast, get_args

from pycolo.cli.streams import PLAIN
from pycolo.errors import ConfigError

LINES_MAX: Final = 1_000
"""Lines that wait to be written; more than that nobody reads anyway."""

FLUSH_S: Final = 1.0
"""How long the end of the process waits for the last lines."""

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

FACTS: Final = ("pair", "role", "term", "epoch")
"""Keys of every JSON line behind time, level and event; null where nobody knows."""

NESTED_MAX: Final = 8
"""What lies deeper in a field of a JSON line is shown as text."""

Facts = Callable[[], Mapping[str, Any]]
EventDict = MutableMapping[str, Any]
Processor = Callable[[Any, str, EventDict], Any]


class LogFile:
    """What structlog needs of a file: `write` and `flush`. A flush hands over what was written since the last one.

    `dropped_line(count)` is what stands in the place of lines that were dropped.
    """

    def __init__(self, fd: int, encoding: str = "utf-8") -> None:
        self._encoding = encoding
        self.dropped_line: Callable[[int], str] = lambda count: f"({_dropped(count)})"
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
        octets, self._text = self._text.encode(self._encoding, PLAIN), ""
        with self._changed:
            if len(self._lines) < LINES_MAX:
                self._lines.append(octets)
                self._changed.notify()
            else:
                self._dropped += 1

    def end_with(self, line: str) -> None:
        """The last line, for people: why the process ends."""
        self.write(f"{line}\n")
        self.flush()

    def close(self) -> None:
        """Wait a little for the last lines."""
        _stop_bridging(self)
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
                    octets += f"{self.dropped_line(self._dropped)}\n".encode()
                    self._dropped = 0
            with suppress(OSError):
                while octets:
                    octets = octets[os.write(self._fd, octets) :]


def configure_log(
    file: LogFile,
    format: str = "text",  # noqa: A002 - the key's name in the configuration file
    level: str = "info",
    facts: Facts | None = None,
) -> None:
    """Lines on standard error from `level` on. Raises `ConfigError`.

    `facts()` is asked at each JSON line for pair, role, term and epoch, in whatever thread the line comes from. Equal
    lines come five times a second at most; the next one says how many were `withheld`. Colours only on a terminal.
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
            # A traceback is the same whether rich is installed or not, and is made where Debian's structlog can do it.
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(
                0, colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    structlog.configure(
        processors=[structlog.processors.add_log_level, _Withholding(Limiter()), *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, file)),
    )
    _bridge(file, structlog.get_logger("colo"))


def _dropped(count: int) -> str:
    return f"{count} log lines were dropped: nobody read them"


# ── for machines ────────────────────────────────────────────────────────────────────────────────────────────


class JsonLines:
    """A structlog renderer: one JSON object, ASCII, whatever the event carries."""

    def __init__(self, facts: Facts | None) -> None:
        self._facts = facts

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> str:
        """The line. What the event says of itself goes before what `facts` says."""
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
    """Something that JSON can say: bytes as hex, members of an Enum by name, sets as lists, the unknown as its text."""
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
    except Exception:  # whose text cannot be had
        return f"<{type(value).__name__}>"


# ── for both ────────────────────────────────────────────────────────────────────────────────────────────────

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _one_line(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """What the other node or QEMU said may hold line ends and terminal sequences: neither makes a line of its own."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = _CONTROL.sub(lambda found: repr(found[0])[1:-1], value)
    return event


class _Withholding:
    """A structlog processor: says the same no more often than its limiter admits."""

    def __init__(self, limiter: Any) -> None:
        self._limiter = limiter
        self._lock = threading.Lock()

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        import structlog  # noqa: PLC0415

        key = repr(sorted((name, _text_of(value)) for name, value in event.items()))
        with self._lock:
            withheld = self._limiter.admit(key, monotonic_ns() // 1_000_000)
        if withheld is None:
            raise structlog.DropEvent
        if withheld:
            event["withheld"] = withheld
        return event


class _Bridge(logging.Handler):
    """Python's logging → structlog. One is enough, and it ends with its file."""

    def __init__(self, file: LogFile, target: Any) -> None:
        super().__init__(logging.WARNING)
        self.file = file
        self._target = target

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        try:
            text = record.getMessage()
        except Exception:  # the library's arguments do not fit its format
            text = str(record.msg)
        level = logging.WARNING if record.levelno < logging.ERROR else logging.ERROR
        self._target.log(level, text, logger=record.name, exc_info=record.exc_info)


def _bridge(file: LogFile, target: Any) -> None:
    for handler in [handler for handler in logging.root.handlers if isinstance(handler, _Bridge)]:
        logging.root.removeHandler(handler)
    logging.root.addHandler(_Bridge(file, target))


def _stop_bridging(file: LogFile) -> None:
    for handler in [handler for handler in logging.root.handlers if isinstance(handler, _Bridge)]:
        if handler.file is file:
            logging.root.removeHandler(handler)
