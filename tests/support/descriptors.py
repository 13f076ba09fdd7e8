"""Which descriptors this process has open, told apart: what other tests have left may be collected meanwhile."""

import os


def descriptors() -> set[tuple[int, str]]:
    """Number and file of each. What was opened in between is in the later set only."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except OSError:  # the one by which they were listed
            continue
    return found
