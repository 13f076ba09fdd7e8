"""One run of the laboratory with Pacemaker, from options to exit code."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from pycolo_lab.errors import LabError
from pycolo_lab.interruption import Interruption
from pycolo_lab.namespaces import require_root, run_isolated, run_with_own_pids
from pycolo_lab.pacemaker.ocftester import run_tester
from pycolo_lab.pacemaker.rounds import FAULTS, Fault, RoundFacts, Rounds
from pycolo_lab.pacemaker.stage import ClusterStage
from pycolo_lab.qemu.image import Image, ensure_image, keep_files
from pycolo_lab.qemu.machine import GUESTS, Machine, Qemu, find_qemu, probed_accelerator
from pycolo_lab.qemu.programs import Programs, missing_of, packages_of, say
from pycolo_lab.qemu.topology import Network

PROGRAMS: Final = ("corosync", "pacemakerd", "crm_mon", "crm", "ocf-tester", "xmllint", "ip", "nsenter")

SYSTEMD: Final = Path("/run/systemd/system")

WIDTHS: Final = "{:<20} {:>7} {:>8} {:>9} {:>10} {:>10} {:>6}"


class PacemakerLabOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    faults: tuple[str, ...] = ()
    rounds: int = 1
    token_ms: int = 1000
    head_start_ms: int = 4000
    votes: int = 2
    tool: str = "crm"
    keep: bool = False


def run_pacemaker_lab(options: PacemakerLabOptions, interruption: Interruption) -> int:
    """Run it in its own namespaces and return the exit code. Raises `LabError`."""
    faults = choose(options.faults, options.votes)
    require_root("the Pacemaker laboratory", "its hosts' files belong to the cluster's user")
    wanted = (*PROGRAMS, "pcs") if options.tool == "pcs" else PROGRAMS
    missing = missing_of(wanted)
    if missing and SYSTEMD.exists():
        packages = " ".join(packages_of(missing))
        raise LabError(f"{', '.join(missing)} missing: apt-get install {packages} (it starts a cluster of this host)")
    programs = Programs(interruption)
    programs.require(wanted)
    qemu = find_qemu(None, programs)
    image = ensure_image(programs)

    def perform(directory: Path) -> int:
        session = _Session(options, faults, interruption, image, qemu, directory)
        return run_with_own_pids(session.perform, interruption)

    return run_isolated(perform, interruption)


def choose(names: Sequence[str], votes: int) -> list[Fault]:
    """The faults of these names; without one all that there are for a cluster of so many votes. Raises `LabError`."""
    known = {fault.name: fault for fault in FAULTS}
    for name in names:
        if name not in known:
            raise LabError(f"--fault {name}: one of {', '.join(known)}")
        if known[name].votes not in (0, votes):
            raise LabError(f"--fault {name}: needs --votes {known[name].votes}")
    return [known[name] for name in names] or [fault for fault in FAULTS if fault.votes in (0, votes)]


class _Session:
    def __init__(
        self,
        options: PacemakerLabOptions,
        faults: list[Fault],
        interruption: Interruption,
        image: Image,
        qemu: Qemu,
        directory: Path,
    ) -> None:
        self._options = options
        self._faults = faults
        self._interruption = interruption
        self._image = image
        self._qemu = qemu
        self._directory = directory

    def perform(self, outer_pid: int) -> int:
        """As process 1 of the run's namespaces, `outer_pid` outside."""
        try:
            accelerator = probed_accelerator("auto", self._qemu, self._image, self._directory, self._interruption)
            machine = Machine(qemu=self._qemu, image=self._image, accelerator=accelerator, guest=GUESTS["small"])
            say(f"QEMU {machine.qemu.version}, {machine.accelerator}; inside: nsenter -t {outer_pid} -m -p")
            return self._play(machine)
        finally:
            if self._options.keep:
                keep_files(self._directory / "p", "last-pacemaker", lambda path: "cores" in path.parts)

    def _play(self, machine: Machine) -> int:
        options, found = self._options, []
        network = Network(self._directory / "netns", self._interruption.look)
        network.build()
        stage = ClusterStage(
            machine,
            network,
            self._directory / "p",
            self._interruption.look,
            token_ms=options.token_ms,
            head_start_ms=options.head_start_ms if options.votes == 2 else 0,
            votes=options.votes,
            tool=options.tool,
        )
        try:
            run_tester()
            say("ocf-tester: passed")
            say("starting corosync and Pacemaker on the hosts; Pacemaker starts and protects the guest")
            stage.build()
            rounds = Rounds(stage)
            for number in range(options.rounds):
                for fault in self._faults:
                    facts = rounds.play(fault)
                    found.append(facts)
                    say(f"  round {number + 1} {round_line(facts)}")
        finally:
            stage.clear()
            network.delete()
        for line in table(found):
            print(line)
        return 1 if any(facts.broken for facts in found) else 0


def round_line(facts: RoundFacts) -> str:
    """One round on one line."""
    parts = [f"{facts.fault}: promoted on {facts.served_by or 'no host'}"]
    if facts.without_ms is not None:
        parts.append(f"the other host after {facts.without_ms / 1000:.2f} s")
    if facts.gap_ms is not None:
        parts.append(f"no answer for {facts.gap_ms / 1000:.2f} s")
    if facts.shots:
        parts.append(f"{facts.shots} fenced")
    return ", ".join(parts + [f"FAILED: {text}" for text in facts.broken])


def table(found: Sequence[RoundFacts]) -> list[str]:
    """A line per fault."""
    lines = [WIDTHS.format("fault", "rounds", "held", "s median", "s longest", "kept", "fenced")]
    for name in dict.fromkeys(facts.fault for facts in found):
        rounds = [facts for facts in found if facts.fault == name]
        gaps = [facts.gap_ms / 1000 for facts in rounds if facts.gap_ms is not None]
        connections = sum(facts.connections for facts in rounds)
        kept = f"{connections - sum(facts.lost for facts in rounds)}/{connections}" if connections else "-"
        lines.append(
            WIDTHS.format(
                name,
                len(rounds),
                sum(not facts.broken for facts in rounds),
                f"{statistics.median(gaps):.2f}" if gaps else "-",
                f"{max(gaps):.2f}" if gaps else "-",
                kept,
                sum(facts.shots for facts in rounds),
            )
        )
    lines.append("s: the longest time in which no client got an answer")
    lines += [f"{facts.fault}: {text}" for facts in found for text in facts.broken]
    return lines
