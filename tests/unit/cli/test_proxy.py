"""`colo proxy` as a command: exit codes, and one line for each error."""

import pytest
from click.testing import CliRunner

from pycolo.cli.proxy import proxy


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"], ["-object", "x", "-help"]])
def test_help(words: list[str]):
    result = CliRunner().invoke(proxy, words)
    assert result.exit_code == 0
    assert "-object colo-compare" in result.output


@pytest.mark.parametrize(
    "words",
    [
        ["-object", "colo-compare,id=c0,x=1"],
        ["-chardev", "socket,id=a"],
        ["-hda", "disk"],
        ["word"],
        ["--metrics"],
        ["-object"],
    ],
)
def test_a_wrong_line_is_one_line_and_exit_code_2(words: list[str]):
    result = CliRunner().invoke(proxy, words)
    assert result.exit_code == 2
    assert result.output.startswith("colo: -") or result.output.startswith("colo: word")
    assert result.output.count("\n") == 1
