"""Whether two guests have the same memory: a sample of pages, or all, read from QEMU and compared.

A sample is of runs of neighbouring pages, because one question to QEMU costs a fraction of a millisecond whatever its
length. The same pages are compared each time: only then is it known what a page was before.
"""

import random
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Protocol

from pycolo_lab.qemu import initramfs
from pycolo_lab.qemu.image import Image
from pycolo_lab.qemu.programs import Programs

PAGE_BYTES: Final = 4096
TOGGLED_BYTES_MAX: Final = 8
"""A page that differs in so few bytes has a lock or a pointer that the secondary has put back, not a lost change."""

RUN_PAGES: Final = 64
"""Neighbouring pages of a sample."""

SAVED_PAGES_MAX: Final = 16384
"""Of one question: 64 MiB, a quarter of the room that a run has for its files."""


class Asks(Protocol):
    """A QEMU."""

    async def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """A QMP command's answer."""


def guest_of(image: Image, directory: Path, programs: Programs) -> bytes:
    """The laboratory's initramfs, with the processes of a guest whose memory is compared. Raises `LabError`."""
    guest = files(__package__).joinpath("guest")
    writer = directory / "writer"
    source = str(guest.joinpath("writer.c"))
    programs.run(["gcc", "-Wall", "-O2", "-static", "-o", str(writer), source], "compiling the guest's writer")
    base = image.initramfs.read_bytes()
    more = {
        "init": initramfs.program(guest.joinpath("shape.sh").read_bytes()),
        "bin/writer": initramfs.program(writer.read_bytes()),
    }
    return base + bytes(-len(base) % 4) + initramfs.pack(more)


def choose(ram_bytes: int, count: int | None, before: Mapping[int, bytes], chance: random.Random) -> list[int]:
    """The numbers of the pages to compare: the same as `before`, or runs of pages anywhere."""
    if before:
        return sorted(before)
    total = ram_bytes // PAGE_BYTES
    if count is None or count >= total:
        return list(range(total))
    runs = chance.sample(range(total // RUN_PAGES), count // RUN_PAGES)
    return sorted(run * RUN_PAGES + page for run in runs for page in range(RUN_PAGES))


async def read(qemu: Asks, path: Path, pages: list[int]) -> dict[int, bytes]:
    """The content of those pages. QEMU writes them to `path`, which is removed."""
    found: dict[int, bytes] = {}
    try:
        for start, end in runs_of(pages):
            place = {"val": start * PAGE_BYTES, "size": (end - start) * PAGE_BYTES, "filename": str(path)}
            await qemu.execute("pmemsave", place)
            octets = path.read_bytes()
            for page in range(start, end):
                at = (page - start) * PAGE_BYTES
                found[page] = octets[at : at + PAGE_BYTES]
    finally:
        path.unlink(missing_ok=True)
    return found


def runs_of(pages: list[int]) -> list[tuple[int, int]]:
    """Runs of neighbours among sorted pages, of `SAVED_PAGES_MAX` at most: first, and one past the last."""
    runs: list[tuple[int, int]] = []
    for page in pages:
        if runs and runs[-1][1] == page and page - runs[-1][0] < SAVED_PAGES_MAX:
            runs[-1] = (runs[-1][0], page + 1)
        else:
            runs.append((page, page + 1))
    return runs


def stale(before: Mapping[int, bytes], ours: Mapping[int, bytes], theirs: Mapping[int, bytes]) -> list[int]:
    """Pages that differ, and of which the secondary has what the primary had before."""
    return [
        page
        for page in ours
        if theirs[page] != ours[page]
        and theirs[page] == before.get(page)
        and sum(one != other for one, other in zip(theirs[page], ours[page], strict=True)) > TOGGLED_BYTES_MAX
    ]
