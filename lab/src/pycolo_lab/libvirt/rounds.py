"""One round of a protected pair: clients, the fault, what must be true then, the repair, protected again."""

import random
import time
from typing import Final

from pycolo_lab.errors import LabError, RunInterruptedError
from pycolo_lab.libvirt.facts import RoundFacts
from pycolo_lab.libvirt.faults import Fault, Outcome
from pycolo_lab.libvirt.pair import Pair
from pycolo_lab.libvirt.truth import TRUE_S
from pycolo_lab.libvirt.witnesses import Witnesses
from pycolo_lab.processes import Host
from pycolo_lab.qemu.nodes import other
from pycolo_lab.qemu.stage import SERVING, are_whole

WARM_S: Final = 1.5
AFTER_S: Final = 2.0
SERVED_S: Final = 40.0

CHECKPOINTS: Final = 2
"""Made after something that the pair survives: it is whole, and not only said to be."""


class Round:
    """One round; `play` once."""

    def __init__(self, pair: Pair, fault: Fault, number: int, seed: int, work: str | None = None) -> None:
        """`work`: what a client does besides, see `pycolo_lab.work`."""
        self._pair = pair
        self._stage = pair.stage
        self._fault = fault
        self._number = number
        self._work = work
        self._rng = random.Random(f"{seed} {fault.name} {number}")
        self._name = work or fault.name
        self._facts = RoundFacts(scenario=self._name, broken=[])
        self._counted = 0

    def play(self) -> RoundFacts:
        """What did not hold is in the facts."""
        try:
            self._play()
        except RunInterruptedError:
            raise
        except LabError as error:
            self._facts.broken.append(str(error))
        return self._facts

    def _play(self) -> None:
        pair, facts, fault = self._pair, self._facts, self._fault
        pair.ensure_whole()
        primary = pair.serving()
        if primary is None:
            raise LabError(f"no host serves: {pair.account()}")
        self._expect("before", primary)
        ends = fault.outcome in (Outcome.ENDS, Outcome.REBOOTS, Outcome.ANEW)
        name = f"{self._name}-{self._number}"
        witnesses = Witnesses(self._stage, name, has_disk=self._stage.has_disk, work=self._work)
        try:
            self._stage.rest(WARM_S)
            witnesses.until_answered()
            at_ns = time.monotonic_ns()
            if ends:
                witnesses.abandon()
                self._counted = self._stage.count() or 0
            facts.notes += fault.strike(pair, primary, self._rng)
            self._follow(primary, witnesses)
            settled_ns = time.monotonic_ns()
            fault.repair(pair, primary)
            facts.whole_again_s = pair.ensure_whole()
            self._expect("after the repair", pair.serving())
            if not ends:
                witnesses.until_answered()
                facts.take(witnesses.end(at_ns, settled_ns))
        finally:
            witnesses.abandon()

    def _follow(self, primary: Host, witnesses: Witnesses) -> None:
        """Until the fault's outcome has come, as it must."""
        pair, fault, facts = self._pair, self._fault, self._facts
        match fault.outcome:
            case Outcome.ENDS:
                pair.until("the guest has not ended on both hosts", self._has_ended, self._stage.boot_s)
                self._expect("after the guest ended", None)
                return
            case Outcome.REBOOTS:
                self._watch_whole(primary)
                pair.until("the guest did not start again", self._has_begun_anew, self._stage.boot_s)
            case Outcome.WHOLE:
                self._watch_whole(primary)
                witnesses.until_answered()
            case _:
                moved = [other(primary)]
                wanted = {Outcome.MOVES: moved, Outcome.ANEW: moved, Outcome.STAYS: [primary]}.get(
                    fault.outcome, list(Host)
                )
                pair.until("the wrong host serves", lambda: pair.serving() in wanted, SERVED_S)
                if fault.outcome is not Outcome.ANEW:
                    witnesses.until_answered()
        self._stage.rest(AFTER_S)
        now = pair.serving()
        facts.served_by = now.value if now else ""
        if fault.outcome in (Outcome.WHOLE, Outcome.REBOOTS):
            pair.make_checkpoints(primary, CHECKPOINTS)
            if now is not primary or not pair.is_whole():
                facts.broken.append(f"it cost the pair: {pair.account()}")
        if all(host.domains() is not None for host in self._stage.hosts.values() if host.powered.is_on):
            self._expect("after it", now)

    def _watch_whole(self, primary: Host) -> None:
        """For a while; the rest is looked at afterwards."""
        deadline = time.monotonic() + AFTER_S
        while time.monotonic() < deadline:
            status = self._pair.statuses()[primary]
            if status is not None and status["state"] not in (*SERVING, "protected"):
                self._facts.notes.append(f"the primary's node said {status['state']}")
            self._stage.rest(0.2)

    def _has_begun_anew(self) -> bool:
        counted = self._stage.count()
        return counted is not None and counted < self._counted

    def _has_ended(self) -> bool:
        return all(host.qemu_pid == 0 for host in self._stage.hosts.values())

    def _expect(self, when: str, serving: Host | None) -> None:
        """libvirt learns of a death a moment later, and the pair may be about to change: it must be true soon."""
        deadline = time.monotonic() + TRUE_S
        while True:
            states = self._pair.states()
            found = self._stage.wrong(serving, is_protected=are_whole(states, compares=True))
            if not found and self._pair.states() == states:
                return
            if time.monotonic() > deadline:
                self._facts.broken += [f"{when}: {text}" for text in found]
                return
            self._stage.rest(0.2)
