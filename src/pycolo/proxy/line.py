"""A whole command line: what it asks for, checked before anything is opened.

Chardevs may follow the objects that use them. Each chardev belongs to one object. QEMU's machine options have no
meaning here: harmless ones are ignored with a note, the others are refused.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from pycolo.proxy import objects
from pycolo.proxy.chardev import Chardev, parse_chardev
from pycolo.proxy.objects import FilterSpec, NetdevSpec, ObjectSpec
from pycolo.proxy.qemuopts import Group, OptionError, did_you_mean, parse_group

_MACHINE_FLAGS: Final = (
    "nodefaults", "nographic", "no-user-config", "S", "no-reboot", "no-shutdown", "enable-kvm", "no-acpi", "no-hpet",
)  # fmt: skip
_MACHINE_VALUES: Final = (
    "machine", "M", "name", "display", "vga", "accel", "cpu", "m", "smp", "rtc", "uuid", "boot", "k", "L", "overcommit",
)  # fmt: skip
_NONE_ONLY: Final = ("monitor", "serial", "parallel", "net", "nic", "audio")
"""Harmless with the value `none`; with any other value a program would wait for an answer."""
_QMP: Final = ("qmp", "qmp-pretty")
_GUEST_OPTIONS: Final = (
    "device", "drive", "blockdev", "kernel", "initrd", "append", "cdrom", "hda", "hdb", "incoming", "usb", "usbdevice",
    "bios", "numa", "global", "fsdev", "virtfs", "tpmdev", "vnc", "spice", "gdb", "s", "icount", "watchdog", "loadvm",
    "snapshot", "smbios", "acpitable", "fw_cfg", "readconfig", "preconfig", "plugin", "trace", "d", "D", "mon",
)  # fmt: skip
_OWN_OPTIONS: Final = ("chardev", "object", "netdev", "metrics", "pcap", "spin")
_SPIN_US_MAX: Final = 1_000_000
_NOT_HERE: Final = {
    "daemonize": "colo proxy stays in the foreground: run it under a service manager",
    "pidfile": "colo proxy writes no PID file: run it under a service manager",
}


class Line(msgspec.Struct):
    """What a command line asks for.

    `metrics`: (host, port); `pcap`: a path; `spin_us`: how long an object's thread polls before it sleeps;
    `chains`: netdev → its filters, in QEMU's list order.
    """

    chardevs: dict[str, Chardev] = {}
    netdevs: dict[str, NetdevSpec] = {}
    objects: list[ObjectSpec] = []
    chains: dict[str, list[FilterSpec]] = {}
    metrics: tuple[str, int] | None = None
    pcap: Path | None = None
    spin_us: int = 0
    notes: list[str] = []


def parse_line(arguments: Sequence[str]) -> Line:
    """Parse a command line. Raises `OptionError`, and `ConnectError` for a host name without an address."""
    line = Line()
    groups = _groups(arguments, line)
    for group in groups["chardev"]:
        chardev = parse_chardev(group)
        if chardev.id in line.chardevs:
            raise OptionError(group.where, f"id '{chardev.id}' is used for two chardevs")
        line.chardevs[chardev.id] = chardev
        line.notes.extend(chardev.notes)
    for group in groups["netdev"]:
        netdev = objects.read_netdev(group, line.notes)
        if netdev.id in line.netdevs:
            raise OptionError(group.where, f"id '{netdev.id}' is used for two netdevs")
        line.netdevs[netdev.id] = netdev
        line.chains[netdev.id] = []
    _read_objects(groups["object"], line)
    if not line.objects:
        raise OptionError("-object", f"no object is given; give at least one of {', '.join(objects.OBJECT_KINDS[:-1])}")
    if line.pcap is not None and not any(isinstance(spec, objects.CompareSpec) for spec in line.objects):
        raise OptionError(
            "--pcap", "it records what a colo-compare receives, and none is given; use filter-dump for other frames"
        )
    for name, netdev in line.netdevs.items():
        _check_vnet(netdev, line.chains[name])
    return line


# ── options ───────────────────────────────────────────────────────────────────────────────────────────────────


def _groups(arguments: Sequence[str], line: Line) -> dict[str, list[Group]]:
    """Sort the words by option; `-x` and `--x` are the same."""
    found: dict[str, list[Group]] = {"chardev": [], "object": [], "netdev": []}
    head_keys = {"chardev": "backend", "object": "qom-type", "netdev": "type"}
    ignored: list[str] = []
    pending = list(arguments)
    while pending:
        word = pending.pop(0)
        if not word.startswith("-") or word in ("-", "--"):
            raise OptionError(word, "an option was expected here (-chardev, -object, -netdev)")
        name, equals, value = word.lstrip("-").partition("=")
        if equals:
            pending.insert(0, value)
        if name in head_keys:
            found[name].append(parse_group(f"-{name}", _value(word, pending), head_keys[name]))
        elif name == "metrics":
            line.metrics = _host_and_port(_value(word, pending))
        elif name == "pcap":
            line.pcap = Path(_value(word, pending))
        elif name == "spin":
            line.spin_us = _microseconds(_value(word, pending))
        elif name in _MACHINE_FLAGS and not equals:
            ignored.append(f"-{name}")
        else:
            ignored.append(_machine_option(name, word, pending))
    if ignored:
        line.notes.append(f"ignored, no meaning here: {' '.join(ignored)}")
    return found


def _machine_option(name: str, word: str, pending: list[str]) -> str:
    """Consume one of QEMU's options with a value, if it is harmless. Returns it as the note shows it."""
    if name in _MACHINE_VALUES:
        return f"-{name} {_value(word, pending)}"
    if name in _QMP:
        return f"-{name} {_value(word, pending)} (no monitor here; SIGUSR1 and --metrics show the state)"
    if name in _NONE_ONLY:
        value = _value(word, pending)
        if value != "none":
            raise OptionError(f"-{name} {value}", "only 'none' is accepted; SIGUSR1 and --metrics show the state")
        return f"-{name} none"
    if name in _NOT_HERE:
        raise OptionError(f"-{name}", _NOT_HERE[name])
    if name in _GUEST_OPTIONS:
        raise OptionError(f"-{name}", "no guest runs here: give only the -chardev, -object and -netdev options")
    known = (*_OWN_OPTIONS, *_MACHINE_FLAGS, *_MACHINE_VALUES, *_NONE_ONLY)
    raise OptionError(
        word.partition("=")[0], f"unknown option{did_you_mean(f'-{name}', [f'-{other}' for other in known])}"
    )


