"""What the host knows of a QEMU's process and QEMU itself does not say."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from pycolo.qmp.preloaded import has_preload
from pycolo.qmp.probe import Facts

PROC: Final = Path("/proc")

_VHOST: Final = "/dev/vhost-net"


def with_process(facts: Facts, pid: int, proc: Path = PROC) -> Facts:
    """`facts`, and what the process `pid` shows. Blocks for a millisecond."""
    preload = has_preload(pid, proc) if facts.is_tcg else None
    return replace(facts, has_preload=preload, has_vhost=has_vhost(pid, proc))


def has_vhost(pid: int, proc: Path = PROC) -> bool | None:
    """Whether the process has /dev/vhost-net open; None: it cannot be read."""
    try:
        return any(one.readlink() == Path(_VHOST) for one in (proc / str(pid) / "fd").iterdir())
    except OSError:
        return None
