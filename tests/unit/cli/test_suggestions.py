"""What `colo explain --suggest` prints is TOML that a node's file takes."""

import tomllib

import pytest

from pycolo.cli.suggestions import suggestion_lines
from pycolo.config import parse
from support.configs import example

MASKS = [
    {"ports": [80], "direction": "in", "pattern": r"X-Id: [^\r\n]{1,128}\r\n", "differences": 7},
    {"ports": [443], "direction": "out", "pattern": r"it\x27s \d{3};", "differences": 3, "caution": "it's counted"},
]


@pytest.mark.rule("C7")
def test_it_can_be_pasted():
    text = "\n".join(suggestion_lines({"masks": MASKS}))
    assert "# Careful: it's counted." in text
    config = parse(f"{example()}\n{text}\n".encode(), "vm.toml")
    assert [(mask.pattern, mask.direction) for mask in config.mask] == [
        (mask["pattern"], mask["direction"]) for mask in MASKS
    ]


@pytest.mark.rule("C7")
def test_nothing_is_said_as_a_comment():
    lines = list(suggestion_lines({"masks": []}))
    assert lines
    assert tomllib.loads("\n".join(lines)) == {}
