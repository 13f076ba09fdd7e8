"""One round: the fault, the steps before clients can go on, the repair."""

import random
import signal
import socket
import time
from collections.abc import Callable
from typing import Final

from pycolo_lab.errors import LabError
from pycolo_lab.processes import reap_strangers
from pycolo_lab.qemu.diskfaults import COPY_LOSSES, DiskFaults
from pycolo_lab.qemu.moving import Moving
from pycolo_lab.qemu.nodes import LEASE_MS, other
from pycolo_lab.qemu.scenarios import PROTECT_VICTIMS, WRONG_COMMANDS, Fault, Scenario, Victim
from pycolo_lab.qemu.stage import PROTECT_TIMEOUT_S, Stage

GONE_S: Final = 1.0
"""How long a node stays away, and an operator takes to decide."""

SETTLED_S: Final = 0.2
"""By then, data that was in flight at the fault has arrived."""

PROGRESS_S: Final = 15.0

STRIKE_WITHIN_S: Final = 1.5
"""Protect takes about a second here: some of the moments are just after it."""

FAILS_WITHIN_S: Final = 10.0
"""Less than the 20 s of a starting QEMU: an attempt that cannot succeed should not wait."""

LEASE_AND_MORE_S: Final = LEASE_MS / 1e3 + 2.0
"""By then no unrenewed lease is held."""

ENOUGH_ANSWERS: Final = 12
"""A quarter of the connections' number: one answer alone may have been in flight."""

REFUSALS_MIN: Final = 3
"""Refused checkpoints before QEMU accepts them again: one is tried every 100 ms."""

DIRTY_BYTES: Final = 32 << 20
"""A third of the guest's memory."""

DIRTY_S: Final = 3

STAYS_WHOLE: Final = (
    Fault.STORE_HANGS,
    Fault.PROTECT_KILLED,
    Fault.REFUSED,
    Fault.DIRTY,
    Fault.SWITCHOVER,
    Fault.DISK_SLOW,
)
"""Nothing that is protected need have been lost."""


