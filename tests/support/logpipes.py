"""The log of a process in a pipe that the test reads, or not."""

import os
from contextlib import suppress

from pycolo.cli.logfile import LogFile
from support.nodes import wait_for


def read_to_the_end(log: LogFile, reading: int) -> bytes:
    """Close the log; what its thread had still to write. That thread has ended then.

    A thread that lived on would write into whatever next has the number of the descriptor: another test's file.
    """
    writer = log._listener._thread
    assert writer is not None
    found = b""
    os.set_blocking(reading, False)

    def has_written_all() -> bool:
        nonlocal found
        with suppress(BlockingIOError):
            found += os.read(reading, 1 << 20)
        return log.handler.queue.empty()

    wait_for(has_written_all, "the queue to be written")
    log.close()

    def has_ended() -> bool:
        return has_written_all() and not writer.is_alive()

    wait_for(has_ended, "the writing thread to end")
    with suppress(BlockingIOError):
        while octets := os.read(reading, 1 << 20):
            found += octets
    return found
