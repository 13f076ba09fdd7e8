"""A tap that is a port of Open vSwitch: what comes along, in one transaction, wherever that is broken off."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycolo.errors import ConnectError
from pycolo.hostnet import execution, openvswitch, recovery, wire
from pycolo.hostnet.facts import SwitchPlace
from pycolo.hostnet.plan import Step
from support.fakeovsdb import FakeOvsdb
from support.taphost import TapHost, inside

PLACE = SwitchPlace(
    "ovs0",
    {
        "tag": 10,
        "trunks": ["set", [1, 2]],
        "vlan_mode": "native-tagged",
        "external_ids": ["map", [["x", "y"]]],
    },
    {"external_ids": ["map", [["iface-id", "abc-1"]]], "ofport_request": 4},
)


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOvsdb]:
    monkeypatch.setenv("OVS_RUNDIR", str(tmp_path))
    made = FakeOvsdb(tmp_path / "db.sock")
    made.add("Bridge", name="ovs0")
    made.add_port("ovs0", "uplink", {}, {"ofport": 1})
    made.add_port("ovs0", "tap0", PLACE.port, {"external_ids": PLACE.interface["external_ids"], "ofport": 4})
    yield made
    made.close()


def swap(out: str | None, into: str | None, place: SwitchPlace = PLACE) -> None:
    with openvswitch.swapping(out, into, place) as carry_out:
        carry_out()


def test_a_port_is_what_its_rows_say_with_the_number_that_flows_know_it_by(database: FakeOvsdb) -> None:
    assert openvswitch.find_place("tap0") == PLACE
    assert openvswitch.find_place("tap9") is None
    assert openvswitch.is_bridge("ovs0")
    assert not openvswitch.is_bridge("br0")
    assert database.transactions == []


def test_the_swap_is_one_transaction_and_brings_all_settings_along(database: FakeOvsdb) -> None:
    swap("tap0", "colo-vm1")
    assert len(database.transactions) == 1
    assert database.ports("ovs0") == ["uplink", "colo-vm1"]
    assert openvswitch.find_place("colo-vm1") == PLACE
    assert openvswitch.find_place("tap0") is None
    swap("tap0", "colo-vm1")
    assert len(database.transactions) == 1, "it is so already"
    swap("colo-vm1", "tap0")
    assert openvswitch.find_place("tap0") == PLACE


def test_a_bond_and_other_kinds_of_interfaces_are_refused(database: FakeOvsdb) -> None:
    members = [database.add("Interface", name=name) for name in ("one", "two")]
    bond = database.add("Port", name="bond0", interfaces=["set", members])
    database.tables["Bridge"][0]["ports"][1].append(bond)
    with pytest.raises(ConnectError, match="one: one of several interfaces of an Open vSwitch bond"):
        openvswitch.find_place("one")
    database.add_port("ovs0", "vhost0", {}, {"type": "dpdkvhostuser"})
    with pytest.raises(ConnectError, match="vhost0: an Open vSwitch interface of type dpdkvhostuser"):
        openvswitch.find_place("vhost0")


def test_what_open_vswitch_refuses_is_one_line_and_changes_nothing(
    database: FakeOvsdb, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConnectError, match="Open vSwitch bridge ovs9: timed out: ") as caught:
        swap(None, "colo-vm1", SwitchPlace("ovs9"))
    assert "\n" not in str(caught.value)
    assert database.ports("ovs0") == ["uplink", "tap0"]
    monkeypatch.setattr("pycolo.hostnet.ovsdb._ANSWER_S", 0.01)
    database.is_stuck = True
    with pytest.raises(ConnectError, match=r"nothing was done within 0\.01 s: does ovs-vswitchd run\?"):
        swap("tap0", "colo-vm1")


def test_without_open_vswitch_there_is_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVS_RUNDIR", str(tmp_path / "nowhere"))
    assert openvswitch.find_place("tap0") is None
    assert not openvswitch.is_bridge("ovs0")
    with pytest.raises(ConnectError, match=r"Open vSwitch bridge ovs0: .*/db\.sock: No such file or directory"):
        swap("tap0", "colo-vm1")


# ── a wire ──────────────────────────────────────────────────────────────────────────────────────────────────


class Killed(BaseException):
    """What happens to a node in the middle of a plan."""


@pytest.mark.namespaces
@pytest.mark.tun
def test_killed_after_any_step_the_port_is_put_back_with_its_number(
    database: FakeOvsdb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = TapHost(tmp_path / "state")
    left: list[int] = []

    def carry_out(netlink: object, step: Step) -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        execution.carry_out(netlink, step)  # type: ignore[arg-type]

    def life() -> bool:
        one = host.wire(bridge="ovs0", vlan=10)
        try:
            one.prepare("tap0")
            one.attach()
            assert host.place(one.node_tap) == PLACE
            one.hold_apart()
            assert database.ports("ovs0") == ["uplink"]
            one.attach()
            one.detach()
        except Killed:
            one.close()
            return False
        return True

    try:
        with inside(host.namespace.path):
            host.add_tap("tap0")
            before, rows = host.link("tap0"), host.place("tap0")
            assert rows == PLACE
            monkeypatch.setattr(wire, "carry_out", carry_out)
            count, is_whole = 0, False
            while not is_whole:
                left[:] = [count]
                is_whole = life()
                assert recovery.restore(host.state, lambda _line: None) == []
                assert (host.link("tap0"), host.place("tap0")) == (before, PLACE), f"killed after {count} steps"
                assert database.ports("ovs0") == ["uplink", "tap0"]
                assert json.dumps(database.tables["Port"]).count("colo-vm1") == 0
                count += 1
            assert count > 8
    finally:
        host.close()
