"""One run of the laboratory with libvirt, from options to exit code."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pycolo_lab.errors import LabError
from pycolo_lab.interruption import Interruption
from pycolo_lab.libvirt.domain import Domain
from pycolo_lab.libvirt.facts import RoundFacts
from pycolo_lab.libvirt.held import hold
from pycolo_lab.libvirt.options import LibvirtLabOptions, check_options
from pycolo_lab.libvirt.pair import Pair
from pycolo_lab.libvirt.plain import PLAIN, play_plain
from pycolo_lab.libvirt.releases import Release, find_release, needed
from pycolo_lab.libvirt.rounds import Round
from pycolo_lab.libvirt.scenarios import Scenario, choose
from pycolo_lab.libvirt.stage import DEBIAN, MACHINES, LibvirtStage
from pycolo_lab.libvirt.tried import REFUSED, play_refused
from pycolo_lab.namespaces import require_root, run_isolated, run_with_own_pids
from pycolo_lab.processes import Host
from pycolo_lab.qemu.debian import ensure as ensure_debian
from pycolo_lab.qemu.image import Image, cache_directory, ensure_image, keep_files
from pycolo_lab.qemu.machine import probed_accelerator
from pycolo_lab.qemu.programs import Programs, missing_of, packages_of, say
from pycolo_lab.qemu.topology import Network
from pycolo_lab.work.kinds import WORKS

SYSTEMD: Final = Path("/run/systemd/system")

WITHOUT_NODES: Final = {PLAIN: play_plain, REFUSED: play_refused}
"""By the scenario's name."""

WIDTHS: Final = "{:<20} {:>7} {:>5} {:>9} {:>10} {:>8}"


def run_libvirt_lab(options: LibvirtLabOptions, interruption: Interruption) -> int:
    """Run it in its own namespaces and return the exit code. Raises `LabError`."""
    is_debian = options.guest == DEBIAN
    scenarios = choose(options.scenarios, has_disk=options.has_disk or is_debian, has_services=is_debian)
    check_options(options)
    require_root("the libvirt laboratory", "libvirtd gives QEMU to another user")
    missing = missing_of(needed(options.libvirt))
    if missing and SYSTEMD.exists():
        packages = " ".join(packages_of(missing))
        raise LabError(
            f"{', '.join(missing)} missing: apt-get install {packages} (it may start a libvirtd of this host)"
        )
    programs = Programs(interruption)
    release = find_release(options.libvirt, programs)
    if not options.hold:
        programs.require(
            program for scenario in scenarios if scenario.work for program in WORKS[scenario.work].programs
        )
    image = ensure_image(programs)
    domain = MACHINES[options.guest]
    if is_debian:
        debian = ensure_debian(cache_directory(), programs)
        image = image._replace(kernel=debian.kernel, initramfs=debian.initramfs)
        domain = domain._replace(disk_source=debian.disk)

    def perform(directory: Path) -> int:
        session = _Session(options, scenarios, interruption, domain, image, release, directory)
        return run_with_own_pids(session.perform, interruption)

    return run_isolated(perform, interruption)


class _Session:
    def __init__(
        self,
        options: LibvirtLabOptions,
        scenarios: list[Scenario],
        interruption: Interruption,
        domain: Domain,
        image: Image,
        release: Release,
        directory: Path,
    ) -> None:
        self._options = options
        self._scenarios = scenarios
        self._interruption = interruption
        self._domain = domain
        self._image = image
        self._release = release
        self._directory = directory

    def perform(self, outer_pid: int) -> int:
        """As process 1 of the run's namespaces, `outer_pid` outside."""
        release = self._release
        accelerator = probed_accelerator("auto", release.qemu, self._image, self._directory, self._interruption)
        has_disk = self._domain.has_disk or self._options.has_disk
        domain = self._domain._replace(
            machine=self._options.machine or self._domain.machine,
            accelerator=accelerator,
            has_disk=has_disk,
            has_network=self._options.has_network,
        )
        say(
            f"libvirt {release.version}, QEMU {release.qemu.version}, {accelerator}; "
            f"inside: nsenter -t {outer_pid} -m -p"
        )
        network = Network(self._directory / "netns", self._interruption.look, taps=())
        network.build()
        stage = LibvirtStage(domain, self._image, release, network, self._directory / "v", self._interruption.look)
        players = _Players(stage, self._options.seed)
        found = []
        try:
            stage.build()
            if self._options.hold:
                hold(players.pair, outer_pid, release.inside)
            for scenario in self._scenarios:
                say(f"{scenario.name}: {scenario.text}")
                for number in range(1, (self._options.rounds or 1) + 1):
                    found.append(players.play(scenario, number))
                    say(f"  round {number}: {round_line(found[-1])}")
        finally:
            players.close()
            if self._options.keep:
                keep_files(self._directory / "v", "last-libvirt", lambda path: "images" in path.parts)
            stage.clear()
            network.delete()
        for line in table(found):
            print(line)
        return 1 if any(facts.broken for facts in found) else 0


class _Players:
    """The nodes start with the first scenario that has some."""

    def __init__(self, stage: LibvirtStage, seed: int) -> None:
        self._stage = stage
        self._seed = seed
        self._pair: Pair | None = None

    def play(self, scenario: Scenario, number: int) -> RoundFacts:
        """One round of it."""
        if scenario.fault is None:
            return WITHOUT_NODES[scenario.name](self._stage, number)
        return Round(self.pair, scenario.fault, number, self._seed, scenario.work).play()

    @property
    def pair(self) -> Pair:
        """Both nodes, started when they are not."""
        if self._pair is None:
            self._stage.ensure_domain(Host.A)
            self._pair = Pair(self._stage)
            self._pair.build()
        return self._pair

    def close(self) -> None:
        """Nothing is protected any more."""
        if self._pair is not None:
            self._pair.close()
            self._pair = None


def round_line(facts: RoundFacts) -> str:
    """One round on one line."""
    parts = [f"{facts.served_by or 'no host'} served"]
    if facts.gap_ms is not None:
        parts.append(f"no answer for {facts.gap_ms / 1000:.2f} s")
    if facts.lines:
        parts.append(f"{facts.lines} lines on the disk")
    if facts.whole_again_s:
        parts.append(f"protected again in {facts.whole_again_s:.1f} s")
    return ", ".join([*parts, *facts.notes, *(f"FAILED: {text}" for text in facts.broken)])


def table(found: Sequence[RoundFacts]) -> list[str]:
    """A line per scenario."""
    lines = [WIDTHS.format("scenario", "rounds", "held", "s median", "s longest", "kept")]
    for name in dict.fromkeys(facts.scenario for facts in found):
        rounds = [facts for facts in found if facts.scenario == name]
        gaps = [facts.gap_ms / 1000 for facts in rounds if facts.gap_ms is not None]
        connections = sum(facts.connections for facts in rounds)
        lines.append(
            WIDTHS.format(
                name,
                len(rounds),
                sum(not facts.broken for facts in rounds),
                f"{statistics.median(gaps):.2f}" if gaps else "-",
                f"{max(gaps):.2f}" if gaps else "-",
                f"{connections - sum(facts.lost for facts in rounds)}/{connections}" if connections else "-",
            )
        )
    lines.append("s: the longest time in which no client got an answer")
    return lines + [f"{facts.scenario}: {text}" for facts in found for text in facts.broken]
