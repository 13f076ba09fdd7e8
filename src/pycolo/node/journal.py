"""What the user is told of the pair's transitions: log lines, times, and the course of a takeover."""

from datetime import UTC, datetime
from time import monotonic_ns
from typing import Final

import structlog

from pycolo.failover.pair import Pair
from pycolo.failover.pairstates import IN_STEP, ON_GUARD, Fact, State
from pycolo.node.takeovers import Takeover, Takeovers

PASSING: Final = frozenset(
    {
        State.PRIMARY_LINKED,
        State.PROTECTING,
        State.COMMITTING,
        State.PRIMARY_BROKEN,
        State.GOING_ALONE,
        State.SECONDARY_LINKED,
        State.PREPARING,
        State.CONFIRMED,
        State.TAKING_OVER,
        State.SWITCHING,
    }
)
"""Without a QEMU these last for milliseconds: their lines are for debugging."""

PLAIN_LINES: Final = {
    State.PRIMARY_LINKED: "linked with the other node",
    State.SECONDARY_LINKED: "linked with the other node",
    State.PROTECTING: "protecting the guest",
    State.PREPARING: "preparing this host's guest",
}
"""Lines for states that a user knows without the table's reason."""

_PROTECTED: Final = (State.PRIMARY_PROTECTED, State.SECONDARY_PROTECTED)
_IN_DOUBT: Final = (State.PRIMARY_SUSPECT, State.PRIMARY_ACTING)
_FORMING: Final = (State.COMMITTING, State.PREPARING)
_PERMITTED: Final = (State.GOING_ALONE, State.TAKING_OVER)

log = structlog.get_logger("colo")


class Journal:
    """Told of each change of state, and of what fails in one. `cause`: why the node is in it, on one line."""

    def __init__(self, passing: frozenset[State] = PASSING, takeovers: Takeovers | None = None) -> None:
        """Lines about the states `passing` are for debugging. `takeovers`: those of earlier processes, too."""
        self._passing = passing
        self.since_ns = monotonic_ns()
        self.unprotected_ns: int | None = self.since_ns
        """Since when there is no pair in step; None while there is one."""
        self.takeover: dict[str, int] | None = None
        self.takeovers = Takeovers() if takeovers is None else takeovers
        """Those that are done."""
        self._kind = ""
        self._granted = ""
        self.cause = ""
        self.is_outdated = False
        """The other node has served: see `cause`."""
        self._permitted = ""

    def changed(self, fact: Fact | None, before: Pair, after: Pair, suspected_ns: int) -> None:
        """`suspected_ns`: when the last suspicion arose."""
        if after.state is before.state:
            if after.blocked:
                log.error(f"{after.blocked}; it is tried again", state=after.shown, term=after.term)
            return
        if after.shown != before.shown:
            self.since_ns = monotonic_ns()
        if after.state in ON_GUARD or after.state in IN_STEP:
            self.unprotected_ns = None
        elif self.unprotected_ns is None and after.state not in _IN_DOUBT:
            self.unprotected_ns = monotonic_ns()
        self.cause = self._line(before, after)
        if after.state in _PROTECTED and before.state in _FORMING:
            self.takeover = None
        if fact is Fact.GRANTED and after.state in _PERMITTED:
            now_ns = monotonic_ns()
            self.takeover = {"suspected_ns": suspected_ns or now_ns, "decided_ns": now_ns}
            self._kind = "take-over" if after.state is State.TAKING_OVER else "go-alone"
            self._granted = self._permitted
        say = log.debug if after.state in self._passing else log.info
        if after.state is State.DEGRADED:
            say = log.warning
        say(self.cause, state=after.shown, term=after.term)

    def resent(self, frames: int) -> None:
        """So many frames were sent again at the takeover."""
        if self.takeover is not None:
            self.takeover["resent"] = frames
            if "done_ns" in self.takeover:
                self.takeovers.resent(frames)

    def served(self, resent: int) -> None:
        """The takeover is done, and so many frames were sent again."""
        self.resent(resent)
        self.done()

    def done(self) -> None:
        """This node serves alone now, by the arbiter's permission."""
        if self.takeover is None or "done_ns" in self.takeover:
            return
        self.takeover["done_ns"] = done_ns = monotonic_ns()
        took_ms = round((done_ns - self.takeover["suspected_ns"]) / 1e6, 1)
        at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        resent = self.takeover.get("resent", 0)
        self.takeovers.add(Takeover(at, self._kind, self._granted, took_ms, resent))
        log.info("serving", resent=resent, ms_since_suspicion=took_ms)

    def advice(self, arbiter: str, timeout_ms: int, option: str) -> str:
        """What to do if the node was fenced although its host was never away; empty when that is not so."""
        if not self.is_outdated or arbiter == "manual":  # then an operator has said so
            return ""
        return f"if no host was down, one was too busy for a heartbeat's {timeout_ms} ms: raise {option}"

    def _line(self, before: Pair, after: Pair) -> str:
        if after.state in _PROTECTED and before.state in _FORMING:
            return "the pair is whole"
        if after.state in PLAIN_LINES:
            return PLAIN_LINES[after.state]
        if after.state in _PERMITTED:
            self._permitted = after.text
        if after.state is State.ALONE:
            return f"going on alone: {self._permitted}"
        if after.state is State.SERVING:
            return f"taking over: {self._permitted}"
        if after.state is State.RETIRING:
            self.is_outdated = after.term > before.term and before.state is not State.HANDING_OVER
            if before.state is State.HANDING_OVER:
                return f"handed over: the other node serves, under term {after.term}"
            if self.is_outdated:
                return f"the other node has taken over under term {after.term}; this node must not serve"
        return after.text
