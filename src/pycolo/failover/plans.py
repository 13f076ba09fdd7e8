"""Plans as data: the steps that protect a VM, release it, and let its secondary take over.

A `Plan` consists of names and reasons. The names are the contract with the handlers of the steps (`node.planner` runs
them). A `PlanRun` is one attempt: it is told how each step has ended and says which one is next. ::

    DOING ──(all done)──► FINISHED
      │
      └──(a required step failed)──► UNDOING ──► ENDING ──► FAILED

* **Each step and each undo is idempotent**: it succeeds when it is repeated, or when its work is done already. A run
  leaves nothing on disk: a node that was killed in a plan asks QEMU what is left of it, and removes that.
* **Every step that was begun is undone**, in reverse order, including the step that failed: it may have done half of
  its work. An undo that finds nothing to undo succeeds.
* **An undo that fails stops only the undos that would do harm**: `undo_needs` names the steps that must be undone
  first. The path to the guest is not closed while the node's TAPs have their places: the guest would be cut off.
* **`is_always`** steps are done in their place and again after a failure, so that the VM is never left stopped.
* A plan without undos only goes forward, since a failover cannot be taken back. After a failure it runs again from its
  beginning.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from pycolo.errors import StateError


class Step(NamedTuple):
    """`says` tells the user in one line what the step does and why it has its place."""

    name: str
    says: str
    undo: str | None = None
    is_required: bool = True
    """False: its failure is noted, and the plan goes on."""
    is_always: bool = False
    undo_needs: tuple[str, ...] = ()
    """Its undo is skipped while one of these steps has been begun and not undone."""


class Plan(NamedTuple):
    """`role` is that of the node that runs it, for messages."""

    name: str
    role: str
    says: str
    steps: tuple[Step, ...]

    def step(self, name: str) -> Step:
        """The step called `name`."""
        return next(step for step in self.steps if step.name == name)

    def handlers(self) -> frozenset[str]:
        """Names of all steps and undos; each needs a handler."""
        return frozenset(step.name for step in self.steps) | {step.undo for step in self.steps if step.undo}


class RunPhase(StrEnum):
    """Where a run stands."""

    DOING = "doing"
    UNDOING = "undoing"
    ENDING = "ending"
    """All undos are done; the `is_always` steps follow."""
    FINISHED = "finished"
    FAILED = "failed"


class Task(NamedTuple):
    """The next thing to do: `does` is the handler's name, `step` the step that it belongs to."""

    does: str
    step: Step
    is_undo: bool


class Problem(NamedTuple):
    """A failure. Those of optional steps and of undos do not stop the run."""

    what: str
    why: str


