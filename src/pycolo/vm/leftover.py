"""A QEMU that an earlier process of this node has started: no primary knows its guest any more."""

import os
import select
import signal
from itertools import pairwise
from pathlib import Path
from typing import Final

from pycolo.config import PairConfig
from pycolo.domain.host import process_mark

END_S: Final = 5.0
"""How long a killed QEMU may take to be gone."""


def mark_of(config: PairConfig) -> bytes:
    """What this host's QEMU has on its command line, and no other program's."""
    return os.fsencode(config.qemu.qmp) if config.guest is None else process_mark(config.guest.domain)


def end_leftover_qemu(pid: int, mark: bytes) -> bool:
    """Kill the process `pid` if it has `mark` on its command line; whether there was one. Blocks until it is gone.

    Process ids come again: nothing else may be killed.
    """
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not is_our_qemu(pid, mark):
            return False
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        poller.poll(END_S * 1000)
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def end_waiting_qemus(qmp: Path) -> None:
    """Kill each process that waits for a secondary's state with `qmp` on its command line. Blocks until it is gone.

    A node that is killed right behind the start of its QEMU leaves one of which no record knows. It would keep the
    guest's tap, and might be the one that answers at `qmp`.
    """
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _waits(process):
            end_leftover_qemu(int(process.name), os.fsencode(qmp))


def _waits(process: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(pair == (b"-incoming", b"defer") for pair in pairwise(words))


def is_our_qemu(pid: int, mark: bytes) -> bool:
    """Whether `pid` runs, with `mark` on its command line."""
    try:
        return pid > 0 and mark in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
