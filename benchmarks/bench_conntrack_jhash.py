"""jhash: nanoseconds per call and per byte, from Python."""

import sys
import timeit
from collections.abc import Callable

from pycolo.core import connection_hash, jhash

KEY = bytes(range(256)) * 16


def best_ns(call: Callable[[], object]) -> float:
    timer = timeit.Timer(call)
    calls, _ = timer.autorange()
    return min(timer.repeat(repeat=5, number=calls)) / calls * 1e9


def main() -> None:
    key_ns = best_ns(lambda: connection_hash(0x0100000A, 0x0200000A, 40000, 80, 6, 1))
    byte_ns = best_ns(lambda: jhash(KEY, 1)) / len(KEY)
    print(f"Python {sys.version.split()[0]}; best of 5")
    print(f"connection_hash {key_ns:.1f} ns a call   jhash {byte_ns:.2f} ns a byte")


if __name__ == "__main__":
    main()