def _value(word: str, pending: list[str]) -> str:
    if not pending:
        raise OptionError(word, "its value is missing")
    return pending.pop(0)


def _host_and_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536):
        raise OptionError("--metrics", f"HOST:PORT was expected, not '{text}'")
    return host.strip("[]") or "127.0.0.1", int(port)


def _microseconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_SPIN_US_MAX)) and int(text) <= _SPIN_US_MAX):
        raise OptionError("--spin", f"microseconds from 0 to {_SPIN_US_MAX} were expected, not '{text}'")
    return int(text)


# ── objects ───────────────────────────────────────────────────────────────────────────────────────────────────


def _read_objects(groups: list[Group], line: Line) -> None:
    ids: set[str] = set()
    used: dict[str, str] = {}
    iothreads: set[str] = set()
    wanted_iothreads: list[tuple[str, str]] = []
    for group in groups:
        wanted_iothreads += [(group.where, value) for key, value in group.items if key == "iothread" and value]
        spec = _read_object(group, line.notes)
        name = spec if isinstance(spec, str) else spec.id
        if name in ids:
            raise OptionError(group.where, f"id '{name}' is used for two objects")
        ids.add(name)
        if isinstance(spec, str):
            iothreads.add(spec)
            continue
        for role, chardev in spec.chardevs.items():
            _claim(group.where, f"{spec.id}.{role}", role, chardev, line, used)
        if isinstance(spec, FilterSpec):
            _join_chain(group.where, spec, line)
        line.objects.append(spec)
    for where, name in wanted_iothreads:
        if name not in iothreads:
            raise OptionError(where, f"there is no iothread '{name}'{did_you_mean(name, iothreads)}")
    if iothreads:
        line.notes.append(f"iothread {', '.join(sorted(iothreads))}: ignored, each object has its own thread")
    for unused in sorted(line.chardevs.keys() - used.keys()):
        line.notes.append(f"chardev '{unused}' is not used by any object")


def _read_object(group: Group, notes: list[str]) -> ObjectSpec | str:
    if group.head == objects.COMPARE:
        return objects.read_compare(group, notes)
    if group.head == objects.REWRITER:
        return objects.read_rewriter(group)
    if group.head == objects.MIRROR:
        return objects.read_mirror(group)
    if group.head == objects.REDIRECTOR:
        return objects.read_redirector(group)
    if group.head == objects.DUMP:
        return objects.read_dump(group)
    if group.head == objects.IOTHREAD:
        return objects.read_iothread(group)
    hint = did_you_mean(group.head, objects.OBJECT_KINDS) or f"; known are {', '.join(objects.OBJECT_KINDS)}"
    raise OptionError("-object", f"unknown object '{group.head}'{hint}")


def _claim(where: str, use: str, role: str, chardev: str, line: Line, used: dict[str, str]) -> None:
    """Each chardev has one user: two readers would split its frames, two writers would mix theirs."""
    if chardev not in line.chardevs:
        raise OptionError(
            where, f"property '{role}': there is no chardev '{chardev}'{did_you_mean(chardev, line.chardevs)}"
        )
    if chardev in used:
        raise OptionError(where, f"property '{role}': chardev '{chardev}' is in use by {used[chardev]} already")
    used[chardev] = use


def _join_chain(where: str, spec: FilterSpec, line: Line) -> None:
    """Insert a filter into its netdev's list as QEMU does: at an end, or next to another filter."""
    if spec.netdev not in line.chains:
        raise OptionError(
            where, f"property 'netdev': there is no netdev '{spec.netdev}'{did_you_mean(spec.netdev, line.chains)}"
        )
    chain = line.chains[spec.netdev]
    if spec.position == "head":
        chain.insert(0, spec)
    elif spec.position == "tail":
        chain.append(spec)
    else:
        name = spec.position.removeprefix("id=")
        index = next((index for index, other in enumerate(chain) if other.id == name), None)
        if index is None:
            raise OptionError(where, f"property 'position': no filter '{name}' before it on netdev '{spec.netdev}'")
        chain.insert(index + spec.is_behind, spec)


def _check_vnet(netdev: NetdevSpec, chain: list[FilterSpec]) -> None:
    """A device either has vnet headers or not; all streams that carry its frames must agree."""
    speakers = [spec for spec in chain if spec.kind != objects.DUMP]
    having = {spec.has_vnet for spec in speakers}
    if len(having) > 1:
        odd = next(spec for spec in speakers if not spec.has_vnet)
        raise OptionError(
            f"-object {odd.kind}", f"'{odd.id}': vnet_hdr_support must be the same in all filters of '{netdev.id}'"
        )
    if netdev.vnet_hdr is False and True in having:
        raise OptionError("-netdev tap", f"'{netdev.id}': vnet_hdr=off, but its filters have vnet_hdr_support=on")
