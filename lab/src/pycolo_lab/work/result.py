"""What a client at work leaves behind, and how all of them are told what to do."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from pycolo_lab.clients import leave_result
from pycolo_lab.scoreboard import Scoreboard, Slot

BREACHES_SHOWN: Final = 3
LOOK_S: Final = 0.05

USER: Final = "root"
SSH_OPTIONS: Final = (
    *("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
    *("-o", "LogLevel=ERROR", "-F", "none"),
)
"""The guest's host key is new with each image, and there is no user to confirm it."""


class WorkResult(msgspec.Struct):
    """Results of a client at work."""

    done: int
    account: str
    """What was done, in a line."""
    breaches: list[str]
    """What breaks the law, one line each; also an error of the client's."""


class Work(msgspec.Struct, frozen=True):
    """What a client is told."""

    address: str
    directory: Path
    """For its own files."""
    stall_s: float
    """Without any progress for so long it has failed."""
    is_over: Callable[[], bool]
    """Whether the run ends: then one more piece of work is done and judged, which shows that the service goes on."""


def shown(breaches: list[str]) -> list[str]:
    """The first ones, and how many more there are."""
    more = len(breaches) - BREACHES_SHOWN
    return [*breaches[:BREACHES_SHOWN], *([f"and {more} more"] if more > 0 else [])]


def wait_for(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_S)
    return True


def main(name: str, run: Callable[[Work], WorkResult]) -> None:
    """A client's own process: work until the run ends it, then leave the result."""
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument("--address", required=True)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--scoreboard", type=Path, required=True)
    parser.add_argument("--stall-seconds", type=float, required=True)
    arguments = parser.parse_args()
    board = Scoreboard(arguments.scoreboard)
    directory = arguments.result.with_suffix(".files")
    directory.mkdir()
    work = Work(arguments.address, directory, arguments.stall_seconds, lambda: bool(board[Slot.FINISH]))
    leave_result(arguments.result, run(work))
