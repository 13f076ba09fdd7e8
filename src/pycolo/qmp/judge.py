"""Whether COLO can work with a QEMU, judged from its `Facts`: what prevents it, what to warn of, and what to do.

Pure. "Seen" in a text means: in this project's own runs with QEMU 7.2, 10.0 and 11.1. What can be cured from outside
is no problem (`pycolo.qmp.cures`).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pycolo.qmp.cures import Role, has_pam, loses_whole_pages
from pycolo.qmp.devices import ACCEPTED, why_refused
from pycolo.qmp.probe import Disk, Facts
from pycolo.qmp.versions import DEADLOCKS_UNDER_TCG, STALE_CODE_UNDER_TCG, Release, is_broken, shown, why_unknown

VCPUS_TRIED: Final = 4
"""Under software emulation."""

ACTIVE_MIGRATIONS: Final = frozenset({
    "setup", "cancelling", "active", "postcopy-active", "postcopy-paused", "postcopy-recover",
    "postcopy-recover-setup", "pre-switchover", "device", "wait-unplug", "colo",
})  # fmt: skip

_SHOWN_MAX: Final = 3
"""Of things that differ: the first ones show the mistake."""

_REPLICATED_DRIVERS: Final = frozenset({"quorum", "replication"})

Severity = Literal["refuse", "warn"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem. `code` is for programs, `text` one line for people."""

    severity: Severity
    code: str
    text: str
    may_be_forced: bool = False
    """A refusal that `colo protect --force` overrides: COLO begins, and is known or feared to lose the guest."""


def judge(
    facts: Facts,
    role: Role,
    cards: Sequence[str],
    *,
    has_yank_socket: bool = True,
    copies_disks: bool = False,
    is_domain: bool = False,
) -> list[Finding]:
    """The problems of this QEMU as `role`; refusals first. Empty: none.

    `cards`: the netdevs whose taps the node reads and writes itself. `copies_disks`: writable disks are judged by
    `pycolo.qmp.diskrules`. `is_domain`: libvirt writes its command line. A primary is judged before it is protected, a
    secondary while it waits for its migration.
    """
    findings = [
        *_abilities(facts),
        *_machine(facts),
        *_devices(facts),
        *_proxies(facts),
        *_network(facts, cards),
        *_state(facts, role),
        *_storage(facts, copies_disks=copies_disks),
        *_emulation(facts, is_domain=is_domain),
        *_version(facts),
    ]
    if not has_yank_socket:
        findings.append(
            _warn(
                "no-yank-socket",
                "no QMP socket for yank: if the other host hangs instead of dying, failover waits until its "
                "connections time out; start QEMU with a second -qmp socket and set [qemu] yank",
            )
        )
    return sorted(findings, key=lambda finding: finding.severity != "refuse")


def _refuse(code: str, text: str) -> Finding:
    return Finding("refuse", code, text)


def _fatal(code: str, text: str) -> Finding:
    return Finding("refuse", code, text, may_be_forced=True)


def _warn(code: str, text: str) -> Finding:
    return Finding("warn", code, text)


# ── one QEMU ────────────────────────────────────────────────────────────────────────────────────────────────


def _abilities(facts: Facts) -> Iterator[Finding]:
    if "x-colo" not in facts.capabilities:
        yield _refuse(
            "no-x-colo", "this QEMU has no migration capability x-colo: use one that was built with replication"
        )
    for command, needed_for in (("migrate", "checkpoints"), ("x-colo-lost-heartbeat", "failover")):
        if command not in facts.commands:
            yield _refuse(
                f"no-{command}",
                f"this QEMU has no command {command}, needed for {needed_for}: use one that was built with replication",
            )
    if "yank" not in facts.commands:
        yield _warn(
            "no-yank",
            "this QEMU has no command yank: if the other host hangs instead of dying, failover waits until its "
            "connections time out; use QEMU 6.0 or newer",
        )


def _machine(facts: Facts) -> Iterator[Finding]:
    if facts.machine.startswith("none"):
        yield _refuse("no-machine", "this QEMU has no machine (-machine none): start it with -machine pc")
    elif not has_pam(facts):
        kind = facts.machine.removesuffix("-machine")
        yield _fatal("untested-machine", f"machine type {kind} has not been tried with COLO: use -machine pc or q35")


