"""What a run shows: on any width, on a terminal that cannot draw, and when it is over."""

import io
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from pycolo_lab import view
from pycolo_lab.facts import Event
from pycolo_lab.options import Control, LabOptions
from pycolo_lab.scenario import Live
from pycolo_lab.terminal import GIVE_BACK, wrapped
from pycolo_lab.verdict import judge
from pycolo_lab.view import LiveView, PlainView, event_lines, picture, row_lines, summary_lines
from support.labfacts import KILL, MS, S, everything_lost, sound_facts

pytestmark = pytest.mark.slow

WIDTHS = st.integers(40, 250)
TIME_COLUMNS = len("  0.00 s  ")
EVENTS = [
    (0.0, "building: a client, a LAN, two hosts, two guests with one address behind veth pairs"),
    (3.8, "host A is dead: both cables pulled, its node and its guest killed within 8.8 ms"),
]


def live_at(since_kill_ns: int, *, killed: bool = True) -> Live:
    facts = sound_facts()
    facts.samples = [sample for sample in facts.samples if sample.at_ns <= KILL + since_kill_ns]
    if not killed:
        facts.kill = None
    return Live(
        phase="coming to an end",
        now_ns=KILL + since_kill_ns,
        options=LabOptions(),
        facts=facts,
        sessions_open=5,
        sessions_failed=2,
        primary=facts.primary,
        secondary=facts.secondary,
    )


def rendered(content: object, width: int, height: int = 50) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), color_system=None)
    console.print(content)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


# ── the law of the width ────────────────────────────────────────────────────────────────────────────────────


@given(WIDTHS, st.integers(12, 60), st.integers(-6 * S, 4 * S), st.booleans())
def test_the_picture_fits_its_terminal(width: int, height: int, at_ns: int, killed: bool) -> None:
    events = [*EVENTS, *((5.0 + i, f"something that takes a while to say, number {i}") for i in range(30))]
    lines = rendered(picture(live_at(at_ns, killed=killed), events, width, height), width, height)
    assert len(lines) <= height
    assert all(cell_len(line) <= width for line in lines)
    assert "…" not in "".join(lines)
    text = "\n".join(lines)
    assert all(word in text for word in ("download", "upload", "MB/s", "sessions", "host A", "host B"))


@given(WIDTHS, st.booleans(), st.sampled_from(list(Control)))
def test_the_summary_fits_and_says_everything(width: int, is_sound: bool, control: Control) -> None:
    facts = sound_facts()
    if not is_sound:
        everything_lost(facts)
    summary = judge(facts, LabOptions(control=control))
    lines = [line.plain for line in summary_lines(summary, width)]
    assert all(cell_len(line) <= width for line in lines)
    words = [word for line in summary_lines(summary, None) for word in line.plain.split()]
    assert sorted(word for line in lines for word in line.split()) == sorted(words), "nothing is cut"


@given(st.text(st.characters(codec="ascii", exclude_categories=["C"])), WIDTHS, st.floats(0, 900))
def test_an_event_is_never_cut(text: str, width: int, seconds: float) -> None:
    lines = event_lines(seconds, text, width)
    assert all(len(line) <= width for line in lines)
    assert "".join(line[TIME_COLUMNS:] for line in lines).replace(" ", "") == text.replace(" ", "")
    assert all(line.startswith(" " * TIME_COLUMNS) for line in lines[1:])


def test_without_a_width_nothing_is_wrapped() -> None:
    assert wrapped("word " * 99, None) == ["word " * 99]
    assert len(event_lines(1.0, "word " * 99, None)) == 1
    assert len(row_lines([("label", "word " * 99)], None)) == 1


# ── lines ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_plain_lines_say_once_a_second_how_it_stands() -> None:
    out = io.StringIO()
    plain = PlainView(out)
    plain.event(Event(KILL - 5 * S, "it begins"), KILL - 6 * S)
    for tenth in range(-50, -9):
        plain.show(live_at(tenth * 100 * MS, killed=False))
    lines = out.getvalue().splitlines()
    assert lines[0] == "  1.00 s  it begins"
    assert len(lines) == 1 + 4
    assert lines[4] == "  5.00 s  download 80 MB/s, upload 80 MB/s, 100 answers/s, 2 sessions failed"


