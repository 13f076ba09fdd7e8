"""Ports of Open vSwitch: a program that answers as `ovs-vsctl` 3.1.0 did, and notes what it is told."""

import os
from pathlib import Path

import pytest

from pycolo.errors import ConnectError
from pycolo.hostnet import openvswitch
from pycolo.hostnet.facts import SwitchPlace
from pycolo.hostnet.openvswitch import swap_words, written

FAKE = """#!/bin/sh
echo "$@" >>"$0.log"
case "$*" in
*"find Port"*)
    echo '{"data":[[10,["set",[1,2]],"native-tagged",["set",[]],false,["set",[]],["map",[]],["map",[["x","y"]]]]],\
"headings":["tag","trunks","vlan_mode","cvlans","protected","qos","other_config","external_ids"]}' ;;
*"find Interface"*)
    echo '{"data":[[["set",[]],0,0,["map",[]],["map",[]],["map",[["attached-mac","52:54:00:00:00:01"]]],4,"KIND"]],\
"headings":["ofport_request","ingress_policing_rate","ingress_policing_burst","lldp","other_config","external_ids",\
"ofport","type"]}' ;;
*"iface-to-br tap0"* | *"iface-to-br bond1"*) echo ovs0 ;;
*"port-to-br tap0"*) echo ovs0 ;;
*"br-exists ovs0"* | *"add-port ovs0"*) ;;
*"br-exists"*) exit 2 ;;
*"-- del-port"*) ;;
*) echo "2026-11-29|ERR|noise" >&2; echo "ovs-vsctl: no interface named $3" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "ovs-vsctl"
    path.write_text(FAKE.replace("KIND", ""))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return path


def told(program: Path) -> list[str]:
    log = program.with_suffix(".log")
    return log.read_text().splitlines() if log.exists() else []


PLACE = SwitchPlace(
    "ovs0",
    {"tag": "10", "trunks": "[1,2]", "vlan_mode": '"native-tagged"', "external_ids": "{x=y}"},
    {"external_ids": '{"attached-mac"="52:54:00:00:00:01"}', "ofport_request": "4"},
)


def test_a_port_is_what_its_records_say_with_the_number_that_flows_know_it_by(program: Path) -> None:
    assert openvswitch.find_place("tap0") == PLACE
    assert all(line.startswith("--timeout=10 ") for line in told(program))


def test_the_swap_is_one_transaction_with_all_settings(program: Path) -> None:
    openvswitch.swap("tap0", "colo-vm1", PLACE)
    line = (
        "--timeout=10 --if-exists del-port ovs0 tap0 -- --may-exist add-port ovs0 colo-vm1 "
        '-- set Port colo-vm1 tag=10 trunks=[1,2] vlan_mode="native-tagged" external_ids={x=y} '
        '-- set Interface colo-vm1 external_ids={"attached-mac"="52:54:00:00:00:01"} ofport_request=4'
    )
    assert told(program) == [line]
    openvswitch.swap(None, None, PLACE)
    assert len(told(program)) == 1
    assert swap_words("tap0", None, PLACE) == ["--if-exists", "del-port", "ovs0", "tap0"]


def test_what_is_no_port_has_no_place(program: Path) -> None:
    assert openvswitch.find_place("tap9") is None
    assert openvswitch.is_bridge("ovs0")
    assert not openvswitch.is_bridge("br0")


def test_a_port_of_a_bond_is_refused(program: Path) -> None:
    with pytest.raises(ConnectError, match="bond1: it is one of several interfaces of an Open vSwitch bond"):
        openvswitch.find_place("bond1")


def test_another_kind_of_port_is_refused(program: Path) -> None:
    program.write_text(FAKE.replace("KIND", "dpdkvhostuser"))
    with pytest.raises(ConnectError, match="an Open vSwitch interface of type dpdkvhostuser"):
        openvswitch.find_place("tap0")


def test_a_refusal_is_the_programs_last_line(program: Path) -> None:
    program.write_text("#!/bin/sh\necho noise >&2\necho 'ovs-vsctl: no bridge named ovs0' >&2\nexit 1\n")
    with pytest.raises(
        ConnectError, match=r"Open vSwitch bridge ovs0: ovs-vsctl .*: ovs-vsctl: no bridge named"
    ) as caught:
        openvswitch.swap("tap0", "colo-vm1", PLACE)
    assert "\n" not in str(caught.value)


def test_without_open_vswitch_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert openvswitch.find_place("tap0") is None
    assert not openvswitch.is_bridge("ovs0")
    with pytest.raises(ConnectError, match="ovs-vsctl: No such file or directory"):
        openvswitch.swap("tap0", "colo-vm1", PLACE)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10, "10"), (True, "true"), ("access", "access"), ("a b", '"a b"'), (["set", []], "[]"),
        (["set", [1, 2]], "[1,2]"), (["map", [["k", "v-1"]]], '{k="v-1"}'), (["uuid", "ab-1"], "ab-1"),
    ],
)  # fmt: skip
def test_values_are_written_as_the_program_takes_them(value: object, text: str) -> None:
    assert written(value) == text
