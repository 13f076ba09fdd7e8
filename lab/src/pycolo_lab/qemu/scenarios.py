"""What is killed when, and what must hold: the scenarios as data."""

from collections.abc import Sequence
from enum import Enum
from typing import Final

import msgspec

from pycolo import limits
from pycolo_lab.errors import LabUsageError
from pycolo_lab.qemu.nodes import COMPARE_TIMEOUT_MS, HEARTBEAT_TIMEOUT_MS, LEASE_MS, NodeSetting
from pycolo_lab.work.kinds import WORKS


class Fault(Enum):
    """What happens to the victim's host."""

    NONE = "nothing"
    QEMU = "its QEMU is killed"
    CHECKPOINT = "its QEMU is killed between STOP and RESUME of a checkpoint"
    STREAM = "its migration stream is broken between STOP and RESUME of a checkpoint, both QEMUs live"
    REFUSED = "its QEMU refuses checkpoints for a while"
    DIRTY = "its guest changes much of its memory for a while"
    HOST = "its cables are pulled, its node and its QEMU are killed"
    NODE = "its node is killed, its QEMU is not"
    SURVIVOR = "its QEMU is killed, then the node of the host that has taken over"
    LINK = "the cable between the hosts is pulled"
    HANG = "its QEMU hangs (SIGSTOP), its node lives"
    HANG_CHECKPOINT = "its QEMU hangs (SIGSTOP) between STOP and RESUME of a checkpoint"
    FREEZE = "its node and its QEMU are stopped (SIGSTOP), and go on when the other one serves"
    PROTECT_WRONG = "protect, while its configuration's QEMU command is wrong"
    PROTECT_KILLED = "its QEMU or its node is killed while protect is at work"
    MOVING = "its node is killed while it moves the guest's taps"
    DISK_CUT = "its QEMU takes no more of what the primary writes to the disk"
    DISK_AGAIN = "the secondary's QEMU is killed; when the pair is whole again, its QEMU"
    DISK_FULL = "the file system of its disk's image is full"
    OVERLAY_FULL = "the file system of its disk's overlays is full"
    DISK_SLOW = "its QEMU, and the disk's copy with it, stands still for most of some seconds"
    COMMIT = "its QEMU is killed, and then the survivor's, which puts its overlays into its disk"
    UNPROTECT = "unprotect"
    SWITCHOVER = "switchover"
    STORE_HANGS = "etcd hangs (SIGSTOP) for longer than a lease's time"
    STORE_GONE = "etcd is killed, then the host's cables are pulled, its node and its QEMU are killed"


class Victim(Enum):
    """The host on which it happens."""

    PRIMARY = "primary"
    SECONDARY = "secondary"


SHORT_MS: Final = 2000
"""On a busy machine, under software emulation: a plan, or copying all of the guest's memory, takes no longer."""

RESTART_MS: Final = 5000
"""A node is away for a second, needs another one to start, and a moment to find the other node again."""

HANG_TIMEOUT_MS: Final = 3000
"""A checkpoint's, where a QEMU hangs: ten times what one takes here, and soon over."""

BUSY_TIMEOUT_MS: Final = 1000
"""A checkpoint's: on a slow machine, copying what a busy guest changes takes longer than that."""

RESUME_MS: Final = 1000
"""The node waits so long for a primary that does not resume behind a commit, and only then asks for the next one."""

WRONG_COMMANDS: Final = ("memory", "device", "ends")
"""In turn, see `wrong_command`: detected before any step, by QEMU at the end of a migration, or by its absence."""

PROTECT_VICTIMS: Final = (
    (Victim.SECONDARY, Fault.QEMU),
    (Victim.SECONDARY, Fault.NODE),
    (Victim.PRIMARY, Fault.NODE),
)
"""Victims during protect, and how they die, in turn."""

MOVING_ROUNDS: Final = 24
"""Four moves, see `moving`, each broken off behind its first six steps. With two cards the longest have ten."""


