"""Judges the facts of one host, and of both hosts of a pair. Pure."""

from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

from pycolo.check.hostfacts import HostFacts
from pycolo.check.table import Item, ok, refused, warning

CLOCK_S_MAX: Final = 1.0
"""Above this, lines of the two logs cannot be put in order, and certificates are judged differently."""

LINK_MBIT_S_MIN: Final = 1_000
"""Below this, copying 10 MB, an idle guest's checkpoint, takes more than a tenth of a second."""

LATENCY_S_MAX: Final = 0.002
"""Every answer to a client waits for the link twice; the other node's own share is a tenth of a millisecond."""

SPACE_BYTES_MIN: Final = 64 << 20
"""Of a file system that logs and images share: records are small, but all of them must be written."""

COPIES: Final = 2
"""A secondary's QEMU holds the guest's memory and, beside it, the copy in which a checkpoint is collected."""

RESERVE_BYTES: Final = 256 << 20
"""For QEMU itself, the node, and what the host needs to stay alive."""

COPIED_BYTES: Final = 10 << 20
"""What a checkpoint of an idle guest copies, for an idea of the link."""


class Distance(NamedTuple):
    """The other host, as measured over the link. `offset_s`: its clock less this one's, to within `latency_s`."""

    latency_s: float
    offset_s: float


class Need(NamedTuple):
    """What the guest that is to be protected needs of a host. `uses_kvm`: hardware virtualisation."""

    ram_bytes: int
    uses_kvm: bool


def host_items(facts: HostFacts) -> Iterator[Item]:
    """Of one host by itself."""
    yield ok("host", f"{facts.hostname}: Linux {facts.kernel}, {facts.cpus} processors, {facts.cpu_model or 'unknown'}")
    yield ok("memory", f"{size(facts.available_bytes)} of {size(facts.memory_bytes)} available")
    if facts.qemu:
        yield ok("qemu.command version", facts.qemu)
    if facts.libvirt:
        yield ok("libvirt", facts.libvirt)
    if facts.apparmor:
        yield ok("AppArmor", "on; it confines a QEMU that libvirt starts")
    if facts.state_free_bytes:
        text = f"{size(facts.state_free_bytes)} free where the state is kept"
        if facts.state_free_bytes < SPACE_BYTES_MIN:
            yield warning("space", f"{text}: a full disk keeps a node from taking over; free some")
        else:
            yield ok("space", text)
    if facts.is_clock_steered is False:
        yield warning("clock", "no daemon steers it: run chrony or systemd-timesyncd on both hosts")
    yield from _card_items(facts)


def _card_items(facts: HostFacts) -> Iterator[Item]:
    card = facts.link
    if card is None:
        return
    name = "link card"
    if not card.mbit_s:
        yield ok(name, f"{card.name}, MTU {card.mtu_bytes}; it does not say its speed")
        return
    seconds = COPIED_BYTES * 8 / (card.mbit_s * 1e6)
    text = (
        f"{card.name}, {card.mbit_s} Mbit/s, MTU {card.mtu_bytes}: 10 MiB of memory cross it in {seconds * 1e3:.0f} ms"
    )
    if card.mbit_s < LINK_MBIT_S_MIN:
        yield warning(name, f"{text}, while the guest stands still: use a faster network for the link")
    else:
        yield ok(name, text)


def room_item(facts: HostFacts, need: Need) -> Item:
    """Whether a secondary of this guest fits on the host, which has no guest of the pair yet."""
    name = "memory for a secondary"
    wanted = need.ram_bytes * COPIES + RESERVE_BYTES
    text = f"{size(facts.available_bytes)} available"
    if facts.available_bytes >= wanted:
        return ok(name, f"{text}, a secondary with {size(need.ram_bytes)} of RAM takes up to {size(wanted)}")
    if facts.available_bytes < need.ram_bytes + RESERVE_BYTES:
        return refused(name, f"{text}, a secondary needs {size(wanted)}: free some, or add memory")
    return warning(
        name,
        f"{text}; a secondary takes up to {size(wanted)}, twice its RAM, since a checkpoint is collected in a copy: "
        "the kernel may end it for want of memory",
    )


def kvm_item(facts: HostFacts, need: Need) -> Item | None:
    """None where the guest does not use it."""
    if not need.uses_kvm:
        return None
    if facts.has_kvm is None:
        return refused("/dev/kvm", "not there, and the guest uses KVM: switch virtualisation on in the firmware")
    if not facts.has_kvm:
        return refused("/dev/kvm", "this user may not use it, and the guest does: add the user to the group kvm")
    return ok("/dev/kvm", "can be used")


