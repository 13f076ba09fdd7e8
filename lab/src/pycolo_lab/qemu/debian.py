"""A guest like a user's: a Debian with nginx, redis, PostgreSQL and sshd on a disk, built once into a folder.

debootstrap makes the root, `guest/debian.sh` furnishes it in a chroot, and mke2fs makes a file system of it: neither a
loop device nor a partition is needed. It boots with Debian's cloud kernel and a small initramfs, which have no part of
the laboratory's network in them, so whatever starts QEMU can use the three files. Building needs root.
"""

import hashlib
import os
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Final, NamedTuple

from pycolo_lab.errors import LabError
from pycolo_lab.guest_server import PATTERN_BYTES, pattern
from pycolo_lab.qemu import debs, initramfs
from pycolo_lab.qemu.modules import modules_of
from pycolo_lab.qemu.programs import Programs, say

SEED: Final = 1
"""Of the pattern that the guest's `get` and `put` speak, as in the other guests."""

RELEASE: Final = "bookworm"

PACKAGES: Final = (
    "systemd-sysv",
    "nginx-light",
    "redis-server",
    "postgresql",
    "openssh-server",
    "openssl",
    "iproute2",
    "procps",
    "acpid",
)
"""Without udev, which takes as long at the boot as all the rest: the drivers are loaded by the initramfs."""

MODULES: Final = (
    *("virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "virtio_balloon", "virtio_console"),
    *("virtio_scsi", "sd_mod", "button", "evdev", "autofs4"),
)
"""What virtual machines usually have, the power button, and what systemd asks for. ext4 is built in."""

DISK_BYTES: Final = 2 << 30
WEB_BYTES: Final = 1 << 20

BUILD_BYTES: Final = 3_000_000_000
"""Disk space for building: the root, twice while the file system is made of it, and the image."""

DEBOOTSTRAP_S: Final = 900
STEP_S: Final = 300.0
"""For each of the other steps, on a busy machine."""

PROGRAMS: Final = (*debs.PROGRAMS, "debootstrap", "gcc", "mke2fs", "qemu-img", "unshare")
"""What it takes to build it."""

_STAMP: Final = "debian.stamp"


class DebianGuest(NamedTuple):
    """Paths of the three files. The kernel's command line may say `root=` (default /dev/vda), `colo.address=` of
    eth0 and `colo.address2=` of eth1, both ADDRESS/PREFIX."""

    disk: Path
    """qcow2, without a backing file. A machine writes to a copy of it."""
    kernel: Path
    initramfs: Path


def is_there(folder: Path) -> bool:
    """Whether the guest is built in that folder, of what it would be built from now."""
    stamp = folder / _STAMP
    return stamp.is_file() and stamp.read_text() == _digest() and all(path.is_file() for path in _guest(folder))


def ensure(folder: Path, programs: Programs) -> DebianGuest:
    """The guest in that folder, built when there is none or an outdated one.

    Raises `LabError` with what is missing.
    """
    guest = _guest(folder)
    if is_there(folder):
        return guest
    if os.geteuid() != 0:
        raise LabError("building the Debian guest needs root (debootstrap): run it as root once")
    programs.require(PROGRAMS)
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / _STAMP
    stamp.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="debian-", dir=folder) as directory:
        _build(Path(directory), guest, programs)
    stamp.write_text(_digest())
    return guest


def _guest(folder: Path) -> DebianGuest:
    return DebianGuest(folder / "debian.qcow2", folder / "debian.vmlinuz", folder / "debian.initramfs.gz")


def _digest() -> str:
    digest = hashlib.sha256(repr((SEED, RELEASE, PACKAGES, MODULES, DISK_BYTES, debs.KERNEL_PACKAGE)).encode())
    for name in ("debian.py", "guest/debian.sh", "guest/debianinit.sh", "guest/service.c"):
        digest.update(_source(name).read_bytes())
    return digest.hexdigest()


def _source(name: str) -> Path:
    return Path(str(files(__package__).joinpath(name)))


def _build(directory: Path, guest: DebianGuest, programs: Programs) -> None:
    say(f"building the Debian guest in {guest.disk.parent} (once, some minutes)")
    kernel = debs.unpacked(debs.kernel_package(programs), directory, programs)
    root = directory / "root"
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", RELEASE, str(root)]
    programs.run(command, f"debootstrap {RELEASE}", timeout_s=DEBOOTSTRAP_S)
    _furnish(root, programs)
    raw, image = directory / "disk.raw", directory / "disk.qcow2"
    # Nothing is left for the kernel to initialise while the guest runs, and no blocks are reserved for root.
    options = ["-q", "-F", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"]
    make = ["mke2fs", *options, "-d", str(root), str(raw), f"{DISK_BYTES >> 20}M"]
    programs.run(make, "mke2fs", timeout_s=STEP_S, environment={"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"})
    programs.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(image)], "qemu-img convert", timeout_s=STEP_S)
    guest.initramfs.write_bytes(initramfs.pack(_initramfs(kernel)))
    shutil.copyfile(debs.kernel_image(kernel), guest.kernel)
    image.replace(guest.disk)


def _furnish(root: Path, programs: Programs) -> None:
    """Put the laboratory's files into the root, and run the script there."""
    service = ["-O2", "-Wall", "-static", "-o", str(root / "usr/local/sbin/guest-service")]
    scratch = {"TMPDIR": str(root.parent)}
    programs.run(
        ["gcc", *service, str(_source("guest/service.c"))], "compiling the guest's service", environment=scratch
    )
    (root / "usr/local/share/pattern").write_bytes(pattern(SEED)[:PATTERN_BYTES])
    pages = root / "var/www/html"
    (pages / "index.html").write_text("<p>the guest of the laboratory\n")
    (pages / "random.bin").write_bytes(pattern(SEED + 1)[:WEB_BYTES])
    script = root / "furnish.sh"
    shutil.copyfile(_source("guest/debian.sh"), script)
    # Of its own: what the script mounts and starts ends with it, also when it fails.
    inside = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "chroot", str(root), "/bin/sh", "/furnish.sh"]
    programs.run(inside, "furnishing the Debian guest", timeout_s=STEP_S)
    script.unlink()


def _initramfs(kernel: Path) -> dict[str, initramfs.Entry]:
    modules = modules_of(kernel, MODULES)
    return {
        "init": initramfs.program(_source("guest/debianinit.sh").read_bytes()),
        "bin/busybox": initramfs.program(debs.busybox()),
        **{
            f"modules/{number:02}-{name}.ko": initramfs.file(content)
            for number, (name, content) in enumerate(modules.items())
        },
        **{f"{folder}/.keep": initramfs.file(b"") for folder in ("proc", "sys", "dev", "new")},
    }
