"""A node that serves after a takeover is killed and started again: what becomes of its guest's connections."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support.nodes import World, one_line

HOSTS = Path(__file__).resolve().parents[1] / "support" / "survivorhosts.py"
AS_USER = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
OWN_NETWORK = ["unshare", *AS_USER, "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


@pytest.fixture
def world(tmp_path):
    found = World(tmp_path)
    yield found
    found.close()


def survivor(world):
    """A connection of before the takeover, served by the secondary."""
    rows = ("--rows", str(world.place / "rows"))
    connection = world.protected(secondary=rows).connect()
    connection.ask(b"before")
    world.primary.kill()
    world.lan = world.lans["secondary"]
    connection.ask(b"after")
    return connection, rows


def start_again(world, rows, number=signal.SIGKILL):
    world.secondary.signal(number)
    assert world.secondary.end() in (0, -signal.SIGKILL)
    world.start("secondary", *rows)
    world.attach("secondary")
    world.lan = world.lans["secondary"]
    world.secondary.wait_state("serving")


def test_the_connections_of_before_the_takeover_go_on(world):
    connection, rows = survivor(world)
    start_again(world, rows)
    connection.ask(b"again")
    world.connect().ask(b"new")
    start_again(world, rows, signal.SIGTERM)
    connection.ask(b"and again")


def test_without_the_file_it_follows_and_its_guest_is_on_no_network(world):
    _, rows = survivor(world)
    world.secondary.kill()
    Path(rows[1]).unlink()
    world.start("secondary", *rows)
    world.attach("secondary")
    world.secondary.wait_log("dialing the primary")
    world.secondary.wait_state("waiting")


def test_where_a_primary_listens_the_survivor_is_not_started(world):
    _, rows = survivor(world)
    world.secondary.kill()
    host, _, port = world.address.rpartition(":")
    with socket.create_server((host, int(port))):
        node = world.start("secondary", *rows)
        assert node.end() == 1
    line = one_line(node.log.partition("serving")[2], "colo:")
    assert f"expected no primary at {world.address} while this node serves (it took over under term 1)" in line


@pytest.mark.namespaces
@pytest.mark.tun
def test_connections_of_the_kernels_own_tcp_go_on(tmp_path):
    command = [*OWN_NETWORK, sys.executable, str(HOSTS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    logs = "\n".join(path.read_text() for path in tmp_path.glob("*/log"))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{logs}"
    assert done.stdout.endswith("went on\n")
