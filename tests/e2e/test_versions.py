"""Two nodes of neighbouring releases, and of releases that have no version of the link's protocol in common."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pycolo.link.hello import PROTOCOL_LOWEST, PROTOCOL_VERSION
from support.fakevm import Pair
from support.nodes import World, wait_for
from support.releases import LAST_RELEASE, Release, copied

OTHERS = ["the next one", "one of before", *(["the last release"] if LAST_RELEASE else [])]
ROLES = ("primary", "secondary")


def other_release(place: Path, name: str) -> Release:
    if name == "the last release":
        return Release(python=LAST_RELEASE)
    if name == "the next one":
        return copied(place, PROTOCOL_LOWEST, PROTOCOL_VERSION + 1)
    return copied(place, PROTOCOL_LOWEST, PROTOCOL_LOWEST)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    yield found
    found.close()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", OTHERS)
def test_neighbours_protect_one_another_and_a_connection_survives(world: World, name: str, role: str) -> None:
    world.releases[role] = other_release(world.place, name)
    connection = world.protected().connect()
    connection.ask(b"before")
    world.primary.kill()
    world.lan = world.lans["secondary"]
    connection.ask(b"after")


@pytest.mark.parametrize("role", ROLES)
def test_without_a_version_in_common_both_say_which_node_to_upgrade(world: World, role: str) -> None:
    above = PROTOCOL_VERSION + 1
    world.releases[role] = copied(world.place, above, above)
    ours = f"{PROTOCOL_LOWEST} to {PROTOCOL_VERSION} (pycolo"
    theirs = f"{above} (pycolo"
    nodes = [world.start(each) for each in ROLES]
    for node in nodes:
        wait_for(lambda node=node: "upgrade the node that speaks the lower one" in node.log, f"the {node.role}'s line")
    lines = [line for node in nodes for line in node.log.splitlines() if "upgrade the node" in line]
    assert any(ours in line or theirs in line for line in lines)
    assert not any(node.log.count("Traceback") for node in nodes)
    assert "protected" not in nodes[0].log


@pytest.mark.namespaces
@pytest.mark.tun
def test_two_hosts_are_upgraded_one_after_the_other(tmp_path: Path) -> None:
    """The secondary's first. A switchover waits until both know the word."""
    pair = Pair(tmp_path, {"protect": {"automatic": True}, "arbiter": {"kind": "manual"}})
    try:
        old = other_release(tmp_path, OTHERS[-1] if LAST_RELEASE else "one of before")
        for host in pair.hosts.values():
            host.release = old
        pair.protected()
        connection = pair.connect()
        connection.ask(b"both old")
        pair.b.end_node()
        pair.b.release = Release()
        pair.b.start_node()
        pair.wait("primary protected", "secondary protected")
        connection.ask(b"the secondary is upgraded")
        assert pair.b.ask("switchover")["error"].endswith("and this needs 6: upgrade it first")
        pair.a.end_node()
        pair.a.release = Release()
        pair.a.start_node()
        pair.wait("primary protected", "secondary protected")
        connection.ask(b"both are")
        pair.b.do("switchover")
        connection.ask(b"and the hosts have changed roles")
        assert pair.serving() is pair.b
    finally:
        pair.close()
