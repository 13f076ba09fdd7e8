"""What happens to the protected domain, what people do to it, and how each is repaired."""

import random
import sys
from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple

from pycolo_lab.errors import LabError
from pycolo_lab.guest_server import PORT
from pycolo_lab.libvirt import diskfaults
from pycolo_lab.libvirt.domain import NAME
from pycolo_lab.libvirt.pair import Pair
from pycolo_lab.processes import Host
from pycolo_lab.qemu.nodes import other
from pycolo_lab.qemu.stage import TELL
from pycolo_lab.qemu.topology import GUEST_ADDRESS

MOMENT_S: Final = 3.0
"""Random moments are within so long."""

AWAY_S: Final = 1.0
SAVED: Final = "/var/lib/libvirt/saved"


class Outcome(Enum):
    """Who serves afterwards."""

    MOVES = "the other host serves"
    STAYS = "the same host serves"
    EITHER = "one of the hosts serves"
    WHOLE = "the same host serves, the pair is whole all the time"
    REBOOTS = "the same, and the guest has started anew"
    ENDS = "the guest has ended, on both hosts"
    ANEW = "the other host serves, with a guest that has begun anew"


class Fault(NamedTuple):
    """`strike(pair, primary, rng)` returns notes; `repair(pair, primary)` is what an administrator does then."""

    name: str
    text: str
    outcome: Outcome
    strike: Callable[[Pair, Host, random.Random], list[str]]
    repair: Callable[[Pair, Host], None]
    needs_disk: bool = False
    """The guest has to have a writable one."""


def _nothing(pair: Pair, primary: Host) -> None:
    """There is nothing to repair."""


def _kill_qemu(pair: Pair, primary: Host, rng: random.Random) -> list[str]:
    pair.stage.hosts[primary].kill_qemu()
    return []


def _kill_secondary(pair: Pair, primary: Host, rng: random.Random) -> list[str]:
    pair.stage.hosts[other(primary)].kill_qemu()
    return []


def _kill_host(pair: Pair, primary: Host, rng: random.Random) -> list[str]:
    pair.stage.power_off(primary)
    return []


def _power_on(pair: Pair, primary: Host) -> None:
    pair.power_on(primary)


def _restart_daemons(signal: str) -> Callable[[Pair, Host, random.Random], list[str]]:
    def strike(pair: Pair, primary: Host, rng: random.Random) -> list[str]:
        notes = []
        for host in rng.sample(list(pair.stage.hosts), 2):
            moment_s, away_s = rng.uniform(0, MOMENT_S), rng.uniform(0, AWAY_S)
            pair.stage.rest(moment_s)
            pair.stage.hosts[host].stop_daemon(signal)
            pair.stage.rest(away_s)
            pair.stage.hosts[host].start_daemon()
            notes.append(f"{host.value} after {moment_s:.1f} s, for {away_s:.1f} s")
        return notes

    return strike


def _kill_qemu_without_daemons(pair: Pair, primary: Host, rng: random.Random) -> list[str]:
    for host in pair.stage.hosts.values():
        host.stop_daemon("KILL")
    pair.stage.rest(rng.uniform(0, AWAY_S))
    pair.stage.hosts[primary].kill_qemu()
    return []


def _start_daemons(pair: Pair, primary: Host) -> None:
    for host in pair.stage.hosts.values():
        if host.domains() is None:
            host.start_daemon()


def _order(*words: str) -> Callable[[Pair, Host, random.Random], list[str]]:
    """`virsh` on the primary's host; whether it is refused is the product's and libvirt's affair, and noted."""

    def strike(pair: Pair, primary: Host, rng: random.Random) -> list[str]:
        pair.stage.rest(rng.uniform(0, AWAY_S))
        try:
            said = pair.stage.hosts[primary].virsh(*words)
        except LabError as error:
            return [str(error)]
        return [f"virsh {words[0]} said {' '.join(said.split()) or 'nothing'}"]

    return strike