ORDERED_PORTS: Final = (5432, 6379)
"""PostgreSQL and redis: their requests wait for each other, or change what all see."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario. Each round is: fault, the clients go on, dead parts are restarted, protect."""

    name: str
    text: str
    fault: Fault
    victim: Victim = Victim.PRIMARY
    is_busy: bool = False
    """Downloads and uploads run, besides the counting that always does."""
    transfers: int = 1
    """So many of each, if it is busy."""
    arbiter: str = "command"
    confirms: bool = False
    """With a manual arbiter: the operator says `colo failover` at the primary's node."""
    has_paths: bool = False
    """The nodes know each other's addresses on the LAN."""
    compare: bool = True
    """False: the negative control, in which the counter's law has to be broken."""
    rounds: int = 1
    draws: bool = True
    """Whether the clients ask for random numbers, which force checkpoints; else they ask seldom, too."""
    draw_every: int = 25
    """Of so many questions one does. At 100 questions a second four do, and each costs a checkpoint."""
    checkpoints_min: int = 0
    """So many checkpoints have been made before each fault."""
    checkpoint_timeout_ms: int = 5000
    heartbeat_timeout_ms: int = HEARTBEAT_TIMEOUT_MS
    disk: str | None = None
    """The format of the guest's writable disk: then a client appends lines to a file on it, see `appender`."""
    work: str | None = None
    """What a client does besides, with the services of a Debian guest: see `pycolo_lab.work`, WORKS."""
    orders: bool = False
    """Both guests get the requests of the databases in the same order (`[[order]]`), and some wait at each fault."""
    hashes: bool = False
    """The client asks for a hash over the guest's input, and no other client is there: see `hashrunner`."""
    cards: int = 1
    """So many of the guest's network cards have a client."""
    reboots: int = 0
    """So often the guest reboots, protected, before the clients come."""
    stood_still_max_ms: int | None = None
    """A law: for no longer may a fault keep all clients without an answer."""

    @property
    def setting(self) -> NodeSetting:
        """How the nodes are configured."""
        # The control's only checkpoint is the first: what diverges stays so until the kill.
        interval_ms = 2000 if self.compare and not self.hashes else 0
        return NodeSetting(
            arbiter=self.arbiter,
            compare=self.compare,
            checkpoint_interval_ms=interval_ms,
            checkpoint_timeout_ms=self.checkpoint_timeout_ms,
            has_paths=self.has_paths,
            has_gate=self.fault is Fault.REFUSED,
            can_die=self.fault is Fault.MOVING,
            automatic=self.fault is Fault.SWITCHOVER,
            has_small_disks=self.fault in (Fault.DISK_FULL, Fault.OVERLAY_FULL),
            more={"order": [{"ports": list(ORDERED_PORTS), "mode": "follow"}]} if self.orders else {},
        )


