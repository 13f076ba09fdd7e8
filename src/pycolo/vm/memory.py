"""Keeps a node's memory constant over any number of failovers.

A data path leaves megabytes behind: reference cycles, which Python collects only when there are many more of them than
one failover makes, and the C library's heaps, which keep freed memory. Without this module a node has grown by some
10 MB after ten failovers (measured).
"""

import ctypes
import gc
from contextlib import suppress


def freeze_heap() -> None:
    """Call once the program is loaded: the collector ignores the objects that exist now."""
    gc.collect()
    gc.freeze()


def trim_heap() -> None:
    """Call after a data path has ended: collect cycles and return free memory to the system.

    Takes milliseconds after `freeze_heap`. Call it in asyncio's thread, since cycles may hold asyncio's objects. A C
    library without `malloc_trim` (musl) keeps the memory.
    """
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
