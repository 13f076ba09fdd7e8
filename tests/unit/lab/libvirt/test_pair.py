"""The files of the nodes, and the outcomes that faults must have."""

import pytest

from pycolo.config import parse
from pycolo.link.hello import Role
from pycolo_lab.libvirt.faults import FAULTS
from pycolo_lab.libvirt.pair import CONFIG, settings
from pycolo_lab.processes import Host
from pycolo_lab.qemu.nodes import toml


@pytest.mark.parametrize(("host", "role"), [(Host.A, Role.PRIMARY), (Host.B, Role.SECONDARY)])
def test_a_nodes_file_is_one_that_the_product_reads(host, role):
    config = parse(toml(settings(host, has_disk=False)).encode(), CONFIG)
    assert config.role is role
    assert config.guest is not None
    assert config.guest.domain == "vm1"
    assert not config.qemu.command
    assert config.disks is None
    assert parse(toml(settings(host, has_disk=True)).encode(), CONFIG).disks is not None


def test_the_two_files_name_each_others_addresses():
    one, other = (parse(toml(settings(host, has_disk=False)).encode(), CONFIG) for host in (Host.A, Host.B))
    assert (one.link.listen, one.link.peer) == (other.link.peer, other.link.listen)
    assert one.arbiter == other.arbiter


def test_each_fault_has_a_name_of_its_own_and_says_what_happens():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert all(fault.text for fault in FAULTS)
