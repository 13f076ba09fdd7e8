"""Plans as data: what is done when a VM gets, loses or changes its partner, step by step.

A `Plan` is names and reasons; the names are the contract with whoever does the steps (`node.planner` runs them). A
`PlanRun` is one attempt: it is told how each step ended and says what comes next. ::

    DOING ──(all done)──► FINISHED
      │
      └──(a required step failed)──► UNDOING ──► ENDING ──► FAILED

* **Each step and each undo is idempotent**: done twice, or on what is there already, it succeeds. Nothing of a run is
  kept on disk: a node that was killed in it asks QEMU what is left of it, and takes that away or begins anew.
* **What was begun is undone**, in reverse order. That includes the step that failed: it may have done half of its
  work. An undo that finds nothing to undo succeeds.
* **An undo that fails stops nothing** but what would harm: `undo_needs` names the steps that must be gone before. A
  path to the guest is not closed while its filters are still there, because QEMU drops what they cannot deliver.
* **`is_always`** steps are done in their place and again at the end of a failure: the VM is never left stopped.
* Without undos a plan only goes forward: there is no way back behind a failover. Where such a run has failed the plan
  is run again from its beginning.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from pycolo.errors import StateError


class Step(NamedTuple):
    """`says` is one line for the user and says why the step stands where it stands."""

    name: str
    says: str
    undo: str | None = None
    is_required: bool = True
    """False: when it fails that is noted, and the plan goes on."""
    is_always: bool = False
    undo_needs: tuple[str, ...] = ()
    """Its undo is left out while one of these steps, begun, is not undone."""


class Plan(NamedTuple):
    """`role` is whose plan it is, for messages."""

    name: str
    role: str
    says: str
    steps: tuple[Step, ...]

    def step(self, name: str) -> Step:
        """The step called `name`."""
        return next(step for step in self.steps if step.name == name)

    def handlers(self) -> frozenset[str]:
        """Everything that somebody must be able to do: steps and undos."""
        return frozenset(step.name for step in self.steps) | {step.undo for step in self.steps if step.undo}


class RunPhase(StrEnum):
    """Where a run stands."""

    DOING = "doing"
    UNDOING = "undoing"
    ENDING = "ending"
    """Everything is undone; the steps that are always done."""
    FINISHED = "finished"
    FAILED = "failed"


class Task(NamedTuple):
    """What is to be done now: `does` is the handler's name, `step` the step that it belongs to."""

    does: str
    step: Step
    is_undo: bool


class Problem(NamedTuple):
    """Something failed that did not stop the run: an optional step or an undo."""

    what: str
    why: str


