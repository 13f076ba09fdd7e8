"""`colo demo` before it does anything: options that are right, options that are not."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import pycolo_lab.demo
from pycolo_lab.cli import demo as command
from pycolo_lab.interruption import SIGNALS, Interruption
from pycolo_lab.options import Control, LabOptions


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[LabOptions, dict[str, Any]]]]:
    """What the demo would have been asked to do."""
    found: list[tuple[LabOptions, dict[str, Any]]] = []

    def remember(options: LabOptions, _interruption: Interruption, **rest: Any) -> int:
        found.append((options, rest))
        return 3

    monkeypatch.setattr(pycolo_lab.demo, "run_demo", remember)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    yield found
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("200", 200_000_000),
        ("200M", 200_000_000),
        ("1.5G", 1_500_000_000),
        ("64k", 64_000),
        ("7 MB", 7_000_000),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert command.Size().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "0", "-5", "M", "1e9", "ten", "1 2"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a size"):
        command.Size().convert(text, None, None)


def test_without_options_the_defaults_of_a_run_hold(runs: list[tuple[LabOptions, dict[str, Any]]]) -> None:
    result = CliRunner().invoke(command.demo, [])
    assert result.exit_code == 3, "the demo's own exit code"
    assert runs == [(LabOptions(), {"as_json": False, "report": Path("colo-report.html")})]


def test_every_option_arrives(runs: list[tuple[LabOptions, dict[str, Any]]]) -> None:
    line = "--seconds 5 --sessions 7 --size 9M --seed 11 --ipv6 --without compare --insecure --nic veth --hold"
    line += " --baseline"
    CliRunner().invoke(command.demo, [*line.split(), "--json", "--no-report"])
    assert runs == [
        (
            LabOptions(
                seconds=5,
                sessions=7,
                size_bytes=9_000_000,
                seed=11,
                control=Control.COMPARE,
                ipv6=True,
                tls=False,
                nic="veth",
                hold=True,
                baseline=True,
            ),
            {"as_json": True, "report": None},
        )
    ]


@pytest.mark.parametrize("line", ["--seconds 0", "--sessions 0", "--without sense", "--nic wifi", "--size none"])
def test_wrong_options_never_start_a_run(runs: list[tuple[LabOptions, dict[str, Any]]], line: str) -> None:
    assert CliRunner().invoke(command.demo, line.split()).exit_code == 2
    assert runs == []


@pytest.mark.parametrize("path", ["/nonexistent/report.html", "/proc/report.html", "/", "/etc/passwd/report.html"])
def test_a_report_with_no_place_to_go_is_refused_before_the_run(
    runs: list[tuple[LabOptions, dict[str, Any]]], path: str
) -> None:
    result = CliRunner().invoke(command.demo, ["--report", path])
    assert result.exit_code == 2
    assert path in result.output
    assert runs == []
    assert CliRunner().invoke(command.demo, ["--report", path, "--no-report"]).exit_code in (2, 3)


def test_looking_for_the_report_s_place_leaves_nothing_there(
    runs: list[tuple[LabOptions, dict[str, Any]]], tmp_path: Path
) -> None:
    assert CliRunner().invoke(command.demo, ["--report", str(tmp_path / "new.html")]).exit_code == 3
    assert list(tmp_path.iterdir()) == []
    old = tmp_path / "old.html"
    old.write_text("of yesterday")
    assert CliRunner().invoke(command.demo, ["--report", str(old)]).exit_code == 3
    assert old.read_text() == "of yesterday"
