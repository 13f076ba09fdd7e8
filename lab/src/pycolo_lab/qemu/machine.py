"""Which QEMU, which accelerator, and the virtual machine's command line.

Software emulation (TCG) gets here what it needs for COLO: a library to preload, and a memory size at which QEMU 7.2
need not stop the guest for the first copy (no multiple of 256 KiB).
"""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from pycolo_lab.errors import LabError
from pycolo_lab.interruption import Interruption
from pycolo_lab.namespaces import Namespace, bind_mount, mount
from pycolo_lab.processes import Host, Processes
from pycolo_lab.qemu.debian import DebianGuest
from pycolo_lab.qemu.image import Image, cache_directory
from pycolo_lab.qemu.otherdebian import DEBIAN_VERSIONS, fetched_root
from pycolo_lab.qemu.programs import Programs
from pycolo_lab.qemu.topology import (
    GUEST_ADDRESS,
    GUEST_MAC,
    LAN_PREFIX,
    SECOND_GUEST_ADDRESS,
    SECOND_GUEST_MAC,
    SECOND_TAP,
    TAP,
    Network,
)

PROGRAM: Final = "qemu-system-x86_64"

BOOT_TIMEOUT_S: Final = 60.0
"""Under software emulation on a busy machine; three to five seconds are usual."""

DEBIAN_BOOT_S: Final = 300.0
"""The same for the Debian guest, which takes ten seconds of processor time."""


class Guest(NamedTuple):
    """What the virtual machine is made of."""

    machine: str
    vcpus: int
    memory_kib: int
    cards: int
    """One or two."""
    devices: tuple[str, ...] = ()
    """Arguments after the network cards'."""
    is_debian: bool = False
    """Whether a Debian on its disk boots, see `debian`; else what is in the initramfs is all there is."""
    boot_s: float = BOOT_TIMEOUT_S


