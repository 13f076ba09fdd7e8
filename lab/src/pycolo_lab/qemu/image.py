"""The guest's kernel and initramfs, and the library that QEMU preloads: built once, kept in build/lab.

The kernel is Debian's for cloud machines, unpacked and not installed. The initramfs holds busybox, our service and,
where Debian's packages can be fetched, an ssh server and iperf3 for foreign clients. What the image was built from is
hashed into a stamp; another stamp builds it anew.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Final, NamedTuple

from pycolo.vm import preload
from pycolo_lab.errors import LabError
from pycolo_lab.guest_server import PATTERN_BYTES, pattern
from pycolo_lab.qemu import debs, initramfs
from pycolo_lab.qemu.modules import modules_of
from pycolo_lab.qemu.programs import Programs, say

SEED: Final = 1
"""Of the pattern that the guest's `get` and `put` speak; the clients get the same one."""

MODULES: Final = ("virtio_pci", "virtio_net", "virtio_blk", "button", "evdev")
"""What virtio network cards and disks and the power button need. ext4 is built in."""

SERVERS: Final = {"usr/sbin/dropbear": "dropbear-bin", "usr/bin/iperf3": "iperf3"}
"""Foreign servers in the guest, by path; best effort."""

SERVER_LIBRARIES: Final = (
    "libc6",
    "libcrypt1",
    "libgmp10",
    "libiperf0",
    "libsctp1",
    "libssl3",
    "libssl3t64",
    "libtomcrypt1",
    "libtommath1",
    "zlib1g",
)
"""Packages with what these servers are linked with; libssl3 has another name on Debian 13."""

PASSWORDS: Final = b"root::0:0:root:/root:/bin/sh\n"
"""ssh asks for no password: the guest is reachable from the laboratory's own network only."""

WEB_BYTES: Final = 1 << 20

IMAGE_PROGRAMS: Final = (*debs.PROGRAMS, "gcc")
"""What it takes to build it."""

STAMP: Final = "image.stamp"


class Image(NamedTuple):
    """Paths of what QEMU is started with."""

    kernel: Path
    initramfs: Path
    preload: Path


def cache_directory() -> Path:
    """build/lab of the source tree, or of the user's cache when pycolo is installed without one."""
    root = Path(__file__).resolve().parents[4]
    if (root / "pyproject.toml").is_file():
        return root / "build" / "lab"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pycolo" / "lab"


def keep_files(directory: Path, name: str, leaves_out: Callable[[Path], bool]) -> None:
    """Copy the run's logs, settings and results, not the sockets, to `name` in the cache, in place of the last ones.

    `leaves_out` is asked for each path, relative to `directory`.
    """
    target = cache_directory() / name
    shutil.rmtree(target, ignore_errors=True)
    for path in sorted(directory.rglob("*")):
        found = path.relative_to(directory)
        if path.is_file() and not path.is_symlink() and not leaves_out(found):
            copy = target / found
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    say(f"kept in {target}")


def is_image_there() -> bool:
    """Whether the image is built, of what it would be built from now."""
    stamp = cache_directory() / STAMP
    return stamp.is_file() and stamp.read_text() == _stamp() and all(path.is_file() for path in _image())


def make_cache() -> None:
    """The folder for all that is built. Raises `LabError`."""
    folder = cache_directory()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"{folder} cannot be created: {error.strerror}; run it as root, or elsewhere") from error


def _image() -> Image:
    cache = cache_directory()
    return Image(cache / "vmlinuz", cache / "initramfs.gz", cache / "preload.so")


def ensure_image(programs: Programs) -> Image:
    """The image, built when there is none or an outdated one.

    Raises `LabError` with what is missing.
    """
    cache, image = cache_directory(), _image()
    if is_image_there():
        return image
    programs.require(IMAGE_PROGRAMS)
    make_cache()
    stamp = cache / STAMP
    stamp.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="image-", dir=cache) as directory:
        _build(Path(directory), image, programs)
    stamp.write_text(_stamp())
    return image


