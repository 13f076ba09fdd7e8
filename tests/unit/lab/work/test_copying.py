"""Copies by scp, with stand-ins of scp and ssh that copy within a folder."""

from pathlib import Path

import pytest

from pycolo_lab.work import copying
from pycolo_lab.work.result import Work

SCP = """#!/bin/sh
for word in "$@"; do from=$to; to=$word; done
exec cp "$(echo "$from" | sed 's|^root@[^:]*:|GUEST/|')" "$(echo "$to" | sed 's|^root@[^:]*:|GUEST/|')"
"""


def copied(ssh: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scp: str = SCP) -> copying.WorkResult:
    guest, own = tmp_path / "guest", tmp_path / "own"
    guest.mkdir()
    own.mkdir()
    for name, script in (("scp", scp), ("ssh", f"#!/bin/sh\n{ssh}\n")):
        path = tmp_path / name
        path.write_text(script.replace("GUEST/", str(guest)))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(copying, "FILE_BYTES", 5000)
    found = copying.run(Work("10.0.0.1", own, 30, lambda: True))
    assert list(own.iterdir()) == []
    return found


def test_a_file_that_comes_back_as_it_was_holds(tmp_path, monkeypatch):
    found = copied(f"sha256sum GUEST/{copying.TARGET}", tmp_path, monkeypatch)
    assert (found.done, found.breaches) == (1, [])


@pytest.mark.parametrize(
    ("ssh", "scp", "words"),
    [
        ("echo 1234", SCP, "the guest's disk has another file"),
        ("exit 255", SCP, "ssh: exit code 255"),
        (f"sha256sum GUEST/{copying.TARGET}; echo > GUEST/{copying.TARGET}", SCP, "another file came back"),
        ("true", "#!/bin/sh\necho 'lost connection' >&2; exit 1\n", "scp: exit code 1: lost connection"),
    ],
)
def test_another_hash_and_an_error_are_breaches(ssh, scp, words, tmp_path, monkeypatch):
    found = copied(ssh, tmp_path, monkeypatch, scp)
    assert words in found.breaches[0]