def _devices(facts: Facts) -> Iterator[Finding]:
    for device in sorted(set(facts.devices or ()) - ACCEPTED):
        if (why := why_refused(device)) is not None:
            yield _refuse("outside-state", f"device {why}")
        else:
            yield _fatal("untested-device", f"device {device} has not been tried with COLO: remove it from both QEMUs")


def _proxies(facts: Facts) -> Iterator[Finding]:
    for proxy in facts.proxies:
        yield _fatal(
            "other-proxy",
            f"{proxy} is in this guest's network: QEMU's COLO proxy, or another program, holds or copies its frames; "
            "remove it with object_del, or start QEMU without it",
        )


def _network(facts: Facts, cards: Sequence[str]) -> Iterator[Finding]:
    for card in cards:
        found = facts.netdevs.get(card)
        if found is None:
            known = ", ".join(sorted(facts.netdevs)) or "none"
            yield _refuse(
                "no-netdev",
                f"there is no netdev {card}: set netdev of the [[card]] to the id of its tap; known: {known}",
            )
        elif found.type != "tap":
            yield _refuse("no-tap", f"netdev {card} is of type {found.type}: the node needs one of type tap")
        elif uses_vhost(facts, card):
            yield _fatal(
                "vhost",
                f"netdev {card} uses vhost, with which the node cannot tell for certain what the guest has read when "
                "it stops: start QEMU with vhost=off (libvirt: <driver name='qemu'/> in <interface>); with --force "
                "it is tried on both hosts first",
            )
        elif all(nic.netdev != card for nic in facts.nics):
            yield _refuse("no-nic", f"no network device of the guest uses netdev {card}: add -device …,netdev={card}")
        if found is not None and found.queues > 1:
            yield _warn(
                "multiqueue",
                f"netdev {card} has {found.queues} queues, in which frames of different connections overtake one "
                "another: a service whose answers depend on the order between connections differs more often, and "
                "each difference is a checkpoint; queues=1 and mq=off avoid that",
            )
    others = ", ".join(nic.name for nic in facts.nics if nic.netdev not in cards)
    if others:
        yield _warn(
            "several-nics",
            f"both hosts send frames of {others} unchecked: give each its [[card]], or keep it off the network",
        )


def uses_vhost(facts: Facts, netdev: str) -> bool:
    """Whether the host's kernel serves it. Of several queues QEMU says only that they are several."""
    found = facts.netdevs.get(netdev)
    if found is None or found.refusal is None:
        return False
    refusal = found.refusal.lower()
    return "vhost" in refusal or ("multiqueue" in refusal and facts.has_vhost is True)


def _state(facts: Facts, role: Role) -> Iterator[Finding]:
    if role == "primary" and not facts.is_running:
        yield _refuse("not-running", f"the VM is {facts.status}, but only a running VM can be protected: `cont` it")
    if role == "secondary" and facts.status != "inmigrate":
        yield _refuse(
            "not-incoming",
            f"the VM is {facts.status}, but a secondary must wait for a migration: start it with -incoming defer",
        )
    if facts.migration in ACTIVE_MIGRATIONS:
        yield _refuse(
            "migration-active",
            f"a migration is under way ({facts.migration}): wait until it has ended, or cancel it with migrate_cancel",
        )
    for blocker in facts.migration_blockers:
        yield _refuse(
            "migration-blocked", f"this VM cannot migrate, and a checkpoint is a migration: {' '.join(blocker.split())}"
        )


