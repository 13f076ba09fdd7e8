"""A node's memory: flat over any number of failovers.

What a data path leaves behind is megabytes: circles of objects, which Python looks for when there are many more of them
than in a whole failover, and the C library's heaps, which keep what is freed in between. Some 10 MB after ten failovers
(measured).
"""

import ctypes
import gc
from contextlib import suppress


def freeze_heap() -> None:
    """When the program is loaded: what is there now stays, and is not looked through again for circles."""
    gc.collect()
    gc.freeze()


def trim_heap() -> None:
    """When a data path has ended: find circles, give free memory back to the system. Milliseconds after `freeze_heap`.

    In asyncio's thread: what is found may be asyncio's. A C library that cannot give back (musl) keeps it.
    """
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
