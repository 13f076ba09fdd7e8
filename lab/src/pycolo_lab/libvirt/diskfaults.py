"""What happens to a domain with a writable disk: whatever comes, each line that was acknowledged is on it."""

import json
import random
import time
from typing import Any, Final

from pycolo_lab.errors import LabError
from pycolo_lab.libvirt.domain import NAME
from pycolo_lab.libvirt.hosts import LibvirtHost
from pycolo_lab.libvirt.pair import Pair
from pycolo_lab.libvirt.witnesses import Lines, Witnesses
from pycolo_lab.processes import Host
from pycolo_lab.qemu.nodes import other

NOTE: Final = f"/var/lib/colo/{NAME}/disks.json"
"""What a node keeps of its disks."""

SAVED: Final = "/var/lib/libvirt/saved-survivor"
COPIED: Final = "/var/lib/libvirt/copied-survivor.qcow2"

LOCKED: Final = 'Failed to get "write" lock'
"""QEMU's words."""

WRITES_S: Final = 1.0
TAKEN_S: Final = 40.0
ENDED_S: Final = 60.0
BOOTED_S: Final = 120.0
MOMENT_S: Final = 0.005
"""QEMU has put the little that a round writes into the image within some milliseconds."""

POLL_S: Final = 0.001
ENOUGH_LINES: Final = 20


def again(pair: Pair, primary: Host, rng: random.Random) -> list[str]:
    """The secondary's QEMU dies, the pair is made whole with what has changed alone, then the primary's QEMU dies."""
    pair.make_checkpoints(primary, 2)
    pair.stage.hosts[other(primary)].kill_qemu()
    pair.until("the pair outlived its secondary", lambda: not pair.is_whole())
    pair.stage.rest(WRITES_S)
    pair.ensure_whole()
    found = _shown(pair, primary)
    if not found.get("is_incremental"):
        raise LabError(f"the disk was copied in full: {found}")
    pair.stage.rest(WRITES_S)
    pair.stage.hosts[primary].kill_qemu()
    return [f"copied anew: {found['copied_bytes'] >> 10} KiB"]


def _shown(pair: Pair, primary: Host) -> dict[str, Any]:
    disks: list[dict[str, Any]] = pair.controls[primary].ask("status")["disks"]
    return disks[0] if disks else {}


def survivor(pair: Pair, primary: Host, rng: random.Random) -> list[str]:
    """A failover; the survivor, which is not protected, is saved and restored, switched off and started anew."""
    stage, host = pair.stage, other(primary)
    one = stage.hosts[host]
    stage.hosts[primary].kill_qemu()
    pair.until("the other host does not serve", lambda: pair.serving() is host, TAKEN_S)
    pair.ensure_whole()
    pair.unprotect(host)
    _require_refused(pair, primary)
    notes = [_witnessed(pair, "survivor"), _nodes_above(one)]
    one.virsh("save", NAME, SAVED)
    one.virsh("restore", SAVED)
    stage.until("the restored guest does not answer", stage.guest_answers, BOOTED_S)
    notes.append(f"restored, {_witnessed(pair, 'restored')}")
    one.virsh("shutdown", NAME)
    stage.until("the guest does not switch itself off", lambda: one.domains() == {NAME: "shut off"}, ENDED_S)
    one.virsh("start", NAME)
    stage.until("the guest that was started anew does not answer", stage.guest_answers, BOOTED_S)
    notes.append(f"started, {_witnessed(pair, 'started')}")
    return notes


def _nodes_above(one: LibvirtHost) -> str:
    """Whether a survivor's QEMU has its image alone again, as it must where it can; libvirt copies it then."""

    def asked(command: str) -> list[dict[str, Any]]:
        said = one.virsh("qemu-monitor-command", NAME, f'{{"execute": "{command}"}}')
        found: list[dict[str, Any]] = json.loads(said)["return"]
        return found

    can = any(command["name"] == "blockdev-set-active" for command in asked("query-commands"))
    above = [node["node-name"] for node in asked("query-named-block-nodes") if node["drv"] == "replication"]
    if not above and can:
        one.virsh("blockcopy", NAME, "vda", "--dest", COPIED, "--transient-job", "--wait", "--finish")
        return "QEMU has its image alone, and libvirt has copied it"
    if can:
        raise LabError(f"{', '.join(above)} above the survivor's image, although this QEMU can do without")
    return f"{', '.join(above)} above its image until it is started anew"


def _require_refused(pair: Pair, host: Host) -> None:
    """`virsh start` on the secondary's host would begin with an older disk."""
    one = pair.stage.hosts[host]
    pair.stage.until("libvirt says that the secondary runs", lambda: one.domains() == {NAME: "shut off"}, ENDED_S)
    try:
        one.virsh("start", NAME)
    except LabError as error:
        if LOCKED not in str(error):
            raise
        return
    raise LabError(f"virsh start is not refused on {host.value}, which is the secondary's")


def _witnessed(pair: Pair, name: str) -> str:
    """Clients come and go; they see each line that was there before."""
    witnesses = Witnesses(pair.stage, f"{name}-{time.monotonic_ns()}", has_disk=True)
    try:
        witnesses.until_answered()
        judged = witnesses.end(0, time.monotonic_ns())
    finally:
        witnesses.abandon()
    if judged.broken:
        raise LabError(f"{name}: {'; '.join(judged.broken)}")
    return f"{judged.lines} lines"


def crash(pair: Pair, primary: Host, rng: random.Random) -> list[str]:
    """The primary's QEMU dies, and the survivor's while it puts its overlays into its disk; it is started there."""
    stage, host = pair.stage, other(primary)
    one = stage.hosts[host]
    lines = Lines(stage, f"crash-{time.monotonic_ns()}")
    lines.until(ENOUGH_LINES)
    stage.hosts[primary].kill_qemu()
    deadline = time.monotonic() + TAKEN_S
    while not _is_settling(pair, host):
        if time.monotonic() > deadline:
            raise LabError(f"the other host does not take over: {pair.account()}")
        time.sleep(POLL_S)
    time.sleep(rng.uniform(0, MOMENT_S))
    one.kill_qemu()
    stage.until("the disk was not put together", lambda: not _is_settling(pair, host), TAKEN_S)
    said = [line for line in pair.log(host).splitlines() if "its overlays" in line]
    stage.until("libvirt has not noticed the survivor's end", lambda: one.domains() == {NAME: "shut off"}, ENDED_S)
    stage.start_domain(host)
    found = lines.end()
    if found.breaches:
        raise LabError("; ".join(found.breaches))
    return [
        said[-1].split("] ", 1)[-1].strip() if said else "the node says nothing of the disk",
        f"{found.acknowledged} lines acknowledged, {found.on_disk} on the disk",
    ]


def _is_settling(pair: Pair, host: Host) -> bool:
    """Whether overlays have to be put into the image still."""
    try:
        return "settling" in pair.stage.hosts[host].on_disk(NOTE).read_text()
    except FileNotFoundError:
        return False
