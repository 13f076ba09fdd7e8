"""Every command's standard streams: closed, full, without a reader, of few characters. One line, never a traceback."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pycolo.cli import streams

pytestmark = pytest.mark.slow

COLO = [sys.executable, "-m", "pycolo"]
WRITERS = [["--help"], ["--version"], ["lab", "qemu", "--list"], ["certs", "init", "NEW"], ["demo", "--help"]]
"""Commands that say something on standard output."""

MISUSED = [["demo", "--bogus"], ["nosuch"], ["primary"], ["status"], ["node"], ["certs", "init"], ["proxy", "-x"]]


def run(
    words: list[str], tmp_path: Path, redirected: str = "", **environment: str
) -> "subprocess.CompletedProcess[bytes]":
    """With the shell's redirection behind it."""
    command = " ".join([*COLO, *words]).replace("NEW", str(tmp_path / "new"))
    return subprocess.run(
        ["sh", "-c", f"exec {command} {redirected}"],
        capture_output=True,
        timeout=90,
        check=False,
        cwd=tmp_path,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("words", WRITERS, ids=" ".join)
@pytest.mark.parametrize(
    ("redirected", "why"),
    [
        (">&-", b"colo: standard output is closed\n"),
        (">/dev/full", b"colo: standard output: No space left on device\n"),
    ],
    ids=["closed", "full"],
)
def test_output_that_cannot_be_written_is_one_line(
    words: list[str], redirected: str, why: bytes, tmp_path: Path
) -> None:
    done = run(words, tmp_path, redirected)
    assert (done.returncode, done.stderr) == (1, why)


@pytest.mark.parametrize("words", WRITERS, ids=" ".join)
def test_a_reader_that_has_gone_is_one_line(words: list[str], tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    command = [word.replace("NEW", str(tmp_path / "new")) for word in words]
    done = subprocess.run([*COLO, *command], stdout=theirs, stderr=subprocess.PIPE, timeout=90, check=False)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (1, b"colo: standard output: its reader has gone\n")


@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full", "2>&- >/dev/null", "<&- 2>&-"])
def test_without_standard_error_a_command_does_its_work(redirected: str, tmp_path: Path) -> None:
    for words, code in ((WRITERS[3], 0), (MISUSED[0], 2), (["status", "--control", "/nonexistent"], 1)):
        assert run(words, tmp_path, redirected).returncode == code
    assert (tmp_path / "new" / "ca.pem").read_text().startswith("-----BEGIN CERTIFICATE-----")


def test_no_file_becomes_a_closed_standard_output(tmp_path: Path) -> None:
    run(WRITERS[3], tmp_path, ">&- 2>&-")
    assert b"Copy to each host" not in b"".join(path.read_bytes() for path in (tmp_path / "new").iterdir())


@pytest.mark.parametrize("words", MISUSED, ids=" ".join)
def test_wrong_usage_is_one_line_with_the_prefix_of_all_errors(words: list[str], tmp_path: Path) -> None:
    done = run(words, tmp_path)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.startswith(b"colo: ")
    assert done.stderr.count(b"\n") == 1
    assert b"None" not in done.stderr


# ── characters ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp437", "utf-8"])
def test_help_is_shown_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    done = run(["primary", "--help"], tmp_path, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "--spin" in done.stdout.decode(encoding)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "✓ ✗ … µs ▁█ \\udc80\n".encode()),
        ("latin-1", b"OK FAIL ... \xb5s _# \\udc80\n"),
        ("ascii", b"OK FAIL ... us _# \\udc80\n"),
    ],
)
def test_what_an_encoding_does_not_have_is_replaced(encoding: str, shown: bytes) -> None:
    script = (
        "import click; from pycolo.cli import streams; streams.set_up(); "
        "text = '\\u2713 \\u2717 \\u2026 \\xb5s \\u2581\\u2588 \\udc80'; print(text); click.echo(text); "
        "click.echo(text, err=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        timeout=90,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert done.stdout == shown * 2
    assert done.stderr == shown


@pytest.mark.parametrize("character", "✓✗…→≠µ▁█│─日")
def test_a_replacement_is_plain(character: str) -> None:
    octets = character.encode("ascii", streams.PLAIN)
    assert octets
    assert octets.isascii()


def test_streams_that_were_put_there_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = io.StringIO()
    monkeypatch.setattr(sys, "stdout", ours)
    monkeypatch.setattr(sys, "stderr", ours)
    streams.set_up()
    assert sys.stdout is ours
    assert sys.stderr is ours
