"""docs/checkpoint.md says what the table says."""

import re
from pathlib import Path

import pytest

from pycolo.checkpoint import coordinator, running, spacing
from pycolo.checkpoint.diagram import BEGIN, END, block, picture, renewed
from pycolo.checkpoint.records import REASONS_PER_KIND_MAX, ReasonKind
from pycolo.checkpoint.table import State
from pycolo.config.sections import CheckpointOptions

PAGE = (Path(__file__).resolve().parents[3] / "docs/checkpoint.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_table_makes_of_it():
    assert renewed(PAGE) == PAGE, "python -m pycolo.checkpoint.diagram < docs/checkpoint.md makes it anew"


def test_the_picture_has_every_state():
    assert set(re.findall(r"[a-z_]+(?= -->)|(?<=--> )[a-z_]+", picture())) == set(State)


def test_making_it_anew_changes_only_the_block():
    assert renewed(PAGE.replace(block(), f"{BEGIN}\nold\n{END}")) == PAGE


def test_a_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="needs the lines"):
        renewed("no marks")


def test_kinds_of_reason_are_those_of_the_code():
    rows = PAGE.partition("## Reasons\n")[2].partition("## States")[0]
    assert re.findall(r"^\| `([a-z_]+)`", rows, flags=re.MULTILINE) == [kind.value for kind in ReasonKind]
    assert REASONS_PER_KIND_MAX == 4
    assert "keeps four reasons of each kind" in rows


def test_times_are_those_of_the_code():
    found = dict(re.findall(r"^\| `([a-z_]+_ms)` \| (\d+) ", PAGE, flags=re.MULTILINE))
    assert {name: int(ms) for name, ms in found.items()} == {
        "min_distance_ms": coordinator.MIN_DISTANCE_MS,
        "max_distance_ms": CheckpointOptions().distances_ms[1],
        "max_wait_ms": CheckpointOptions().max_wait_ms,
        "max_interval_ms": coordinator.MAX_INTERVAL_MS,
        "timeout_ms": coordinator.TIMEOUT_MS,
    }
    assert f"`busy_percent` ({spacing.BUSY_PERCENT})" in PAGE
    assert CheckpointOptions().busy_percent == spacing.BUSY_PERCENT
    assert f"at least {coordinator.RETRY_DISTANCE_US // 1000} ms" in PAGE
    assert running.RESUME_WAIT_US == 1_000_000
    assert "waits one second for RESUME" in PAGE