def test_no_second_mixes_before_and_after_the_kill() -> None:
    out = io.StringIO()
    plain = PlainView(out)
    for step in range(-105, 200):  # the last full second before the kill ends half a second before it
        live = live_at(step * 20 * MS - 500 * MS, killed=step > 25)
        plain.show(live)
    ended = [float(line.split()[0]) for line in out.getvalue().splitlines()]
    assert not any(6.0 <= second < 7.0 for second in ended), "the kill is at 6"
    assert 7.0 in ended


def test_before_there_is_load_there_is_nothing_to_say() -> None:
    out = io.StringIO()
    live = live_at(0)
    live.facts.load_started_ns = 0
    PlainView(out).show(live)
    assert out.getvalue() == ""


# ── a terminal ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def terminal() -> Iterator[tuple[int, io.TextIOWrapper]]:
    """A pseudo-terminal of 40 columns: the end that a person sees, and the one to write to."""
    seen, own = pty.openpty()
    termios.tcsetwinsize(own, (24, 40))
    attributes = termios.tcgetattr(own)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(own, termios.TCSANOW, attributes)
    with os.fdopen(own, "w", encoding="utf-8") as stream:
        yield seen, stream
    os.close(seen)


def what_came(seen: int) -> str:
    os.set_blocking(seen, False)
    found = b""
    while True:
        try:
            found += os.read(seen, 65536)
        except BlockingIOError:
            return found.decode()


def test_the_events_stay_when_the_picture_goes(terminal: tuple[int, io.TextIOWrapper]) -> None:
    seen, stream = terminal
    console = Console(file=stream, force_terminal=True, width=40, height=24)
    running = LiveView(console)
    for seconds, text in EVENTS:
        running.event(Event(int(seconds * S), text), 0)
    running.show(live_at(S))
    running.close()
    running.close()
    running.event(Event(9 * S, "later"), 0)
    stream.flush()
    drawn, _, left = what_came(seen).partition("\x1b[?1049l")
    assert drawn.count("\x1b[?1049h") == 1
    assert "MB/s" in drawn
    lines = left.splitlines()
    expected = [line for at, text in [*EVENTS, (9.0, "later")] for line in event_lines(at, text, 40)]
    assert [line for line in lines if line] == expected
    assert "\x1b" not in left, "plain lines, as without a terminal"


def test_what_is_drawn_follows_the_terminal_s_size(terminal: tuple[int, io.TextIOWrapper]) -> None:
    seen, stream = terminal
    running = LiveView(Console(file=stream, force_terminal=True, color_system=None))
    for columns in (40, 120, 64, 200):
        termios.tcsetwinsize(stream.fileno(), (30, columns))
        what_came(seen)
        running.show(live_at(S))
        stream.flush()
        frame = what_came(seen).rpartition("\x1b[H")[2]
        assert {cell_len(line) for line in frame.split("\n")} == {columns}, "all of the screen is drawn over"
    running.close()


@pytest.mark.parametrize("how", ["_end_by_second(2)", "_as_shell_sees(-9)"])
@pytest.mark.parametrize(("kind", "back"), [("xterm", GIVE_BACK), ("dumb", "")])
def test_a_run_that_was_killed_gives_the_terminal_back_before_it_says_so(
    terminal: tuple[int, io.TextIOWrapper], how: str, kind: str, back: str
) -> None:
    seen, stream = terminal
    subprocess.run(
        [sys.executable, "-c", f"from pycolo_lab import namespaces; namespaces.{how}"],
        stdout=stream,
        stderr=stream,
        env={**os.environ, "TERM": kind},
        timeout=60,
        check=False,
    )
    came = what_came(seen)
    assert came.startswith(f"{back}colo: "), came
    assert "killed by" in came


def test_a_terminal_that_cannot_draw_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(view.make_view(as_json=False), PlainView)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(view.make_view(as_json=True), PlainView)
    with io.TextIOWrapper(io.BytesIO(), encoding="latin-1") as old:
        monkeypatch.setattr("sys.stdout", old)
        assert isinstance(view.make_view(as_json=False), PlainView), "it has no bars"
        monkeypatch.undo()