def _storage(facts: Facts, *, copies_disks: bool) -> Iterator[Finding]:
    for disk in facts.disks:
        is_firmware = disk.device.startswith("pflash")
        if not disk.is_writable or (copies_disks and not is_firmware):
            continue
        if _is_replicated(disk):
            yield _warn(
                "replicated-disk",
                f"disk {disk.device} ({disk.driver}) is replicated by QEMU; colo does not start, check or stop that: "
                "failover and `protect` rely on your set-up",
            )
        elif is_firmware:
            yield _fatal(
                "writable-firmware",
                f"{disk.device} ({disk.file}) holds the firmware's variables, which have not been tried with COLO: "
                "start both QEMUs with -machine pc or q35 without UEFI, or with read-only variables",
            )
        else:
            yield _refuse(
                "writable-disk",
                f"disk {f'{disk.device} ' if disk.device else ''}({disk.file}) is writable, and after a failover the "
                "guest would see different content: a table [disks], which may be empty, in both files has it copied "
                "to the other host; or make it read-only",
            )


def _is_replicated(disk: Disk) -> bool:
    return disk.driver in _REPLICATED_DRIVERS


def _without_preload(release: Release) -> str:
    fault = "deadlocks at a checkpoint (seen with 7.2 and 10.0)"
    if release in STALE_CODE_UNDER_TCG:
        fault = "lets the secondary run code that a checkpoint has replaced (seen with 11.1: its programs end)"
    return f"software emulation {fault} unless QEMU preloads the library whose source `colo qemu-args --preload` names"


def _emulation(facts: Facts, *, is_domain: bool) -> Iterator[Finding]:
    if not facts.is_tcg:
        return
    release = facts.version[:2]
    why = _without_preload(release)
    if facts.has_preload is None:
        yield _warn("tcg", f"{why}, and this node cannot read whether it does: make sure, or use KVM (-accel kvm)")
    elif not facts.has_preload:
        find = _fatal if release in DEADLOCKS_UNDER_TCG | STALE_CODE_UNDER_TCG else _warn
        yield find("tcg", f"{why}, and this one does not: compile and preload it, or use KVM (-accel kvm)")
    if loses_whole_pages(facts):
        loses = (
            f"software emulation in QEMU {shown(facts.version)} loses changes of RAM of a multiple of 256 KiB "
            f"({facts.ram_bytes >> 10} KiB)"
        )
        if has_pam(facts):
            stands = "so the guest stands still while `protect` copies its memory"
            yield _warn("tcg-ram", f"{loses}, {stands}: {_another_size(facts, is_domain=is_domain)}")
        else:
            yield _fatal("tcg-ram", f"{loses}: {_another_size(facts, is_domain=is_domain)}")
    if facts.vcpus > VCPUS_TRIED:
        yield _warn(
            "tcg-smp",
            f"{facts.vcpus} vCPUs under software emulation have not been tried with COLO: prefer -smp {VCPUS_TRIED}",
        )


def _another_size(facts: Facts, *, is_domain: bool) -> str:
    """The way out of `loses_whole_pages`."""
    if is_domain:
        return (
            "use KVM (<domain type='kvm'>) or QEMU 10.0 or newer on both hosts; libvirt rounds <memory> up to MiB, so "
            "no value of it helps"
        )
    return f"start both QEMUs with 8 KiB more, -m {(facts.ram_bytes >> 10) + 8}K, or use KVM (-accel kvm)"


def _version(facts: Facts) -> Iterator[Finding]:
    if (why := why_unknown(facts.version)) is not None:
        yield _fatal("broken-version" if is_broken(facts.version) else "untested-version", why)


# ── two QEMUs ───────────────────────────────────────────────────────────────────────────────────────────────


_SAME: Final[tuple[tuple[str, str, Callable[[Facts], object]], ...]] = (
    ("version", "QEMU", lambda facts: shown(facts.version)),
    ("machine", "machine type", lambda facts: facts.machine),
    ("ram", "RAM in bytes", lambda facts: facts.ram_bytes),
    ("vcpus", "number of vCPUs", lambda facts: facts.vcpus),
    ("cpu", "CPU model", lambda facts: facts.cpu_type),
    ("accelerator", "accelerator", lambda facts: facts.accelerator),
    ("devices", "devices", lambda facts: None if facts.devices is None else ", ".join(facts.devices)),
    ("nics", "network devices", lambda facts: ", ".join(f"{nic.model} {nic.mac}" for nic in facts.nics)),
)


