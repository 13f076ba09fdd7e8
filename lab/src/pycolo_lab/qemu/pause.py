"""How long a checkpoint stops the primary: through the nodes, and over QEMU's own tcp: migration."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pycolo.qmp.versions import colo_capabilities
from pycolo_lab.errors import LabError
from pycolo_lab.processes import Host, Process
from pycolo_lab.qemu.facts import PauseComparison, PauseFacts
from pycolo_lab.qemu.machine import BOOT_TIMEOUT_S, Machine, is_ready
from pycolo_lab.qemu.monitor import Monitor, seconds
from pycolo_lab.qemu.nodes import LINK_ADDRESSES, NodeSetting
from pycolo_lab.qemu.runner import pause_facts
from pycolo_lab.qemu.stage import Stage
from pycolo_lab.qemu.topology import LINK_MTU

CHECKPOINTS: Final = 40
DISTANCE_S: Final = 0.2
"""Between two checkpoints: the guest is idle and has a moment to be so."""

MIGRATION_PORT: Final = 9900
CHECKPOINT_S: Final = 5.0
COLO_S: Final = 60.0

DELAY_MS: Final = 600_000
"""QEMU's own periodic checkpoints are out of the way; setting the delay again asks for one."""


def compare(stage: Stage, machine: Machine) -> PauseComparison:
    """Both on the same hosts, one after the other. Raises `LabError`.

    `machine` needs no cure of `pycolo.qmp.cures` for more than one checkpoint: over tcp: nothing applies them.
    """
    over_tcp = _over_tcp(stage, machine)
    stage.build(NodeSetting(checkpoint_interval_ms=0))
    return PauseComparison(link_mtu=LINK_MTU, through_nodes=_through_nodes(stage), over_tcp=over_tcp)


def _through_nodes(stage: Stage) -> PauseFacts:
    with stage.watch(Host.A) as watch:
        return _measure(stage, watch, lambda: stage.files[Host.A].ask("checkpoint"))


def _over_tcp(stage: Stage, machine: Machine) -> PauseFacts:
    """Two QEMUs connected directly: no filters, no proxy, the stream from host to host over the link."""
    directory = stage.directory / "tcp"
    directory.mkdir()
    environment = ["env", *(f"{name}={value}" for name, value in machine.environment.items())]
    address = f"tcp:{LINK_ADDRESSES[Host.B]}:{MIGRATION_PORT}"
    qemus = []
    for host, extra in ((Host.A, []), (Host.B, ["-incoming", "defer"])):
        own = directory / host.name
        own.mkdir()
        command = [*environment, *machine.command(own, f"tcp-{host.name}"), *extra]
        qemus.append(stage.processes.start(f"qemu-tcp-{host.name}", host, stage.network.hosts[host], command))
    _until_ready(stage, directory / Host.A.name, qemus)
    sockets = [directory / letter / "watch.sock" for letter in ("A", "B")]
    with Monitor(sockets[0], stage.look) as primary, Monitor(sockets[1], stage.look) as secondary:
        for monitor in (secondary, primary):
            version = monitor.ask("query-version")["qemu"]
            wanted = colo_capabilities((version["major"], version["minor"], version["micro"]))
            states = [{"capability": name, "state": is_on} for name, is_on in wanted.items()]
            monitor.ask("migrate-set-capabilities", {"capabilities": states})
        secondary.ask("migrate-incoming", {"uri": address})
        primary.ask("migrate-set-parameters", {"x-checkpoint-delay": DELAY_MS})
        primary.ask("migrate", {"uri": address})
        if primary.wait_event("MIGRATION", COLO_S, status="colo") is None:
            raise LabError(f"QEMU did not reach COLO over {address} within {COLO_S:.0f} s")
        primary.wait_event("RESUME", CHECKPOINT_S)
        found = _measure(
            stage, primary, lambda: primary.ask("migrate-set-parameters", {"x-checkpoint-delay": DELAY_MS})
        )
    stage.processes.kill_all()
    return found


def _until_ready(stage: Stage, directory: Path, qemus: Sequence[Process]) -> None:
    deadline = time.monotonic() + BOOT_TIMEOUT_S
    while not is_ready(directory):
        stage.processes.assert_running(*qemus)
        if time.monotonic() > deadline:
            raise LabError(f"the guest was not ready within {BOOT_TIMEOUT_S:.0f} s")
        stage.rest(0.1)


def _measure(stage: Stage, watch: Monitor, request: Callable[[], object]) -> PauseFacts:
    """By the timestamps of QEMU's own events, the same way for both."""
    pauses = []
    for _ in range(CHECKPOINTS):
        stage.rest(DISTANCE_S)
        watch.events.clear()
        request()
        stopped = watch.wait_event("STOP", CHECKPOINT_S)
        resumed = watch.wait_event("RESUME", CHECKPOINT_S)
        if stopped is None or resumed is None:
            raise LabError(f"a checkpoint did not end within {CHECKPOINT_S:.0f} s")
        pauses.append((seconds(resumed) - seconds(stopped)) * 1e3)
    found = pause_facts(sorted(pauses))
    assert found is not None, "there are some"
    return found
