"""A QEMU's command line, read as far as a check needs it: of a process that runs, or in `qemu.command`."""

import json
import os
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

_CHARDEVS: Final = frozenset({"-chardev", "-serial", "-parallel", "-monitor", "-qmp", "-qmp-pretty", "-mon"})
"""Options whose sockets wait for a client, unless wait=off is written."""

_SOCKETS: Final = ("socket", "unix:", "tcp:", "telnet:", "tn3270:", "websocket:")
_SHAPE: Final = frozenset({"-machine", "-accel", "-cpu", "-m", "-smp", "-device", "-global", "-vga", "-bios", "-numa"})
"""What a guest is made of, and so must be alike on both hosts."""

_ALIASES: Final = {"-M": "-machine"}
_OWN: Final = ("id=", "netdev=", "drive=", "chardev=")
"""Names of a host's own objects: they are not in the migrated state."""

_MEDIA: Final = frozenset({"-hda", "-hdb", "-hdc", "-hdd", "-cdrom", "-pflash"})
_FILES: Final = _MEDIA | {"-kernel", "-initrd", "-bios", "-dtb"}
_READ_ONLY: Final = frozenset({("readonly", "on"), ("readonly", ""), ("read-only", "on")})
_UNITS: Final = {"K": 10, "M": 20, "G": 30, "T": 40, "": 20}
_MEMORY: Final = re.compile(r"(?:size=)?(\d+)([KMGT]?)B?((?:,.*)?)", re.IGNORECASE)
_QCOW2: Final = b"QFI\xfb"
_QCOW2_SIZE: Final = struct.Struct(">24xQ")


class Option(NamedTuple):
    """One option; `value` is empty where it has none."""

    name: str
    value: str


class Trap(NamedTuple):
    """What is known to go wrong with a command line. `is_fatal`: a secondary that is started so never comes."""

    name: str
    text: str
    is_fatal: bool


def options(words: Sequence[str]) -> list[Option]:
    """Options and their values, in order."""
    found: list[Option] = []
    for word in words[1:]:
        if word.startswith("-") and len(word) > 1:
            name = "-" + word.lstrip("-")
            found.append(Option(_ALIASES.get(name, name), ""))
        elif found and not found[-1].value:
            found[-1] = Option(found[-1].name, word)
    return found


def tap_of(words: Sequence[str], netdev: str) -> str | None:
    """The tap that the netdev of this id names; None: it names none."""
    for name, value in options(words):
        said = _said(value) if name == "-netdev" else {}
        if said.get("id") == netdev and (value.startswith("tap,") or said.get("type") == "tap"):
            return said.get("ifname")
    return None


def has_netdev(words: Sequence[str], netdev: str) -> bool:
    """Whether the command line has a netdev of this id."""
    return any(name == "-netdev" and _said(value).get("id") == netdev for name, value in options(words))


def traps(words: Sequence[str]) -> Iterator[Trap]:
    """What people are known to fail at."""
    for name, value in options(words):
        if name in _CHARDEVS and _waits(value):
            text = (
                f"{value}: a QEMU that is started so waits for a client there before it does anything: write wait=off"
            )
            yield Trap("wait=on", text, is_fatal=True)
        elif name == "-snapshot":
            text = "the guest's writes are in files without a name, which no other host has: remove it"
            yield Trap("-snapshot", text, is_fatal=True)
        elif name == "-drive" and _said(value).get("snapshot") == "on":
            text = (
                f"{value}: the guest's writes are in a file without a name, which no other host has: remove snapshot=on"
            )
            yield Trap("-snapshot", text, is_fatal=True)


def start_traps(words: Sequence[str]) -> Iterator[Trap]:
    """As `traps`, of a command with which a node starts QEMU."""
    yield from traps(words)
    for name, value in options(words):
        if name == "-daemonize":
            text = "the node takes the end of the process that it has started for QEMU's end: remove -daemonize"
            yield Trap(name, text, is_fatal=True)
        elif name == "-incoming":
            yield Trap(name, f"{value}: the node adds -incoming itself, where it is needed: remove it", is_fatal=True)
        elif name == "-netdev" and _said(value).get("vhost") in ("on", "yes", "true"):
            text = f"{value}: `colo protect` refuses vhost without --force: write vhost=off on both hosts"
            yield Trap("vhost", text, is_fatal=False)


def _waits(value: str) -> bool:
    """A listening socket waits unless it is told not to."""
    parts = value.split(",")
    if not value.startswith(_SOCKETS) or any(one in parts for one in ("wait=off", "nowait", "wait=no")):
        return False
    return any(one in parts for one in ("server", "server=on", "server=yes"))


def shape(words: Sequence[str]) -> tuple[str, ...]:
    """What the guest is made of, in a form in which two hosts' command lines can be compared."""
    return tuple(sorted(f"{name} {_alike(name, value)}" for name, value in options(words) if name in _SHAPE))


def _alike(name: str, value: str) -> str:
    """Names of the host's own are left out, and the order of properties does not matter."""
    if name == "-m":
        found = _MEMORY.fullmatch(value)
        return f"{(int(found[1]) << _UNITS[found[2].upper()]) >> 10}K{found[3]}" if found else value
    first, *rest = value.split(",")
    return ",".join([first, *sorted(one for one in rest if not one.startswith(_OWN))])


def _said(value: str) -> dict[str, str]:
    """The properties of an option; those of JSON as far as they are texts."""
    if value.startswith("{"):
        with suppress(ValueError):
            found = json.loads(value)
            words = {True: "on", False: "off"}
            texts = {key: words.get(inner, inner) if isinstance(inner, bool) else inner for key, inner in found.items()}
            return {key: inner for key, inner in texts.items() if isinstance(inner, str)}
        return {}
    return dict(one.partition("=")[::2] for one in value.split(","))


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────


class File(NamedTuple):
    """A file of this host, by its whole path. `is_medium`: a guest sees it as a disk."""

    option: str
    path: Path
    is_medium: bool = False
    is_writable: bool = False


def files(words: Sequence[str]) -> Iterator[File]:
    """Those that a command line names, in order."""
    for name, value in options(words):
        said = _said(value) if name in ("-drive", "-blockdev") else {}
        path = value if name in _FILES else _file_of(name, said)
        if path.startswith("/"):
            is_medium = name in _MEDIA or bool(said)
            read_only = name == "-cdrom" or said.get("media") == "cdrom" or not _READ_ONLY.isdisjoint(said.items())
            yield File(name, Path(path), is_medium, is_writable=is_medium and not read_only)


def read_only_media(words: Sequence[str]) -> list[Path]:
    """Images of which each host has its own copy; writable ones are the node's to compare and to copy."""
    return [file.path for file in files(words) if file.is_medium and not file.is_writable]


def _file_of(name: str, said: Mapping[str, str]) -> str:
    if name == "-drive":
        return said.get("file", "")
    if name == "-blockdev":
        return said.get("filename", said.get("file.filename", ""))
    return ""


def size_of_image(path: Path) -> int:
    """What a guest sees of it, in bytes; 0: it cannot be read. Formats other than qcow2 are taken for raw."""
    try:
        with path.open("rb") as file:
            head = file.read(_QCOW2_SIZE.size)
            if head.startswith(_QCOW2) and len(head) == _QCOW2_SIZE.size:
                return int(_QCOW2_SIZE.unpack(head)[0])
            return file.seek(0, os.SEEK_END)
    except OSError:
        return 0
