"""What a host is: the facts that both hosts of a pair must have in common, or that one of them must offer."""

import ctypes
import fcntl
import ipaddress
import os
import platform
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from pycolo.check.commandline import read_only_media, shape, size_of_image
from pycolo.check.programs import find_program
from pycolo.config import PairConfig

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PROGRAM_S: Final = 5.0
"""Time limit for a program to print its version."""

_PROC: Final = Path("/proc")
_SYS: Final = Path("/sys")
_KVM: Final = Path("/dev/kvm")

# linux/timex.h
_TIMEX_BYTES: Final = 512
_TIME_ERROR: Final = 5

# linux/sockios.h, linux/ethtool.h
_SIOCGIFMTU: Final = 0x8921
_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_GSET: Final = 1

_INT: Final = struct.Struct("i")


class LinkCard(msgspec.Struct, frozen=True, kw_only=True):
    """The network card through which the other host is reached. `mbit_s` 0: the card does not say."""

    name: str
    mbit_s: int = 0
    mtu_bytes: int = 0


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One host at one moment. Empty texts: not there, or unknown."""

    hostname: str = ""
    kernel: str = ""
    cpu_model: str = ""
    cpu_flags: tuple[str, ...] = ()
    cpus: int = 0
    memory_bytes: int = 0
    available_bytes: int = 0
    """What programs may still ask for without swapping."""
    clock_ns: int = 0
    """CLOCK_REALTIME as the facts were taken."""
    is_clock_steered: bool | None = None
    """Whether the kernel's clock is synchronised by NTP or PTP; None: the kernel does not say."""
    qemu: str = ""
    """Version of the program in `qemu.command`: "7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"."""
    libvirt: str = ""
    has_kvm: bool | None = None
    """Whether this user may use /dev/kvm; None: there is none."""
    apparmor: bool = False
    """Whether the kernel confines programs by AppArmor."""
    link: LinkCard | None = None
    state_free_bytes: int = 0
    """Free space where the node's record is kept."""
    shape: tuple[str, ...] = ()
    """What a guest that `qemu.command` starts is made of, see `commandline.shape`."""
    media_bytes: tuple[int, ...] = ()
    """Sizes of the read-only images in it; 0: unknown."""
    guest_shape: tuple[str, ...] = ()
    """As `shape`, of the guest that runs here; empty: none, or its process cannot be read."""
    guest_media_bytes: tuple[int, ...] | None = None
    """Sizes of its read-only disks; None: no guest runs here."""
    gateways: dict[str, str] = {}
    """Network of the guest's that is each host's own → the host's MAC and addresses on it."""


def look(config: PairConfig) -> HostFacts:
    """Blocks, for a second at most unless a program hangs."""
    memory = _memory()
    has_kvm = os.access(_KVM, os.R_OK | os.W_OK) if _KVM.exists() else None
    model, flags = _cpu()
    return HostFacts(
        hostname=socket.gethostname(),
        kernel=platform.release(),
        cpu_model=model,
        cpu_flags=flags,
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=memory.get("MemTotal", 0),
        available_bytes=memory.get("MemAvailable", 0),
        clock_ns=time.time_ns(),
        is_clock_steered=_is_clock_steered(),
        qemu=_qemu_version(config.qemu.command, config.qemu.environment.get("PATH")),
        libvirt=_libvirt_version(),
        has_kvm=has_kvm,
        apparmor=_text(_SYS / "module/apparmor/parameters/enabled").startswith("Y"),
        link=link_card(config),
        state_free_bytes=free_bytes(config.state),
        shape=shape(config.qemu.command),
        media_bytes=tuple(map(size_of_image, read_only_media(config.qemu.command))),
    )


def link_card(config: PairConfig) -> LinkCard | None:
    """By the main table of the kernel's routes. None: no route to the other host, or no address."""
    name = next(filter(None, map(interface_to, _addresses(config.link.peer.host))), "")
    if not name:
        return None
    return LinkCard(name=name, mbit_s=_mbit_s(name), mtu_bytes=_mtu_bytes(name))


def _mtu_bytes(name: str) -> int:
    """By ioctl: sysfs may show another network namespace's cards."""
    answer = _asked_card(_SIOCGIFMTU, name.encode().ljust(32, b"\0"))
    return int(_INT.unpack_from(answer, 16)[0]) if answer else 0