class PlanRun:
    """One attempt at `plan`. Facts: `step_done`, `step_failed`."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.phase = RunPhase.DOING
        self.failure: Problem | None = None
        """The step whose failure stopped the run."""
        self.problems: list[Problem] = []
        self._gone: list[str] = []  # steps that this phase has finished
        self._begun: list[str] = []  # steps to undo, once DOING has been left
        self._stuck: list[str] = []  # steps whose undo has failed or was skipped

    # ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_over(self) -> bool:
        """FINISHED or FAILED."""
        return self.phase in (RunPhase.FINISHED, RunPhase.FAILED)

    @property
    def done(self) -> tuple[str, ...]:
        """The steps that are done; after a failure, those that had been begun."""
        return tuple(self._gone if self.phase in (RunPhase.DOING, RunPhase.FINISHED) else self._begun)

    def task(self) -> Task | None:
        """The next task; None when the run is over."""
        waiting = self._waiting()
        if not waiting:
            return None
        step = waiting[0]
        if self.phase is RunPhase.UNDOING:
            assert step.undo is not None
            return Task(step.undo, step, is_undo=True)
        return Task(step.name, step, is_undo=False)

    def to_status(self) -> dict[str, Any]:
        """`plan` in the control socket's answer."""
        task = self.task()
        return {
            "name": self.plan.name,
            "phase": self.phase.value,
            "step": task.does if task else None,
            "done": list(self.done),
            "failure": f"{self.failure.what}: {self.failure.why}" if self.failure else None,
            "problems": [f"{problem.what}: {problem.why}" for problem in self.problems],
        }

    # ── facts ───────────────────────────────────────────────────────────────────────────────────────────────────

    def step_done(self) -> None:
        """The task is done. Raises `StateError` when the run is over."""
        self._gone.append(self._current().step.name)
        self._advance()

    def step_failed(self, why: str) -> None:
        """The task has failed. Raises `StateError` when the run is over."""
        task = self._current()
        if self.phase is RunPhase.DOING and task.step.is_required:
            self._turn_back(task.step.name, why)
            return
        self.problems.append(Problem(task.does, why))
        if task.is_undo:
            self._stuck.append(task.step.name)
        self._gone.append(task.step.name)
        self._advance()

    # ── transitions ───────────────────────────────────────────────────────────────────────────────────────────────

    def _current(self) -> Task:
        task = self.task()
        if task is None:
            raise StateError(f"plan {self.plan.name}", self.phase.value, "one with something to do")
        return task

    def _waiting(self) -> list[Step]:
        match self.phase:
            case RunPhase.DOING:
                steps: Iterable[Step] = self.plan.steps
            case RunPhase.UNDOING:
                steps = (step for step in reversed(self.plan.steps) if step.undo and step.name in self._begun)
            case RunPhase.ENDING:
                steps = (step for step in self.plan.steps if step.is_always)
            case _:
                steps = ()
        return [step for step in steps if step.name not in self._gone]

    def _turn_back(self, name: str, why: str) -> None:
        self.failure = Problem(name, why)
        self._begun = [*self._gone, name]
        self.phase, self._gone = RunPhase.UNDOING, []
        self._advance()

    def _advance(self) -> None:
        if self.phase is RunPhase.UNDOING:
            self._leave_out()
        if self.phase is RunPhase.DOING and not self._waiting():
            self.phase = RunPhase.FINISHED
        if self.phase is RunPhase.UNDOING and not self._waiting():
            self.phase, self._gone = RunPhase.ENDING, []
        if self.phase is RunPhase.ENDING and not self._waiting():
            self.phase = RunPhase.FAILED

    def _leave_out(self) -> None:
        """Skip the undos that would do harm: see `Step.undo_needs`."""
        while waiting := self._waiting():
            step = waiting[0]
            holding = [name for name in step.undo_needs if name in self._stuck]
            if not holding:
                return
            self.problems.append(Problem(step.undo or step.name, f"left out: {holding[0]} could not be undone"))
            self._stuck.append(step.name)
            self._gone.append(step.name)


# ── the plans ───────────────────────────────────────────────────────────────────────────────────────────────────

_ENSURE_RUNNING: Final = Step(
    "ensure-running",
    "the VM runs, whatever has failed before: `cont` if QEMU reports that it is stopped",
    is_always=True,
)

PROTECT: Final = Plan(
    "protect",
    "primary",
    "give a running VM a secondary; its network is not touched before the secondary is ready",
    (
        Step("probe", "refuse what cannot work before anything is changed"),
        Step(
            "prepare-peer",
            "the other node starts its QEMU (plan prepare-secondary); this takes seconds, so it comes before anything "
            "that the guest notices. The other node discards that QEMU when the link is closed",
        ),
        Step(
            "copy-disks",
            "each writable disk, to the other host, while the guest runs; from then on a write is complete when both "
            "hosts have it. This may take hours, so it comes before anything in the guest's network. Nothing to do "
            "without [disks]",
            undo="drop-disks",
        ),
        Step(
            "make-taps",
            "for each card a TAP of the node, like the guest's and in no bridge: nothing uses it yet",
            undo="remove-taps",
            undo_needs=("take-place",),
        ),
        Step(
            "open-path",
            "the node opens both and passes all frames on. This precedes the move, which would cut the guest off else",
            undo="close-path",
            undo_needs=("take-place",),
        ),
        Step(
            "take-place",
            "the node's TAPs take the places of the guest's in their bridges; what clients send meanwhile is lost for "
            "some milliseconds",
            undo="give-back-place",
        ),
        Step("open-relay", "a connection for the migration stream, to the secondary's QEMU", undo="close-relay"),
        Step(
            "set-parameters",
            "capabilities x-colo and events; a long x-checkpoint-delay, since the node requests the checkpoints",
            undo="reset-parameters",
        ),
        Step("migrate", "through the relay, until both QEMUs are in COLO state", undo="leave-colo"),
        Step(
            "first-checkpoint",
            "until the secondary has loaded the first state and the record says so: from then on it can take over",
        ),
        _ENSURE_RUNNING,
    ),
)

