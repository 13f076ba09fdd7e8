"""Shows what a guest is made of, and what speaks against protecting it."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from pycolo.check.commandline import traps
from pycolo.check.hosts import Need, size
from pycolo.check.table import Item, ok, refused, warning
from pycolo.config import PairConfig
from pycolo.errors import ConnectError, PycoloError, QmpTimeout
from pycolo.qmp.client import Qmp
from pycolo.qmp.cures import Role
from pycolo.qmp.judge import Finding, judge
from pycolo.qmp.probe import Facts, probe
from pycolo.qmp.process import with_process
from pycolo.qmp.versions import colo_capabilities, shown
from pycolo.transport.occupied import owner_of_path

CONNECT_S: Final = 2.0
"""A QEMU greets within milliseconds."""

GUEST: Final = "guest"
"""Where an item is, if it is about the guest."""

_FILE_NAMES: Final = re.compile(r'"filename": "([^"]+)"')

_PROC: Final = Path("/proc")


def need_of(facts: Facts) -> Need:
    """What the other host must offer."""
    return Need(facts.ram_bytes, facts.accelerator == "kvm")


async def asked_items(config: PairConfig, role: Role) -> list[Item]:
    """Without a node: the QEMU whose socket the file names. For a domain's monitor only a node asks libvirt."""
    if config.guest is not None:
        return []
    qmp = Qmp(config.qemu.qmp, config.pair, lambda event: None, lambda why: None)
    try:
        pid = (await asyncio.to_thread(owner_of_path, config.qemu.qmp, CONNECT_S))[0]
        await qmp.connect(CONNECT_S)
        facts = await probe(qmp, is_forced=True)
    except QmpTimeout:
        text = f"{config.qemu.qmp} is in use by another program: end it, or start the node"
        return [warning("guest", text)._replace(where=GUEST)]
    except (ConnectError, OSError):
        return [ok("guest", f"no QEMU runs at {config.qemu.qmp}")._replace(where=GUEST)]
    except PycoloError as error:
        return [unknown_item(error)]
    finally:
        await qmp.close()
    facts = await asyncio.to_thread(with_process, facts, pid)
    return list(guest_items(config, facts, role=role, pid=pid, is_pairs=False))


def guest_items(config: PairConfig, facts: Facts, *, role: Role, pid: int, is_pairs: bool) -> Iterator[Item]:
    """What it is made of, then what was found. `is_pairs`: this node has put it into COLO itself."""
    yield from (item._replace(where=GUEST) for item in _guest_items(config, facts, role, pid, is_pairs=is_pairs))


def _guest_items(config: PairConfig, facts: Facts, role: Role, pid: int, *, is_pairs: bool) -> Iterator[Item]:
    accelerator = "KVM" if facts.accelerator == "kvm" else "software emulation"
    vcpus = "1 vCPU" if facts.vcpus == 1 else f"{facts.vcpus} vCPUs"
    yield ok(
        "guest",
        f"QEMU {shown(facts.version)}, {facts.machine}, {accelerator}, {'in COLO' if is_pairs else facts.status}",
    )
    yield ok("guest memory", f"{size(facts.ram_bytes)}, {facts.ram_bytes >> 10} KiB")
    yield ok("guest processor", f"{vcpus}, {facts.cpu_type}")
    if facts.places is not None:
        for place in facts.places:
            yield ok("guest device", f"{place}{f', {place.id}' if place.id else ''}")
    elif facts.devices is not None:
        yield ok("guest devices", ", ".join(facts.devices) or "none")
    yield ok("guest migration", f"{facts.migration}; `colo protect` sets {_capabilities(facts)}")
    for nic in facts.nics:
        netdev = facts.netdevs.get(nic.netdev or "")
        behind = "not connected"
        if netdev is not None:
            queues = f", {netdev.queues} queues" if netdev.queues > 1 else ""
            behind = f"{netdev.id}, {netdev.type}{queues}, {netdev.info}"
        yield ok("guest card", f"{nic.model} {nic.mac}: {behind}")
    for disk in facts.disks:
        yield ok(
            "guest disk",
            f"{disk.device}: {f'{size(disk.size_bytes)} ' if disk.size_bytes else ''}{disk.driver}, "
            f"{'writable' if disk.is_writable else 'read-only'}, {_file_of(disk.file)}",
        )
    yield from _trap_items(facts, command_line(pid), is_pairs=is_pairs)
    yield from _confined_items(pid)
    yield from finding_items(judged(facts, role, config))


def judged(facts: Facts, role: Role, config: PairConfig) -> list[Finding]:
    """The judge's findings about the guest of this file."""
    return judge(
        facts,
        role,
        [card.netdev for card in config.card],
        has_yank_socket=config.qemu.yank is not None,
        copies_disks=config.disks is not None,
        is_domain=config.guest is not None,
    )


def _file_of(said: str) -> str:
    """The image, where QEMU describes it with all its overlays."""
    names = _FILE_NAMES.findall(said) if said.startswith("json:") else []
    return str(names[0]) if names else said


def _capabilities(facts: Facts) -> str:
    """What this version needs, whatever is set now."""
    wanted = colo_capabilities(facts.version)
    return ", ".join(f"{name} {'on' if is_on else 'off'}" for name, is_on in wanted.items())


def finding_items(findings: Sequence[Finding]) -> Iterator[Item]:
    """The judge's words; a refusal that may be overridden says how."""
    for finding in findings:
        if finding.severity == "warn":
            yield warning(finding.code, finding.text)
        else:
            hint = "; `colo protect --force` overrides this" if finding.may_be_forced else ""
            yield refused(finding.code, finding.text + hint)


def _trap_items(facts: Facts, words: Sequence[str], *, is_pairs: bool) -> Iterator[Item]:
    """What people are known to fail at and QEMU's own answers do not show."""
    if facts.migration == "colo" and not is_pairs:
        yield refused("another manager", "another program has put this guest into COLO: end that one first")
    elif facts.capabilities.get("x-colo") and not is_pairs:
        yield warning(
            "another manager",
            "x-colo is on, and no pair is formed: another program has prepared this guest for COLO, and may act on it: "
            "end that one; `colo protect` turns x-colo on by itself, and off again",
        )
    for trap in traps(words):
        yield refused(trap.name, trap.text) if trap.name == "-snapshot" else warning(trap.name, trap.text)


def _confined_items(pid: int) -> Iterator[Item]:
    """AppArmor, SELinux: what confines QEMU may keep it from the node's sockets."""
    with suppress(OSError):
        said = (_PROC / str(pid) / "attr/current").read_text(encoding="utf-8", errors="replace").strip("\0\n ")
        if said.endswith("(enforce)") or ":svirt" in said:
            yield warning(
                "confined",
                f"QEMU runs under {said}: let it connect to the sockets in qemu.directory "
                "(AppArmor: /etc/apparmor.d/local/abstractions/libvirt-qemu)",
            )


def command_line(pid: int, proc: Path = _PROC) -> list[str]:
    """Of the guest's process; empty if it cannot be read."""
    if pid <= 0:
        return []
    with suppress(OSError):
        octets = (proc / str(pid) / "cmdline").read_bytes()
        return octets.decode(errors="replace").rstrip("\0").split("\0")
    return []


def unknown_item(error: PycoloError) -> Item:
    """A guest that answers, but not with what is needed."""
    return refused("guest", str(error))._replace(where=GUEST)
