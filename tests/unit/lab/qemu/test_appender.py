"""The law of the appending client: what was acknowledged is on the disk."""

import argparse
from pathlib import Path
from types import SimpleNamespace

import pytest

from pycolo_lab.qemu.appender import Appender, AppenderResult, lost
from pycolo_lab.scoreboard import Scoreboard, Slot

LINES = ["1 a", "2 b", "3 c"]


@pytest.mark.parametrize(
    ("on_disk", "unanswered", "expected"),
    [
        (LINES, 0, []),
        ([*LINES, "4 d"], 1, []),
        ([*LINES, "4 d"], 0, ["1 lines on the disk were never asked for"]),
        (LINES[:2], 0, ["line 3 is missing, acknowledged was '3 c'"]),
        (["1 a", "3 c"], 0, ["line 2 is '3 c', acknowledged was '2 b'", "line 3 is missing, acknowledged was '3 c'"]),
        ([], 5, [f"line {line[0]} is missing, acknowledged was {line!r}" for line in LINES]),
    ],
)
def test_every_acknowledged_line_is_at_its_place(on_disk: list[str], unanswered: int, expected: list[str]) -> None:
    assert lost(LINES, on_disk, unanswered) == expected


class Guest:
    """Its file on the disk has `lines`; `count` is in its memory, which ends with it."""

    def __init__(self, lines: list[str], count: int) -> None:
        self.lines = lines
        self.count = count

    def asked(self, line: str) -> str:
        self.count += 1
        self.lines.append(f"{self.count} {line.removeprefix('append ')}")
        return self.lines[-1]


def appended(place: Path, monkeypatch: pytest.MonkeyPatch, guest: Guest, least: int) -> AppenderResult:
    """A client of three lines, after earlier ones that have left at least so many."""
    board = Scoreboard(place / "scoreboard")

    def asked(client: Appender, line: str) -> str:
        answer = guest.asked(line)
        board[Slot.FINISH] = int(len(guest.lines) == 6)
        return answer

    monkeypatch.setattr(Appender, "_connected", lambda client: SimpleNamespace(setsockopt=lambda *words: None))
    monkeypatch.setattr(Appender, "_asked", asked)
    monkeypatch.setattr(Appender, "_fetched", lambda client: list(guest.lines))
    given = argparse.Namespace(goes_on=least, begins_anew=False, line_characters=0, stall_seconds=1)
    return Appender(given, board).run()


@pytest.mark.parametrize("count", [3, 0, 2], ids=["the same guest", "one that was started anew", "and has appended"])
def test_a_client_goes_on_with_the_lines_of_earlier_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    guest = Guest(list(LINES), count)
    assert appended(tmp_path, monkeypatch, guest, 3) == AppenderResult(6, 6, [])
    assert [line.split()[0] for line in guest.lines] == ["1", "2", "3", *map(str, range(count + 1, count + 4))]


def test_lines_that_earlier_clients_have_left_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (why,) = appended(tmp_path, monkeypatch, Guest(list(LINES), 3), 4).breaches
    assert "the file has 3 lines, and earlier clients have left at least 4" in why