class Act:
    """One round. Raises `LabError` when one of its steps fails."""

    def __init__(self, scenario: Scenario, stage: Stage, answers: Callable[[], int], number: int, seed: int) -> None:
        """`answers()`: how many answers the clients have received. `number`: of the round, from 1."""
        self._scenario = scenario
        self._stage = stage
        self._answers = answers
        self._number = number
        self._rng = random.Random(f"{seed} {number}")
        primary = stage.serving()
        assert primary is not None, "the runner has checked"
        self._primary = primary
        self._victim = primary if scenario.victim is Victim.PRIMARY else other(primary)
        self.fault = scenario.fault.value
        self._answer: socket.socket | None = None  # to `colo switchover`
        self._asked = primary
        self._moving = Moving(stage, primary, number)
        self.notes: list[str] = []
        self.broken: list[str] = []
        self._disk = DiskFaults(stage, primary, self.notes, self.broken)

    # ── the fault ─────────────────────────────────────────────────────────────────────────────────────────────

    def strike(self) -> int:
        """Returns the time of the fault, CLOCK_MONOTONIC nanoseconds."""
        stage, victim = self._stage, self._victim
        strikes = {
            Fault.CHECKPOINT: self._strike_in_checkpoint,
            Fault.HANG_CHECKPOINT: self._strike_in_checkpoint,
            Fault.STREAM: self._strike_in_checkpoint,
            Fault.REFUSED: self._refuse_checkpoints,
            Fault.DIRTY: self._dirty_memory,
            Fault.PROTECT_KILLED: self._strike_in_protect,
            Fault.PROTECT_WRONG: self._protect_in_vain,
            Fault.MOVING: self._moving.strike,
            Fault.SWITCHOVER: self._switch_over,
            Fault.DISK_AGAIN: self._disk.strike_again,
            Fault.DISK_FULL: lambda: self._disk.fill(victim),
            Fault.OVERLAY_FULL: self._disk.fill_overlays,
            Fault.DISK_SLOW: self._disk.slow_down,
        }
        if (strike := strikes.get(self._scenario.fault)) is not None:
            return strike()
        if self._scenario.fault is Fault.STORE_GONE:
            stage.store.kill()
        at_ns = time.monotonic_ns()
        match self._scenario.fault:
            case Fault.QEMU | Fault.SURVIVOR:
                stage.kill_qemu(victim)
            case Fault.HOST | Fault.STORE_GONE:
                stage.power_off(victim)
            case Fault.NODE:
                stage.kill_node(victim)
            case Fault.LINK:
                stage.network.cut_link()
            case Fault.HANG:
                stage.signal_qemu(victim, signal.SIGSTOP)
            case Fault.FREEZE:
                stage.signal_node(victim, signal.SIGSTOP)
                stage.signal_qemu(victim, signal.SIGSTOP)
            case Fault.STORE_HANGS:
                stage.store.hang()
            case Fault.DISK_CUT:
                with stage.watch(victim) as watch:
                    watch.ask("nbd-server-stop")
            case Fault.UNPROTECT:
                stage.unprotect()
        return at_ns

    def _strike_in_checkpoint(self) -> int:
        stage, victim, primary = self._stage, self._victim, self._primary
        fault = self._scenario.fault
        if stage.files[victim].qemu_pid is None:
            raise LabError(f"no QEMU to kill on {victim.value}")
        with stage.watch(primary) as watch:
            answer = stage.files[primary].tell("checkpoint")
            stopped = watch.wait_event("STOP", timeout_s=5)
            at_ns = time.monotonic_ns()
            if fault is Fault.STREAM:
                watch.ask_at_once("yank", {"instances": [{"type": "migration"}]})
            else:
                stage.signal_qemu(victim, signal.SIGSTOP if fault is Fault.HANG_CHECKPOINT else signal.SIGKILL)
            answer.close()
            if stopped is None:
                raise LabError(f"no checkpoint began on {primary.value} within 5 s: {stage.account()}")
            try:
                resumed = watch.wait_event("RESUME", timeout_s=0.001)
            except (LabError, OSError):  # the watched QEMU is the dead one
                resumed = None
        if resumed is not None:
            self.notes.append("the checkpoint was over before the fault")
        return at_ns

    def _refuse_checkpoints(self) -> int:
        """Each refusal costs only an attempt; when QEMU accepts checkpoints again, one answers all requests."""
        stage, primary = self._stage, self._primary
        before = stage.checkpoint_status(primary)
        at_ns = time.monotonic_ns()
        stage.refuse_checkpoints(primary, is_refusing=True)
        stage.files[primary].tell("checkpoint").close()

        def refused() -> int:
            return int(stage.checkpoint_status(primary)["aborted"] - before["aborted"])

        try:
            stage.until("no checkpoint was refused", lambda: refused() >= REFUSALS_MIN)
            self.notes.append(f"QEMU said: {stage.checkpoint_status(primary)['last'][-1]['why']}")
            if (epoch := stage.checkpoint_status(primary)["epoch"]) != before["epoch"]:
                self.notes.append(f"{epoch - before['epoch']} checkpoints were made before the first refusal")
        finally:
            stage.refuse_checkpoints(primary, is_refusing=False)
        epoch = stage.checkpoint_status(primary)["epoch"]
        stage.until("no checkpoint was made afterwards", lambda: stage.checkpoint_status(primary)["epoch"] > epoch)
        self.notes.append(f"{refused()} checkpoints were refused")
        if not stage.is_whole():
            self.broken.append(f"a refused checkpoint cost the pair: {stage.account()}")
        return at_ns

    def _dirty_memory(self) -> int:
        """The guest changes its memory as fast as it can; each checkpoint copies that, and none is given up."""
        stage, primary = self._stage, self._primary
        before = stage.checkpoint_status(primary)
        at_ns = time.monotonic_ns()
        stage.tell_guest(f"dirty {DIRTY_BYTES} 0 {DIRTY_S}")
        stage.rest(DIRTY_S)
        stage.until("no checkpoint was made", lambda: stage.checkpoint_status(primary)["epoch"] > before["epoch"])
        after = stage.checkpoint_status(primary)
        copied, pace = after["copied_bytes"] - before["copied_bytes"], after["pace"]
        self.notes.append(f"{after['epoch'] - before['epoch']} checkpoints have copied {copied >> 20} MiB")
        self.notes.append(str(pace["why"] or f"no pause was longer than {pace['target_ms']:.0f} ms"))
        if copied < DIRTY_BYTES // 2:  # the rest follows with the next one
            self.broken.append(f"{copied >> 20} MiB were copied, of {DIRTY_BYTES >> 20} that have changed")
        if not stage.is_whole() or after["aborted"] != before["aborted"]:
            self.broken.append(f"a busy guest lost its protection: {stage.account()}")
        return at_ns

    def _switch_over(self) -> int:
        """Asked at either node in turn; `repair` hears the answer."""
        asked = self._primary if self._number % 2 else other(self._primary)
        at_ns = time.monotonic_ns()
        self._answer = self._stage.files[asked].tell("switchover")
        self._asked = asked
        return at_ns

    def _strike_in_protect(self) -> int:
        """The chosen victim dies at a random moment after the command."""
        stage, primary = self._stage, self._primary
        who, how = PROTECT_VICTIMS[(self._number - 1) % len(PROTECT_VICTIMS)]
        self._victim = primary if who is Victim.PRIMARY else other(primary)
        stage.unprotect()
        moment_s = self._rng.uniform(0, STRIKE_WITHIN_S)
        self.fault = f"{moment_s * 1e3:.0f} ms into protect {'QEMU' if how is Fault.QEMU else 'the node'} dies"
        self.notes.append(f"of the {who.value}, {self._victim.value}")
        answer = stage.files[primary].tell("protect")
        began = time.monotonic()
        stage.rest(moment_s)
        if how is Fault.QEMU:
            while stage.files[self._victim].qemu_pid is None and time.monotonic() < began + STRIKE_WITHIN_S:
                stage.rest(0.01)
        at_ns = time.monotonic_ns()
        if how is Fault.QEMU:
            stage.kill_qemu(self._victim)
        else:
            stage.kill_node(self._victim)
        self.notes.append(f"states then: {' '.join(stage.states())}")
        with answer:
            said = stage.files[primary].heard(answer, PROTECT_TIMEOUT_S)
            self.notes.append(f"protect said: {said.decode(errors='replace').strip() or 'nothing'}")
        return at_ns

    def _protect_in_vain(self) -> int:
        """Protect must fail cleanly: one line, exit code 1, nothing left behind, both nodes linked."""
        stage, primary = self._stage, self._primary
        what = WRONG_COMMANDS[(self._number - 1) % len(WRONG_COMMANDS)]
        stage.unprotect()
        stage.restart_node(self._victim, wrong=what)
        at_ns = time.monotonic_ns()
        code, said = stage.run_colo("protect", primary)
        errors = [line for line in said.splitlines() if not line.startswith("protect: ")]  # the steps that it names
        self.notes.append(f"wrong {what}: {' | '.join(errors)}")
        if code != 1 or len(errors) != 1:
            self.broken.append(f"protect with wrong {what}: exit code {code}, and it said {said!r}")
        if (took_s := (time.monotonic_ns() - at_ns) / 1e9) > FAILS_WITHIN_S:
            self.broken.append(f"protect with wrong {what} took {took_s:.0f} s to fail")
        stage.until_linked()
        self._expect_nothing_left(f"protect with wrong {what}")
        return at_ns

    def _expect_nothing_left(self, after: str) -> None:
        left = self._stage.network.not_as_before(self._primary)
        if left:
            self.broken.append(f"after {after} there is on {self._primary.value}: {', '.join(left)}")

    # ── before clients can go on ──────────────────────────────────────────────────────────────────────────────────

    def go_on(self, at_ns: int) -> int:
        """Returns the time after which the clients certainly go on."""
        stage, scenario, victim = self._stage, self._scenario, self._victim
        match scenario.fault:
            case Fault.STORE_HANGS:
                self._expect_silence("etcd hung", LEASE_AND_MORE_S, settled_s=LEASE_MS / 1e3)
                stage.store.go_on()
            case Fault.STORE_GONE:
                self._expect_silence("etcd was gone", LEASE_AND_MORE_S)
                stage.store.start()
            case Fault.HANG | Fault.FREEZE if scenario.confirms:
                self._expect_silence("the guest hung", GONE_S)
                self.notes.append("colo failover at the other node")
                stage.failover(other(victim))
            case Fault.PROTECT_KILLED:
                stage.rest(GONE_S)
                if not stage.is_running(victim) and stage.files[victim].qemu_pid is not None:
                    self.notes.append("the node was started again")
                    stage.start_node(victim)
            case Fault.SURVIVOR:
                self._restart_survivor(at_ns)
            case Fault.MOVING:
                self._restart_mover(at_ns)
            case Fault.UNPROTECT:
                self._expect_nothing_left("unprotect")
            case Fault.SWITCHOVER:
                stage.until("the other host does not serve", lambda: stage.serving() is other(self._primary))
            case Fault.LINK if scenario.has_paths:
                self.notes.append("no operator was needed")
            case _ if scenario.arbiter == "manual":
                self._expect_silence("no node was allowed to serve", GONE_S)
                if scenario.confirms:
                    self.notes.append("colo failover at the primary's node")
                    stage.failover(self._primary)
                else:
                    self.notes.append("the node was started again")
                    stage.start_node(victim)
        self._until_answers(at_ns)
        going_on_ns = time.monotonic_ns()
        if scenario.fault is Fault.STREAM:
            self._expect_aborted()
        if scenario.fault in (Fault.DISK_CUT, Fault.OVERLAY_FULL) or (
            scenario.fault is Fault.DISK_FULL and victim is not self._primary
        ):
            self._disk.expect_named(*COPY_LOSSES)
        return going_on_ns

    def _restart_mover(self, at_ns: int) -> None:
        """The node that has died in a move is away for a moment, and started again."""
        stage, moving = self._stage, self._moving
        self.fault = moving.account
        if moving.is_cut_off():
            self._expect_silence("the node had the taps' place, and was dead", GONE_S)
        else:
            self._until_answers(at_ns)
        if moving.is_dead:
            stage.start_node(moving.victim)
        moving.close()

    def _restart_survivor(self, at_ns: int) -> None:
        """The node of the host that has taken over is killed, and started again."""
        stage, survivor = self._stage, other(self._victim)
        self._until_answers(at_ns)
        stage.kill_node(survivor)
        self._expect_silence("the node was dead", GONE_S)
        stage.start_node(survivor)
        self.notes.append(f"the node of {survivor.value} was killed after the takeover, and started again")

    def _expect_aborted(self) -> None:
        """COLO has ended in both QEMUs: the primary's guest serves on, the secondary's is discarded."""
        stage, primary = self._stage, self._primary
        stage.until_linked()
        if stage.serving() is not primary:
            self.broken.append(f"a failed checkpoint moved the guest: {stage.account()}")
        if stage.files[other(primary)].qemu_pid is not None:
            self.broken.append(f"the secondary's QEMU lives on at {other(primary).value}")
        last = stage.checkpoint_status(primary)["last"][-1]
        self.notes.append(f"{last['outcome']}: {last['why']}")
        if last["outcome"] != "aborted" and not any("was over" in note for note in self.notes):
            self.broken.append(f"the last checkpoint is recorded as {last['outcome']}")
        # Linked is said first; what is left of COLO goes then.
        stage.until("the taps did not go back", lambda: not stage.network.not_as_before(primary))

    def _expect_silence(self, why: str, seconds: float, settled_s: float = SETTLED_S) -> None:
        self._stage.rest(settled_s)
        before = self._answers()
        self._stage.rest(seconds)
        answers = self._answers() - before
        if answers:
            self.broken.append(f"{answers} answers came although {why}")

    def _until_answers(self, at_ns: int) -> None:
        """More answers than may have been in flight."""
        self._stage.rest(max(0.0, SETTLED_S - (time.monotonic_ns() - at_ns) / 1e9))
        enough = self._answers() + ENOUGH_ANSWERS
        self._stage.until("the clients did not go on", lambda: self._answers() >= enough, timeout_s=PROGRESS_S)

    # ── the repair ────────────────────────────────────────────────────────────────────────────────────────────

    def repair(self) -> None:
        """As an administrator would: cables, power, the correct configuration, protect."""
        stage, fault = self._stage, self._scenario.fault
        reap_strangers()
        self._disk.make_room()
        if self._answer is not None:
            self._hear_switchover(self._answer)
        if fault is Fault.LINK:
            stage.network.restore_link()
        if fault is Fault.PROTECT_WRONG:
            stage.restart_node(self._victim)
        if fault in (Fault.HANG, Fault.HANG_CHECKPOINT, Fault.FREEZE):
            # If it still runs: none of its output may reach a client.
            stage.signal_qemu(self._victim, signal.SIGCONT)
            stage.rest(SETTLED_S)
        if fault is Fault.FREEZE:
            stage.signal_node(self._victim, signal.SIGCONT)
        for host in stage.files:
            if not stage.is_running(host):
                stage.power_on(host)
        if fault in STAYS_WHOLE and stage.is_whole():
            return
        stage.protect()

    def _hear_switchover(self, answer: socket.socket) -> None:
        """It comes when the pair is protected again."""
        with answer:
            said = self._stage.files[self._asked].heard(answer, PROTECT_TIMEOUT_S).decode(errors="replace").strip()
        self.notes.append(f"switchover at {self._asked.value} said: {said}")
        if '"error"' in said or not said:
            self.broken.append(f"switchover at {self._asked.value}: {said or 'no answer'}")
        self._stage.until("the pair did not become protected", self._stage.is_whole)
