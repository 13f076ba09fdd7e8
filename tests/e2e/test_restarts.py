"""A node is restarted in each role: by its service manager (SIGTERM), and as after a crash (SIGKILL).

What docs/operate.md says under "Upgrade or restart a node". One connection lives through all of it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fakevm import Host, Pair
from support.nodes import wait_for

pytestmark = [pytest.mark.namespaces, pytest.mark.tun]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path, {"protect": {"automatic": True}, "arbiter": {"kind": "manual"}})
    yield made
    made.close()


def restart(host: Host, *, is_killed: bool) -> None:
    if is_killed:
        host.kill_node()
    else:
        host.end_node()
    host.start_node()


@pytest.mark.parametrize("is_killed", [False, True], ids=["in order", "killed"])
def test_a_node_is_restarted_in_each_role_and_no_connection_is_lost(pair: Pair, *, is_killed: bool) -> None:
    a, b = pair.start().hosts.values()
    old = pair.connect()
    old.ask(b"unprotected")
    for host in (b, a):  # waiting, and serving unprotected
        guest = a.facts()["pid"]
        restart(host, is_killed=is_killed)
        old.ask(b"restarted")
        pair.wait("primary linked", "secondary linked")
        assert a.facts()["pid"] == guest
    pair.protect(a)
    for host in (b, a):
        guest = a.facts()["pid"]
        restart(host, is_killed=is_killed)
        old.ask(b"restarted")
        pair.wait("primary protected", "secondary protected")
        assert a.facts()["pid"] == guest
        assert pair.serving() is a
    a.do("switchover")
    pair.wait("secondary protected", "primary protected")
    a.end_node()
    b.wait_state("primary alone")
    old.ask(b"after the switchover, on the other host alone")
    guest = b.facts()["pid"]
    restart(b, is_killed=is_killed)
    old.ask(b"its rows were kept")
    a.start_node()
    pair.wait("secondary protected", "primary protected")
    assert b.facts()["pid"] == guest
    restart(b, is_killed=is_killed)
    old.ask(b"protected, with rows")
    pair.wait("secondary protected", "primary protected")
    wait_for(lambda: pair.serving() is b, "one host on the LAN")
    old.ask(b"last")
