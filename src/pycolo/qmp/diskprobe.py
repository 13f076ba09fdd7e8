"""Asks a QEMU for its guest's disks, and for the jobs that copy them."""

from collections.abc import Mapping
from typing import Any, Protocol

from pycolo.errors import PeerError
from pycolo.qmp.guestdisks import DEVICE_PROPERTIES, GuestDisk, device_path, guest_disks


class Executes(Protocol):
    """A connection to QEMU."""

    async def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """A QMP command's answer. Raises `PeerError`, `ConnectError`."""


async def probe_disks(qemu: Executes) -> tuple[GuestDisk, ...]:
    """All disks of the guest's devices. Raises `PeerError`, `ConnectError`."""
    try:
        blocks = await qemu.execute("query-block")
        paths = {path for block in blocks if (path := device_path(block)) is not None}
        return guest_disks(blocks, {path: await _properties(qemu, path) for path in sorted(paths)})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PeerError(f"query-block: the answer cannot be parsed ({type(error).__name__}: {error})") from error


async def _properties(qemu: Executes, path: str) -> dict[str, Any]:
    listed = {entry["name"] for entry in await qemu.execute("qom-list", {"path": path})}
    return {
        name: await qemu.execute("qom-get", {"path": path, "property": name})
        for name in DEVICE_PROPERTIES
        if name in listed
    }


def why_not_in_step(jobs: Any, wanted: Mapping[str, str]) -> str | None:
    """What is wrong with the mirrors of `wanted` (job → the disk's name for messages) in an answer to query-block-jobs.

    None: whatever the guest has written is on both hosts. QEMU keeps no job that has failed. A job of 10.0 and newer
    says by itself whether each write waits for the other host.
    """
    found = {str(job.get("device")): job for job in jobs}
    for name, disk in wanted.items():
        job = found.get(name)
        if job is None:
            return f"{disk}: its copy on the other host has ended with an error"
        if job.get("io-status", "ok") != "ok":
            return f"{disk}: its copy on the other host has an error ({job['io-status']})"
        if not job.get("ready") or not job.get("actively-synced", True):
            return f"{disk}: its copy on the other host is behind"
    return None
