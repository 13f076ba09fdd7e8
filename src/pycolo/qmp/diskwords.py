"""The disks in QEMU's command line: found in the primary's form, and written in the secondary's.

::

    primary                            secondary
    -device …,drive=disk-a             -device …,drive=disk-a              (without an iothread)
         │                                  │
      disk-a  the image                  disk-a         replication
                                            │
                                         colo-active-0  what the guest has written since the last checkpoint
                                            │
                                         colo-hidden-0  what the primary has overwritten since then
                                            │
                                         colo-parent-0  the image: a copy of the primary's, exported over NBD

The replication node has the name that the device asks for, so that the guest's part of the command line stays as it is,
and a survivor's disk has the name that it had on the host before.

Pure. A word that says something else about a disk than what is known here is refused, never guessed at.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from pycolo.errors import ConfigError

OPTION: Final = "qemu.command"

DRIVE_KEYS: Final = frozenset(
    {"if", "id", "file", "format", "cache", "aio", "discard", "detect-zeroes", "readonly", "media"}
)
"""Of a -drive that is written anew; werror and rerror belong to its device."""

CACHES: Final[Mapping[str, Mapping[str, bool]]] = {
    "writeback": {},
    "none": {"direct": True},
    "unsafe": {"no-flush": True},
}
"""-drive cache=… → the node's `cache`. The other two modes belong to the device as well."""

LOCAL: Final = frozenset({"file", "host_device"})
"""Protocol drivers of an image that this node can create, open and measure."""

READ_ONLY_DEVICES: Final = ("scsi-cd", "ide-cd", "floppy")

Options = dict[str, Any]


class Nodes(NamedTuple):
    """The names of one disk's block nodes and jobs; `number` counts the disks."""

    number: int

    @property
    def parent(self) -> str:
        """The image of a secondary."""
        return f"colo-parent-{self.number}"

    @property
    def active(self) -> str:
        """What the guest has written."""
        return f"colo-active-{self.number}"

    @property
    def hidden(self) -> str:
        """What the primary has overwritten."""
        return f"colo-hidden-{self.number}"

    @property
    def top(self) -> str:
        """The replication node of a guest that libvirt has started; else it has the disk's own name."""
        return f"colo-disk-{self.number}"

    @property
    def export(self) -> str:
        """The secondary's NBD export, as QEMU's id."""
        return f"colo-export-{self.number}"

    @property
    def target(self) -> str:
        """The primary's end of the NBD connection."""
        return f"colo-nbd-{self.number}"

    @property
    def job(self) -> str:
        """The primary's mirror."""
        return f"colo-mirror-{self.number}"

    @property
    def backup(self) -> str:
        """The primary's job in a round of a resynchronisation."""
        return f"colo-backup-{self.number}"

    @property
    def filter(self) -> str:
        """The node that the mirror puts above the disk's."""
        return f"colo-mirror-top-{self.number}"


@dataclass(frozen=True, slots=True)
class CommandDisk:
    """One writable disk of a command line."""

    name: str
    """What the device's `drive` says."""
    path: Path
    format: str
    node: Options
    """Its block node, as -blockdev takes it, with the protocol node inside."""
    words: tuple[int, ...]
    """Places of the values of -blockdev and -drive that define it."""
    device: int | None
    """Place of the value of its -device; None: QEMU makes one for its -drive, after all others."""


class Overlays(NamedTuple):
    """Files of one disk's overlays."""

    active: Path
    hidden: Path


def overlays_in(directory: Path, name: str) -> Overlays:
    """Where they are."""
    return Overlays(directory / f"{name}.active.qcow2", directory / f"{name}.hidden.qcow2")


# ── finding ─────────────────────────────────────────────────────────────────────────────────────────────────


def command_disks(command: Sequence[str]) -> list[CommandDisk]:
    """The writable disks, in the order of their devices. Raises `ConfigError` for one that cannot be copied."""
    nodes, drives = _defined(command)
    found: list[CommandDisk] = []
    for place, options in _values(command, "device"):
        name = options.get("drive")
        if name is None or options.get("driver") in READ_ONLY_DEVICES:
            continue
        disk = _disk(str(name), place, nodes, drives)
        if disk is not None:
            found.append(disk)
    for name, (_, options) in drives.items():
        if options.get("if") == "virtio":
            disk = _disk(name, None, nodes, drives)
            found += [] if disk is None else [disk]
    return found


