"""A node is killed while it moves the guest's taps: behind each step of each move, one a round."""

import socket
import time
from typing import Final

from pycolo.hostnet.plan import SWITCH
from pycolo_lab.processes import Host
from pycolo_lab.qemu import dying
from pycolo_lab.qemu.nodes import other
from pycolo_lab.qemu.stage import Stage
from pycolo_lab.qemu.topology import TAP

MOVES: Final = (("protect", True), ("takeover", False), ("unprotect", True), ("protect", False))
"""In turn: what moves taps, and whether it is the primary's node that is killed in it; else the secondary's."""


class Moving:
    """One round, with this host as the primary."""

    def __init__(self, stage: Stage, primary: Host, number: int) -> None:
        self._stage = stage
        self._primary = primary
        self._move, is_primary = MOVES[(number - 1) % len(MOVES)]
        self._step = 1 + (number - 1) // len(MOVES)
        self._answer: socket.socket | None = None
        self.victim = primary if is_primary else other(primary)

    def strike(self) -> int:
        """Returns when the move began, CLOCK_MONOTONIC nanoseconds. Raises `LabError`."""
        stage, victim = self._stage, self.victim
        order = stage.files[victim].order
        if self._move == "protect":
            stage.unprotect()
        dying.order(order, self._step)
        at_ns = time.monotonic_ns()
        if self._move == "takeover":
            stage.kill_qemu(self._primary)
        else:
            self._answer = stage.files[self._primary].tell(self._move)
        stage.until(f"{self._move} neither ends nor is broken off", lambda: self.is_dead or self._has_ended())
        if not self.is_dead:
            dying.order(order, 0)
        return at_ns

    def close(self) -> None:
        """Whether the command has an answer does not matter."""
        if self._answer is not None:
            self._answer.close()

    @property
    def is_dead(self) -> bool:
        """Otherwise the move has fewer steps than were ordered."""
        return not self._stage.is_running(self.victim)

    @property
    def account(self) -> str:
        """What was broken off, and where."""
        done = dying.steps_done(self._stage.files[self.victim].order)
        where = f"behind step {len(done)} ({done[-1]})" if self.is_dead and done else "not at all: it has fewer steps"
        return f"the node on {self.victim.value} died in {self._move} {where}"

    def is_cut_off(self) -> bool:
        """Whether no client may be answered before the node is back: no frame goes past a node on guard."""
        if not self.is_dead or (self._move == "protect" and self.victim is not self._primary):
            return False
        done = dying.steps_done(self._stage.files[self.victim].order)
        is_switched = any(name.startswith(SWITCH) and f" {TAP} " in f"{name} " for name in done)
        return {"protect": is_switched, "unprotect": not is_switched, "takeover": True}[self._move]

    def _has_ended(self) -> bool:
        match self._move:
            case "protect":
                return self._stage.is_whole()
            case "unprotect":
                return self._stage.states() == ("linked", "linked")
            case _:
                return self._stage.serving() is other(self._primary)
