"""The domain's XML."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from pycolo.domain.network import network
from pycolo_lab.libvirt.domain import NAME, NETWORK, network_xml
from pycolo_lab.libvirt.stage import MACHINES

IMAGES = Path("/var/lib/libvirt/images")


@pytest.mark.parametrize("name", MACHINES)
def test_each_machine_is_well_formed_and_has_a_card_on_the_bridge(name):
    root = ET.fromstring(MACHINES[name].xml(IMAGES, "console=ttyS0 a<b", "br0"))
    assert root.findtext("name") == NAME
    assert root.findtext("os/cmdline") == "console=ttyS0 a<b"
    assert [card.get("bridge") for card in root.findall("devices/interface/source")] == ["br0"]
    assert len(root.findall("devices/disk")) == MACHINES[name].has_disk


@pytest.mark.parametrize(("machine", "has_slots"), [("q35", True), ("pc-q35-7.2", True), ("pc", False)])
def test_only_a_q35_has_root_ports(machine, has_slots):
    root = ET.fromstring(MACHINES["usual"]._replace(machine=machine).xml(IMAGES, "", "br0"))
    assert bool(root.findall("devices/controller[@type='pci']")) is has_slots


def test_a_card_may_be_on_a_network_that_is_the_bridge():
    root = ET.fromstring(MACHINES["small"]._replace(has_network=True).xml(IMAGES, "", "br0"))
    (card,) = root.findall("devices/interface")
    source = card.find("source")
    assert source is not None
    assert (card.get("type"), source.attrib) == ("network", {"network": NETWORK})
    found = network(network_xml("br0"), is_active=True, starts_by_itself=True)
    assert (found.name, found.bridge, found.why_not) == (NETWORK, "br0", None)
    assert list(found.warnings(())) == []


def test_a_disk_is_a_writable_qcow2_beside_the_kernel():
    root = ET.fromstring(MACHINES["small"]._replace(has_disk=True).xml(IMAGES, "", "br0"))
    source = root.find("devices/disk/source")
    assert source is not None
    assert source.get("file") == "/var/lib/libvirt/images/vm1.qcow2"
    assert root.find("devices/disk/readonly") is None


@pytest.mark.parametrize(("accelerator", "kind"), [("tcg", "qemu"), ("kvm", "kvm")])
def test_the_accelerator_is_the_domains_kind(accelerator, kind):
    assert ET.fromstring(MACHINES["usual"]._replace(accelerator=accelerator).xml(IMAGES, "", "br0")).get("type") == kind
