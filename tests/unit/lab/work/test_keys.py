"""Typing in an ssh session, with a stand-in of ssh that echoes."""

from pathlib import Path

import pytest

from pycolo_lab.work.keys import Session, SessionError, run
from pycolo_lab.work.result import Work


def work_with(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stall_s: float = 30) -> Work:
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\n{script}\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return Work("10.0.0.1", tmp_path, stall_s, lambda: True)


def test_a_key_that_is_echoed_is_counted(tmp_path, monkeypatch):
    found = run(work_with("printf 'typing\\r\\n'; exec cat", tmp_path, monkeypatch))
    assert (found.done, found.breaches) == (1, [])


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("printf 'welcome\\r\\n'; exec cat", "was b'welcome"),
        ("printf 'typing\\r\\n'; exec tr a-zA-Z .", "the echo of"),
        ("printf 'typing\\r\\n'; head -c 1 > /dev/null", "the session ended"),
        ("exit 1", "the session ended"),
    ],
)
def test_another_echo_and_an_end_are_breaches(script, words, tmp_path, monkeypatch):
    found = run(work_with(script.replace("tr", "stdbuf -o0 tr"), tmp_path, monkeypatch))
    assert found.done == 0
    assert words in found.breaches[0]


def test_an_echo_that_does_not_come_is_one(tmp_path, monkeypatch):
    work = work_with("exec sleep 9", tmp_path, monkeypatch, stall_s=0.05)
    with Session(work) as session, pytest.raises(SessionError, match="no echo of"):
        session.expect(b"typing")
