"""Which of a guest's disks can be copied to the other host, and what the other host needs for that.

Pure. "Seen" means: in this project's own runs. The rules are those of docs/adr/0063.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from pycolo.qmp.guestdisks import GuestDisk
from pycolo.qmp.judge import Finding

SUPPORTED: Final = ("virtio-blk-pci", "scsi-hd", "ide-hd")
"""Kinds of devices whose disks are copied. ide-hd is SATA's too."""

COMMANDS: Final = (
    "nbd-server-start",
    "nbd-server-stop",
    "block-export-add",
    "blockdev-add",
    "blockdev-mirror",
    "block-job-cancel",
    "query-block-jobs",
)
"""What QEMU must have for it: all are there since 5.2."""

NAME_CHARACTERS_MAX: Final = 31
"""Of a block node's name, in QEMU."""

DISKS_MAX: Final = 16


class HostImage(msgspec.Struct, frozen=True, kw_only=True):
    """What is found at the path of a disk's copy on the secondary's host."""

    name: str
    """The disk's."""
    path: str
    size_bytes: int
    """What a guest would see; 0: there is no file, and one is created."""
    free_bytes: int
    """Room on its file system, with what the file takes already."""
    overlay_free_bytes: int
    """Room where the overlays are."""
    why_unusable: str = ""
    """QEMU's words when the image cannot be opened, for example because another process has it open."""
    unit: str = ""
    """See `GuestDisk.unit`."""
    held_bytes: int = 0
    """What the file takes already."""
    room: str = ""
    """Names its file system, and `overlay_room` that of the overlays; "": an older node, or it needs no room there."""
    overlay_room: str = ""


OVERLAY_BYTES_MIN: Final = 1 << 30
"""What the guest writes between two checkpoints, on both sides, has to fit; a busy guest was seen to take 30 MB."""


def judge_disks(disks: Sequence[GuestDisk], commands: Iterable[str]) -> list[Finding]:
    """What prevents the primary's writable disks from being copied."""
    return list(_judged(writable(disks), frozenset(commands)))


def writable(disks: Iterable[GuestDisk]) -> list[GuestDisk]:
    """Those that are copied. A read-only one is the same on both hosts, which is for the user to see to."""
    return [disk for disk in disks if disk.is_writable]


def _judged(disks: Sequence[GuestDisk], commands: frozenset[str]) -> Iterator[Finding]:
    if not disks:
        return
    for command in COMMANDS:
        if command not in commands:
            yield _refuse(
                f"no-{command}", f"this QEMU has no command {command}, needed for disks: use one that was built with it"
            )
    if len(disks) > DISKS_MAX:
        yield _refuse("many-disks", f"the guest has {len(disks)} writable disks; at most {DISKS_MAX} are copied")
    names = [disk.name for disk in disks]
    for disk in disks:
        if disk.kind not in SUPPORTED:
            known = ", ".join(SUPPORTED)
            yield _refuse(
                "disk-controller",
                f"{disk.shown} is writable, and only disks of {known} can be copied: use one of these, or make it "
                "read-only",
            )
        elif disk.has_generated_name:
            yield _refuse(
                "unnamed-disk",
                f"{disk.shown} has a name that QEMU has made up: give it one, with -blockdev node-name=… or "
                "-drive id=…",
            )
        elif len(disk.name) > NAME_CHARACTERS_MAX:
            yield _refuse("disk-name", f"{disk.shown}: its name has more than {NAME_CHARACTERS_MAX} characters")
        elif names.count(disk.name) > 1:
            yield _refuse("shared-node", f"{disk.shown}: two devices use this block node; give each its own image")


def judge_images(disks: Iterable[GuestDisk], images: Iterable[HostImage]) -> list[Finding]:
    """What prevents the secondary's host from taking the copies; asked before anything there is touched."""
    at_hand = {image.name: image for image in images}
    findings: list[Finding] = []
    pairs: list[tuple[GuestDisk, HostImage]] = []
    for disk in writable(disks):
        image = at_hand.pop(disk.name, None)
        if image is None:
            findings.append(
                _refuse(
                    "disk-missing",
                    f"{disk.shown} is not in [qemu] command on the secondary's host: give both hosts the same "
                    f"-device …,drive={disk.name}",
                )
            )
        else:
            findings += _fits(disk, image)
            pairs.append((disk, image))
    for name, image in at_hand.items():
        findings.append(
            _refuse(
                "disk-surplus",
                f"disk {name} ({image.path}) is in [qemu] command on the secondary's host, and the primary has no such "
                "writable disk: give both hosts the same",
            )
        )
    return findings or list(_fit_together(pairs))


def _fit_together(pairs: Sequence[tuple[GuestDisk, HostImage]]) -> Iterator[Finding]:
    """Each has room by itself; several may be on one file system, with overlays as well."""
    for room in sorted({image.room for _, image in pairs if image.room}):
        here = [(disk, image) for disk, image in pairs if image.room == room]
        needed = sum(max(0, disk.used_bytes - image.held_bytes) for disk, image in here)
        overlays = [_overlay_bytes(disk) for disk, image in pairs if image.overlay_room == room]
        needed += max(overlays, default=0)
        free = min(image.free_bytes - image.held_bytes for _, image in here)
        if needed > free:
            names = ", ".join(disk.name for disk, _ in here)
            yield _refuse(
                "disks-room",
                f"the copies of {names} are on one file system of the secondary's host ({here[0][1].path}), where they "
                f"need {needed >> 20} MiB more{' with their overlays' if overlays else ''}, and there is room for "
                f"{free >> 20} MiB: make room, or set [disks] images or overlays to another directory",
            )


def _overlay_bytes(disk: GuestDisk) -> int:
    return min(OVERLAY_BYTES_MIN, 2 * disk.size_bytes)


def _fits(disk: GuestDisk, image: HostImage) -> Iterator[Finding]:
    if image.why_unusable:
        yield _refuse("disk-image", f"{disk.shown}: {image.path} cannot be used for the copy: {image.why_unusable}")
        return
    if image.unit and image.unit == disk.unit:
        yield _refuse(
            "disk-shared",
            f"{disk.shown}: {image.path} on the secondary's host is the same device ({image.unit}), which both "
            "guests would write to: give each host one of its own",
        )
    if image.size_bytes not in (0, disk.size_bytes):
        yield _refuse(
            "disk-size",
            f"{disk.shown} has {disk.size_bytes} bytes, and {image.path} on the secondary's host {image.size_bytes}: "
            "give it the same size, or remove it if it is a file: then it is created anew",
        )
    # A full qcow2 takes more than the disk has, for its tables. A copy on a device has no room for that, nor needs it.
    taken = min(disk.used_bytes, disk.size_bytes)
    if image.free_bytes < taken:
        yield _refuse(
            "disk-room",
            f"{disk.shown} takes {taken >> 20} MiB, and at {image.path} on the secondary's host there is "
            f"room for {image.free_bytes >> 20} MiB: make room, or set [disks] images to another directory",
        )
    if image.overlay_free_bytes < _overlay_bytes(disk):
        yield _refuse(
            "overlay-room",
            f"{disk.shown}: the secondary's host has {image.overlay_free_bytes >> 20} MiB for what the guest writes "
            f"between two checkpoints, and needs {_overlay_bytes(disk) >> 20} MiB: make room, "
            "or set [disks] overlays to another directory",
        )


def _refuse(code: str, text: str) -> Finding:
    return Finding("refuse", code, text)
