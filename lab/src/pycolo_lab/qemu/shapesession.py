"""One run of one machine shape, from options to exit code."""

import asyncio
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pycolo_lab.interruption import Interruption
from pycolo_lab.namespaces import run_isolated
from pycolo_lab.qemu.image import IMAGE_PROGRAMS, ensure_image
from pycolo_lab.qemu.machine import Machine, find_qemu, furnish_root
from pycolo_lab.qemu.programs import Programs, say
from pycolo_lab.qemu.ramcheck import guest_of
from pycolo_lab.qemu.shapes import Formation, Shape, ShapeRun

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1


def run_shape(shape: Shape, wanted: str | None, interruption: Interruption) -> int:
    """Run it in a mount namespace of its own and return the exit code. Raises `LabError`."""
    programs = Programs(interruption)
    programs.require(IMAGE_PROGRAMS)
    qemu = find_qemu(wanted, programs)
    image = ensure_image(programs)
    say(f"QEMU {qemu.version}, tcg: {shape.machine}, {shape.vcpus} vCPU, {shape.memory}")

    def perform(directory: Path) -> int:
        furnish_root(Machine(qemu=qemu, image=image, accelerator="tcg"), directory)
        run = ShapeRun(shape, qemu, image, guest_of(image, directory, programs), directory, say)
        found = asyncio.run(run.run())
        say(verdict(found))
        return EXIT_OK if all(one.holds for one in found) else EXIT_FAILED

    return run_isolated(perform, interruption)


def verdict(found: Sequence[Formation]) -> str:
    """One line about all formations."""
    lost = sum(one.stale_pages > 0 for one in found)
    failed = sum(one.error is not None for one in found)
    pauses = [pause for one in found for pause in one.pauses_ms]
    pause = f", pause {statistics.median(pauses):.1f} ms" if pauses else ""
    compared = statistics.median(one.compare_ms for one in found)
    return (
        f"{len(found)} formations: {lost} lost memory, {failed} failed; {compared:.0f} ms for one comparison of both "
        f"memories{pause}"
    )
