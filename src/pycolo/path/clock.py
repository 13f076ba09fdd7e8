"""The clock of all frames."""

from time import monotonic_ns


def now_us() -> int:
    """CLOCK_MONOTONIC in microseconds."""
    return monotonic_ns() // 1000
