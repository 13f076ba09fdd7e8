"""The law of the appending client: what was acknowledged is on the disk."""

import pytest

from pycolo_lab.qemu.appender import lost

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
