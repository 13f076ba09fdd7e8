"""Overlays above the disk of a QEMU that libvirt has started."""

import asyncio
from pathlib import Path

import pytest

from pycolo.errors import PeerError, QmpError
from pycolo.qmp.diskwords import Nodes, overlays_in
from pycolo.vm.diskabove import put_above
from support.diskhosts import DiskMachine
from support.domaindisks import disk

STARTED = disk("libvirt-1-format", "virtio-disk0", node="libvirt-1-format", file="/images/a.qcow2", format="qcow2")
OVERLAYS = overlays_in(Path("/images"), "vda")


def put(machine: DiskMachine, path: str = "/images/a.qcow2") -> None:
    asyncio.run(put_above(machine, Nodes(0), STARTED, Path(path), OVERLAYS))  # type: ignore[arg-type]


def test_the_device_gets_the_overlays_and_they_have_libvirts_node_below() -> None:
    machine = DiskMachine()
    put(machine)
    assert machine.commands == ["blockdev-add", "block-export-add", "qom-set", "block-export-del"]
    (node,) = machine.arguments("blockdev-add")
    assert (node["node-name"], node["top-id"], node["mode"]) == ("colo-disk-0", "colo-disk-0", "secondary")
    assert node["file"]["file"]["filename"] == "/images/vda.active.qcow2"
    assert node["file"]["backing"]["backing"] == "libvirt-1-format"
    assert machine.arguments("qom-set") == [
        {"path": "/machine/peripheral/virtio-disk0", "property": "drive", "value": "colo-disk-0"}
    ]
    (made,), (removed,) = machine.arguments("block-export-add"), machine.arguments("block-export-del")
    assert made["id"] == removed["id"]


def test_the_export_does_not_stay_when_qemu_refuses() -> None:
    machine = DiskMachine()
    machine.answers["qom-set"] = QmpError("vm1", "qom-set", "GenericError", "Permission conflict")
    with pytest.raises(QmpError, match="Permission conflict"):
        put(machine)
    assert machine.commands[-1] == "block-export-del"


def test_another_image_than_the_copy_is_left_alone() -> None:
    machine = DiskMachine()
    with pytest.raises(PeerError, match=r"with the image /images/a.qcow2, not with the copy /pool/a.qcow2"):
        put(machine, "/pool/a.qcow2")
    assert machine.asked == []
