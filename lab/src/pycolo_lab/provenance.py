"""The command and the time of a result, for later readers of a report."""

import os
import shlex
import sys
from datetime import datetime

from pycolo import __version__
from pycolo_lab.facts import Setting
from pycolo_lab.namespaces import is_machine_root
from pycolo_lab.options import LabOptions


def setting(options: LabOptions, guest_port: str) -> Setting:
    """Where and when this run takes place."""
    return Setting(
        command=command_line(),
        began=local_time(),
        kernel=os.uname().release,
        guest_port=guest_port,
        as_root=is_machine_root(),
        tls=options.tls,
        ip_version=6 if options.ipv6 else 4,
        cpus=len(os.sched_getaffinity(0)),
        version=__version__,
    )


def command_line() -> str:
    """The command that this process was started with, as a shell takes it."""
    return shlex.join(["colo", *sys.argv[1:]])


def local_time() -> str:
    """The time by the clock on the wall, to the second, with its offset from UTC (ISO 8601)."""
    return datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
