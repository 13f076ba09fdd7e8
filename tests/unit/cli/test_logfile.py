"""What log lines look like: for people, and one JSON object a line, whatever an event carries."""

import json
import logging
import os
import pathlib
import re
import threading
from datetime import UTC, datetime
from enum import Enum, Flag, IntEnum, StrEnum
from ipaddress import IPv4Address

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from pycolo.cli import logfile
from pycolo.cli.logfile import LogFile, as_json, configure_log
from pycolo.errors import ConfigError
from support.logpipes import read_to_the_end


class Colour(Enum):
    DARK_RED = 1


class Number(IntEnum):
    TWO = 2


class Word(StrEnum):
    ALONE = "alone"


class Bits(Flag):
    A = 1
    B = 2


class Unspeakable:
    def __str__(self):
        raise RuntimeError

    __repr__ = __str__


@pytest.fixture(autouse=True)
def _last_lines_have_time(monkeypatch):
    """A process that ends waits a second for them; a busy machine may take longer."""
    monkeypatch.setattr(logfile, "FLUSH_S", 20.0)


@pytest.fixture
def log(tmp_path):
    """`log(write, **options)`: the lines that `write(logger)` makes."""
    opened = []

    def run(write, **options):
        path = tmp_path / f"log{len(opened)}"
        opened.append(os.open(path, os.O_WRONLY | os.O_CREAT))
        file = LogFile(opened[-1])
        try:
            configure_log(file, **options)
            write(structlog.get_logger("colo"))
        finally:
            file.close()
        return path.read_text(encoding="utf-8").split("\n")[:-1]

    yield run
    for fd in opened:
        os.close(fd)


def objects(lines):
    return [json.loads(line) for line in lines]


# ── text ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_text_is_todays(log):
    (line,) = log(lambda logger: logger.info("serving", resent=3, state="alone"))
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{6} \[info *\] serving +resent=3 state=alone", line)


def test_what_others_say_makes_no_line_of_its_own_and_moves_no_cursor(log):
    (line,) = log(lambda logger: logger.warning("left: bye\n00:00 [info] all is well\x1b[2J", text="a\u2028b\x9b1m"))
    assert r"bye\n00:00" in line
    assert "\x1b" not in line
    assert "\x9b" not in line


def test_a_bug_has_its_traceback(log):
    lines = log(lambda logger: logger.critical("failed", exc_info=ValueError("why")))
    assert "ValueError: why" in "\n".join(lines)


# ── JSON ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_line_begins_with_the_same_keys(log):
    began = datetime.now(UTC)
    facts = {"pair": "vm1", "role": "primary", "term": 2, "epoch": 7, "more": "not shown"}
    (line,) = log(lambda logger: logger.warning("listening", link="x"), format="json", facts=lambda: facts)
    said = json.loads(line)
    assert list(said) == ["time", "level", "event", "pair", "role", "term", "epoch", "link"]
    assert (said["level"], said["event"], said["pair"], said["link"]) == ("warning", "listening", "vm1", "x")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", said["time"])
    assert began <= datetime.fromisoformat(said["time"]) <= datetime.now(UTC)


def test_facts_are_those_of_the_moment_and_the_event_knows_better(log):
    facts = {"term": 1}

    def write(logger):
        logger.info("a")
        facts["term"] = 2
        logger.info("b")
        logger.info("c", term=9, time="x")

    said = objects(log(write, format="json", facts=lambda: facts))
    assert [one["term"] for one in said] == [1, 2, 9]
    assert [one["pair"] for one in said] == [None] * 3
    assert said[2]["time"].endswith("Z")


def test_without_facts_or_with_broken_ones_there_is_a_line_all_the_same(log):
    for facts in (None, lambda: 1 / 0, lambda: None):
        (said,) = objects(log(lambda logger: logger.info("a"), format="json", facts=facts))
        assert said["event"] == "a"
        assert said["term"] is None


def test_a_traceback_is_one_string(log):
    (said,) = objects(log(lambda logger: logger.critical("failed", exc_info=ValueError("why")), format="json"))
    assert said["level"] == "critical"
    assert "ValueError: why" in said["exception"]
    assert "exc_info" not in said


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"\x00\xff", "00ff"),
        (bytearray(b"a"), "61"),
        (memoryview(b"ab"), "6162"),
        (Colour.DARK_RED, "dark_red"),
        (Number.TWO, "two"),
        (Word.ALONE, "alone"),
        (Bits.A | Bits.B, "a|b"),
        (Bits(0), "0"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (1 << 100, hex(1 << 100)),
        (True, True),
        (None, None),
        (pathlib.PurePosixPath("/a"), "/a"),
        (IPv4Address("10.0.0.1"), "10.0.0.1"),
        (ValueError("why"), "why"),
        ({3, 1, 2}, [1, 2, 3]),
        ((1, (b"\x01",)), [1, ["01"]]),
        ({b"\x01": 1, Colour.DARK_RED: 2, None: 3, (1, 2): 4}, {"01": 1, "dark_red": 2, "None": 3, "(1, 2)": 4}),
    ],
)
def test_every_value_is_said(value, expected, log):
    assert as_json(value) == expected
    (said,) = objects(log(lambda logger: logger.info("x", value=value), format="json"))
    assert said["value"] == expected


