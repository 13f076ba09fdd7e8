"""A person's own server in both guests, their own client against it, and the prompt of a held run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ECHOING = Path(__file__).resolve().parents[1] / "support" / "echoing.py"
COLO = [sys.executable, "-m", "pycolo", "demo", "--seconds", "3", "--json", "--heartbeat-timeout", "2000"]
"""A busy machine is not what is tested here."""
OUTLIVED = ["--seconds", "8"]
"""Half of it is left after the kill, of which clients stand still for the time-out and a little more."""
SERVE = f"{sys.executable} {ECHOING} serve {{host}} {{port}}"
TALK = f"{sys.executable} {ECHOING} talk {{host}} {{port}}"
AS_ORDINARY_USER = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]

pytestmark = [pytest.mark.namespaces, pytest.mark.timeout(200)]


class Ended:
    def __init__(self, done: "subprocess.CompletedProcess[str]") -> None:
        self.code, self.said = done.returncode, done.stderr
        self.summary: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}

    def __repr__(self) -> str:
        return f"exit {self.code}\n{self.said}\n{json.dumps(self.summary.get('failures'))}"


def run(cwd: Path, *arguments: str, typed: str = "", prefix: list[str] | None = None) -> Ended:
    done = subprocess.run(
        [*(prefix or []), *COLO, *arguments],
        input=typed,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        cwd=cwd,
    )
    return Ended(done)


def test_connections_of_ones_own_client_outlive_host_a(tmp_path: Path) -> None:
    ended = run(tmp_path, *OUTLIVED, "--serve", SERVE, "--client", TALK, "--clients", "3")
    summary = ended.summary
    assert ended.code == 0, ended
    assert summary["connections"]["at_kill"] == summary["connections_kept"] > 0
    assert set(summary["connections"]["fates"]) == {"open"}
    assert summary["runs"]["across_ok"] == summary["runs"]["across"] == 3
    assert summary["runs"]["after_ok"] == summary["runs"]["after"] == 1
    assert summary["diverged"]["reports"] == 0
    assert (tmp_path / "colo-report.html").stat().st_size > 8_000
    assert sorted(os.listdir(tmp_path)) == ["colo-report.html"], "what a guest writes is its own"


def test_short_runs_over_ipv6_of_an_ordinary_user_are_started_again_and_again(tmp_path: Path) -> None:
    clients = ["--ipv6", "--no-report", "--serve", SERVE, "--client", f"{TALK} 20"]
    ended = run(tmp_path, *OUTLIVED, *clients, prefix=AS_ORDINARY_USER)
    assert ended.code == 0, ended
    assert not ended.summary["setting"]["as_root"]
    assert ended.summary["runs"]["before"] > 0
    assert ended.summary["runs"]["after"] > 0
    assert "[fd00:9::2]:8080" in ended.summary["address"]


def test_a_held_run_whose_server_differs_explains_it_and_has_protected_nothing(tmp_path: Path) -> None:
    typed = "status\nshell\nkill\ndivergences\nstatus\nend\n"
    ended = run(tmp_path, "--hold", "--serve", f"{SERVE} random", "--client", TALK, "--clients", "2", typed=typed)
    diverged = ended.summary["diverged"]
    assert ended.code == 1, ended
    assert diverged["connections"] >= diverged["at_kill"] == ended.summary["connections_at_kill"] > 0
    assert any("nothing was protected" in failure for failure in ended.summary["failures"])
    first = diverged["kinds"][0]["first"]
    assert first["primary"] != first["secondary"]
    assert "not protected" in (tmp_path / "colo-report.html").read_text()
    assert ended.summary["fault"] == "kill"
    for words in (
        "held before the kill",
        "host A   primary protected",
        "nsenter --target",
        "host A   dead",
        "usually: ",
    ):
        assert words in ended.said


def test_a_client_that_fails_before_the_kill_proves_nothing(tmp_path: Path) -> None:
    ended = run(tmp_path, "--serve", SERVE, "--client", "sh -c 'echo it is broken; exit 3'")
    assert ended.code == 1
    assert ended.summary["failures"] == ["the client failed before anything was killed: exit 3: it is broken"]
    assert ended.summary["fault"] is None


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        ("sh -c 'echo no licence; exit 7'", "ended (exit 7) before it listened on TCP port 8080: no licence"),
        (f"{sys.executable} -m http.server -b 127.0.0.1 {{port}}", "it listens on 127.0.0.1 only"),
    ],
)
def test_a_server_that_cannot_be_reached_is_one_line(tmp_path: Path, serve: str, words: str) -> None:
    ended = run(tmp_path, "--serve", serve, "--client", "true", "--ready-seconds", "4")
    assert ended.code == 1
    assert words in ended.said.splitlines()[-1]
    assert ended.summary == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--serve", "no-such-server {port}", "--client", "true"], "no-such-server"),
        (["--serve", "true {prot}", "--client", "true"], "{port}, {host}, {dir}"),
        (["--client", "true"], "--client needs --serve"),
        (["--serve", "true"], "--serve needs --client, or --hold"),
        (["--serve", "true", "--client", "true", "--sessions", "3"], "--sessions applies to the built-in load"),
    ],
)
def test_wrong_usage_is_one_line_before_anything_is_built(tmp_path: Path, arguments: list[str], words: str) -> None:
    ended = run(tmp_path, *arguments)
    assert ended.code == 2
    assert len(ended.said.splitlines()) == 1
    assert words in ended.said
    assert list(tmp_path.iterdir()) == []


def test_a_failover_at_the_prompt_moves_everything_while_host_a_lives(tmp_path: Path) -> None:
    ended = run(tmp_path, "--no-report", "--hold", "--serve", SERVE, "--client", TALK, typed="failover\nkill\nend\n")
    assert ended.code == 0, ended
    assert ended.summary["fault"] == "failover"
    assert ended.summary["connections_kept"] == ended.summary["connections_at_kill"] > 0
    assert "host A is dead; host B served already" in ended.said


def test_the_built_in_load_is_held_too_and_an_early_end_is_not_judged(tmp_path: Path) -> None:
    ended = run(tmp_path, "--hold", "--sessions", "5", typed="divergences\n")
    assert ended.code == 0, ended
    assert ended.summary["judged"] is False
    assert "none: both guests have given the same answers so far" in ended.said
    assert list(tmp_path.iterdir()) == []


def test_a_guest_copies_what_it_may_not_look_behind(tmp_path: Path) -> None:
    """As in a container: a file is mounted in /etc, and an ordinary user's namespace may not look below it."""
    script = tmp_path / "as-in-a-container.sh"
    demo = " ".join(
        f"'{word}'" for word in [*AS_ORDINARY_USER, *COLO, "--no-report", "--serve", "$SERVE", "--client", "true"]
    )
    script.write_text(
        "set -e\nmount --make-rprivate /\ncp /etc/hosts hosts; mount --bind hosts /etc/hosts\n"
        f"exec {demo.replace(chr(39) + '$SERVE' + chr(39), chr(34) + '$SERVE' + chr(34))}\n"
    )
    serve = "sh -c 'test -s /etc/hosts || exit 5; : > /etc/written 2> here; cat here; exit 9'"
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    done = subprocess.run(
        [*unshare, "bash", str(script)],
        env={**os.environ, "SERVE": serve},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert "ended (exit 9)" in done.stderr, done.stderr
