"""`colo node` that can be told to die while it moves a tap: `python -m pycolo_lab.qemu.dying ORDER node --config …`.

ORDER is a file. While it holds a number, each step of a move counts it down (`pycolo.hostnet.plan`), and the node kills
itself with SIGKILL behind the step that makes it zero. The names of the steps done stand in a file beside it, so that
the laboratory knows what the host's network must be. Everything else is `colo`'s own.
"""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pycolo.__main__ import main as colo

if TYPE_CHECKING:
    from pycolo.hostnet.plan import Step


def order(path: Path, steps: int) -> None:
    """The node that watches `path` dies behind so many steps; 0: it does not."""
    _done(path).write_text("")
    path.write_text(str(steps) if steps else "")


def steps_done(path: Path) -> list[str]:
    """Since the order."""
    return _done(path).read_text().splitlines()


def _done(path: Path) -> Path:
    return path.with_suffix(".done")


def note_step(path: Path, name: str) -> None:
    """A step has been carried out."""
    left = path.read_text() if path.exists() else ""
    if not left:
        return
    with _done(path).open("a") as done:
        done.write(f"{name}\n")
    path.write_text(str(int(left) - 1))
    if int(left) == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run `colo` with the words after the order's."""
    path = Path(sys.argv.pop(1))
    if sys.argv[1] == "node":
        from pycolo.hostnet import execution, wire  # noqa: PLC0415 - the command line comes first

        right = execution.carry_out

        def carry_out(netlink: Any, step: "Step") -> None:
            right(netlink, step)
            note_step(path, step.name)

        vars(wire)["carry_out"] = carry_out
    colo()


if __name__ == "__main__":
    main()
