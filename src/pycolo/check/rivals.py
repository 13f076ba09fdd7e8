"""What else on this host manages the same guest, or will after its next start."""

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pycolo.check.commandline import options
from pycolo.check.moment import Moment
from pycolo.check.table import Item, ok, refused, warning
from pycolo.config import PairConfig
from pycolo.failover.pacemaker import PacemakerArbiter

_PROC: Final = Path("/proc")
_ETC: Final = Path("/etc")
_UNIT: Final = "colo@"


def rival_items(config: PairConfig, moment: Moment, *, proc: Path = _PROC, etc: Path = _ETC) -> Iterator[Item]:
    """Refused: two that act on one guest. Blocks for some milliseconds."""
    found = [*_nodes(config, moment, proc), *_units(config, etc), *_autostarted(config, etc)]
    yield from found or [ok("other managers", "none of this guest on this host: no other node, no autostart")]


def _nodes(config: PairConfig, moment: Moment, proc: Path) -> Iterator[Item]:
    """Other nodes of this pair that have the same record, or the same QEMU."""
    own = {moment.pid, os.getpid()}
    for process in proc.iterdir():
        if not process.name.isdigit() or int(process.name) in own or not _is_same_host(process, proc):
            continue
        path = _file_of_node(process)
        if path is not None and is_file_of(path, config):
            text = f"process {process.name} is a node of this guest as well ({path}): end one of the two"
            yield refused("other managers", text)


def _is_same_host(process: Path, proc: Path) -> bool:
    """In a container the same path is another file; a process that cannot be looked at is not taken for a node."""
    try:
        return (process / "ns/mnt").readlink() == (proc / "self/ns/mnt").readlink()
    except OSError:
        return False


def _file_of_node(process: Path) -> Path | None:
    """The file of a `colo node`; None: another program, or one that this user may not look at."""
    try:
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        if "node" not in words or not any(Path(word).name == "colo" for word in words[:3]):
            return None
        given = dict(options(words)).get("-config", "")
        return (process / "cwd").readlink() / given if given else None
    except OSError:
        return None


def is_file_of(path: Path, config: PairConfig) -> bool:
    """Whether this is the file of a node with the same QEMU, or with the same record of the same pair."""
    tables = _read(path)
    qemu, guest = tables.get("qemu"), tables.get("guest")
    same_qemu = isinstance(qemu, dict) and qemu.get("qmp") == str(config.qemu.qmp)
    same_qemu |= config.guest is not None and isinstance(guest, dict) and guest.get("domain") == config.guest.domain
    return same_qemu or (tables.get("pair") == config.pair and tables.get("state") == str(config.state))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _units(config: PairConfig, etc: Path) -> Iterator[Item]:
    """systemd starts a node where Pacemaker is to do that, or two nodes of one guest."""
    wanted = sorted((etc / "systemd/system").glob(f"*.wants/{_UNIT}*.service"))
    names = [path.name.removesuffix(".service") for path in wanted]
    enabled = [name for name in names if is_file_of(etc / f"colo/{name.removeprefix(_UNIT)}.toml", config)]
    if enabled and config.arbiter.kind == PacemakerArbiter.name:
        yield refused(
            "other managers",
            f"{enabled[0]} is enabled, and Pacemaker starts this node as well: systemctl disable {enabled[0]}",
        )
    elif len(enabled) > 1:
        text = f"{' and '.join(enabled)} are enabled for the same guest: systemctl disable all but one"
        yield refused("other managers", text)


def _autostarted(config: PairConfig, etc: Path) -> Iterator[Item]:
    """Libvirt starts a domain of the guest's name with the host, on either: then both have one."""
    if config.guest is not None:  # looked at by `domain`
        return
    names = {config.pair, _name_of(config.qemu.command)} - {""}
    for name in sorted(names):
        if os.path.lexists(etc / f"libvirt/qemu/autostart/{name}.xml"):
            yield warning(
                "autostart",
                f"libvirt starts the domain {name} with this host, although the other host may serve it: "
                f"virsh autostart --disable {name}, on both hosts",
            )


def _name_of(words: list[str]) -> str:
    """Of the guest, in `-name`: "vm1", "guest=vm1,debug-threads=on"."""
    value = dict(options(words)).get("-name", "")
    first = value.split(",")[0]
    return first.removeprefix("guest=")
