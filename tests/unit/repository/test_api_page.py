"""The examples of docs/api.md run, and print what the page says."""

import contextlib
import io
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pycolo import frames
from pycolo.frames import CapturedFrame
from support.segments import SACK_PERMITTED, Tcp, frame, mss

PAGE = Path(__file__).resolve().parents[3] / "docs" / "api.md"
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def captured(*segments: Tcp) -> list[CapturedFrame]:
    """One each 10 ms; the client's in the middle between the guests'."""
    start_us = 1_700_000_000_000_000
    return [CapturedFrame(frame(each), start_us + number * 10_000) for number, each in enumerate(segments)]


def make_captures(folder: Path) -> None:
    """A client asks, and the two guests answer: with numbers of their own, and not the same."""
    options = mss(1460) + SACK_PERMITTED
    isns = {"primary": 1000, "secondary": 900_000}
    answers = {"primary": b"HTTP/1.1 2", "secondary": b"HTTP/1.1 5"}
    for name, isn in isns.items():
        syn = Tcp(isn, "SA", ack=501, options=options)
        parts = (Tcp(isn + 1, "PA", answers[name], 521), Tcp(isn + 11, "PA", answers[name][::-1], 521))
        frames.write(folder / f"{name}.pcapng", captured(syn, *parts))
    client = (
        Tcp(500, "S", options=options, from_client=True),
        Tcp(501, "A", ack=1001, from_client=True),
        Tcp(501, "PA", b"GET / HTTP/1.1\r\n\r\n", ack=1001, from_client=True),
    )
    frames.write(
        folder / "client.pcapng", [CapturedFrame(each.octets, each.at_us - 5_000) for each in captured(*client)]
    )


def run(code: str, names: dict[str, Any]) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, str(PAGE), "exec"), names)
    return said.getvalue()


def test_the_examples_do_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_captures(tmp_path)
    blocks = FENCED.findall(PAGE.read_text(encoding="utf-8"))
    examples = [(code, said) for (kind, code), (other, said) in pairwise(blocks) if (kind, other) == ("python", "text")]
    assert len(examples) == len(blocks) // 2 >= 5
    names: dict[str, Any] = {}
    # The first section compares what the second one writes.
    for position in (1, 0, *range(2, len(examples))):
        code, said = examples[position]
        assert run(code, names) == said


def test_two_captures_are_compared_in_ten_lines() -> None:
    first = next(code for kind, code in FENCED.findall(PAGE.read_text(encoding="utf-8")) if kind == "python")
    assert len([line for line in first.splitlines() if line]) <= 10
