"""`colo primary` and `colo secondary`: what is wrong with the options is one line, and says what would be right."""

import os
import sys
import time

import pytest

from pycolo import cli
from pycolo.cli import logfile
from pycolo.cli.logfile import LogFile
from pycolo.compare.kinds import DivergencePolicy
from pycolo.link.hello import Role
from support.logpipes import read_to_the_end
from support.nodes import wait_for

PRIMARY = ("primary", "--listen", "127.0.0.1:0", "--insecure")
SECONDARY = ("secondary", "--connect", "127.0.0.1:9", "--insecure")
PORTS = ("--lan", "unix:/l", "--guest", "unix:/g")


@pytest.fixture(autouse=True)
def _last_lines_have_time(monkeypatch):
    """A process that ends waits a second for them; a busy machine may take longer."""
    monkeypatch.setattr(logfile, "FLUSH_S", 20.0)


@pytest.fixture
def colo(monkeypatch, capfd):
    """Runs `colo …` in this process; (exit code, standard error)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["colo", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return caught.value.code, capfd.readouterr().err

    return run


@pytest.fixture
def parsed(monkeypatch, colo):
    """The options of a command line that is right, without the node's life."""
    from pycolo.cli import node

    found = []

    async def life(options, _open_port):
        found.append(options)
        return 0, ""

    monkeypatch.setattr(node, "_life", life)

    def run(*arguments):
        code, error = colo(*arguments)
        assert (code, error) == (0, "")
        return found.pop()

    return run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*PRIMARY,), "--lan is missing"),
        ((*PRIMARY, "--lan", "unix:/l"), "--guest is missing"),
        (
            (*PRIMARY, "--lan-in", "unix:/l", "--guest", "unix:/g"),
            "both directions (--lan-out, in one)",
        ),
        ((*PRIMARY, "--lan", "nix:/l", "--guest", "unix:/g"), "tap:NAME"),
        ((*PRIMARY, *PORTS, "--lan-in", "unix:/x,sever=on"), "--lan-in: expected one of"),
        ((*PRIMARY, "--lan", "unix:/l,vnet_hdr=on", "--guest", "unix:/g"), "the same for all ports"),
        ((*PRIMARY, *PORTS, "--pair", "a b"), "--pair"),
        ((*PRIMARY, *PORTS, "--heartbeat-timeout", "40"), "at least three intervals"),
        (
            (*SECONDARY, "--lan", "unix:/l", "--guest-in", "unix:/g"),
            "--guest-out is missing: it names a port to the guest",
        ),
        (("primary", "--listen", "127.0.0.1", "--insecure", *PORTS), "--listen: expected HOST:PORT"),
        (("primary", "--listen", "127.0.0.1:0", *PORTS), "--tls is missing: it names the directory"),
        (("primary", "--listen", "192.0.2.1:80", "--insecure", *PORTS), "--insecure: expected a loopback address"),
        (("secondary", "--connect", "127.0.0.1:0", "--insecure", *PORTS), "--connect: expected a port from 1"),
    ],
)
def test_what_cannot_work_is_one_line_and_exit_code_2(colo, arguments, said):
    code, error = colo(*arguments)
    assert code == 2
    assert error.startswith("colo: ")
    assert "None" not in error
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*PRIMARY, *PORTS, "--lam", "x"), "--lan"),
        (("primry",), "primry"),
        (("primary", *PORTS), "--listen"),
        ((*PRIMARY, *PORTS, "--arbiter", "me"), "'first-to-notice', 'manual'"),
        ((*PRIMARY, *PORTS, "--on-divergence", "cry"), "'report', 'hold', 'reset'"),
        ((*PRIMARY, *PORTS, "--without", "rewrite"), "compare"),
        ((*SECONDARY, *PORTS, "--without", "compare"), "rewrite"),
        ((*SECONDARY, *PORTS, "--ack-policy", "commit"), "--ack-policy"),
        ((*PRIMARY, *PORTS, "--tls", "/nowhere"), "does not exist"),
        ((*PRIMARY, *PORTS, "--heartbeat-interval", "0"), "--heartbeat-interval"),
    ],
)
def test_what_is_no_option_is_a_usage_error_and_exit_code_2(colo, arguments, said):
    code, error = colo(*arguments)
    assert code == 2
    assert said in error
    assert error.startswith("colo: ")
    assert error.count("\n") == 1


