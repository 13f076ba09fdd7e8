"""What must be true on both hosts, from what they say."""

import pytest

from pycolo_lab.libvirt.truth import HostFacts, domains_in, wrong
from pycolo_lab.processes import Host

SERVES = HostFacts({"vm1": "running"}, has_qemu=True, masters={"eth0": "br0", "vnet0": "br0", "br0": ""})
IDLE = HostFacts({"vm1": "shut off"}, has_qemu=False, masters={"eth0": "br0", "br0": ""})
NOTHING = HostFacts({}, has_qemu=False, masters={"eth0": "br0"})
PRIMARY = HostFacts({"vm1": "running"}, True, {"eth0": "br0", "colo-vm1": "br0", "vnet0": "cop-vm1"})
SECONDARY = HostFacts({"vm1": "paused"}, True, {"eth0": "br0", "vnet0": "cop-vm1"})


def judged(a, b, *, serving: Host | None = Host.A, is_protected: bool = False):
    facts = {Host.A: a, Host.B: b}
    return wrong(facts, "vm1", bridge="br0", ours="colo-", serving=serving, is_protected=is_protected)


@pytest.mark.parametrize("other", [IDLE, NOTHING])
def test_a_plain_guest_runs_on_one_host_with_its_tap_in_the_bridge(other):
    assert judged(SERVES, other) == []
    assert judged(other, SERVES, serving=Host.B) == []


def test_a_protected_one_runs_on_both_with_the_nodes_tap_in_the_bridge():
    assert judged(PRIMARY, SECONDARY, is_protected=True) == []


def test_a_survivor_may_be_behind_its_node_still():
    assert judged(IDLE, PRIMARY, serving=Host.B) == []


def test_a_protected_guest_is_never_in_the_bridge_itself():
    assert judged(SERVES, SECONDARY, is_protected=True) == ["host A: vnet0 in br0, expected colo-…"]


def test_none_runs_once_it_has_ended():
    assert judged(IDLE, NOTHING, serving=None) == []
    assert judged(IDLE._replace(masters={"colo-vm1": "br0"}), IDLE, serving=None) == []
    assert judged(SERVES, IDLE, serving=None) == [
        "host A: a QEMU lives, expected none",
        "host A: vnet0 in br0, where no guest serves",
    ]


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (SERVES._replace(domains={"vm1": "shut off"}), "virsh list says shut off, but a QEMU lives"),
        (SERVES._replace(domains={}), "virsh list says no domain, but a QEMU lives"),
        (SERVES._replace(masters={"vnet0": ""}), "no vnet… in br0, although the guest serves here"),
        (SERVES._replace(masters={**SERVES.masters, "colo-vm1": "br0"}), "colo-vm1, vnet0 in br0, expected colo-…"),
    ],
)
def test_what_libvirt_and_the_bridges_must_say_where_the_guest_serves(one, said):
    assert judged(one, NOTHING) == [f"host A: {said}"]


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (SECONDARY._replace(masters=SERVES.masters), "vnet0 in br0, where no guest serves"),
        (SECONDARY._replace(domains={"vm1": "shut off"}), "virsh list says shut off, but a QEMU lives"),
        (IDLE, "no QEMU lives, expected one"),
    ],
)
def test_what_they_must_say_on_the_secondarys_host(one, said):
    assert judged(PRIMARY, one, is_protected=True) == [f"host B: {said}"]


def test_a_domain_that_libvirt_believes_to_run_is_found_on_a_host_without_a_qemu():
    assert judged(SERVES, IDLE._replace(domains={"vm1": "running"})) == [
        "host B: virsh list says running, but no QEMU lives"
    ]


def test_states_have_several_words():
    assert domains_in(" 1   vm1   running\n -   vm2   shut off\n\n") == {"vm1": "running", "vm2": "shut off"}
