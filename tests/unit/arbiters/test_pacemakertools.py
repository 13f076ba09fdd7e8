"""What the programs of a cluster say, and what is made of it."""

import asyncio
import socket

import pytest

from pycolo.arbiters import pacemakertools
from pycolo.arbiters.pacemakertools import PacemakerTools, own_resource, read_addresses, read_status
from pycolo.errors import ConfigError, PeerError
from pycolo.failover.fencing import Fenced
from pycolo.failover.pacemaker import FailPeer, Look, PeerHost, Reported, Seen, Shoot
from pycolo.transport.linksetup import Address
from support.ports import unused_port

STATUS = """<pacemaker-result api-version="2.25"><summary><cluster_options stonith-enabled="{fences}"
 maintenance-mode="{maintenance}"/></summary>
<nodes><node name="a" id="1" online="true" unclean="false"/>
<node name="b" id="2" online="{online}" unclean="{unclean}"/></nodes>
<resources><clone id="colo-clone" multi_state="true"><resource id="colo" role="{role}" active="{active}"
 managed="{managed}"><node name="b" id="2"/></resource></clone></resources></pacemaker-result>"""
FIELDS = {
    "fences": "true",
    "maintenance": "false",
    "online": "true",
    "unclean": "false",
    "role": "Promoted",
    "active": "true",
    "managed": "true",
}
QUORUM = "Quorum information\n------------------\nNodes:            2\nQuorate:          Yes\nFlags:            2Node Quorate WaitForAll\n"  # noqa: E501
MEMBERS = """
Membership information
----------------------
    Nodeid      Votes Name
         1          1 a (local)
         2          1 b
"""
ALONE = MEMBERS.replace("         2          1 b\n", "")
NO_QUORUM = "Quorate:          No\nFlags:            \n"
NODES = """nodelist.node.0.name (str) = a
nodelist.node.0.ring0_addr (str) = 127.0.0.8
nodelist.node.1.name (str) = b
nodelist.node.1.ring0_addr (str) = 127.0.0.1
nodelist.node.1.ring1_addr (str) = 10.88.1.2
"""


def seen(quorum=QUORUM + MEMBERS, peer="b", **fields):
    return read_status(STATUS.format(**FIELDS | fields), quorum, peer, "colo")


def test_a_healthy_cluster():
    assert seen() == Seen(PeerHost.ONLINE)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"fences": "false"}, {"fences": False}),
        ({"maintenance": "true"}, {"is_maintained": True}),
        ({"managed": "false"}, {"is_maintained": True}),
        ({"unclean": "true", "online": "false"}, {"peer": PeerHost.UNCLEAN}),
        ({"online": "false"}, {"peer": PeerHost.OFF}),
        ({"active": "false"}, {"has_node": False}),
        ({"peer": "c"}, {"peer": PeerHost.UNKNOWN, "has_node": False}),
        ({"quorum": NO_QUORUM + MEMBERS}, {"is_quorate": False, "has_two_votes": False}),
        ({"quorum": NO_QUORUM + ALONE}, {"is_quorate": False, "has_two_votes": False, "is_member": False}),
        ({"quorum": ""}, {"is_quorate": False, "has_two_votes": False}),
    ],
)
def test_each_field_says_what_it_says(fields, expected):
    assert seen(**fields) == Seen(PeerHost.ONLINE)._replace(**expected)


@pytest.mark.parametrize("status", ["", "no XML", "<pacemaker-result/>"])
def test_what_cannot_be_read_is_no_answer(status):
    with pytest.raises(PeerError, match="crm_mon"):
        read_status(status, QUORUM, "b", "colo")


def test_a_hosts_addresses_are_the_rings():
    assert read_addresses(NODES, "b") == ("127.0.0.1", "10.88.1.2")
    assert read_addresses(NODES, "c") == ()


def test_the_resource_is_the_agents(monkeypatch):
    monkeypatch.setenv("OCF_RESOURCE_INSTANCE", "vm1:0")
    assert own_resource() == "vm1"
    monkeypatch.delenv("OCF_RESOURCE_INSTANCE")
    with pytest.raises(ConfigError, match="agent"):
        own_resource()


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """The cluster's programs: each notes its arguments, and says what is in the file of its name."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name, text in {
        "crm_mon": STATUS.format(**FIELDS),
        "corosync-quorumtool": QUORUM + MEMBERS,
        "corosync-cmapctl": NODES.replace("10.88.1.2", "127.0.0.1"),
        "crm_resource": "",
        "stonith_admin": "",
        "attrd_updater": "",
    }.items():
        (tmp_path / f"{name}.says").write_text(text)
        program = tmp_path / name
        code = 'f=${0%/*}/${0##*/}.code; [ -e "$f" ] && exit "$(cat "$f")"; exit 0'
        program.write_text(f'#!/bin/sh\necho "${{0##*/}} $*" >> {tmp_path}/calls\ncat "$0.says"\n{code}\n')
        program.chmod(0o755)
    return tmp_path


def ask(request, **more):
    tools = PacemakerTools("b", more.get("link"), "colo", 3.0, lambda: False)

    async def run():
        if "score" in more:
            return await tools.score(more["score"])
        return await tools.ask(request)

    return asyncio.run(run())


def test_a_look_asks_the_cluster_and_the_other_host(programs, monkeypatch):
    server_port = unused_port()
    monkeypatch.setattr(pacemakertools, "PORTS", (server_port,))
    with socket.create_server(("127.0.0.1", server_port)):
        assert ask(Look()) == Seen(PeerHost.ONLINE, answers=True, is_secondary=False)
    assert ask(Look()).answers  # refused: a kernel answers
    link = Address("127.0.0.1", server_port)
    assert (ask(Look()).has_link, ask(Look(), link=link).has_link) == (False, True)
    (programs / "corosync-cmapctl.says").write_text("nodelist.node.0.name (str) = a\n")
    assert not ask(Look()).answers


def test_orders_and_what_comes_of_them(programs):
    assert ask(FailPeer()) == Reported("")
    assert ask(Shoot(4)) == Fenced(0, "")
    ask(None, score=200)
    ask(None, score=None)
    (programs / "crm_resource.code").write_text("5")
    (programs / "stonith_admin.code").write_text("124")
    assert "exit code 5" in ask(FailPeer()).why
    assert ask(Shoot(4)).exit_code == 124
    calls = (programs / "calls").read_text().splitlines()
    assert calls[:4] == [
        "crm_resource --fail --resource colo --node b",
        "stonith_admin --reboot b --tag pycolo --timeout 3 --tolerance 5",
        "attrd_updater -n master-colo -U 200 -d 0",
        "attrd_updater -n master-colo -D -d 0",
    ]


def test_a_shot_is_given_up_at_the_end_of_its_turn(programs):
    for limit_ms in (1, 2_900, 60_000):
        ask(Shoot(4, limit_ms))
    calls = (programs / "calls").read_text().splitlines()
    assert [line.split("--timeout ")[1].split()[0] for line in calls] == ["1", "2", "3"]


def test_a_tool_that_fails_or_is_not_there_is_no_answer(programs):
    (programs / "crm_mon.code").write_text("102")
    with pytest.raises(PeerError, match="crm_mon: exit code 102"):
        ask(Look())
    (programs / "crm_mon").unlink()
    with pytest.raises(PeerError, match="crm_mon: cannot be started"):
        ask(Look())
