"""The scenario `plain`: libvirt's hosts as they are without pycolo. What breaks here is not pycolo's."""

import time

from pycolo_lab.errors import LabError, RunInterruptedError
from pycolo_lab.libvirt.domain import NAME
from pycolo_lab.libvirt.facts import RoundFacts
from pycolo_lab.libvirt.stage import LibvirtStage
from pycolo_lab.libvirt.witnesses import Witnesses
from pycolo_lab.processes import Host

PLAIN = "plain"


def play_plain(stage: LibvirtStage, number: int) -> RoundFacts:
    """The domain runs on host A, and ends there: clients, libvirtd restarted and killed, save and restore, shutdown."""
    facts = RoundFacts(scenario=PLAIN, broken=[], served_by=Host.A.value)
    try:
        _play(stage, number, facts)
    except RunInterruptedError:
        raise
    except LabError as error:
        facts.broken.append(str(error))
    return facts


def _play(stage: LibvirtStage, number: int, facts: RoundFacts) -> None:
    host = stage.hosts[Host.A]
    stage.ensure_domain(Host.A)
    _expect(stage, facts, "at first", Host.A)
    witnesses = Witnesses(stage, f"{PLAIN}-{number}", has_disk=stage.has_disk)
    at_ns = time.monotonic_ns()
    for signal in ("TERM", "KILL"):
        host.stop_daemon(signal)
        witnesses.until_answered()
        host.start_daemon()
        _expect(stage, facts, f"after libvirtd got a SIG{signal}", Host.A)
    host.virsh("save", NAME, "/var/lib/libvirt/saved")
    _expect(stage, facts, "after save", None)
    host.virsh("restore", "/var/lib/libvirt/saved")
    _expect(stage, facts, "after restore", Host.A)
    witnesses.until_answered()
    facts.take(witnesses.end(at_ns, time.monotonic_ns()))
    host.virsh("shutdown", NAME)
    stage.until("the guest does not switch itself off", lambda: host.domains() == {NAME: "shut off"}, stage.boot_s)
    _expect(stage, facts, "after shutdown", None)


def _expect(stage: LibvirtStage, facts: RoundFacts, when: str, serving: Host | None) -> None:
    facts.broken += [f"{when}: {text}" for text in stage.wrong(serving, is_protected=False)]
