"""What made a result, and when: for whoever finds a report later."""

import shlex
import sys
from datetime import datetime


def command_line() -> str:
    """The command that this process was started with, as a shell takes it."""
    return shlex.join(["colo", *sys.argv[1:]])


def local_time() -> str:
    """The time by the clock on the wall, to the second, with its offset from UTC (ISO 8601)."""
    return datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
