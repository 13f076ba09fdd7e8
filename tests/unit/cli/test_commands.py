"""`colo` itself, `colo status`, `colo failover` and `colo certs`."""

import json
import socket
import subprocess
import sys
import threading

import click
import pytest

from pycolo import __version__

pytestmark = pytest.mark.slow


def test_python_m_pycolo_is_colo():
    done = subprocess.run(
        [sys.executable, "-m", "pycolo", "--version"], capture_output=True, text=True, timeout=90, check=True
    )
    assert done.stdout == f"colo, version {__version__}\n"


@pytest.mark.parametrize(
    "command", [(), ("primary",), ("secondary",), ("status",), ("failover",), ("certs", "init"), ("demo",)]
)
def test_every_command_explains_itself(command):
    # In a process of its own: click keeps a command's help option from its first use.
    done = subprocess.run(
        [sys.executable, "-m", "pycolo", *command, "-h"], capture_output=True, text=True, timeout=90, check=True
    )
    assert done.stdout.startswith(f"Usage: colo {' '.join(command)}".rstrip())
    assert "  -h, --help" in done.stdout


def test_what_a_list_says_of_a_command_is_whole():
    from pycolo.cli import colo

    waiting = [colo]
    while waiting:
        group = waiting.pop()
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            said = command.get_short_help_str(limit=74 - len(name))
            assert said.endswith("."), f"{name}: {said}"
            assert not said.endswith("..."), f"{name}: {said}"
            if isinstance(command, click.Group):
                waiting.append(command)


STATUS = {
    "role": "primary",
    "state": "protected",
    "since_ms": 1500,
    "pair": "web",
    "term": 2,
    "epoch": 0,
    "peer": None,
    "arbiter": {"name": "manual", "says": "nothing"},
    "version": "1",
    "takeover": None,
    "divergences": [{"text": "10.0.0.2:80: the payload differs"}],
    "counters": {"lan_frames": 3, "held": 0},
    "hold_us": {"p50": 1, "p99": 2, "max": 3},
}


@pytest.fixture
def node(tmp_path):
    """Answers each question at its control socket with the next of its answers."""
    path = tmp_path / "control"
    answers = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve():
            while True:
                try:
                    sock, _ = server.accept()
                except OSError:
                    return
                with sock:
                    sock.recv(1000)
                    sock.sendall(json.dumps(answers.pop(0)).encode() + b"\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield path, answers
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_status_for_people(colo, node):
    path, answers = node
    answers.append(STATUS)
    code, out, _ = colo("status", "--control", path)
    assert code == 0
    assert "primary of pair web: protected for 1.5 s, term 2" in out
    assert "other node: none; arbiter manual" in out
    assert "p99 2 µs" in out
    assert "lan_frames" in out
    assert "  held " not in out, "what is 0 is not shown"
    assert "divergence: 10.0.0.2:80: the payload differs" in out


def test_status_for_programs(colo, node):
    path, answers = node
    answers.append(STATUS)
    code, out, _ = colo("status", "--control", path, "--json")
    assert code == 0
    assert json.loads(out) == STATUS


def test_failover(colo, node):
    path, answers = node
    answers += [{"state": "alone", "term": 1}, {"error": "nothing to decide: this node is waiting"}]
    assert colo("failover", "--control", path)[:2] == (0, "alone, term 1\n")
    code, out, error = colo("failover", "--control", path)
    assert (code, out) == (1, "")
    assert error == f"colo: {path}: nothing to decide: this node is waiting\n"


@pytest.mark.parametrize("command", ["status", "failover"])
def test_not_connected_is_one_line(colo, tmp_path, command):
    code, out, error = colo(command, "--control", tmp_path / "x")
    assert (code, out) == (1, "")
    why = "no node answers there (No such file or directory): start the node, or correct the path"
    assert error == f"colo: {tmp_path}/x: {why}\n"


@pytest.mark.parametrize("command", ["status", "failover"])
def test_the_control_socket_has_to_be_named(colo, command):
    code, _, error = colo(command)
    assert code == 2
    assert "--control" in error


def test_certificates_are_made_once(colo, tmp_path):
    code, out, _ = colo("certs", "init", tmp_path / "c", "--pair", "web", "--days", "3")
    assert code == 0
    assert "Certificates for the pair web" in out
    assert (tmp_path / "c" / "ca-key.pem").stat().st_mode & 0o077 == 0
    code, _, error = colo("certs", "init", tmp_path / "c")
    assert code == 1
    assert "--force" in error
    assert colo("certs", "init", tmp_path / "c", "--force")[0] == 0
