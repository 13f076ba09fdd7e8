"""A guest's disks out of QEMU's answers, as two versions have given them."""

import pytest

from pycolo.qmp.guestdisks import GuestDisk, device_path, guest_disks
from support.diskfacts import RECORDED


def disks_of(version: str) -> dict[str, GuestDisk]:
    return {disk.name: disk for disk in guest_disks(*RECORDED[version])}


@pytest.mark.parametrize("version", RECORDED)
def test_each_disk_has_its_device_and_its_place(version: str) -> None:
    found = {name: (disk.kind, disk.place, disk.device) for name, disk in disks_of(version).items()}
    assert found == {
        "virtio0": ("virtio-blk-pci", "pcie.0 01.0", ""),
        "disk-a": ("virtio-blk-pci", "pcie.0 04.0", "vda"),
        "drive-b": ("virtio-blk-pci", "pcie.0 05.0", ""),
        "disk-r": ("virtio-blk-pci", "pcie.0 08.0", "vdr"),
        "disk-d": ("scsi-hd", "scsi0.0 0:1:0", "sda"),
        "disk-e": ("ide-hd", "ide.0 0", "hda"),
        "cdrom": ("ide-cd", "ide.1 0", "cd0"),
    }


@pytest.mark.parametrize("version", RECORDED)
def test_what_the_guest_sees_is_told_from_what_the_host_has(version: str) -> None:
    found = disks_of(version)
    disk = found["disk-a"]
    assert (disk.size_bytes, disk.format, disk.file, disk.is_writable) == (64 << 20, "qcow2", "/vm/a.qcow2", True)
    assert 0 < disk.used_bytes < 1 << 20
    assert {name for name, disk in found.items() if not disk.is_writable} == {"cdrom", "disk-r"}
    assert [name for name, disk in found.items() if disk.iothread] == ["disk-a"]
    assert disk.shown == "disk disk-a (virtio-blk-pci at pcie.0 04.0)"


def test_a_newer_device_may_have_several_iothreads() -> None:
    blocks, devices = RECORDED["11.1"]
    path = "/machine/peripheral/vdr"
    mapping = [{"iothread": "io1", "vqs": [0]}, {"iothread": "io2", "vqs": [1]}]
    changed = {**devices, path: {**devices[path], "iothread-vq-mapping": mapping}}
    assert {disk.name: disk.iothread for disk in guest_disks(blocks, changed)}["disk-r"] == "io1"


@pytest.mark.parametrize(
    "changed",
    [
        {"qdev": None},
        {"qdev": ""},
        {"inserted": None},
        {"device": "pflash1"},
    ],
)
def test_what_no_device_of_the_guest_uses_is_no_disk(changed: dict[str, object]) -> None:
    block = RECORDED["7.2"][0][2]
    assert device_path(block) == "/machine/peripheral/vda"
    assert device_path({**block, **changed}) is None


def test_a_name_that_qemu_has_made_up_is_known_as_such() -> None:
    blocks, devices = RECORDED["7.2"]
    path = "/machine/peripheral/vda"
    named = {disk.place: disk for disk in guest_disks(blocks, {**devices, path: {**devices[path], "drive": "#block1"}})}
    assert named["pcie.0 04.0"].has_generated_name
    assert not named["pcie.0 05.0"].has_generated_name
