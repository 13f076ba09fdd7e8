"""Faults that can be injected into a running laboratory."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pycolo_lab.processes import Host, Process, Processes
from pycolo_lab.scoreboard import Scoreboard, Slot
from pycolo_lab.topology import Topology


def power_off_host_a(topology: Topology, processes: Processes, board: Scoreboard) -> tuple[int, int]:
    """Cut host A off and SIGKILL its node and its guest.

    Returns (the time when it began, how long it took), CLOCK_MONOTONIC nanoseconds. The cables go first: a killed
    process' kernel would still close its connections, a machine without power does not.
    """
    began = time.monotonic_ns()
    board[Slot.KILLED_AT_NS] = began
    topology.cut_host_a()
    processes.kill_host(Host.A)
    return began, time.monotonic_ns() - began


@contextmanager
def stopped(process: Process) -> Iterator[None]:
    """Stop a process for the duration of the block."""
    process.send(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send(signal.SIGCONT)
