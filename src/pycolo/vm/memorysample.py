"""How much of a guest's memory has changed: pages chosen at random, compared with an earlier reading.

QEMU knows exactly which pages have changed and tells when it has copied them. Until then nothing else says it: QEMU's
own estimate (calc-dirty-rate) takes a second at least. Reading disturbs nothing: the kernel gives another process's
memory (proc(5): /proc/PID/mem) to whom may trace it, which root may. A page that was written with what it held before
counts as unchanged; `checkpoint.pace` compares with what is copied, and corrects the estimate.
"""

import os
import random
from bisect import bisect_right
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Final

import structlog

PAGE_BYTES: Final = 4096
PAGES_MIN: Final = 256
"""A tenth of the memory changed is 26 of them, give or take five."""

PAGES_MAX: Final = 4096
PAGE_PER_BYTES: Final = 4 << 20
"""One page for so much memory: what a copy of 50 ms takes is then a dozen pages."""

log = structlog.get_logger("colo")


class MemorySample:
    """Used in one thread at a time."""

    def __init__(self, file: int, places: list[int], page_stands_for: float) -> None:
        """`file`: /proc/PID/mem, closed with this object. `places`: addresses of the pages."""
        self._file = file
        self._places = places
        self._page_stands_for = page_stands_for
        self._before: list[bytes] = []

    def take(self) -> None:
        """Read the pages: later ones are compared with these. Raises OSError when the process has ended."""
        self._before = [self._read(place) for place in self._places]

    def changed(self) -> tuple[int, int]:
        """An estimate of the bytes changed since `take`, and how many pages of the sample have. Raises OSError."""
        hits = sum(self._read(place) != before for place, before in zip(self._places, self._before, strict=True))
        return round(hits * self._page_stands_for), hits

    def _read(self, place: int) -> bytes:
        page = os.pread(self._file, PAGE_BYTES, place)
        if not page:
            raise ProcessLookupError("the process has ended")
        return page

    def close(self) -> None:
        """Read no more."""
        with suppress(OSError):
            os.close(self._file)


def open_sample(pid: int, ram_bytes: int) -> MemorySample | None:
    """A sample of the memory of QEMU's process; None when this node may not read it, or does not find it."""
    try:
        blocks = ram_blocks(Path(f"/proc/{pid}/maps").read_text(errors="replace"), ram_bytes)
        if not blocks:
            log.info(f"process {pid} has no mapping of {ram_bytes} bytes: changes are known only from copies")
            return None
        file = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        log.info(f"the memory of process {pid} cannot be read ({error.strerror}): changes are known only from copies")
        return None
    places = choose(blocks, random.Random())
    return MemorySample(file, places, sum(size for _, size in blocks) / len(places))


def ram_blocks(maps: str, ram_bytes: int) -> list[tuple[int, int]]:
    """(address, bytes) of the largest writable mappings that together hold the guest's memory, or nothing."""
    found: list[tuple[int, int]] = []
    for line in maps.splitlines():
        words = line.split()
        if len(words) < 2 or not words[1].startswith("rw-"):
            continue
        start, _, end = words[0].partition("-")
        found.append((int(start, 16), int(end, 16) - int(start, 16)))
    found.sort(key=lambda block: block[1], reverse=True)
    chosen: list[tuple[int, int]] = []
    for block in found:
        if sum(size for _, size in chosen) >= ram_bytes or block[1] < PAGE_PER_BYTES:
            break
        chosen.append(block)
    return chosen if sum(size for _, size in chosen) >= ram_bytes > 0 else []


def choose(blocks: list[tuple[int, int]], rng: random.Random) -> list[int]:
    """Addresses of pages in `blocks`, each page as likely as any other."""
    ends = list(accumulate(size // PAGE_BYTES for _, size in blocks))
    count = min(max(ends[-1] * PAGE_BYTES // PAGE_PER_BYTES, PAGES_MIN), PAGES_MAX, ends[-1])
    places = []
    for number in rng.sample(range(ends[-1]), count):
        at = bisect_right(ends, number)
        before = ends[at - 1] if at else 0
        places.append(blocks[at][0] + (number - before) * PAGE_BYTES)
    return sorted(places)
