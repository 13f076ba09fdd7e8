"""Which devices may be in a guest that COLO protects: a list of those that were tried, and of those that cannot work.

A checkpoint copies what QEMU migrates. A device is accepted when its whole state migrates and checkpoints and a
failover with it were seen to work. It is refused when a part of its state is elsewhere: in another process, in the
host's hardware. All others are unknown, and may be forced.
"""

from collections.abc import Mapping
from typing import Final

ACCEPTED: Final[frozenset[str]] = frozenset({
    # network
    "virtio-net-pci", "e1000", "rtl8139",
    # storage; whether the medium is writable is another question
    "virtio-blk-pci", "virtio-scsi-pci", "scsi-cd", "scsi-hd", "ide-cd", "ide-hd",
    # consoles and the guest agent's channel
    "isa-serial", "virtio-serial-pci", "virtserialport", "virtconsole",
    # graphics and input
    "VGA", "qxl-vga", "virtio-gpu-pci", "virtio-vga", "usb-tablet", "piix3-usb-uhci", "qemu-xhci",
    # the rest
    "virtio-balloon-pci", "virtio-rng-pci", "i6300esb", "pvpanic", "pvpanic-pci", "pcie-root-port",
})  # fmt: skip
"""QOM types, each tried with 7.2, 10.0 and 11.1, but qxl, virtio-gpu and virtio-vga, tried with 7.2 only."""

REFUSED: Final[Mapping[str, str]] = {
    "vfio-": "is a device of the host, whose state QEMU does not copy: use an emulated or virtio device",
    "usb-host": "is a device of the host, whose state QEMU does not copy: use an emulated device",
    "usb-redir": "is a device of another computer, whose state QEMU does not copy: use an emulated device",
    "tpm-": "keeps its state in another process (swtpm), which QEMU does not copy: start QEMU without a TPM",
    "vhost-user-": "is served by another process, whose state QEMU does not copy: use the virtio device of QEMU",
    "vhost-": "is served by the host's kernel, whose state QEMU does not copy: use the virtio device of QEMU",
    "ivshmem-": "shares memory with other processes, and a checkpoint copies the guest's only: remove it",
    "virtio-9p-": "serves files of the host, which do not migrate: use a network file system",
    "nvdimm": "keeps its content in a file of the host, which QEMU does not copy: use a network file system",
    "virtio-pmem-": "keeps its content in a file of the host, which QEMU does not copy: use a network file system",
}
"""The beginning of a QOM type → the rest of a sentence that begins with it. The first that fits counts."""


def why_refused(device: str) -> str | None:
    """Why a device of this QOM type can't be protected; None: accepted, or unknown."""
    return next((f"{device} {why}" for start, why in REFUSED.items() if device.startswith(start)), None)


def is_known(device: str) -> bool:
    """Whether it has been decided about."""
    return device in ACCEPTED or why_refused(device) is not None