def compare(primary: Facts, secondary: Facts) -> list[Finding]:
    """What keeps these two from forming a pair; refusals first. Empty: nothing."""
    findings: list[Finding] = []
    for code, what, value in _SAME:
        ours, theirs = value(primary), value(secondary)
        if ours != theirs and None not in (ours, theirs):
            findings.append(
                _refuse(
                    f"different-{code}",
                    f"{what}: the primary has {ours or 'none'}, the secondary {theirs or 'none'}: the primary's state "
                    "cannot be loaded there; start the secondary with the primary's command line",
                )
            )
    findings += [
        *_places_apart(primary, secondary),
        *_blocks_apart(primary, secondary),
        *_disks_apart(primary, secondary),
    ]
    virtio = {nic.netdev for nic in primary.nics if nic.model.startswith("virtio")}  # other cards use no vnet headers
    for name in sorted(primary.netdevs.keys() & secondary.netdevs.keys() & virtio):
        pair = (primary.netdevs[name].vnet_header, secondary.netdevs[name].vnet_header)
        if None not in pair and pair[0] != pair[1]:
            findings.append(
                _refuse(
                    "different-vnet-header",
                    f"netdev {name} has vnet headers on one host only: set vnet_hdr to the same value on both taps",
                )
            )
    if primary.package != secondary.package and primary.version == secondary.version:
        findings.append(
            _warn(
                "different-package",
                f"the QEMUs are of the same version, but not the same build: {primary.package or 'none'} and "
                f"{secondary.package or 'none'}",
            )
        )
    return sorted(findings, key=lambda finding: finding.severity != "refuse")


def _places_apart(primary: Facts, secondary: Facts) -> Iterator[Finding]:
    if primary.places is None or secondary.places is None or primary.devices != secondary.devices:
        return
    ours, theirs = ([str(one) for one in facts.places or ()] for facts in (primary, secondary))
    if sorted(ours) != sorted(theirs):
        only_ours, only_theirs = Counter(ours) - Counter(theirs), Counter(theirs) - Counter(ours)
        yield _refuse(
            "different-places",
            f"devices: the primary has {_some(only_ours)}, the secondary {_some(only_theirs)}: the primary's state "
            "cannot be loaded there; give each -device of both command lines the same bus and address",
        )


def _blocks_apart(primary: Facts, secondary: Facts) -> Iterator[Finding]:
    if not primary.ram_blocks or not secondary.ram_blocks or primary.ram_bytes != secondary.ram_bytes:
        return
    ours, theirs = primary.ram_blocks, secondary.ram_blocks
    apart = [
        f"{name} ({_kib(ours.get(name))} in the primary, {_kib(theirs.get(name))} in the secondary)"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
    if apart and primary.devices == secondary.devices:
        yield _refuse(
            "different-memory-blocks",
            f"blocks of memory: {_some(apart)}: the primary's state cannot be loaded there; install the same ROMs on "
            "both hosts (packages seabios and ipxe-qemu, or romfile= at the -device) and start the secondary with the "
            "primary's command line",
        )


def _disks_apart(primary: Facts, secondary: Facts) -> Iterator[Finding]:
    """Media are compared in their order: names are each host's own."""
    ours, theirs = (
        [f"{_size(disk.size_bytes)} {'writable' if disk.is_writable else 'read-only'}" for disk in facts.disks]
        for facts in (primary, secondary)
    )
    if ours != theirs and all(disk.size_bytes for disk in (*primary.disks, *secondary.disks)):
        yield _refuse(
            "different-disks",
            f"disks: the primary has {', '.join(ours) or 'none'}, the secondary {', '.join(theirs) or 'none'}: after a "
            "failover the guest would see another disk; give the secondary the same images in the same order",
        )


def _some(found: Iterable[str]) -> str:
    shown = list(found)
    more = len(shown) - _SHOWN_MAX
    return (", ".join(shown[:_SHOWN_MAX]) or "none of them") + (f" and {more} more" if more > 0 else "")


def _kib(octets: int | None) -> str:
    return "none" if octets is None else f"{octets >> 10} KiB"


def _size(octets: int) -> str:
    return f"{octets >> 20} MiB" if octets % (1 << 20) == 0 else f"{octets} bytes"
