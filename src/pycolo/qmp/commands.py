"""Every QMP command that pycolo sends: x-query-virtio-status makes QEMU 11.1.3 abort, so nothing else is asked."""

import re
from typing import Final, Literal

COMMANDS: Final = frozenset({
    "announce-self", "block-dirty-bitmap-add", "block-dirty-bitmap-clear", "block-dirty-bitmap-merge",
    "block-dirty-bitmap-remove", "block-export-add", "block-export-del", "block-job-cancel", "blockdev-add",
    "blockdev-backup", "blockdev-del", "blockdev-mirror", "blockdev-set-active", "cont", "getfd",
    "human-monitor-command", "job-dismiss", "migrate", "migrate-incoming", "migrate-set-capabilities",
    "migrate-set-parameters", "migrate_cancel",
    "nbd-server-start", "nbd-server-stop", "object-add", "object-del", "qom-get", "qom-list", "qom-list-types",
    "qom-set", "query-block", "query-block-exports", "query-block-jobs", "query-colo-status", "query-commands",
    "query-cpus-fast", "query-kvm", "query-memory-size-summary", "query-migrate", "query-migrate-capabilities",
    "query-named-block-nodes", "query-pci", "query-status", "query-version", "query-yank", "quit", "stop",
    "x-colo-lost-heartbeat", "yank",
})  # fmt: skip
"""Without the handshake's qmp_capabilities."""

EXPERIMENTAL: Final = frozenset({"x-colo", "x-checkpoint-delay", "x-colo-lost-heartbeat"})
"""The capability, the parameter and the command that begin with x- and that COLO does not work without."""

MONITOR_LINES: Final = frozenset({"info network", "info ramblock"})
"""Lines for the human monitor, beside those of `port_input`, `port_output` and `flush`. No QMP command lists netdevs or
blocks of memory.
"""

Size = Literal["b", "w"]
"""Of a port access, in the monitor's letters: one byte, or four."""

_PORT: Final = re.compile(r"port[bl]\[0x[0-9a-f]+\] = (0x[0-9a-f]+)\s*")


def permitted(command: str) -> str:
    """`command`. Raises `ValueError` for one that is not in `COMMANDS`, which is a bug."""
    if command not in COMMANDS:
        raise ValueError(f"{command} is not among the QMP commands that pycolo may send")
    return command


def flush(node: str) -> str:
    """The line that puts on the disk what a block node has taken: its tables, its data, and then the host's cache. No
    QMP command does. QEMU answers nothing, also where the host's disk has an error.
    """
    return f"qemu-io {node} flush"


def port_input(size: Size, port: int) -> str:
    """The line that reads an I/O port as the guest's processor would."""
    return f"i/{size} {port:#x}"


def port_output(size: Size, port: int, value: int) -> str:
    """The line that writes one."""
    return f"o/{size} {port:#x} {value:#x}"


def port_value(answer: str) -> int | None:
    """The value in the monitor's answer to `port_input`; None: something else."""
    found = _PORT.fullmatch(answer)
    return int(found[1], 16) if found else None