def _stamp() -> str:
    digest = hashlib.sha256(repr((SEED, debs.KERNEL_PACKAGE, MODULES, SERVERS, SERVER_LIBRARIES)).encode())
    sources = (_source(name) for name in ("guest/init.sh", "guest/service.c", "modules.py", "debs.py"))
    for path in (*sources, preload.SOURCE, Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _source(name: str) -> Path:
    return Path(str(files(__package__).joinpath(name)))


def _build(directory: Path, image: Image, programs: Programs) -> None:
    say("building the guest's image (once)")
    service = directory / "service"
    library = directory / "preload.so"
    for what, words in (
        ("the guest's service", ["-O2", "-static", "-o", str(service), str(_source("guest/service.c"))]),
        ("what QEMU preloads", [*preload.FLAGS, "-o", str(library), str(preload.SOURCE)]),
    ):
        # What a compiler that is killed leaves behind goes with the directory.
        scratch = {"TMPDIR": str(directory)}
        programs.run(["gcc", "-Wall", *words], f"compiling {what}", environment=scratch)
    kernel = debs.unpacked(debs.kernel_package(programs), directory, programs)
    entries = {
        "init": initramfs.program(_source("guest/init.sh").read_bytes()),
        "bin/busybox": initramfs.program(debs.busybox()),
        "bin/service": initramfs.program(service.read_bytes()),
        "pattern": initramfs.file(pattern(SEED)[:PATTERN_BYTES]),
        "www/index.html": initramfs.file(b"<p>the guest of the laboratory\n"),
        "www/random.bin": initramfs.file(pattern(SEED + 1)[:WEB_BYTES]),
        "etc/passwd": initramfs.file(PASSWORDS),
        "etc/group": initramfs.file(b"root:x:0:\n"),
        "etc/shells": initramfs.file(b"/bin/sh\n"),
        **{
            f"modules/{number:02}-{name}.ko": initramfs.file(content)
            for number, (name, content) in enumerate(modules_of(kernel, MODULES).items())
        },
        **_servers(directory, programs),
    }
    for folder in ("proc", "sys", "dev", "run", "tmp", "root", "etc/dropbear"):
        entries[f"{folder}/.keep"] = initramfs.file(b"")
    image.initramfs.write_bytes(initramfs.pack(entries))
    shutil.copyfile(debs.kernel_image(kernel), image.kernel)
    shutil.copyfile(library, image.preload)


def _servers(directory: Path, programs: Programs) -> dict[str, initramfs.Entry]:
    """Programs with the libraries they need; nothing where they cannot be fetched."""
    tree = directory / "servers"
    for package in (*SERVERS.values(), *SERVER_LIBRARIES):
        fetched = directory / f"{package}.fetched"
        fetched.mkdir()
        if programs.apt("download", package, directory=fetched, required=False):
            for archive in fetched.glob("*.deb"):
                programs.run(["dpkg", "-x", str(archive), str(tree)], f"unpacking {archive.name}", required=False)
    loader = "/lib64/ld-linux-x86-64.so.2"
    folders = ":".join(str(tree / place / "x86_64-linux-gnu") for place in ("lib", "usr/lib"))
    found: dict[str, initramfs.Entry] = {}
    for path in SERVERS:
        if not (tree / path).is_file():
            say(f"warning: the guest will have no {Path(path).name}: {SERVERS[path]} could not be fetched")
            continue
        listed = programs.output_of(
            [loader, "--library-path", folders, "--list", str(tree / path)], f"libraries of {path}"
        )
        for library in re.findall(r"=> (\S+) \(", listed):
            found[f"usr/lib/x86_64-linux-gnu/{Path(library).name}"] = initramfs.program(Path(library).read_bytes())
        found[path] = initramfs.program((tree / path).read_bytes())
    if found:
        found[loader.lstrip("/")] = initramfs.program(Path(loader).read_bytes())
        found["lib/x86_64-linux-gnu"] = initramfs.link("/usr/lib/x86_64-linux-gnu")
    return found
