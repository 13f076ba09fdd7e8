"""What can be done to the laboratory while it runs."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pycolo_lab.processes import Host, Process, Processes
from pycolo_lab.scoreboard import Scoreboard, Slot
from pycolo_lab.topology import Topology


def power_off_host_a(topology: Topology, processes: Processes, board: Scoreboard) -> tuple[int, int]:
    """Cut host A off and SIGKILL all of it, node and guest, in one go.

    Returns (the moment it began, how long it took), CLOCK_MONOTONIC nanoseconds. The cables go first: a
    killed process' kernel would still say goodbye on its connections, a machine without power does not.
    """
    began = time.monotonic_ns()
    board[Slot.KILLED_AT_NS] = began
    topology.cut_host_a()
    processes.kill_host(Host.A)
    return began, time.monotonic_ns() - began


@contextmanager
def stopped(process: Process) -> Iterator[None]:
    """Let a process stand still for the length of the block."""
    process.send(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send(signal.SIGCONT)
