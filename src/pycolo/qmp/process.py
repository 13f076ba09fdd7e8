"""What the host knows of a QEMU's process and QEMU itself does not say."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from pycolo.qmp.preloaded import has_preload
from pycolo.qmp.probe import Facts, Netdev
from pycolo.qmp.tapflags import tap_has_vnet

PROC: Final = Path("/proc")

_NONE: Final[Mapping[str, str]] = {}
_VHOST: Final = "/dev/vhost-net"
_DESCRIPTOR: Final = re.compile(r"(?:^|,)fd=(\d+)")
_INTERFACE: Final = re.compile(r"^iff:\t(.+)$", re.MULTILINE)


def with_process(facts: Facts, pid: int, known: Mapping[str, str] = _NONE, proc: Path = PROC) -> Facts:
    """`facts`, and what the process `pid` shows. Blocks for a millisecond. `known`: see `with_taps`."""
    preload = has_preload(pid, proc) if facts.is_tcg else None
    taps = with_taps(facts.netdevs, pid, known, proc)
    return replace(facts, has_preload=preload, has_vhost=has_vhost(pid, proc), netdevs=taps)


def with_taps(
    netdevs: Mapping[str, Netdev], pid: int, known: Mapping[str, str], proc: Path = PROC
) -> dict[str, Netdev]:
    """`netdevs`, with the interface of each tap that QEMU was given as an open file, and names by its number only.

    `known`: netdev → interface, of which a management program has told us.
    """
    return {name: _with_tap(netdev, pid, known.get(name), proc) for name, netdev in netdevs.items()}


def _with_tap(netdev: Netdev, pid: int, known: str | None, proc: Path) -> Netdev:
    if netdev.type != "tap" or "ifname=" in netdev.info:
        return netdev
    tap = known or _tap_of_process(netdev.info, pid, proc)
    return netdev if tap is None else replace(netdev, info=f"{netdev.info},ifname={tap}", vnet_header=tap_has_vnet(tap))


def _tap_of_process(info: str, pid: int, proc: Path) -> str | None:
    """None: the process may not be looked into, or has no such file."""
    number = _DESCRIPTOR.search(info)
    if number is None:
        return None
    try:
        said = (proc / str(pid) / "fdinfo" / number[1]).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    tap = _INTERFACE.search(said)
    return tap[1] if tap else None


def has_vhost(pid: int, proc: Path = PROC) -> bool | None:
    """Whether the process has /dev/vhost-net open; None: it cannot be read."""
    try:
        return any(one.readlink() == Path(_VHOST) for one in (proc / str(pid) / "fd").iterdir())
    except OSError:
        return None