USUAL_DEVICES: Final = (
    *("-device", "virtio-balloon-pci", "-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
    *("-chardev", "null,id=agent", "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"),
    *("-device", "qemu-xhci", "-device", "usb-tablet"),
)

GUESTS: Final = {
    "usual": Guest("q35", 2, 262152, 2, USUAL_DEVICES),
    "small": Guest("pc", 1, 98312, 1),
    "debian": Guest("q35", 1, 524296, 1, USUAL_DEVICES, is_debian=True, boot_s=DEBIAN_BOOT_S),
}
"""By name. 8 KiB more than a round size: see above."""

GUEST_DEFAULT: Final = "usual"

NETDEVS: Final = ("hn0", "hn1")

READY: Final = "guest ready"
"""Printed on the guest's console when its services listen."""

DISK: Final = "disk-a"
DISK_BYTES: Final = 64 << 20

IMAGES: Final = "images"
OVERLAYS: Final = "overlays"
"""Folders of a host's directory."""

SMALL: Final = "size=136m"
"""Where they are to be filled, each is a tmpfs of this size: as much as `colo protect` asks for, and no more."""

KVM_PROBE_S: Final = 10.0
"""A kernel under KVM is ready in one second; if /dev/kvm opens but cannot run it, it never is."""


class Qemu(msgspec.Struct, frozen=True, kw_only=True):
    """A QEMU: how it is started, what it calls itself, and the root it lives in (None: this one)."""

    command: tuple[str, ...]
    version: str
    root: Path | None = None


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The virtual machine, the same on both hosts."""

    qemu: Qemu
    image: Image
    accelerator: str
    guest: Guest = GUESTS[GUEST_DEFAULT]
    disk: str | None = None
    """The format of its writable disk; None: it has none."""
    disk_source: Path | None = None
    """What is on the disk at first; None: nothing."""

    def disk_file(self, directory: Path) -> Path:
        """Its disk's image on the host that owns `directory`."""
        return directory / IMAGES / f"disk.{self.disk}"

    def _disk(self, directory: Path) -> list[str]:
        if self.disk is None:
            return []
        file = {"driver": "file", "filename": str(self.disk_file(directory))}
        node = {"driver": self.disk, "node-name": DISK, "file": file}
        return ["-blockdev", json.dumps(node), "-device", f"virtio-blk-pci,id=vda,drive={DISK}"]

    def with_debian(self, debian: DebianGuest) -> "Machine":
        """The same, booting the Debian guest from its disk."""
        image = self.image._replace(kernel=debian.kernel, initramfs=debian.initramfs)
        return msgspec.structs.replace(self, image=image, disk="qcow2", disk_source=debian.disk)

    def with_disk(self, format_: str | None) -> "Machine":
        """The same with a disk of this format, if one is given."""
        return msgspec.structs.replace(self, disk=format_ or self.disk)

    def with_cards(self, cards: int) -> "Machine":
        """The same, with at least so many network cards."""
        guest = self.guest._replace(cards=max(cards, self.guest.cards))
        return msgspec.structs.replace(self, guest=guest)

    @property
    def netdevs(self) -> tuple[str, ...]:
        """QEMU's names of them, one for each network card."""
        return NETDEVS[: self.guest.cards]

    @property
    def environment(self) -> dict[str, str]:
        """Of each QEMU."""
        return {"LD_PRELOAD": str(self.image.preload)} if self.accelerator == "tcg" else {}

    def command(self, directory: Path, name: str) -> list[str]:
        """QEMU's command line on the host that owns `directory`, without its QMP socket for the node."""
        words = f"console=ttyS0 panic=-1 loglevel=4 nokaslr colo.address={GUEST_ADDRESS}/{LAN_PREFIX}"
        guest, second = self.guest, []
        if guest.cards > 1:
            words += f" colo.address2={SECOND_GUEST_ADDRESS}/{LAN_PREFIX}"
            second = ["-netdev", f"tap,id=hn1,ifname={SECOND_TAP},script=no,downscript=no,vhost=off"]
            second += ["-device", f"virtio-net-pci,id=e1,netdev=hn1,mac={SECOND_GUEST_MAC},romfile="]
        network = f"tap,id=hn0,ifname={TAP},script=no,downscript=no,vhost=off"
        return [
            *self.qemu.command,
            *("-name", name, "-machine", guest.machine, "-accel", self.accelerator),
            *("-cpu", "qemu64" if self.accelerator == "tcg" else "host"),
            *("-m", f"{guest.memory_kib}K", "-smp", str(guest.vcpus), "-display", "none", "-nodefaults"),
            *("-serial", f"file:{directory}/serial.log", "-pidfile", f"{directory}/qemu.pid"),
            *("-kernel", str(self.image.kernel), "-initrd", str(self.image.initramfs), "-append", words),
            *("-netdev", network),
            *("-device", f"virtio-net-pci,id=e0,netdev=hn0,mac={GUEST_MAC},romfile="),
            *second,
            *guest.devices,
            *self._disk(directory),
            *qmp_options(directory / "yank.sock"),
            *qmp_options(directory / "watch.sock"),
        ]


def qmp_options(path: Path) -> list[str]:
    """A QMP server on a unix socket."""
    return ["-qmp", f"unix:{path},server=on,wait=off"]


def find_qemu(wanted: str | None, programs: Programs) -> Qemu:
    """The QEMU to use: None is the one on PATH; a version in `DEBIAN_VERSIONS` is fetched; otherwise a path.

    Raises `LabError` when it cannot be had.
    """
    if wanted in DEBIAN_VERSIONS:
        return qemu_in(fetched_root(DEBIAN_VERSIONS[wanted], programs), programs)
    if wanted is None:
        programs.require([PROGRAM])
        return Qemu(command=(PROGRAM,), version=_version([PROGRAM], programs))
    program = str(Path(wanted).absolute())
    return Qemu(command=(program,), version=_version([program], programs))


def _version(command: list[str], programs: Programs) -> str:
    said = programs.output_of([*command, "--version"], "asking QEMU for its version")
    matched = re.search(r"version (\d+\.\d+(?:\.\d+)?)", said)
    if not matched:
        raise LabError(f"{command[-1]} --version says no version, but: {' '.join(said.split())[:80]}")
    return matched[1]


def qemu_in(root: Path, programs: Programs) -> Qemu:
    """The QEMU of another Debian, in its root."""
    inside = ["chroot", str(root), f"/usr/bin/{PROGRAM}"]
    return Qemu(command=tuple(inside), version=_version(inside, programs), root=root)


def furnish_root(machine: Machine, directory: Path) -> None:
    """Bind-mount what a QEMU in a root of its own needs, at the paths that it has here.

    Call it in the laboratory's private mount namespace, with which the mounts disappear.
    """
    root = machine.qemu.root
    if root is None:
        return
    for folder in (Path("/dev"), Path("/proc"), directory):
        inside = root / folder.relative_to("/")
        inside.mkdir(parents=True, exist_ok=True)
        bind_mount(folder, inside)
    for path in machine.image:
        inside = root / path.relative_to("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.touch()
        bind_mount(path, inside)


def mount_small(machine: Machine, folder: Path) -> None:
    """A file system of its own that can be filled, also where a QEMU in a root of its own looks."""
    folder.mkdir()
    mount("colo-lab-disk", str(folder), "tmpfs", 0, SMALL)
    if machine.qemu.root is not None:
        bind_mount(folder, machine.qemu.root / folder.relative_to("/"))


def mount_from(machine: Machine, folder: Path, source: Path) -> None:
    """Another folder's files at this path, also where a QEMU in a root of its own looks."""
    folder.mkdir()
    source.mkdir(parents=True, exist_ok=True)
    bind_mount(source, folder)
    if machine.qemu.root is not None:
        bind_mount(source, machine.qemu.root / folder.relative_to("/"))


def probed_accelerator(wanted: str, qemu: Qemu, image: Image, directory: Path, interruption: Interruption) -> str:
    """As `choose_accelerator`, in a network of its own below `directory`."""
    network = Network(directory / "netns-probe", interruption.look)
    network.build()
    found = choose_accelerator(wanted, qemu, image, directory / "probe", network.hosts[Host.A], interruption.rest)
    network.delete()
    return found


def choose_accelerator(
    wanted: str,
    qemu: Qemu,
    image: Image,
    directory: Path,
    namespace: Namespace,
    rest: Callable[[float], None],
) -> str:
    """ "kvm" or "tcg": what was asked for, or what a probe says. `namespace` has the tap to boot with.

    /dev/kvm opens on some machines that cannot run a kernel with it: only a guest that gets ready counts.
    """
    if wanted != "auto":
        return wanted
    known = cache_directory() / "accelerator"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    if known.is_file() and known.read_text().split()[:2] == [boot, qemu.version]:
        return known.read_text().split()[2]
    choice = "tcg"
    if Path("/dev/kvm").exists():
        probe = Machine(qemu=qemu, image=image, accelerator="kvm")
        choice = "kvm" if _boots(probe, directory, namespace, rest) else "tcg"
    known.write_text(f"{boot} {qemu.version} {choice}\n")
    return choice


def _boots(machine: Machine, directory: Path, namespace: Namespace, rest: Callable[[float], None]) -> bool:
    directory.mkdir()
    processes = Processes(directory)
    process = processes.start("kvm-probe", Host.A, namespace, machine.command(directory, "probe"))
    try:
        deadline = time.monotonic() + KVM_PROBE_S
        while process.exit_code() is None and time.monotonic() < deadline:
            if is_ready(directory):
                return True
            rest(0.1)
        return False
    finally:
        processes.kill_all()


def is_ready(directory: Path) -> bool:
    """Whether the guest with this console `directory` has reported that it is ready."""
    return boots(directory) > 0


def boots(directory: Path) -> int:
    """How often the guest with this console `directory` has reported so."""
    try:
        return (directory / "serial.log").read_text(errors="replace").count(READY)
    except FileNotFoundError:
        return 0
