"""The arbiter `command`: a command makes sure that the other node serves no longer.

Pure: it says when the command is to run (`request`) and is told the result. A command that has begun is never called
off, and its success is a grant even if the other node was heard again meanwhile: a fenced node does not serve. Before
it has begun, a suspicion that is refuted is withdrawn.

A run that failed is repeated in this node's turns (`failover.turns`). The pair table asks each node at the beginning of
its first one.
"""

from typing import Final, NamedTuple

from pycolo.failover.arbiter import IDLE_TEXT, Arbiter, Decision
from pycolo.failover.turns import ALWAYS, Turn, Turns

RETRY_FIRST_MS: Final = 1_000
"""Pause after the first failure: a power switch that was busy is free again after a second."""

RETRY_LAST_MS: Final = 30_000
"""The longest pause: pauses double up to this, so that a broken command does not fill the log."""


class Fence(NamedTuple):
    """Run the command. `term`: the one that a success begins. `limit_ms`: its time limit; None: only its own."""

    term: int
    limit_ms: int | None = None


class Fenced(NamedTuple):
    """The result. `exit_code` None: not started, or not in time. `text`: the reason, or the last line of stderr."""

    exit_code: int | None
    text: str


class FencingArbiter(Arbiter):
    """Asks for `Fence`, is answered `Fenced`."""

    name = "command"
    harms = True

    def __init__(self, term: int, turns: Turns = ALWAYS) -> None:
        super().__init__(term)
        self._turns = turns
        self._turn = Turn(0)
        self._suspected_ms = 0
        self._is_suspected = False
        self._is_running = False
        self._failures = 0
        self._retry_at_ms: int | None = None
        self._trouble = ""

    # ── facts ───────────────────────────────────────────────────────────────────────────────────────────────

    def suspected(self, now_ms: int) -> None:
        """The command is to run now."""
        self._is_suspected = True
        if not self._is_running and self._retry_at_ms is None:
            self._failures = 0
            self._suspected_ms = now_ms
            self._aim(now_ms)
            self._wait("the fencing command is about to run")

    def recovered(self, now_ms: int) -> None:
        """The command is not started again; one that is under way runs to its end."""
        self._is_suspected = False
        self._retry_at_ms = None
        if self._is_running:
            self._wait("the other node was heard again, but the fencing command is under way: its end decides")
        else:
            self._wait(IDLE_TEXT)

    def paired(self, term: int, now_ms: int) -> None:
        """As `recovered`: the other node is there again."""
        super().paired(term, now_ms)
        self.recovered(now_ms)

    def fencing_started(self, now_ms: int) -> None:
        """The shell runs the command."""
        self._is_running = True
        self._retry_at_ms = None
        self._wait("the fencing command is under way")

    def fencing_finished(self, now_ms: int, exit_code: int | None, text: str) -> None:
        """`exit_code` None: it could not be started, or did not end in time.

        `text` is one line: the reason for that, or the last line that the command wrote to stderr.
        """
        self._is_running = False
        self._trouble = ""
        if exit_code == 0:
            if self._decision is Decision.DENIED:
                self._trouble = "the other node was fenced though it had taken over: now neither serves"
            was_heard = "" if self._is_suspected else "; it was heard again meanwhile, but a fenced node does not serve"
            self._grant(f"the fencing command has succeeded: the other node is fenced{was_heard}")
            return
        self._failures += 1
        how = text if exit_code is None else f"exit code {exit_code}" + (f", {text}" if text else "")
        if self._is_suspected:
            self._aim(now_ms + min(RETRY_FIRST_MS << min(self._failures - 1, 16), RETRY_LAST_MS))
            again = f"again in {self._turn.begin_ms - now_ms} ms"
            self._wait(f"the fencing command has failed {self._failures} times ({how}); {again}")
        else:
            self._wait(IDLE_TEXT)

    def _aim(self, earliest_ms: int) -> None:
        """The next run: in a turn of this node."""
        self._turn = self._turns.next(self._suspected_ms, earliest_ms, is_second=False)
        self._retry_at_ms = self._turn.begin_ms

    def timer_fired(self, now_ms: int) -> None:
        """The runner looks at `due_ns` by itself."""

    # ── what it asks ────────────────────────────────────────────────────────────────────────────────────────

    def request(self, now_ns: int) -> Fence | None:
        """The command, when it is due."""
        now_ms = now_ns // 1_000_000
        if not self.wants_run(now_ms):
            return None
        self.fencing_started(now_ms)
        end_ms = self._turn.end_ms
        return Fence(self._term + 1, None if end_ms is None else max(1, end_ms - now_ms))

    def due_ns(self) -> int | None:
        """When the command is to run next."""
        due_ms = self.deadline_ms()
        return None if due_ms is None else due_ms * 1_000_000

    def answered(self, answer: Fenced, now_ns: int) -> None:
        """The command's result."""
        self.fencing_finished(now_ns // 1_000_000, answer.exit_code, answer.text)

    def unanswered(self, why: str, now_ns: int) -> None:
        """It could not be run."""
        self.fencing_finished(now_ns // 1_000_000, None, why)

    # ── answers ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_acting(self) -> bool:
        """Whether the command runs: it cannot be called back."""
        return self._is_running

    @property
    def trouble(self) -> str:
        """Set when the last run has done harm. A command that failed is logged where it runs."""
        return self._trouble

    def wants_run(self, now_ms: int) -> bool:
        """Whether the command is to be started now."""
        due_ms = self.deadline_ms()
        return due_ms is not None and now_ms >= due_ms

    def deadline_ms(self) -> int | None:
        """When the command is to run next."""
        return None if self._is_running or self.is_decided else self._retry_at_ms