def _defined(command: Sequence[str]) -> tuple[dict[str, tuple[int, Options]], dict[str, tuple[int, Options]]]:
    """-blockdev by node-name, -drive by id."""
    nodes: dict[str, tuple[int, Options]] = {}
    drives: dict[str, tuple[int, Options]] = {}
    for place, options in _values(command, "blockdev"):
        nodes[str(options.get("node-name"))] = (place, options)
    virtio = 0
    for place, options in _values(command, "drive"):
        is_copied = options.get("media") != "cdrom" and not is_on(options.get("readonly"))
        if options.get("if") not in ("none", "virtio", "pflash") and is_copied:
            raise _wrong("-drive with if=virtio, or with if=none, an id and a -device for it", command[place])
        # QEMU counts the drives of an interface.
        drives[str(options.get("id", f"virtio{virtio}" if options.get("if") == "virtio" else None))] = (place, options)
        virtio += options.get("if") == "virtio"
    return nodes, drives


def _disk(
    name: str, device: int | None, nodes: Mapping[str, tuple[int, Options]], drives: Mapping[str, tuple[int, Options]]
) -> CommandDisk | None:
    if name in drives:
        place, options = drives[name]
        if is_on(options.get("readonly")) or options.get("media") == "cdrom":
            return None
        node = _node_of_drive(name, options)
        words = [place]
    elif name in nodes:
        place, node = nodes[name]
        words = [place]
    else:
        raise _wrong(f"-blockdev node-name={name} or -drive id={name}, since a -device uses it", name)
    if is_on(node.get("read-only")):
        return None
    protocol = node.get("file")
    if isinstance(protocol, str):
        if protocol not in nodes:
            raise _wrong(f"-blockdev node-name={protocol}, since {name} uses it", name)
        place, protocol = nodes[protocol]
        words.append(place)
    if not isinstance(protocol, dict) or protocol.get("driver") not in LOCAL or "filename" not in protocol:
        raise _wrong(f"an image in a file or on a device of this host for {name}", json.dumps(protocol))
    path = str(protocol["filename"])
    if ":" in path.partition("/")[0]:  # QEMU's programs take what is before it for a protocol, such as nbd
        raise _wrong(f"a path for {name}, with ./ in front if its first part has a colon", path)
    if isinstance(node.get("backing"), str | dict):
        raise _wrong(f"an image without a backing file for {name}", json.dumps(node["backing"]))
    node = {**node, "file": protocol}
    return CommandDisk(name, Path(path), str(node["driver"]), node, tuple(words), device)


def _node_of_drive(name: str, options: Options) -> Options:
    unknown = sorted(options.keys() - DRIVE_KEYS)
    if unknown:
        raise _wrong(f"-drive id={name} without {', '.join(unknown)}, or -blockdev instead", name)
    if "format" not in options or "file" not in options:
        raise _wrong(f"-drive id={name} with file=… and format=…", name)
    cache = str(options.get("cache", "writeback"))
    if cache not in CACHES:
        raise _wrong(f"-drive id={name} with cache={', '.join(CACHES)}, or -blockdev instead", cache)
    path = str(options["file"])
    protocol: Options = {"driver": "host_device" if path.startswith("/dev/") else "file", "filename": path}
    node: Options = {"driver": options["format"], "node-name": name}
    for part in (protocol, node):
        if CACHES[cache]:
            part["cache"] = dict(CACHES[cache])
        if "discard" in options:
            part["discard"] = options["discard"]
    if "aio" in options:
        protocol["aio"] = options["aio"]
    if "detect-zeroes" in options:
        node["detect-zeroes"] = options["detect-zeroes"]
    return {**node, "file": protocol}


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────


