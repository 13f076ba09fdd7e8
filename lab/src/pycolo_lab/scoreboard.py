"""Progress in shared memory: each client writes its own slots, the run reads all of them, without waiting.

One slot is one aligned u64, written and read whole on every machine that Linux runs on; there is one writer
per slot.
"""

import mmap
import os
from enum import IntEnum
from pathlib import Path


class Slot(IntEnum):
    """Who writes what. Times are CLOCK_MONOTONIC nanoseconds, 0 until they are known."""

    DOWNLOAD_BYTES = 0  # the download client: payload bytes received and checked
    UPLOAD_BYTES = 1  # the upload client: bytes that the guest's TCP acknowledged
    ANSWERS = 2  # the sessions: right answers, all sessions together
    SESSIONS_OPEN = 3  # the sessions: connected and not failed
    SESSIONS_FAILED = 4  # the sessions: reset, ended, wrong or stalled
    KILLED_AT_NS = 5  # the run: the moment host A was cut off
    FINISH = 6  # the run: 1 ends the clients
    RUNS_RUNNING = 7  # the person's own client: runs that are under way
    RUNS_ENDED = 8  # successful runs
    RUNS_FAILED = 9  # failed runs
    CONNECTIONS_OPEN = 10  # its connections to the server


class Scoreboard:
    """A file of u64 slots, mapped by all participants."""

    def __init__(self, path: Path) -> None:
        size = len(Slot) * 8
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(file).st_size < size:
                os.ftruncate(file, size)
            self._slots = memoryview(mmap.mmap(file, size)).cast("Q")
        finally:
            os.close(file)

    def __getitem__(self, slot: Slot) -> int:
        return self._slots[slot]

    def __setitem__(self, slot: Slot, value: int) -> None:
        self._slots[slot] = value