SCENARIOS: Final = (
    Scenario(name="rest", text="the primary's QEMU dies, nearly idle", fault=Fault.QEMU, draws=False),
    Scenario(name="load", text="the primary's QEMU dies under load", fault=Fault.QEMU, is_busy=True),
    Scenario(name="checkpoint", text="the primary's QEMU dies in mid-checkpoint", fault=Fault.CHECKPOINT),
    Scenario(
        name="checkpoint-secondary",
        text="the secondary's QEMU dies in mid-checkpoint",
        fault=Fault.CHECKPOINT,
        victim=Victim.SECONDARY,
    ),
    Scenario(
        name="checkpoint-refused",
        text="QEMU refuses checkpoints for a while: the pair stays whole",
        fault=Fault.REFUSED,
        rounds=2,
        stood_still_max_ms=SHORT_MS,
    ),
    Scenario(
        name="checkpoint-aborted",
        text="a checkpoint fails in mid-stream: COLO ends, the primary serves on",
        fault=Fault.STREAM,
        rounds=3,
        stood_still_max_ms=SHORT_MS,
    ),
    Scenario(
        name="busy-memory",
        text="the guest changes much of its memory: the pair stays whole",
        fault=Fault.DIRTY,
        checkpoint_timeout_ms=BUSY_TIMEOUT_MS,
        stood_still_max_ms=SHORT_MS,
    ),
    Scenario(name="host", text="the primary's host dies", fault=Fault.HOST),
    Scenario(name="node-primary", text="the primary's node dies and comes back", fault=Fault.NODE, arbiter="manual"),
    Scenario(name="node-fenced", text="the primary's node dies and is fenced", fault=Fault.NODE),
    Scenario(name="node-secondary", text="the secondary's node dies", fault=Fault.NODE, victim=Victim.SECONDARY),
    Scenario(
        name="survivor",
        text="the primary's QEMU dies, then the node that serves",
        fault=Fault.SURVIVOR,
        rounds=2,
        stood_still_max_ms=RESTART_MS,
    ),
    Scenario(name="secondary", text="the secondary's QEMU dies", fault=Fault.QEMU, victim=Victim.SECONDARY),
    Scenario(name="link", text="the link is cut, the primary fences the other host", fault=Fault.LINK),
    Scenario(
        name="link-manual",
        text="the link is cut, no host serves until told to",
        fault=Fault.LINK,
        arbiter="manual",
        confirms=True,
    ),
    Scenario(
        name="link-path",
        text="the link is cut, the nodes agree over the LAN",
        fault=Fault.LINK,
        arbiter="manual",
        has_paths=True,
        rounds=2,
        stood_still_max_ms=SHORT_MS,
    ),
    Scenario(name="back", text="hosts die in turn: there, back, there, back", fault=Fault.HOST, rounds=4),
    Scenario(
        name="switchover",
        text="the hosts change roles under load: there, back, …",
        fault=Fault.SWITCHOVER,
        arbiter="manual",
        is_busy=True,
        rounds=4,
        stood_still_max_ms=SHORT_MS,
    ),
    Scenario(
        name="unprotect",
        text="the protection is removed under load, and restored",
        fault=Fault.UNPROTECT,
        is_busy=True,
        rounds=3,
        stood_still_max_ms=SHORT_MS,
    ),
    Scenario(
        name="protect-fails",
        text="the secondary's QEMU command is wrong",
        fault=Fault.PROTECT_WRONG,
        victim=Victim.SECONDARY,
        rounds=len(WRONG_COMMANDS),
        stood_still_max_ms=SHORT_MS,
    ),
    Scenario(
        name="protect-killed",
        text="protect, and at some moment of it a QEMU or a node dies",
        fault=Fault.PROTECT_KILLED,
        rounds=2 * len(PROTECT_VICTIMS),
        stood_still_max_ms=RESTART_MS,
    ),
    Scenario(
        name="node-killed-moving",
        text="a node dies behind each step with which it moves the guest's taps",
        fault=Fault.MOVING,
        rounds=MOVING_ROUNDS,
        stood_still_max_ms=RESTART_MS,
    ),
    Scenario(
        name="hang-secondary",
        text="the secondary's QEMU hangs",
        is_busy=True,
        fault=Fault.HANG,
        victim=Victim.SECONDARY,
        checkpoint_timeout_ms=HANG_TIMEOUT_MS,
        stood_still_max_ms=COMPARE_TIMEOUT_MS + HANG_TIMEOUT_MS + SHORT_MS,
    ),
    Scenario(
        name="hang-checkpoint",
        text="the secondary's QEMU hangs in mid-checkpoint",
        fault=Fault.HANG_CHECKPOINT,
        victim=Victim.SECONDARY,
        checkpoint_timeout_ms=HANG_TIMEOUT_MS,
        stood_still_max_ms=COMPARE_TIMEOUT_MS + HANG_TIMEOUT_MS + SHORT_MS,
    ),
    Scenario(
        name="hang-primary",
        text="the primary's QEMU hangs",
        is_busy=True,
        fault=Fault.HANG,
        checkpoint_timeout_ms=HANG_TIMEOUT_MS,
        stood_still_max_ms=COMPARE_TIMEOUT_MS + HANG_TIMEOUT_MS + RESUME_MS + SHORT_MS,
    ),
    Scenario(
        name="hang-failover",
        text="the primary's QEMU hangs, the operator is faster",
        fault=Fault.HANG,
        confirms=True,
        stood_still_max_ms=RESTART_MS,
    ),
    Scenario(
        name="freeze",
        text="the primary's host is paused, and resumes too late",
        fault=Fault.FREEZE,
        arbiter="manual",
        confirms=True,
    ),
    Scenario(
        name="etcd-freeze",
        text="the same, and its lease runs out meanwhile",
        fault=Fault.FREEZE,
        arbiter="etcd",
        stood_still_max_ms=LEASE_MS + RESTART_MS,
    ),
    Scenario(
        name="etcd-host",
        text="the primary's host dies, and its lease runs out",
        fault=Fault.HOST,
        arbiter="etcd",
        stood_still_max_ms=LEASE_MS + RESTART_MS,
    ),
    Scenario(name="etcd-link", text="the link is cut, etcd decides who serves", fault=Fault.LINK, arbiter="etcd"),
    Scenario(name="etcd-hangs", text="etcd hangs, no host serves", fault=Fault.STORE_HANGS, arbiter="etcd"),
    Scenario(
        name="etcd-gone",
        text="etcd dies, then the primary's host: no host serves",
        fault=Fault.STORE_GONE,
        arbiter="etcd",
    ),
    Scenario(
        name="flood",
        text="the primary's host dies under bulk transfers both ways",
        fault=Fault.HOST,
        is_busy=True,
        transfers=4,
    ),
    Scenario(
        name="many",
        text="500 checkpoints under load, then the primary's host dies",
        fault=Fault.HOST,
        draw_every=4,
        checkpoints_min=500,
    ),
    Scenario(
        name="reboot",
        text="the guest reboots, protected all the time; later the primary's host dies",
        fault=Fault.HOST,
        reboots=2,
        # Not about how soon a death is noticed; and while a guest starts, each checkpoint copies much of its memory.
        heartbeat_timeout_ms=limits.HEARTBEAT_TIMEOUT_MS,
    ),
    Scenario(
        name="two-cards",
        text="the primary's host dies; clients at both network cards",
        fault=Fault.HOST,
        cards=2,
        rounds=2,
    ),
    Scenario(
        name="hash",
        text="no frame is missed or repeated at any checkpoint, then the host dies",
        fault=Fault.HOST,
        hashes=True,
        checkpoints_min=50,
    ),
    Scenario(
        name="hash-many",
        text="the same at 500 checkpoints",
        fault=Fault.HOST,
        hashes=True,
        checkpoints_min=500,
    ),
    Scenario(
        name="hash-two-cards",
        text="the same with two network cards, and a client at each",
        fault=Fault.HOST,
        hashes=True,
        cards=2,
        checkpoints_min=50,
    ),
    Scenario(
        name="append",
        text="the primary's QEMU dies under fsynced writes to a disk (qcow2)",
        fault=Fault.QEMU,
        disk="qcow2",
        rounds=2,
    ),
    Scenario(
        name="append-cut",
        text="the copy of the disk is lost: no checkpoint is made over it",
        fault=Fault.DISK_CUT,
        victim=Victim.SECONDARY,
        disk="qcow2",
        rounds=2,
        stood_still_max_ms=SHORT_MS,
    ),
    Scenario(
        name="append-raw",
        text="the primary's host dies under fsynced writes to a disk (raw), over TLS",
        fault=Fault.HOST,
        disk="raw",
        has_paths=True,
        rounds=2,
    ),
    Scenario(
        name="append-again",
        text="the secondary dies, only what has changed is copied, then the primary dies",
        fault=Fault.DISK_AGAIN,
        disk="qcow2",
        rounds=2,
    ),
    *(
        Scenario(
            name=name,
            text=f"the primary's QEMU dies under {kind.text}",
            fault=Fault.QEMU,
            draws=False,
            work=name,
            rounds=2,
        )
        for name, kind in WORKS.items()
    ),
    *(
        Scenario(
            name=f"{work}-ordered",
            text=f"the primary's QEMU dies while requests wait for their turn ({text})",
            fault=Fault.QEMU,
            draws=False,
            work=work,
            orders=True,
            rounds=3,
        )
        for work, text in (("pgbench", "PostgreSQL"), ("redis", "redis"), ("redis-mixed", "redis, many kinds"))
    ),
    Scenario(
        name="append-full",
        text="the primary's own disk is full: QEMU stops the guest until there is room",
        fault=Fault.DISK_FULL,
        disk="raw",
    ),
    Scenario(
        name="append-full-copy",
        text="the disk's copy on the secondary's host is full: the primary goes on alone",
        fault=Fault.DISK_FULL,
        victim=Victim.SECONDARY,
        disk="qcow2",
        stood_still_max_ms=SHORT_MS,
    ),
    Scenario(
        name="append-full-overlay",
        text="the secondary's overlays are full: the primary goes on alone",
        fault=Fault.OVERLAY_FULL,
        victim=Victim.SECONDARY,
        disk="qcow2",
        stood_still_max_ms=SHORT_MS,
    ),
    Scenario(
        name="append-hang",
        text="the disk's copy hangs: the primary's writes wait for it, then it goes on alone",
        fault=Fault.HANG,
        victim=Victim.SECONDARY,
        disk="qcow2",
        checkpoint_timeout_ms=HANG_TIMEOUT_MS,
        stood_still_max_ms=COMPARE_TIMEOUT_MS + HANG_TIMEOUT_MS + SHORT_MS,
    ),
    Scenario(
        name="append-slow",
        text="the disk's copy is slow: so are writes, and the pair stays whole",
        fault=Fault.DISK_SLOW,
        victim=Victim.SECONDARY,
        disk="qcow2",
        stood_still_max_ms=SHORT_MS,
    ),
    Scenario(
        name="append-commit",
        text="the survivor dies too, while its overlays go into its disk",
        fault=Fault.COMMIT,
        disk="qcow2",
    ),
    Scenario(name="control", text="nothing is compared (must fail)", fault=Fault.HOST, compare=False),
)

PAUSE: Final = "pause"
"""The benchmark's name among the scenarios."""


def choose(names: Sequence[str], *, has_services: bool = False) -> list[Scenario]:
    """The scenarios of these names; without a name, all that the guest has the services for. `PAUSE` is none of them.

    Raises `LabUsageError` naming the known ones, or those that need another guest.
    """
    known = {scenario.name: scenario for scenario in SCENARIOS}
    wrong = [name for name in names if name not in known and name != PAUSE]
    if wrong:
        raise LabUsageError(f"no scenario {', '.join(wrong)}; there are {', '.join([*known, PAUSE])}")
    chosen = [known[name] for name in names if name != PAUSE]
    without = [scenario.name for scenario in chosen if scenario.work is not None and not has_services]
    if without:
        raise LabUsageError(f"{', '.join(without)}: the guest has no such service: add --guest debian")
    return chosen if names else [one for one in SCENARIOS if one.work is None or has_services]
