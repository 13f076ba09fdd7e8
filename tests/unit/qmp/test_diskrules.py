"""Which disks are refused, and which images on the other host."""

from typing import Any

import msgspec
import pytest

from pycolo.qmp.diskrules import COMMANDS, DISKS_MAX, OVERLAY_BYTES_MIN, HostImage, judge_disks, judge_images, writable
from pycolo.qmp.guestdisks import GuestDisk, guest_disks
from support.diskfacts import RECORDED

DISK = next(disk for disk in guest_disks(*RECORDED["7.2"]) if disk.name == "disk-a")
IMAGE = HostImage(
    name=DISK.name,
    path="/copies/disk-a.qcow2",
    size_bytes=DISK.size_bytes,
    free_bytes=1 << 40,
    overlay_free_bytes=1 << 40,
)


def changed(of: Any, **what: object) -> Any:
    return msgspec.structs.replace(of, **what)


def codes(disks: list[GuestDisk], commands: tuple[str, ...] = COMMANDS) -> list[str]:
    return [finding.code for finding in judge_disks(disks, commands)]


def test_the_recorded_guest_can_be_copied() -> None:
    disks = guest_disks(*RECORDED["11.1"])
    assert codes(list(disks)) == []
    assert [disk.name for disk in writable(disks)] == ["disk-e", "virtio0", "disk-a", "drive-b", "disk-d"]


@pytest.mark.parametrize(
    ("disks", "expected"),
    [
        ([changed(DISK, kind="nvme")], "disk-controller"),
        ([changed(DISK, kind="floppy")], "disk-controller"),
        ([changed(DISK, name="#block12", has_generated_name=True)], "unnamed-disk"),
        ([changed(DISK, name="x" * 32)], "disk-name"),
        ([DISK, changed(DISK, place="pcie.0 09.0")], "shared-node"),
        ([changed(DISK, name=f"d{number}") for number in range(DISKS_MAX + 1)], "many-disks"),
    ],
)
def test_a_disk_is_refused_by_name(disks: list[GuestDisk], expected: str) -> None:
    findings = judge_disks(disks, COMMANDS)
    assert {finding.code for finding in findings} == {expected}
    assert all(finding.severity == "refuse" and not finding.may_be_forced for finding in findings)
    assert expected == "many-disks" or disks[0].shown in findings[0].text


def test_read_only_disks_need_nothing() -> None:
    assert codes([changed(DISK, kind="nvme", is_writable=False)], ()) == []


def test_a_full_qcow2_fits_on_a_device_of_the_disks_size() -> None:
    """It takes more than the disk has, for its tables; the copy takes what the disk has at most."""
    full = changed(DISK, used_bytes=DISK.size_bytes + 4096)
    assert judge_images([full], [changed(IMAGE, free_bytes=DISK.size_bytes)]) == []
    (found,) = judge_images([full], [changed(IMAGE, free_bytes=DISK.size_bytes - 1)])
    assert found.code == "disk-room"


@pytest.mark.parametrize("command", COMMANDS)
def test_qemu_must_have_what_copying_takes(command: str) -> None:
    left = tuple(one for one in COMMANDS if one != command)
    assert codes([DISK], left) == [f"no-{command}"]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (IMAGE, []),
        (changed(IMAGE, size_bytes=0), []),
        (changed(IMAGE, size_bytes=DISK.size_bytes + 512), ["disk-size"]),
        (changed(IMAGE, free_bytes=DISK.used_bytes - 1), ["disk-room"]),
        (changed(IMAGE, free_bytes=DISK.used_bytes), []),
        (changed(IMAGE, overlay_free_bytes=2 * DISK.size_bytes - 1), ["overlay-room"]),
        (changed(IMAGE, overlay_free_bytes=2 * DISK.size_bytes), []),
        (changed(IMAGE, why_unusable='Failed to get "write" lock', size_bytes=7), ["disk-image"]),
        (changed(IMAGE, name="other"), ["disk-missing", "disk-surplus"]),
    ],
)
def test_an_image_fits_or_is_refused_by_name(image: HostImage, expected: list[str]) -> None:
    findings = judge_images([DISK], [image])
    assert [finding.code for finding in findings] == expected
    assert all(DISK.name in finding.text or finding.code == "disk-surplus" for finding in findings)


def test_a_large_disk_needs_no_overlay_of_its_size() -> None:
    large = changed(DISK, size_bytes=1 << 40)
    image = changed(IMAGE, size_bytes=1 << 40, overlay_free_bytes=OVERLAY_BYTES_MIN)
    assert judge_images([large], [image]) == []
    assert [one.code for one in judge_images([large], [changed(image, overlay_free_bytes=OVERLAY_BYTES_MIN - 1)])] == [
        "overlay-room"
    ]


@pytest.mark.parametrize(("there", "is_refused"), [("", False), ("LVM-other", False), ("LVM-abc", True)])
def test_a_device_that_both_hosts_have_is_no_copy(there: str, is_refused: bool) -> None:
    findings = judge_images([changed(DISK, unit="LVM-abc")], [changed(IMAGE, unit=there)])
    assert [finding.code for finding in findings] == ["disk-shared"] * is_refused
    assert judge_images([DISK], [IMAGE]) == [], "nothing is known of files"


@pytest.mark.parametrize(
    ("room", "overlay_room", "held", "is_refused"),
    [
        (("1", "1"), ("9", "9"), 0, True),
        (("1", "1"), ("9", "9"), 4 << 30, False),
        (("1", "2"), ("9", "9"), 0, False),
        (("1", "2"), ("9", "2"), 0, True),
        (("", ""), ("", ""), 0, False),
    ],
)
def test_all_copies_together_have_room(
    room: tuple[str, str], overlay_room: tuple[str, str], held: int, is_refused: bool
) -> None:
    """Two disks of 6 GiB; 8 GiB are free, or 6.5 with the overlays there."""
    gib = 1 << 30
    disks = [changed(DISK, name=name, used_bytes=6 * gib, size_bytes=16 * gib) for name in "ab"]
    images = [
        changed(
            IMAGE,
            name=disk.name,
            size_bytes=16 * gib,
            free_bytes=(13 * gib // 2 if overlay_room[1] == "2" else 8 * gib) + held,
            held_bytes=held,
            room=room[number],
            overlay_room=overlay_room[number],
        )
        for number, disk in enumerate(disks)
    ]
    findings = judge_images(disks, images)
    assert [finding.code for finding in findings] == ["disks-room"] * is_refused