def _mbit_s(name: str) -> int:
    """struct ethtool_cmd: the low 16 bits at 12, the high ones at 28; all ones where the card does not know."""
    asked = ctypes.create_string_buffer(_INT.pack(_ETHTOOL_GSET).ljust(44, b"\0"), 44)
    request = struct.pack("16sP", name.encode(), ctypes.addressof(asked)).ljust(40, b"\0")
    if not _asked_card(_SIOCETHTOOL, request):
        return 0
    speed = int(struct.unpack_from("H", asked, 12)[0]) | int(struct.unpack_from("H", asked, 28)[0]) << 16
    return 0 if speed in (0xFFFF, 0xFFFFFFFF) else speed


def _asked_card(code: int, request: bytes) -> bytes:
    """Empty: the card does not answer this."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            return fcntl.ioctl(sock, code, request)
        except OSError:
            return b""


def _addresses(host: str) -> list[Address]:
    with suppress(OSError, ValueError):
        found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
        return [ipaddress.ip_address(str(target[0]).partition("%")[0]) for *_, target in found]
    return []


def interface_to(address: Address, proc: Path = _PROC) -> str:
    """The interface of the longest prefix that covers `address`; empty: no route."""
    routes = _routes4(proc) if address.version == 4 else _routes6(proc)
    covering = [(prefix.prefixlen, name) for prefix, name in routes if address in prefix]
    return max(covering, default=(0, ""))[1]


def _routes4(proc: Path) -> Iterator[tuple[Network, str]]:
    """Numbers are in the host's byte order, which is little-endian where QEMU has COLO."""
    for line in _text(proc / "net/route").splitlines()[1:]:
        name, destination, *_, mask = line.split()[:8]
        base = int.from_bytes(bytes.fromhex(destination), "little")
        yield ipaddress.IPv4Network((base, int.from_bytes(bytes.fromhex(mask), "little").bit_count())), name


def _routes6(proc: Path) -> Iterator[tuple[Network, str]]:
    for line in _text(proc / "net/ipv6_route").splitlines():
        destination, length, *_, name = line.split()
        if name != "lo":
            yield ipaddress.IPv6Network((bytes.fromhex(destination), int(length, 16))), name


# ── the machine ─────────────────────────────────────────────────────────────────────────────────────────────


def _memory() -> dict[str, int]:
    found = {}
    for line in _text(_PROC / "meminfo").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB":
            found[name] = _number(words[0]) << 10
    return found


def _cpu() -> tuple[str, tuple[str, ...]]:
    """Of the first processor. The lines are named so on x86."""
    said: dict[str, str] = {}
    for line in _text(_PROC / "cpuinfo").splitlines():
        name, _, value = line.partition(":")
        said.setdefault(name.strip(), value.strip())
    return said.get("model name", ""), tuple(sorted(said.get("flags", "").split()))


def _is_clock_steered() -> bool | None:
    """adjtimex(2) returns TIME_ERROR while no daemon steers the clock."""
    libc = ctypes.CDLL(None, use_errno=True)
    state = libc.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    return None if state < 0 else state != _TIME_ERROR


def free_bytes(directory: Path) -> int:
    """Free space where the directory is, or is to be made; 0: unknown."""
    for place in (directory, *directory.parents):
        with suppress(OSError):
            found = os.statvfs(place)
            return found.f_bavail * found.f_frsize
    return 0


# ── programs ────────────────────────────────────────────────────────────────────────────────────────────────


def _qemu_version(command: Sequence[str], search_path: str | None) -> str:
    """The first line reads "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"."""
    if not command:
        return ""
    program, fault = find_program(command[0], search_path)
    if program is None or fault:
        return ""
    line = _first_line([str(program), "--version"])
    return line.partition(" version ")[2].strip()


def _libvirt_version() -> str:
    """`virsh --version` prints the number alone."""
    program, fault = find_program("virsh")
    return "" if program is None or fault else _first_line([str(program), "--version"]).strip()


def _first_line(command: list[str]) -> str:
    try:
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROGRAM_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return next(iter(ended.stdout.decode(errors="replace").splitlines()), "")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return 0