PREPARE_SECONDARY: Final = Plan(
    "prepare-secondary",
    "secondary",
    "start a QEMU that waits for the primary's state, off the network",
    (
        Step(
            "start-qemu",
            "images and overlays of [disks], then the configured command with -incoming defer, off the network. "
            "Killing it undoes most of the later steps",
            undo="stop-qemu",
        ),
        Step("connect-qmp", "QMP, and the second QMP connection, for yank, if configured"),
        Step("probe", "refuse what cannot work, here also by this QEMU's version and devices"),
        Step("make-taps", "for each card a TAP of the node, in no bridge"),
        Step("open-path", "the node opens both, and holds all frames until the first state", undo="close-path"),
        Step("stay-apart", "the guest's taps leave their bridges; a takeover puts the node's there"),
        Step(
            "set-capabilities",
            "x-colo and events, before the stream begins: without them QEMU 10 aborts at its first byte",
        ),
        Step(
            "export-disks",
            "QEMU takes the primary's writes over NBD; its replication nodes do not begin without an export",
        ),
        Step("listen-for-migration", "migrate-incoming on a socket, to which the relay connects"),
    ),
)

TAKE_OVER: Final = Plan(
    "take-over",
    "secondary",
    "it is permitted, and the term is on disk: the secondary serves. There is no way back",
    (
        Step(
            "yank",
            "frees a QEMU that hangs in a dead peer's stream; optional, since mostly none hangs",
            is_required=False,
        ),
        Step(
            "stop-disks",
            "no write of the old primary reaches the disks any more, also of one that was only frozen; the record says "
            "that what the guest writes from here on is in overlays. So this precedes leave-colo",
        ),
        Step(
            "leave-colo",
            "x-colo-lost-heartbeat, until QEMU has resumed the guest. A checkpoint that was not loaded is void: the "
            "guest keeps its state and the node its offsets",
        ),
        Step("serve-network", "the node's TAPs join the network before anything is sent to the clients"),
        Step(
            "switch-routes",
            "the guest serves the clients; the node sends again what the clients have not acknowledged",
        ),
        Step(
            "announce", "switches learn the new port at once, not only from the guest's own frames", is_required=False
        ),
    ),
)

GO_ALONE: Final = Plan(
    "go-alone",
    "primary",
    "no other guest can serve, and the record says so: the primary goes on alone. There is no way back",
    (
        Step(
            "release-held",
            "the node sends what it holds and stops comparing, since the secondary will not serve. This precedes all "
            "steps in QEMU, because clients wait for it",
        ),
        Step(
            "yank",
            "frees a QEMU that hangs in a dead peer's stream; optional, since mostly none hangs",
            is_required=False,
        ),
        Step("leave-colo", "x-colo-lost-heartbeat; aborts a checkpoint or a migration under way"),
        _ENSURE_RUNNING._replace(says="the primary is stopped if the secondary has died in a checkpoint"),
        Step("close-relay", "its stream has ended; the next `protect` opens another one"),
        Step("drop-disks", "the mirrors of the disks; their connections were closed with the stream"),
        Step(
            "give-back-place",
            "the guest's taps get the places of the node's, which are removed. If this fails, or connections from "
            "before a takeover are open, the node stays in the path and passes all frames on",
        ),
        Step("close-path", "no frame goes through it any more"),
        Step("remove-taps", "the node's TAPs are gone, in whichever step a `protect` has ended"),
        Step("reset-parameters", "x-colo off, so that the next migration is an ordinary one", is_required=False),
    ),
)

PLANS: Final[Mapping[str, Plan]] = {plan.name: plan for plan in (PROTECT, PREPARE_SECONDARY, TAKE_OVER, GO_ALONE)}
"""All of them."""
