"""Overlays above the disk of a QEMU that libvirt has started."""

import asyncio
from pathlib import Path

import pytest

from pycolo.errors import PeerError, QmpError
from pycolo.qmp.diskwords import Nodes, overlays_in
from pycolo.vm.diskabove import Above, put_above, take_away
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


DISKS = [
    Above("virtio-disk0", "colo-disk-0", "libvirt-2-format"),
    Above("sata0-0-0", "colo-disk-1", "libvirt-1-storage"),
]
EACH = ["blockdev-set-active", "qom-set", "blockdev-del", "blockdev-set-active"]


def survivor(*, is_running: bool = True) -> DiskMachine:
    machine = DiskMachine()
    machine.answers["query-commands"] = [{"name": "stop"}, {"name": "blockdev-set-active"}]
    machine.answers["query-status"] = {"status": "running", "running": is_running}
    return machine


def take(machine: DiskMachine, *, may_run: bool = True) -> bool:
    return asyncio.run(take_away(machine, DISKS, lambda: may_run))  # type: ignore[arg-type]


def test_a_survivors_devices_get_their_images_back_while_it_stands_still() -> None:
    machine = survivor()
    assert take(machine)
    assert machine.commands == ["query-commands", "query-status", "stop", *EACH, *EACH, "cont"]
    assert machine.arguments("qom-set") == [
        {"path": f"/machine/peripheral/{disk.device}", "property": "drive", "value": disk.image} for disk in DISKS
    ]
    assert machine.arguments("blockdev-del") == [{"node-name": "colo-disk-0"}, {"node-name": "colo-disk-1"}]
    assert machine.arguments("blockdev-set-active") == [
        {"node-name": name, "active": is_active}
        for disk in DISKS
        for name, is_active in ((disk.top, False), (disk.image, True))
    ]


def test_a_qemu_that_cannot_and_a_guest_that_stands_still_are_left_alone() -> None:
    older = survivor()
    older.answers["query-commands"] = [{"name": "stop"}]
    for machine in (older, survivor(is_running=False)):
        assert not take(machine)
        assert "stop" not in machine.commands


@pytest.mark.parametrize("failing", ["blockdev-set-active", "qom-set", "blockdev-del"])
def test_the_guest_runs_again_whatever_fails(failing: str) -> None:
    machine = survivor()
    machine.answers[failing] = QmpError("vm1", failing, "GenericError", "Permission conflict")
    with pytest.raises(QmpError, match="Permission conflict"):
        take(machine)
    assert machine.commands[-2:] == [failing, "cont"]


def test_one_that_was_demoted_meanwhile_is_not_started_again() -> None:
    machine = survivor()
    assert take(machine, may_run=False)
    assert "cont" not in machine.commands
