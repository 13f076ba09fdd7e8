"""Lines about disks that are copied."""

from typing import Any

import pytest

from pycolo.cli.diskprogress import Tenths, disk_lines, duration


def disk(copied: int, **changed: Any) -> dict[str, Any]:
    return {"name": "vda", "state": "copying", "copied_bytes": copied << 20, "size_bytes": 100 << 20, **changed}


@pytest.mark.parametrize(
    ("shown", "line"),
    [
        (disk(0, left_s=None), "disk vda: [--------------------] 0% of 100.0 MiB copied"),
        (disk(42, left_s=61.0), "disk vda: [########------------] 42% of 100.0 MiB copied, 61 s left"),
        (disk(0, size_bytes=0), "disk vda: [####################] 100% of 0.0 MiB copied"),
        (disk(100, state="in step"), "disk vda: both hosts have what is written (100.0 MiB)"),
        (disk(0, state="in step", size_bytes=3 << 40), "disk vda: both hosts have what is written (3.0 TiB)"),
        (
            {"state": "lost", "reason": "own-disk", "why": "disk vda: an error", "at": "2026-01-01T00:00:00.000Z"},
            "2026-01-01T00:00:00.000Z own-disk: disk vda: an error",
        ),
        (disk(12, is_incremental=True, left_s=None), "disk vda: incremental, 12.0 MiB of 100.0 MiB copied"),
        (
            disk(12, is_incremental=True, state="in step"),
            "disk vda: both hosts have what is written (100.0 MiB, 12.0 MiB of it copied anew)",
        ),
        (disk(0, state="failed"), "disk vda: could not be copied"),
        (
            {"name": "vda", "state": "a copy", "size_bytes": 1, "file": "/c/a"},
            "disk vda: a copy of the primary's, /c/a",
        ),
    ],
)
def test_a_disk_has_one_line(shown: dict[str, Any], line: str) -> None:
    assert list(disk_lines([shown])) == [line]


def test_time_is_rounded_to_what_a_reader_needs() -> None:
    assert [duration(seconds) for seconds in (4.4, 89, 100, 5000, 9000)] == ["4 s", "89 s", "2 min", "83 min", "2.5 h"]


def test_a_log_gets_each_tenth_once() -> None:
    tenths = Tenths()
    assert len(tenths.new_lines([disk(0)])) == 1
    assert tenths.new_lines([disk(9)]) == []
    assert tenths.new_lines([disk(35)]) == ["disk vda: [#######-------------] 35% of 100.0 MiB copied"]
    assert tenths.new_lines([disk(39)]) == []
    assert tenths.new_lines([disk(100, state="in step")]) == ["disk vda: both hosts have what is written (100.0 MiB)"]
    assert tenths.new_lines([disk(100, state="in step")]) == []


def test_a_loss_is_past_where_disks_are_copied_again() -> None:
    loss = {"state": "lost", "reason": "own-disk", "why": "disk vda: an error", "at": "2026-01-01T00:00:00.000Z"}
    assert list(disk_lines([disk(100, state="in step"), loss])) == [
        "disk vda: both hosts have what is written (100.0 MiB)"
    ]
    assert Tenths().new_lines([loss]) == []
