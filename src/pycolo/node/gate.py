"""Says, before each write of the data path, whether frames may leave."""

import sys
from collections.abc import Callable
from typing import Final

from pycolo.failover.pairstates import Release

WITHOUT_BOUND: Final = sys.maxsize
"""Later than any clock reads."""


class Gate:
    """Set in asyncio's thread at each transition of the pair; `until_ns` is called in the data path's."""

    def __init__(self, trusted_until_ns: Callable[[], int], lease_until_ns: Callable[[], int | None]) -> None:
        """`trusted_until_ns()`: up to when the other node certainly has not taken over. Both in any thread."""
        self._trusted_until_ns = trusted_until_ns
        self._lease_until_ns = lease_until_ns
        self._release = Release.NOTHING

    def set(self, release: Release) -> None:
        """What may leave from now on."""
        self._release = release

    def until_ns(self) -> int:
        """Up to when (CLOCK_MONOTONIC) frames may leave; 0: not at all."""
        release = self._release
        if release is Release.NOTHING:
            return 0
        bound_ns = self._lease_until_ns()
        until_ns = WITHOUT_BOUND if release is Release.FREELY else self._trusted_until_ns()
        return until_ns if bound_ns is None else min(until_ns, bound_ns)
