"""The domain's XML, as `virt-install --import` writes it for a guest with one disk and one card on a bridge."""

from pathlib import Path
from typing import Final, NamedTuple
from xml.sax.saxutils import escape, quoteattr

from pycolo_lab.guest_server import PORT
from pycolo_lab.qemu.topology import GUEST_MAC

NAME: Final = "vm1"
NETWORK: Final = "lan"
UUID: Final = "b4f5a0c6-6f0b-4d53-9a5e-0c9a4f1d7c01"

KERNEL: Final = "kernel"
INITRAMFS: Final = "initramfs"
PRELOAD: Final = "preload.so"
EMULATOR: Final = "emulator"
DISK: Final = "vm1.qcow2"
"""Names of files beside each other."""


class Domain(NamedTuple):
    """What differs between guests."""

    machine: str
    memory_mib: int
    vcpus: int
    has_disk: bool = False
    """A writable qcow2."""
    disk_source: Path | None = None
    """What is on it at first; None: nothing."""
    has_network: bool = False
    """Its card is on a network of libvirt's, which is the bridge."""
    ports: tuple[int, ...] = (PORT,)
    """TCP ports of all that is there once it has started."""
    boot_s: float = 90.0
    """For its start, and for its end, on a busy machine."""
    is_small: bool = False
    """Without what virt-install adds unasked: a display, USB, a balloon …"""
    accelerator: str = "tcg"

    def xml(self, images: Path, words: str, bridge: str) -> str:
        """All of it; `images` has the kernel, the initramfs, the emulator and the disk. `words`: for the kernel."""
        kind, cpu = ("kvm", "host-passthrough") if self.accelerator == "kvm" else ("qemu", "maximum")
        devices = [
            f"<emulator>{escape(str(images / EMULATOR))}</emulator>",
            *([_disk(images / DISK)] if self.has_disk else []),
            _card("network", NETWORK) if self.has_network else _card("bridge", bridge),
            "<console type='pty'/>",
            *(_SMALL if self.is_small else _UNASKED),
            *(() if self.is_small or "q35" not in self.machine else _SLOTS),
        ]
        return f"""<domain type='{kind}'>
  <name>{NAME}</name>
  <uuid>{UUID}</uuid>
  <memory unit='MiB'>{self.memory_mib}</memory>
  <vcpu>{self.vcpus}</vcpu>
  <os>
    <type arch='x86_64' machine={quoteattr(self.machine)}>hvm</type>
    <kernel>{escape(str(images / KERNEL))}</kernel>
    <initrd>{escape(str(images / INITRAMFS))}</initrd>
    <cmdline>{escape(words)}</cmdline>
  </os>
  <features><acpi/><apic/><vmport state='off'/></features>
  <cpu mode='{cpu}' check='none'/>
  <clock offset='utc'>
    <timer name='rtc' tickpolicy='catchup'/>
    <timer name='pit' tickpolicy='delay'/>
    <timer name='hpet' present='no'/>
  </clock>
  <pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>
  <devices>
    {_INDENT.join(devices)}
  </devices>
</domain>
"""


_INDENT: Final = "\n    "

_SMALL: Final = ("<controller type='usb' model='none'/>", "<memballoon model='none'/>")

_UNASKED: Final = (
    "<controller type='usb' model='qemu-xhci' ports='15'/>",
    "<channel type='unix'><source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>",
    "<input type='tablet' bus='usb'/>",
    "<graphics type='vnc' port='-1'/>",
    "<video><model type='virtio'/></video>",
    "<memballoon model='virtio'/>",
    "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
)

_SLOTS: Final = (
    "<controller type='pci' model='pcie-root'/>",
    *["<controller type='pci' model='pcie-root-port'/>"] * 14,
)
"""Of a q35."""


def _disk(path: Path) -> str:
    return (
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap'/>"
        f"<source file={quoteattr(str(path))}/><target dev='vda' bus='virtio'/></disk>"
    )


def _card(kind: str, source: str) -> str:
    """virt-install says nothing of a driver: vhost is libvirt's default where there is /dev/vhost-net."""
    return (
        f"<interface type={quoteattr(kind)}><source {kind}={quoteattr(source)}/><mac address={quoteattr(GUEST_MAC)}/>"
        "<model type='virtio'/><driver name='qemu'/></interface>"
    )


def network_xml(bridge: str) -> str:
    """A network of libvirt's that is a bridge of the host's."""
    return f"<network><name>{NETWORK}</name><forward mode='bridge'/><bridge name={quoteattr(bridge)}/></network>\n"
