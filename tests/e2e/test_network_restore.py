"""A process with a guest's tap in its hands is killed; `colo network restore` puts the tap back, without a node."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycolo.config import CardOptions
from pycolo.errors import ConnectError
from pycolo.hostnet import recovery
from pycolo.hostnet.looking import find_link, name_of
from pycolo.hostnet.netlink import Netlink
from pycolo.hostnet.wire import Wire
from support.taphost import TapHost, tap_host

pytestmark = [pytest.mark.namespaces, pytest.mark.tun, pytest.mark.slow]

NODE = """
import sys
from pathlib import Path
from pycolo.config import CardOptions
from pycolo.hostnet import execution, wire

def carry_out(netlink, step):
    execution.carry_out(netlink, step)
    print(step.name, flush=True)
    sys.stdin.readline()

wire.carry_out = carry_out
one = wire.Wire("vm1", 0, CardOptions(netdev="hn0"), Path(sys.argv[1]))
one.prepare("tap0")
one.attach()
print("attached", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[TapHost]:
    with tap_host(tmp_path / "state") as made:
        yield made


def restore(*words: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "pycolo", "network", "restore", *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("last", ["make colo-vm1", "switch: colo-vm1 in the place of tap0", "attached"])
def test_what_a_killed_node_has_left_is_put_back(host: TapHost, last: str) -> None:
    before = host.facts()
    node = subprocess.Popen(
        [sys.executable, "-c", NODE, str(host.state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert node.stdout is not None
        assert node.stdin is not None
        while node.stdout.readline() != f"{last}\n":
            assert node.poll() is None
            node.stdin.write("\n")
            node.stdin.flush()
        moved = host.facts()
        alive = restore("--state", str(host.state))
        assert (alive.returncode, alive.stdout) == (1, "")
        assert "held by a node that runs" in alive.stderr
        assert host.facts() == moved
    finally:
        node.kill()
        node.wait()
        for pipe in (node.stdin, node.stdout):
            if pipe is not None:
                pipe.close()
    done = restore("--state", str(host.state))
    assert (done.returncode, done.stderr) == (0, "")
    *steps, end = done.stdout.splitlines()
    assert end == "tap0: in bridge br0"
    assert "delete colo-vm1" in steps
    assert host.facts() == before
    again = restore("--state", str(host.state))
    assert (again.returncode, again.stdout) == (0, f"{host.state}: no card to put back\n")


def test_what_cannot_be_put_back_is_one_line(host: TapHost) -> None:
    one = host.wire()
    one.prepare("tap0")
    one.attach()
    one.close()
    host.sh("ip link del br0")
    done = restore("--state", str(host.state))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line == "colo: tap0: tap0 joins bridge br0: br0: this host has no Linux bridge of this name"
    host.sh("ip link add br0 type bridge")
    assert restore("--state", str(host.state)).returncode == 0


def moved_apart(host: TapHost) -> None:
    """As a node leaves a guest of libvirt's behind: its tap is in a private bridge, which libvirt was told."""
    one = Wire("vm1", 0, CardOptions(netdev="hostnet0"), host.state, "cop-vm1")
    one.prepare("tap0")
    one.attach()
    one.close()


def test_libvirt_is_told_before_a_frame_passes_and_once_more_if_it_did_not_answer(host: TapHost) -> None:
    before = host.facts()
    moved_apart(host)
    told: list[tuple[int, str, str, str]] = []
    said: list[str] = []

    def tell(number: int, tap: str, bridge: str) -> None:
        told.append((number, tap, bridge, master(host)))
        if len(told) == 1:
            raise ConnectError("libvirt cannot be reached")

    (error,) = recovery.restore(host.state, said.append, tell)
    assert re.search("believes it in cop-vm1 still.*repeat this when libvirt answers .libvirt cannot be", str(error))
    assert host.facts() == before, "the guest is served all the same"
    assert recovery.restore(host.state, said.append, tell) == []
    assert told == [(0, "tap0", "br0", "cop-vm1"), (0, "tap0", "br0", "br0")]
    assert host.facts() == before
    assert recovery.restore(host.state, said.append, tell) == []
    assert (len(told), said[-1]) == (2, f"{host.state}: no card to put back")


def master(host: TapHost) -> str:
    with Netlink() as netlink:
        link = find_link(netlink, "tap0")
        assert link is not None
        return name_of(netlink, link.master)


def test_who_names_no_domain_is_told_that_libvirt_does_not_know(host: TapHost) -> None:
    before = host.facts()
    moved_apart(host)
    done = restore("--state", str(host.state))
    (line,) = done.stderr.splitlines()
    assert (done.returncode, "name the node by its FILE" in line) == (1, True)
    assert host.facts() == before


def test_the_node_is_named_once() -> None:
    assert restore().returncode == restore("vm.toml", "--state", "/s").returncode == 2
