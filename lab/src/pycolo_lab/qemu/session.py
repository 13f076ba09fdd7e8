"""One run of the QEMU laboratory, from options to exit code."""

import sys
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from pycolo_lab.errors import LabError, RunInterruptedError
from pycolo_lab.interruption import Interruption
from pycolo_lab.namespaces import ROOM_BYTES, is_machine_root, run_isolated, run_with_own_pids
from pycolo_lab.processes import reap_strangers
from pycolo_lab.qemu import pause, store
from pycolo_lab.qemu.checks import check_machine, check_options
from pycolo_lab.qemu.commitrunner import CommitRunner
from pycolo_lab.qemu.debian import DebianGuest
from pycolo_lab.qemu.debian import ensure as ensure_debian
from pycolo_lab.qemu.facts import PauseComparison, RunFacts, ScenarioFacts
from pycolo_lab.qemu.hashrunner import HashRunner
from pycolo_lab.qemu.image import Image, cache_directory, ensure_image, keep_files
from pycolo_lab.qemu.machine import GUESTS, Machine, Qemu, find_qemu, probed_accelerator
from pycolo_lab.qemu.nodes import HEARTBEAT_TIMEOUT_MS, PAGE_PORT, NodeSetting
from pycolo_lab.qemu.options import ARBITER_DEFAULT, QemuLabOptions
from pycolo_lab.qemu.programs import Programs, say
from pycolo_lab.qemu.runner import Runner
from pycolo_lab.qemu.scenarios import PAUSE, Fault, Scenario, choose
from pycolo_lab.qemu.stage import Stage
from pycolo_lab.qemu.summary import comparison_line, print_run, scenario_line
from pycolo_lab.qemu.topology import GUEST_ADDRESS, Network
from pycolo_lab.work.kinds import WORKS

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1

HOLD_STEP_S: Final = 1.0

DEBIAN_ROOM_BYTES: Final = 8 << 30
"""In memory, as far as it is written to: both hosts' disks with what protects them, half a gigabyte each."""

DISKS: Final = (".qcow2", ".raw")
"""Of files that are not kept."""


def run_qemu_lab(options: QemuLabOptions, interruption: Interruption) -> int:
    """Run it in its own namespaces and return the exit code. Only build/lab stays on the machine.

    It checks before it installs and builds. Raises `LabError`.
    """
    is_debian = GUESTS[options.guest].is_debian
    chosen = choose(options.scenarios, has_services=is_debian)
    check_options(options)
    with_pause = not options.scenarios or PAUSE in options.scenarios
    with_etcd = not options.hold and any(scenario.arbiter == "etcd" for scenario in chosen)
    code = check_machine(options, with_etcd=with_etcd, interruption=interruption)
    if code:
        return code
    programs = Programs(interruption)
    with_disk = is_debian or any(scenario.disk is not None for scenario in chosen)
    programs.require(["ip", *([store.PROGRAM] if with_etcd else []), *(["qemu-img"] if with_disk else [])])
    if not options.hold:
        programs.require(program for scenario in chosen if scenario.work for program in WORKS[scenario.work].programs)
    qemu = find_qemu(options.qemu, programs)
    image = ensure_image(programs)
    debian = ensure_debian(cache_directory(), programs) if is_debian else None

    def perform(directory: Path) -> int:
        found = _Found(qemu, image, debian)
        session = _Session(options, chosen, interruption, with_pause=with_pause, found=found, at=directory)
        return run_with_own_pids(session.perform, interruption)

    return run_isolated(perform, interruption, ROOM_BYTES if debian is None else DEBIAN_ROOM_BYTES)


class _Found(NamedTuple):
    qemu: Qemu
    image: Image
    debian: DebianGuest | None