def test_what_has_no_text_is_said_too(log):
    """Python writes no integer of more than 4300 digits."""
    (line,) = log(lambda logger: logger.info("x", number=10**5000), format="json")
    assert json.loads(line)["number"] == hex(10**5000)
    (line,) = log(lambda logger: logger.info("x", value=[Unspeakable()]), format="json")
    assert json.loads(line)["value"] == ["<Unspeakable>"]


def test_what_holds_itself_ends():
    endless = []
    endless.append(endless)
    json.dumps(as_json(endless))


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text() | st.binary() | st.integers(), inner, max_size=3)
        | st.frozensets(st.integers() | st.binary() | st.text())
    ),
    max_leaves=10,
)


@given(st.text(st.characters(exclude_categories=())), ANYTHING)
def test_any_event_is_one_ascii_line_of_strict_json(event, value):
    line = logfile.JsonLines(None)(None, "info", {"level": "info", "event": event, "value": value})
    assert line.isascii()
    assert len(line.splitlines()) == 1
    said = json.loads(line, parse_constant=pytest.fail)
    assert said["event"] == event


# ── levels, repetitions, other loggers ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("level", "count"), [("debug", 5), ("info", 4), ("warning", 3), ("error", 2)])
@pytest.mark.parametrize("format_", ["text", "json"])
def test_the_level_is_the_least_that_is_written(log, level, count, format_):
    def write(logger):
        for name in ("debug", "info", "warning", "error", "critical"):
            getattr(logger, name)("x")

    assert len(log(write, format=format_, level=level)) == count


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"format": "xml"}, "log.format: expected one of text, json, found 'xml'"),
        ({"level": "loud"}, "log.level: expected one of debug, info, warning, error, found 'loud'"),
    ],
)
def test_an_unknown_setting_is_one_line(log, options, line):
    with pytest.raises(ConfigError) as caught:
        log(lambda logger: None, **options)
    assert str(caught.value) == line


def test_equal_lines_are_withheld_and_counted(log, monkeypatch):
    now_ns = [0]
    monkeypatch.setattr(logfile, "monotonic_ns", lambda: now_ns[0])

    def write(logger):
        for i in range(100):
            logger.warning("same", port=1)
            logger.warning("other", port=i)
        now_ns[0] += 10**9
        logger.warning("same", port=1)

    said = objects(log(write, format="json"))
    assert len([one for one in said if one["event"] == "other"]) == 100
    same = [one for one in said if one["event"] == "same"]
    assert [one.get("withheld") for one in same] == [None] * 5 + [95]


def test_libraries_write_to_the_same_log(log):
    def write(_logger):
        library = logging.getLogger("some.library")
        library.info("not this")
        library.warning("said %s", "this")
        # pytest's own handlers would raise.
        handler = next(handler for handler in logging.root.handlers if isinstance(handler, logfile._Enqueuing))
        handler.handle(logging.LogRecord(library.name, logging.WARNING, "", 1, "wrong %d", ("arguments",), None))
        library.log(35, "level of its own")
        try:
            raise ValueError("why")
        except ValueError:
            library.exception("failed")

    said = objects(log(write, format="json"))
    assert [one["event"] for one in said] == ["said this", "wrong %d", "level of its own", "failed"]
    assert {one["logger"] for one in said} == {"some.library"}
    assert [one["level"] for one in said] == ["warning", "warning", "warning", "error"]
    assert "ValueError: why" in said[3]["exception"]


@pytest.mark.parametrize("name", [(), ("colo",), ("another",)])
def test_a_logger_of_any_name_writes_to_it(log, name):
    (said,) = objects(log(lambda _logger: structlog.get_logger(*name).info("said"), format="json"))
    assert (said["event"], said["level"]) == ("said", "info")


def test_a_closed_log_leaves_pythons_logging_alone(log):
    before = list(logging.root.handlers)
    log(lambda logger: logger.info("a"))
    log(lambda logger: logger.info("b"), format="json")
    assert logging.root.handlers == before


def test_configuring_twice_writes_each_line_once(log, tmp_path):
    with (tmp_path / "first").open("wb") as stream:
        first = LogFile(stream.fileno())
        configure_log(first)
        lines = log(lambda logger: logging.getLogger("x").warning("once"), format="json")
        first.close()
    assert len(lines) == 1
    assert (tmp_path / "first").read_bytes() == b""


def test_threads_do_not_mix_their_lines(log):
    def write(logger):
        def many(name):
            for i in range(100):
                logger.info("x" * 50, name=name, i=i)

        threads = [threading.Thread(target=many, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    said = objects(log(write, format="json"))
    assert sorted((one["name"], one["i"]) for one in said) == [(name, i) for name in range(4) for i in range(100)]


def test_the_line_about_lost_lines_is_json_too(monkeypatch):
    monkeypatch.setattr(logfile, "LINES_MAX", 3)
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    file = LogFile(writing)
    configure_log(file, format="json")
    filler = structlog.get_logger("colo")
    for i in range(200):
        filler.info("x" * 4000, i=i)
    found = b""
    deadline = threading.Event()
    for _ in range(2000):
        try:
            found += os.read(reading, 1 << 20)
        except BlockingIOError:
            deadline.wait(0.01)
        if b"were dropped" in found and found.endswith(b"\n"):
            break
    found += read_to_the_end(file, reading)
    os.close(reading)
    os.close(writing)
    said = [json.loads(line) for line in found.splitlines()]
    assert [one["level"] for one in said if "log lines were dropped" in one["event"]][:1] == ["warning"]