def test_every_option_reaches_the_node(parsed):
    found = parsed(
        *PRIMARY,
        *PORTS,
        *("--pair", "web", "--arbiter", "first-to-notice", "--heartbeat-interval", "10", "--heartbeat-timeout", "50"),
        *("--control", "/c", "--on-divergence", "hold", "--ack-policy", "immediate", "--compare-timeout", "7"),
        *("--max-queue-size", "9", "--without", "compare", "--spin", "3", "--insecure-link", "lo"),
    )
    assert (found.role, found.pair, found.arbiter, found.without) == (Role.PRIMARY, "web", "first-to-notice", "compare")
    assert (found.heartbeat_interval_ms, found.heartbeat_timeout_ms, found.spin_us) == (10, 50, 3)
    assert (str(found.control), found.insecure_link, found.on_divergence) == ("/c", "lo", DivergencePolicy.HOLD)
    assert (found.commits_input, found.compare_timeout_ms, found.queue_packets_max) == (False, 7, 9)
    assert found.lan_in == found.lan_out
    assert found.lan_in.target == "/l"
    found = parsed(*SECONDARY, *PORTS, "--without", "rewrite", "--lan-in", "unix:/i", "--guest-out", "unix:/o")
    assert (found.role, found.link.port, found.without) == (Role.SECONDARY, 9, "rewrite")
    assert [spec.target for spec in found.ports()] == ["/i", "/l", "/g", "/o"]


def test_without_a_port_to_the_guest_the_primary_only_listens_to_it(parsed):
    found = parsed(*PRIMARY, "--lan", "unix:/l", "--guest-in", "unix:/g")
    assert found.guest_out is None


def test_a_port_that_cannot_be_opened_is_one_line(colo, tmp_path):
    code, error = colo(*PRIMARY, "--lan", "unix:/nowhere/x,server=on", "--guest", f"unix:{tmp_path}/g")
    assert code == 1
    assert error == "colo: --lan unix:/nowhere/x: cannot listen: No such file or directory\n"


def test_a_link_port_that_is_taken_is_one_line(colo, tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as sock:
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        ports = ("--lan", f"unix:{tmp_path}/l", "--guest", f"unix:{tmp_path}/g")
        code, error = colo("primary", "--insecure", "--listen", address, *ports)
    assert code == 1
    (line,) = [line for line in error.splitlines() if line.startswith("colo: ")]
    assert "already running: process " in line
    assert "Traceback" not in error


# ── the log ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_log_lines_arrive_in_order_and_at_the_end(tmp_path):
    with (tmp_path / "log").open("wb") as file:
        log = LogFile(file.fileno())
        for i in range(500):
            log.write(f"{i} ü")
        log.close()
    assert (tmp_path / "log").read_text() == "".join(f"{i} ü\n" for i in range(500))


def test_a_full_disk_costs_log_lines_only():
    with open("/dev/full", "wb") as file:
        log = LogFile(file.fileno())
        for _ in range(10):
            log.write("x")
        log.close()


@pytest.mark.slow
def test_a_pipe_without_a_reader_blocks_nothing_and_the_loss_is_told():
    reading, writing = os.pipe()
    log = LogFile(writing)
    line = "x" * 999
    began_s = time.monotonic()
    for _ in range(logfile.LINES_MAX + 500):
        log.write(line)
    assert time.monotonic() - began_s < 60, "it waited for the reader"
    found = []

    def is_told():
        found.append(os.read(reading, 1 << 20))
        return b"log lines were dropped: standard error was not read" in b"".join(found)

    wait_for(is_told, "the number of lines lost")
    read_to_the_end(log, reading)
    for fd in (reading, writing):
        os.close(fd)
