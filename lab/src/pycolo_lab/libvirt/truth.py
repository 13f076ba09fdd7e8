"""What must be true on both hosts whatever has happened: `virsh list` says what runs, taps are where they belong."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from pycolo_lab.processes import Host

RUNNING: Final = ("running", "paused")
"""States of a domain that has a QEMU. A secondary is paused at each checkpoint."""

TRUE_S: Final = 30.0
"""libvirt notices a QEMU's death after seconds, and the next secondary takes longer to start, on a busy machine."""

TAP: Final = "vnet"
"""How libvirt names a guest's tap."""


class HostFacts(NamedTuple):
    """Of one host that is on."""

    domains: Mapping[str, str]
    """Name -> state, as `virsh list --all` says."""
    has_qemu: bool
    """Whether a QEMU of the domain lives."""
    masters: Mapping[str, str]
    """Interface -> its bridge; "" for none."""


def wrong(
    facts: Mapping[Host, HostFacts], name: str, *, bridge: str, ours: str, serving: Host | None, is_protected: bool
) -> list[str]:
    """What is not as it must be, one line each.

    `serving` is the host whose guest clients reach; None when the guest has ended. `ours`: how the devices begin that a
    node makes. A survivor may be behind one still, for the sake of connections from before; and one may
    wait for the guest to be started again.
    """
    found = []
    for host, one in facts.items():
        has_guest = host is serving or (is_protected and serving is not None)
        found += [f"{host.value}: {text}" for text in _wrong_domain(one, name, has_guest=has_guest)]
        ports = [port for port, master in one.masters.items() if master == bridge]
        inside = {port for port in ports if port.startswith((TAP, ours))}
        wanted = ours if is_protected or any(port.startswith(ours) for port in inside) else TAP
        if serving is None:
            inside = {port for port in inside if port.startswith(TAP)}
        if host is not serving:
            found += [f"{host.value}: {_words(inside)} in {bridge}, where no guest serves"] if inside else []
        elif not inside:
            found.append(f"{host.value}: no {wanted}… in {bridge}, although the guest serves here")
        elif not all(port.startswith(wanted) for port in inside):
            found.append(f"{host.value}: {_words(inside)} in {bridge}, expected {wanted}…")
    return found


def _words(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _wrong_domain(one: HostFacts, name: str, *, has_guest: bool) -> list[str]:
    state = one.domains.get(name)
    found = []
    if (state in RUNNING) is not one.has_qemu:
        found.append(f"virsh list says {state or 'no domain'}, but {'a' if one.has_qemu else 'no'} QEMU lives")
    if one.has_qemu is not has_guest:
        found.append(f"{'a' if one.has_qemu else 'no'} QEMU lives, expected {'one' if has_guest else 'none'}")
    return found


def domains_in(text: str) -> dict[str, str]:
    """Name -> state, of what `virsh -q list --all` prints."""
    rows = (line.split(None, 2) for line in text.splitlines() if line.strip())
    return {name: state.strip() for _, name, state in rows}