class _Session:
    def __init__(
        self,
        options: QemuLabOptions,
        scenarios: list[Scenario],
        interruption: Interruption,
        *,
        with_pause: bool,
        found: _Found,
        at: Path,
    ) -> None:
        self._options = options
        self._scenarios = scenarios
        self._with_pause = with_pause
        self._found = found
        self._directory = at
        self._interruption = interruption

    def perform(self, outer_pid: int) -> int:
        """As process 1 of the run's namespaces, `outer_pid` outside."""
        try:
            qemu, image, debian = self._found
            accelerator = probed_accelerator(
                self._options.accelerator, qemu, image, self._directory, self._interruption
            )
            guest = GUESTS[self._options.guest]
            machine = Machine(qemu=qemu, image=image, accelerator=accelerator, guest=guest)
            if debian is not None:
                machine = machine.with_debian(debian)
            say(
                f"QEMU {machine.qemu.version}, {machine.accelerator}, guest {self._options.guest}: {guest.machine}, "
                f"{counted(guest.vcpus, 'vCPU')}, {guest.memory_kib >> 10} MiB, {counted(guest.cards, 'network card')}"
            )
            if self._options.hold:
                return self._hold(machine, outer_pid)
            return self._play(machine)
        finally:
            if self._options.keep:
                keep_files(self._directory, "last-run", lambda path: "netns-" in str(path) or path.suffix in DISKS)

    def _network(self, name: str) -> Network:
        network = Network(self._directory / f"netns-{name}", self._interruption.look)
        network.build()
        return network

    def _play(self, machine: Machine) -> int:
        run = RunFacts(
            qemu=machine.qemu.version,
            accelerator=machine.accelerator,
            detection_ms=self._options.heartbeat_timeout_ms or HEARTBEAT_TIMEOUT_MS,
            scenarios=[self._scenario(machine, scenario) for scenario in self._scenarios],
            pause=self._pause(machine) if self._with_pause else None,
        )
        if self._options.as_json:
            sys.stdout.write(msgspec.json.format(msgspec.json.encode(run), indent=2).decode() + "\n")
        else:
            print_run(run)
        return EXIT_OK if run.holds else EXIT_FAILED

    def _scenario(self, machine: Machine, scenario: Scenario) -> ScenarioFacts:
        say(f"{scenario.name}: {scenario.text}")
        network = self._network(scenario.name)
        machine = machine.with_cards(scenario.cards).with_disk(scenario.disk)
        stage = Stage(machine, network, self._directory / scenario.name, self._interruption.look)
        try:
            timeout_ms = self._options.heartbeat_timeout_ms or scenario.heartbeat_timeout_ms
            stage.build(msgspec.structs.replace(scenario.setting, heartbeat_timeout_ms=timeout_ms))
            kind: type[Runner | HashRunner | CommitRunner] = HashRunner if scenario.hashes else Runner
            if scenario.fault is Fault.COMMIT:
                kind = CommitRunner
            facts = kind(scenario, stage, self._options.rounds, self._options.seed, lambda text: say(f"  {text}")).run()
        except RunInterruptedError:
            raise
        except LabError as error:
            facts = failed(scenario, str(error))
        finally:
            stage.clear()
            network.delete()
        say(scenario_line(facts))
        return facts

    def _pause(self, machine: Machine) -> PauseComparison:
        say(f"{PAUSE}: checkpoints of an idle guest, through the nodes and over tcp:")
        network = self._network(PAUSE)
        # A q35 needs a cure, which tcp: does not get.
        machine = Machine(
            qemu=machine.qemu, image=self._found.image, accelerator=machine.accelerator, guest=GUESTS["small"]
        )
        stage = Stage(machine, network, self._directory / PAUSE, self._interruption.look)
        try:
            found = pause.compare(stage, machine)
        finally:
            stage.clear()
            network.delete()
        say(f"  {comparison_line(found)}")
        return found

    # ── hold ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _hold(self, machine: Machine, outer_pid: int) -> int:
        network = self._network("held")
        stage = Stage(machine, network, self._directory / "held", self._interruption.look)
        stage.build(
            NodeSetting(
                arbiter=self._options.arbiter or ARBITER_DEFAULT,
                heartbeat_timeout_ms=self._options.heartbeat_timeout_ms or HEARTBEAT_TIMEOUT_MS,
                has_page=True,
            )
        )
        print(instructions(stage, outer_pid, is_debian=machine.guest.is_debian), file=sys.stderr, flush=True)
        while True:
            stage.rest(HOLD_STEP_S)
            reap_strangers()


def counted(number: int, thing: str) -> str:
    """`2 vCPUs`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def failed(scenario: Scenario, why: str) -> ScenarioFacts:
    """The facts of a scenario that could not be played."""
    return ScenarioFacts(
        name=scenario.name,
        text=scenario.text,
        holds=False,
        broken=[why],
        rounds=[],
        connections=0,
        kept=0,
        fresh_connections=0,
        fresh_failed=0,
        answers=0,
        breaches=0,
        first_breaches=[],
        checkpoints={},
        aborted=0,
        pause=None,
        download=None,
        upload=None,
        node_memory_kib=[],
    )


BUSYBOX_WAYS: Final = (
    f"iperf3 --client {GUEST_ADDRESS} --time 5",
    "bash    # a shell there; ports 80, 22, 5201, 5000 (TCP, UDP)",
)
DEBIAN_WAYS: Final = (
    f"pgbench --host {GUEST_ADDRESS} --username postgres --time 10 --no-vacuum bench",
    f"redis-benchmark -h {GUEST_ADDRESS} -t incr -n 1000",
    "bash    # a shell there; ports 80, 443, 22, 6379, 5432, 5000 (TCP, UDP)",
)


def instructions(stage: Stage, outer_pid: int, *, is_debian: bool = False) -> str:
    """How to get inside: commands to paste."""
    user = "" if is_machine_root() else " --user --preserve-credentials"
    # With --pid: outside, the process ids in the files below are meaningless, or belong to other processes.
    inside = f"nsenter --target {outer_pid}{user} --mount --pid"
    client = f"{inside} nsenter --net={stage.network.client.path}"
    lines = ["The pair is protected and held. The guest is 10.9.0.2; on the client:"]
    lines += [
        f"  {client} curl -s http://{GUEST_ADDRESS}/",
        f"  {client} ssh -o StrictHostKeyChecking=no root@{GUEST_ADDRESS}    # no password",
        *(f"  {client} {way}" for way in (DEBIAN_WAYS if is_debian else BUSYBOX_WAYS)),
        "The nodes:",
    ]
    colo = f"{sys.executable} -m pycolo"
    for host, files in stage.files.items():
        lines.append(f"  {inside} {colo} status --control {files.control}    # {host.value}; also protect, failover …")
    lines.append("A node's page, in a browser on its host:")
    for host in stage.files:
        there = f"{inside} nsenter --net={stage.network.hosts[host].path}"
        lines.append(f"  {there} chromium --no-sandbox http://127.0.0.1:{PAGE_PORT}/    # {host.value}")
    lines.append("To kill a QEMU yourself:")
    for host, files in stage.files.items():
        lines.append(f"  {inside} sh -c 'kill -9 $(cat {files.directory}/qemu.pid)'    # QEMU on {host.value}")
    lines += [f"Configurations and logs: {inside} ls {stage.directory}", "Ctrl-C ends it."]
    return "\n".join(lines)


__all__ = ["run_qemu_lab"]