def pair_items(own: HostFacts, other: HostFacts, distance: Distance, need: Need | None) -> Iterator[Item]:
    """What both hosts must have in common."""
    yield _latency_item(distance)
    yield _clock_item(distance)
    if own.qemu and other.qemu:
        yield _same("QEMU", own.qemu, other.qemu, "install the same version on both hosts", is_fatal=True)
    if own.libvirt or other.libvirt:
        yield _same(
            "libvirt", own.libvirt or "none", other.libvirt or "none", "install the same version", is_fatal=False
        )
    if own.kernel != other.kernel:
        yield ok("kernel", f"{own.kernel} here, {other.kernel} there")
    yield _cpu_item(own, other, need)
    yield from _gateway_items(own, other)
    yield from _command_items(own, other)


def _latency_item(distance: Distance) -> Item:
    text = f"{distance.latency_s * 1e3:.2f} ms there and back"
    if distance.latency_s > LATENCY_S_MAX:
        return warning("link latency", f"{text}: every answer to a client waits for it; use a nearer host")
    return ok("link latency", text)


def _clock_item(distance: Distance) -> Item:
    away = max(0.0, abs(distance.offset_s) - distance.latency_s)
    if away > CLOCK_S_MAX:
        words = "ahead" if distance.offset_s > 0 else "behind"
        return warning(
            "clocks", f"the other host is {away:.1f} s {words}: run chrony or systemd-timesyncd on both hosts"
        )
    return ok("clocks", f"less than {max(abs(distance.offset_s) + distance.latency_s, 0.001):.3f} s apart")


def _same(name: str, own: str, other: str, cure: str, *, is_fatal: bool) -> Item:
    if own == other:
        return ok(name, f"{own} on both hosts")
    text = f"{own} here, {other} there: {cure}"
    return refused(name, text) if is_fatal else warning(name, text)


def _gateway_items(own: HostFacts, other: HostFacts) -> Iterator[Item]:
    """A guest keeps its gateway's MAC for a while."""
    for name, here in own.gateways.items():
        there = other.gateways.get(name)
        if there is not None and there != here:
            yield warning(
                f"network {name}",
                f"the guest's gateway is {here} here, {there} there: after a failover it has none for half a minute, "
                f"or for good if addresses differ; virsh net-edit {name}, the same <mac> and <ip> on both hosts",
            )


def _command_items(own: HostFacts, other: HostFacts) -> Iterator[Item]:
    """The guest that runs on one host, and the command of the other one that is to start its copy."""
    for runs, starts, where, there in ((own, other, "here", "there"), (other, own, "there", "here")):
        if runs.guest_shape and starts.shape:
            yield _shape_item(runs.guest_shape, starts.shape, where, there)
        disks, images = runs.guest_media_bytes, starts.media_bytes
        if disks is not None and starts.shape and all(disks) and all(images):
            yield _media_item(disks, images, where, there)


def _shape_item(runs: tuple[str, ...], starts: tuple[str, ...], where: str, there: str) -> Item:
    """A warning: the same thing may be written in two ways. `protect` compares the machines themselves."""
    name = "command lines"
    only_runs, only_starts = Counter(runs) - Counter(starts), Counter(starts) - Counter(runs)
    if not only_runs and not only_starts:
        return ok(name, f"the guest {where} and qemu.command {there} have the same machine, memory and devices")
    return warning(
        name,
        f"the guest {where} has {_first(only_runs)}, qemu.command {there} {_first(only_starts)}: unless both mean the "
        "same, the guest's state cannot be loaded there; write the same options in the same order",
    )


def _media_item(disks: tuple[int, ...], images: tuple[int, ...], where: str, there: str) -> Item:
    """Both lists may be in another order: names are each host's own."""
    name = "read-only disks"
    ours, theirs = (", ".join(map(size, sorted(sizes))) or "none" for sizes in (disks, images))
    if sorted(disks) == sorted(images):
        return ok(name, f"the guest {where} and qemu.command {there} have the same sizes: {ours}")
    return refused(
        name,
        f"the guest {where} has {ours}, qemu.command {there} {theirs}: after a failover the guest "
        "would see another disk; give it copies of the same images",
    )


def _first(options: Counter[str]) -> str:
    shown = list(options)
    return (", ".join(shown[:2]) or "none of these") + (f" and {len(shown) - 2} more" if len(shown) > 2 else "")


def _cpu_item(own: HostFacts, other: HostFacts, need: Need | None) -> Item:
    name = "processors"
    only_own = sorted(set(own.cpu_flags) - set(other.cpu_flags))
    only_other = sorted(set(other.cpu_flags) - set(own.cpu_flags))
    if not only_own and not only_other:
        return ok(name, "the same features on both hosts")
    parts = [f"{_some(flags)} only {where}" for flags, where in ((only_own, "here"), (only_other, "there")) if flags]
    text = "; ".join(parts)
    if need is not None and not need.uses_kvm:
        return ok(name, f"{text}; software emulation does not use them")
    return warning(name, f"{text}: give both guests a -cpu model that both hosts have, not host or max")


def _some(flags: list[str]) -> str:
    more = len(flags) - 4
    return " ".join(flags[:4]) + (f" and {more} more" if more > 0 else "")


def size(count: int) -> str:
    """In MiB or GiB."""
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count >> 20} MiB"