def secondary_command(command: Sequence[str], disks: Sequence[tuple[CommandDisk, Path, Overlays]]) -> list[str]:
    """`command` with each disk in the secondary's form: the disk, its image there and its overlays, in the order of
    their numbers.
    """
    words: dict[int, list[str]] = {}
    devices: dict[int, str] = {}
    for number, (disk, path, overlays) in enumerate(disks):
        first, *rest = disk.words
        words[first] = _chain(Nodes(number), disk, path, overlays)
        words |= {place: [] for place in rest}
        if disk.device is not None:
            devices[disk.device] = _device(command[disk.device])
    written: list[str] = []
    place = 0
    while place < len(command):
        if place + 1 in words:
            written += words[place + 1]
            place += 2
            continue
        written.append(devices.get(place, command[place]))
        place += 1
    for disk, _, _ in disks:
        if disk.device is None:
            written += ["-device", _device(f"virtio-blk-pci,drive={disk.name}")]
    return written


def _chain(names: Nodes, disk: CommandDisk, path: Path, overlays: Overlays) -> list[str]:
    protocol = {key: value for key, value in disk.node["file"].items() if key != "node-name"}
    parent = {**disk.node, "node-name": names.parent, "file": {**protocol, "filename": str(path)}}
    replication = replication_node(names, disk.name, overlays, names.parent)
    return ["-blockdev", json.dumps(parent), "-blockdev", json.dumps(replication)]


def replication_node(names: Nodes, name: str, overlays: Overlays, parent: str) -> Options:
    """A secondary's disk as -blockdev takes it: `name`, above the block node `parent`, which is its image."""
    return {
        "driver": "replication",
        "node-name": name,
        "mode": "secondary",
        "top-id": name,
        "file": {
            "driver": "qcow2",
            "node-name": names.active,
            "file": {"driver": "file", "filename": str(overlays.active)},
            "backing": {
                "driver": "qcow2",
                "node-name": names.hidden,
                "file": {"driver": "file", "filename": str(overlays.hidden)},
                "backing": parent,
            },
        },
    }


def _device(word: str) -> str:
    """Without an iothread, with which a secondary aborts at a failover; and errors are reported to the guest: one that
    stops for them does not survive the next checkpoint.
    """
    options = parsed(word, "driver")
    kept = {name: value for name, value in options.items() if not name.startswith("iothread")}
    kept |= {"werror": "report", "rerror": "report"}
    if word.startswith("{"):
        return json.dumps(kept)
    driver = kept.pop("driver")
    return ",".join([str(driver), *(f"{name}={str(value).replace(',', ',,')}" for name, value in kept.items())])


# ── QEMU's syntax ───────────────────────────────────────────────────────────────────────────────────────────


def _values(command: Sequence[str], option: str) -> list[tuple[int, Options]]:
    """The values of an option: the place of each, and what it says."""
    implied = "driver" if option in ("device", "blockdev") else "file"
    return [
        (place + 1, parsed(command[place + 1], implied, is_nested=option == "blockdev"))
        for place, word in enumerate(command[:-1])
        if word in (f"-{option}", f"--{option}")
    ]


def parsed(word: str, implied: str, *, is_nested: bool = False) -> Options:
    """An option's value: JSON, or key=value pairs, whose first key may be `implied`. Raises `ConfigError`."""
    if word.startswith("{"):
        try:
            options = json.loads(word)
        except ValueError as error:
            raise _wrong("JSON", word) from error
        assert isinstance(options, dict), "it begins with a brace"
        return options
    options = {}
    for number, part in enumerate(word.replace(",,", "\0").split(",")):
        key, is_pair, value = part.replace("\0", ",").partition("=")
        if not is_pair:
            key, value = (implied, key) if number == 0 else (key, "on")
        _put(options, key.split(".") if is_nested else [key], value)
    return options


def _put(options: Options, keys: Sequence[str], value: str) -> None:
    for key in keys[:-1]:
        options = options.setdefault(key, {})
        if not isinstance(options, dict):
            raise _wrong("key=value pairs that do not contradict each other", key)
    options[keys[-1]] = value


def is_on(value: object) -> bool:
    """A truth value of QEMU's, in JSON or in words."""
    return value in (True, "on", "yes", "true", "y")


def _wrong(expected: str, found: str) -> ConfigError:
    return ConfigError(OPTION, expected, found)