class PlanRun:
    """One attempt at `plan`. Facts: `step_done`, `step_failed`."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.phase = RunPhase.DOING
        self.failure: Problem | None = None
        """The step that stopped it, and why."""
        self.problems: list[Problem] = []
        self._gone: list[str] = []  # of the phase: steps that are done, undone, or done at the end
        self._begun: list[str] = []  # of DOING, once it is left: the steps to undo
        self._stuck: list[str] = []  # steps that are still there: their undo failed or was left out

    # ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_over(self) -> bool:
        """FINISHED or FAILED: there is nothing to do any more."""
        return self.phase in (RunPhase.FINISHED, RunPhase.FAILED)

    @property
    def done(self) -> tuple[str, ...]:
        """The steps that have been done (in DOING and FINISHED), else those that had been begun."""
        return tuple(self._gone if self.phase in (RunPhase.DOING, RunPhase.FINISHED) else self._begun)

    def task(self) -> Task | None:
        """What is to be done now; None when the run is over."""
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
        """The task has been done. Raises `StateError` when there was none."""
        self._gone.append(self._current().step.name)
        self._advance()

    def step_failed(self, why: str) -> None:
        """The task has failed. Raises `StateError` when there was none."""
        task = self._current()
        if self.phase is RunPhase.DOING and task.step.is_required:
            self._turn_back(task.step.name, why)
            return
        self.problems.append(Problem(task.does, why))
        if task.is_undo:
            self._stuck.append(task.step.name)
        self._gone.append(task.step.name)
        self._advance()

    # ── moving on ───────────────────────────────────────────────────────────────────────────────────────────────

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
        """Undos that would take away what something still uses."""
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
    "ensure-running", "the VM runs, whatever has happened before: `cont` when QEMU says it does not", is_always=True
)

PROTECT: Final = Plan(
    "protect",
    "primary",
    "give a running VM a secondary; its network is not touched before the secondary waits for it",
    (
        Step("probe", "refuse what cannot work while nothing has been changed yet"),
        Step(
            "prepare-peer",
            "the other node starts its QEMU (plan prepare-secondary): it takes seconds, so before the guest notices",
            undo="discard-peer",
        ),
        Step(
            "add-chardevs",
            "four listening sockets in QEMU; nothing uses them yet",
            undo="remove-chardevs",
            undo_needs=("add-filters",),
        ),
        Step(
            "open-path",
            "the node connects to them and passes everything, before there are filters: a filter without its other "
            "end drops frames",
            undo="close-path",
            undo_needs=("add-filters",),
        ),
        Step(
            "add-filters",
            "in list order, so that no frame goes round; what comes before it can be injected waits in its socket",
            undo="remove-filters",
        ),
        Step("open-relay", "a socket for the migration stream, to the secondary's QEMU", undo="close-relay"),
        Step(
            "set-parameters",
            "capabilities x-colo and events, a long x-checkpoint-delay: the node itself asks for checkpoints",
            undo="reset-parameters",
        ),
        Step("migrate", "through the relay, until both QEMUs are in COLO state", undo="leave-colo"),
        Step("first-checkpoint", "from its commit on the secondary stands for the primary; before, it must not serve"),
        _ENSURE_RUNNING,
    ),
)

PREPARE_SECONDARY: Final = Plan(
    "prepare-secondary",
    "secondary",
    "a QEMU that waits for the primary's state, off the network",
    (
        Step(
            "start-qemu",
            "the configured command line with -incoming defer, off the network; what QEMU is told later ends with it",
            undo="stop-qemu",
        ),
        Step("connect-qmp", "QMP, and a second connection for yank where there is one"),
        Step("probe", "refuse what cannot work: this QEMU's version and devices too"),
        Step("add-chardevs", "four listening sockets in QEMU"),
        Step("open-path", "the node connects: before the filters, which drop frames otherwise", undo="close-path"),
        Step("add-filters", "the node is in line with the guest: a takeover then changes routes only"),
        Step("set-capabilities", "x-colo and events, before the stream begins: QEMU 10 dies at its first byte else"),
        Step("listen-for-migration", "migrate-incoming, and the relay's end at it"),
    ),
)

TAKE_OVER: Final = Plan(
    "take-over",
    "secondary",
    "the arbiter has permitted it: the secondary serves. There is no way back",
    (
        Step(
            "record-term",
            "first, and on disk: a node that has served under a term must know it after a crash, or two would serve",
        ),
        Step("yank", "frees a QEMU that hangs in a dead peer's stream; fails where nothing hangs", is_required=False),
        Step(
            "leave-colo",
            "x-colo-lost-heartbeat, until QEMU has resumed the guest. A checkpoint that was not loaded is void: the "
            "guest keeps its own state, the node its offsets",
        ),
        Step(
            "filters-on",
            "QEMU 7.2 turns filters off when it leaves COLO: the guest's frames pass the node by, with the "
            "secondary's sequence numbers. So before the tap is on the network",
        ),
        Step("serve-network", "the tap joins the network: before anything is sent, or it is sent to nobody"),
        Step(
            "switch-routes",
            "the network feeds the guest, the guest answers the network; what clients have not acknowledged is sent "
            "again here",
        ),
        Step("announce", "switches learn the new port; the guest's own frames teach them too", is_required=False),
    ),
)

GO_ALONE: Final = Plan(
    "go-alone",
    "primary",
    "the arbiter has permitted it: the primary goes on without its secondary. There is no way back",
    (
        Step("record-term", "first, and on disk: from here on the secondary must not take over"),
        Step(
            "release-held",
            "only the secondary could have contradicted, and it will not serve: what is held leaves, and nothing is "
            "compared any more. Before QEMU is touched, since clients wait",
        ),
        Step("yank", "frees a QEMU that hangs in a dead peer's stream; fails where nothing hangs", is_required=False),
        Step("leave-colo", "x-colo-lost-heartbeat; a checkpoint or a migration under way is given up"),
        _ENSURE_RUNNING._replace(says="the primary stands when the secondary died in a checkpoint"),
        Step("close-relay", "its stream has ended; before the next protect"),
        Step(
            "remove-filters",
            "the two that divert first; then what the node still has is injected, then the other two go. When this "
            "fails the node stays in line and passes everything: nothing behind it may be taken away",
        ),
        Step("close-path", "no filter uses it any more"),
        Step("remove-chardevs", "QEMU refuses to remove one that is in use: last"),
        Step("reset-parameters", "x-colo off, so that the next migration is an ordinary one", is_required=False),
    ),
)

UNPROTECT: Final = Plan(
    "unprotect",
    "primary",
    "give the secondary up on purpose",
    (
        Step(
            "discard-peer",
            "first: the other node promises not to take over and stops its QEMU. Without its word this is a failover, "
            "and the arbiter's business",
        ),
        Step("release-held", "nobody else can serve any more: what is held leaves, and nothing is compared any more"),
        Step("yank", "frees a QEMU that was in a checkpoint when its peer went", is_required=False),
        Step("leave-colo", "x-colo-lost-heartbeat"),
        _ENSURE_RUNNING,
        Step("close-relay", "its stream has ended"),
        Step("remove-filters", "the two that divert first; when it fails the node stays in line and passes everything"),
        Step("close-path", "no filter uses it any more"),
        Step("remove-chardevs", "QEMU refuses to remove one that is in use: last"),
        Step("reset-parameters", "x-colo off: the VM is as it was"),
    ),
)

PLANS: Final[Mapping[str, Plan]] = {
    plan.name: plan for plan in (PROTECT, PREPARE_SECONDARY, TAKE_OVER, GO_ALONE, UNPROTECT)
}
"""All of them."""
