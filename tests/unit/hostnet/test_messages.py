"""Messages about VLANs are those of `bridge vlan`, byte by byte: not every kernel has VLAN filtering to try them on."""

import pytest

from pycolo.hostnet import messages
from pycolo.hostnet.facts import Address, Vlan
from pycolo.hostnet.netlink import attributes, each_attribute

HEAD = bytes.fromhex("07000000030000000000000000000000")
"""ifinfomsg: AF_BRIDGE, interface 3."""


@pytest.mark.parametrize(
    ("vlans", "octets"),
    [
        ([Vlan(10, is_pvid=True, is_untagged=True)], "0c001a000800020006000a00"),
        ([Vlan(number) for number in range(100, 111)], "14001a0008000200080064000800020010006e00"),
        ([Vlan(1)], "0c001a000800020000000100"),
        (
            [Vlan(2), Vlan(3, is_pvid=True), Vlan(4), Vlan(5), Vlan(6, is_untagged=True)],
            "2c001a0008000200000002000800020002000300080002000800040008000200100005000800020004000600",
        ),
    ],
    ids=["bridge vlan add vid 10 pvid untagged", "bridge vlan add vid 100-110", "vid 1", "a PVID is in no range"],
)
def test_vlans(vlans: list[Vlan], octets: str) -> None:
    assert messages.add_vlans(3, "tap0", vlans).body == HEAD + bytes.fromhex(octets)
    assert messages.delete_vlans(3, "tap0", vlans).body == HEAD + bytes.fromhex(octets)
    assert messages.add_vlans(3, "tap0", vlans).type == 19
    assert messages.delete_vlans(3, "tap0", vlans).type == 17


def test_an_address_keeps_its_vlan_and_a_learned_one_is_learned_again() -> None:
    static = messages.move_address(3, "tap0", Address("52:54:00:00:00:01", 10, 0x40))
    learned = messages.move_address(3, "tap0", Address("52:54:00:00:00:01", 0, 0x02))
    assert attributes(static.body[12:]) == {2: bytes.fromhex("525400000001"), 5: b"\x0a\0"}
    assert attributes(learned.body[12:]) == {2: bytes.fromhex("525400000001")}
    assert (static.body[8:10], learned.body[8:10]) == (b"\x40\0", b"\x02\0")
    assert static.tolerated == ()
    assert 22 in learned.tolerated, "it only saves time"


def test_a_port_setting_has_the_width_that_the_kernel_demands() -> None:
    body = messages.set_options(3, "tap0", {"priority": 9, "cost": 77, "hairpin": 1}).body
    (_, settings), *rest = each_attribute(body[16:])
    assert rest == []
    assert dict(each_attribute(settings)) == {2: b"\x09\0", 3: b"\x4d\0\0\0", 4: b"\x01"}
