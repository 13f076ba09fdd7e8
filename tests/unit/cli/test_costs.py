"""`colo explain --by`: what is shown of a node's answer, and what is asked."""

import json
from pathlib import Path

import pytest

from pycolo.cli.costs import ROWS_SHOWN, cost_lines, span
from pycolo.costs.words import SHAPES
from support.asked import answering
from support.statuses import vm_status

NUMBERS = {
    "checkpoints": 71,
    "paused_ms": 1_420.0,
    "waits": 300,
    "waited_ms": 31_000.0,
    "longest_wait_ms": 120.5,
    "differences": 88,
    "uncompared_bytes": 310 * 1024,
}


def row(name: str = "tcp port 5432", words: str = "71 % of the checkpoints; another order", **changed: object) -> dict:
    return {"name": name, **NUMBERS, "shapes": {"order": 88}, "words": f"{name}: {words}", **changed}


def answer(**changed: object) -> dict:
    return {
        "by": "port",
        "over": "hour",
        "since_s": 1_700_000_000,
        "seconds": 3600,
        "total": {**NUMBERS, "checkpoints": 100},
        "rows": [row()],
        "others": None,
        **changed,
    }


def test_a_line_about_the_whole_then_each_row_in_numbers_and_in_words():
    assert list(cost_lines(answer())) == [
        "last hour: 100 checkpoints, the guest paused 1.4 s, clients waited 31.0 s for them, none longer than 120 ms",
        "checkpoints     paused  clients waited   differed  uncompared",
        "         71      1.4 s          31.0 s         88   310.0 KiB",
        "  tcp port 5432: 71 % of the checkpoints; another order",
    ]


@pytest.mark.parametrize(
    ("changed", "begins"),
    [
        ({"seconds": 40}, "last hour, of which this node has seen 40.0 s: "),
        ({"over": "minute", "seconds": 60}, "last minute: "),
        ({"over": "start", "seconds": 7_200 * 24}, "since this node's first start, 48 h ago: "),
    ],
)
def test_the_window_is_named_as_far_as_the_node_has_seen_it(changed, begins):
    assert next(cost_lines(answer(**changed))).startswith(begins)


def test_an_idle_pair_says_so():
    nothing = dict.fromkeys(NUMBERS, 0)
    lines = list(cost_lines(answer(total=nothing, rows=[])))
    assert lines[0] == "last hour: 0 checkpoints, the guest paused 0 ms"
    assert lines[1].startswith("no checkpoint was made, and nothing has differed")


def test_no_line_is_wider_than_a_terminal_and_further_rows_are_counted():
    rows = [row(words="; ".join(SHAPES.values())) for _ in range(ROWS_SHOWN + 2)]
    lines = list(cost_lines(answer(rows=rows, others=row("others"))))
    assert max(map(len, lines[1:])) <= 100
    assert lines[-1] == "2 more rows: --json has them"
    assert sum("others:" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("ms", "shown"), [(0, "0 ms"), (999.4, "999 ms"), (1000, "1.0 s"), (119_000, "119.0 s"), (120_000, "2 min")]
)
def test_spans(ms, shown):
    assert span(ms) == shown


def test_the_node_is_asked_for_what_was_given(colo, tmp_path: Path):
    asked = []

    async def node(request: dict) -> dict:
        asked.append(request)
        return answer() if request["command"] == "costs" else vm_status()

    with answering(tmp_path / "n.sock", node) as control:
        code, out, _ = colo("explain", "--control", control, "--by", "port")
        assert code == 0
        assert "tcp port 5432: 71 %" in out
        _, out, _ = colo("explain", "--control", control, "--by", "reason", "--over", "start", "--json")
    assert json.loads(out) == answer()
    assert asked == [
        {"command": "costs", "by": "port", "over": "hour"},
        {"command": "status"},
        {"command": "costs", "by": "reason", "over": "start"},
    ]


ORDER = {"port": 5432, "is_ordered": False, "why": "no help: clients wait 43% of the time with it, 58% without"}


@pytest.mark.parametrize("order", [[], [ORDER]])
@pytest.mark.parametrize("by", ["port", "connection"])
def test_what_is_done_about_a_port_stands_below(colo, tmp_path: Path, order, by):
    """That guests did their work in another order is of use only with that."""

    async def node(request: dict) -> dict:
        return answer() if request["command"] == "costs" else vm_status(order=order)

    with answering(tmp_path / "n.sock", node) as control:
        _, out, _ = colo("explain", "--control", control, "--by", by)
    is_told = bool(order) and by == "port"
    assert ("order of requests\n  port 5432: not ordered: no help: clients" in out) is is_told


def test_a_window_without_by_is_refused(colo, tmp_path: Path):
    code, _, said = colo("explain", "--control", tmp_path / "none", "--over", "hour")
    assert code == 2
    assert "--over: only with --by" in said