def _migrate(pair: Pair, primary: Host, rng: random.Random) -> list[str]:
    target = pair.stage.hosts[other(primary)].as_peer("/run/libvirt/libvirt-sock")
    words = ("migrate", "--live", NAME, f"qemu+unix:///system?socket={target}", "--migrateuri", f"unix://{target}-m")
    return _order(*words)(pair, primary, rng)


def _tell(line: str) -> Callable[[Pair, Host, random.Random], list[str]]:
    """The guest does it to itself: both replicas have heard the order."""

    def strike(pair: Pair, primary: Host, rng: random.Random) -> list[str]:
        stage = pair.stage
        words = [sys.executable, "-c", TELL, GUEST_ADDRESS, str(PORT), line]
        process = stage.processes.start(f"tell-{line}", Host.CLIENT, stage.network.client, words)
        stage.until(f"the guest did not answer {line!r}", lambda: process.exit_code() is not None)
        if process.exit_code() != 0:
            raise LabError(f"the guest was not told {line!r}: {process.last_words()}")
        return []

    return strike


def _start_again(pair: Pair, primary: Host) -> None:
    pair.stage.start_domain(primary)


QEMU_KILLED: Final = Fault("qemu-killed", "the primary's QEMU is killed", Outcome.MOVES, _kill_qemu, _nothing)

FAULTS: Final = (
    QEMU_KILLED,
    Fault("destroy", "virsh destroy on the primary's host", Outcome.MOVES, _order("destroy", NAME), _nothing),
    Fault("host-killed", "the primary's host dies: node, QEMU, libvirtd", Outcome.MOVES, _kill_host, _power_on),
    Fault("secondary-killed", "the secondary's QEMU is killed", Outcome.STAYS, _kill_secondary, _nothing),
    Fault(
        "libvirtd-restarted",
        "libvirtd is restarted on both hosts, at random moments",
        Outcome.WHOLE,
        _restart_daemons("TERM"),
        _nothing,
    ),
    Fault(
        "libvirtd-killed",
        "libvirtd is killed on both hosts, at random moments, and started again",
        Outcome.WHOLE,
        _restart_daemons("KILL"),
        _nothing,
    ),
    Fault(
        "libvirtd-dead",
        "the primary's QEMU is killed while no libvirtd runs",
        Outcome.MOVES,
        _kill_qemu_without_daemons,
        _start_daemons,
    ),
    Fault("suspend", "virsh suspend: the next checkpoint undoes it", Outcome.WHOLE, _order("suspend", NAME), _nothing),
    Fault("save", "virsh save", Outcome.EITHER, _order("save", NAME, SAVED), _nothing),
    Fault("migrate", "virsh migrate to the other host is refused", Outcome.WHOLE, _migrate, _nothing),
    Fault("reboot", "the guest reboots", Outcome.REBOOTS, _tell("reboot"), _nothing),
    Fault("reset", "virsh reset on the primary's host", Outcome.REBOOTS, _order("reset", NAME), _nothing),
    Fault("poweroff", "the guest switches itself off", Outcome.ENDS, _tell("poweroff"), _start_again),
    Fault("shutdown", "virsh shutdown presses the power button", Outcome.ENDS, _order("shutdown", NAME), _start_again),
    Fault(
        "disk-again",
        "the secondary's QEMU is killed; when the pair is whole again, the primary's",
        Outcome.MOVES,
        diskfaults.again,
        _nothing,
        needs_disk=True,
    ),
    Fault(
        "disk-survivor",
        "a failover; then the survivor is saved, restored, shut down and started",
        Outcome.ANEW,
        diskfaults.survivor,
        _nothing,
        needs_disk=True,
    ),
    Fault(
        "disk-crash",
        "a failover; the survivor is killed before its overlays are in its disk, and started",
        Outcome.ANEW,
        diskfaults.crash,
        _nothing,
        needs_disk=True,
    ),
)
