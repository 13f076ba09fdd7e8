"""Image files on this host: measured, created, removed, and put together with `qemu-img`."""

import asyncio
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from pycolo.errors import ConnectError, PeerError
from pycolo.qmp.diskrules import HostImage
from pycolo.qmp.diskwords import Overlays
from pycolo.vm.blockunit import unit_of
from pycolo.vm.diskplaces import Place

PROGRAM: Final = "qemu-img"

PRIVATE: Final = 0o077
"""The umask of `qemu-img`: what a guest has on its disks is for no other user."""

QUICK_S: Final = 30.0
"""Creating an image, or reading its header, takes milliseconds."""

COMMIT_S: Final = 3600.0
"""Putting overlays into an image copies what they hold, which may be as much as the disk."""


class Found(NamedTuple):
    """An image that is there."""

    size_bytes: int
    used_bytes: int
    is_dirty: bool
    """QEMU has not closed it: only qcow2 with lazy refcounts says so."""
    backing: str
    """The file that it differs from; "": it is whole by itself."""


async def run(*words: str, timeout_s: float = QUICK_S) -> str:
    """What `qemu-img` prints. Raises `ConnectError` without the program, `PeerError` with its words when it fails."""
    try:
        process = await asyncio.create_subprocess_exec(
            PROGRAM,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            umask=PRIVATE,
        )
    except OSError as error:
        raise ConnectError(f"{PROGRAM}: {error.strerror or error}; Debian has it in qemu-utils") from error
    try:
        async with asyncio.timeout(timeout_s):
            printed, complained = await process.communicate()
    except BaseException as error:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if isinstance(error, TimeoutError):
            raise PeerError(f"{PROGRAM} {words[0]} has not ended within {timeout_s:g} s") from error
        raise
    if process.returncode:
        said = " ".join(complained.decode("utf-8", "replace").split())
        raise PeerError(f"{PROGRAM} {words[0]}: {said[:300] or f'exit code {process.returncode}'}")
    return printed.decode("utf-8", "replace")


async def info(path: Path, form: str) -> Found | None:
    """An image; None: nothing is there. Raises `PeerError` when another process has it open, or it is none."""
    if not await asyncio.to_thread(path.exists):
        return None
    answer: dict[str, Any] = json.loads(await run("info", "--output=json", "-f", form, str(path)))
    return Found(
        int(answer["virtual-size"]),
        int(answer.get("actual-size", 0)),
        answer.get("dirty-flag") is True,
        str(answer.get("backing-filename", "")),
    )


async def look(place: Place) -> HostImage:
    """What there is for a disk's copy, and room. Changes nothing. Raises `ConnectError` without qemu-img."""
    path, why, found = place.path, place.why_unusable, None
    try:
        found = await info(path, place.format)
    except PeerError as error:
        why = why or str(error)
    if found is not None and not found.size_bytes:
        why = why or "it is there and empty: remove it, then it is created anew"
    if found is not None and found.backing:
        why = why or f"it has a backing file ({found.backing}): remove it, then it is created anew"
    is_device = await asyncio.to_thread(path.is_block_device)
    used = found.used_bytes if found is not None and not is_device else 0
    return HostImage(
        name=place.name,
        path=str(path),
        size_bytes=found.size_bytes if found is not None else 0,
        free_bytes=found.size_bytes if is_device and found is not None else used + await _free(path.parent),
        overlay_free_bytes=await _free(place.overlays.active.parent),
        why_unusable=why,
        unit=await asyncio.to_thread(unit_of, path),
        held_bytes=used,
        room="" if is_device else await _room(path.parent),
        overlay_room=await _room(place.overlays.active.parent),
    )


async def _free(directory: Path) -> int:
    """Room in `directory`, or in the nearest one above it that exists."""

    return await asyncio.to_thread(lambda: shutil.disk_usage(_nearest(directory)).free)


async def _room(directory: Path) -> str:
    """Names the file system there."""
    return await asyncio.to_thread(lambda: str(_nearest(directory).stat().st_dev))


def _nearest(place: Path) -> Path:
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


async def create_image(path: Path, form: str, size_bytes: int) -> None:
    """The file of a copy, if there is none; whole or not at all. Raises `PeerError`, `ConnectError`."""
    if await asyncio.to_thread(path.exists):
        return
    path = Path(os.path.realpath(path))  # a link may lead to where there is room
    await _make_directory(path.parent)
    making = path.with_name(f"{path.name}.new")
    try:
        await run("create", "-q", "-f", form, str(making), str(size_bytes))
        await asyncio.to_thread(making.replace, path)
    except OSError as error:
        raise ConnectError(f"{path}: {error.strerror or error}") from error
    finally:
        await asyncio.to_thread(making.unlink, missing_ok=True)


async def create_overlays(overlays: Overlays, size_bytes: int) -> None:
    """Empty ones, in the place of older ones. Raises `PeerError`, `ConnectError`.

    With lazy refcounts an overlay is marked while it is in use, so that what a crash has left can be told from what has
    been put into the image.
    """
    await _make_directory(overlays.active.parent)
    for path in overlays:
        await asyncio.to_thread(path.unlink, missing_ok=True)
        await run("create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", str(path), str(size_bytes))


def give_overlays(overlays: Sequence[Path], pid: int) -> None:
    """Give them to the user of a QEMU, process `pid`, as libvirt does with an image. Raises `ConnectError`."""
    if os.geteuid() != 0:
        return
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
        uid, gid = (next(int(line.split()[2]) for line in lines if line.startswith(key)) for key in ("Uid:", "Gid:"))
        for path in overlays:
            os.chown(path, uid, gid, follow_symlinks=False)
    except (OSError, StopIteration, ValueError) as error:
        raise ConnectError(f"{overlays[0].parent}: the overlays cannot be given to QEMU's user: {error}") from error


async def remove_overlays(overlays: Sequence[Path]) -> None:
    """Raises nothing: what is left is replaced by the next ones."""
    for path in overlays:
        with suppress(OSError):
            await asyncio.to_thread(path.unlink, missing_ok=True)


async def put_together(image: Path, form: str, overlays: Overlays) -> None:
    """Put a survivor's overlays into its image, when QEMU has died before it had done so itself.

    Each of the two goes into the one below, and is empty then; all steps may be repeated. Raises `PeerError`,
    `ConnectError`.
    """
    for path in overlays:
        await _repair(path)
    if form == "qcow2" and (found := await info(image, form)) is not None and found.is_dirty:
        await _repair(image)
    protocol = "host_device" if await asyncio.to_thread(image.is_block_device) else "file"
    base = {"driver": form, "file": {"driver": protocol, "filename": str(image)}}
    hidden = {"driver": "qcow2", "file": {"driver": "file", "filename": str(overlays.hidden)}, "backing": base}
    active = {"driver": "qcow2", "file": {"driver": "file", "filename": str(overlays.active)}, "backing": hidden}
    for chain in (active, hidden):
        await run("commit", "-q", "--image-opts", _options(chain), timeout_s=COMMIT_S)
    await asyncio.to_thread(_sync, image)


async def _repair(path: Path) -> None:
    """Count what is in use, which lazy refcounts leave to the next program that opens the image for writing.

    A commit opens the image below for reading and makes it writable then. It does not count, takes clusters in use for
    free ones, and writes over them (seen with 7.2).
    """
    await run("check", "-q", "-r", "all", "-f", "qcow2", str(path), timeout_s=COMMIT_S)


def _options(node: Mapping[str, Any]) -> str:
    """A block node as `--image-opts` takes it."""

    def pairs(prefix: str, table: Mapping[str, Any]) -> list[str]:
        found = []
        for key, value in table.items():
            if isinstance(value, Mapping):
                found += pairs(f"{prefix}{key}.", value)
            else:
                found.append(f"{prefix}{key}={str(value).replace(',', ',,')}")
        return found

    return ",".join(pairs("", node))


async def _make_directory(directory: Path) -> None:
    try:
        await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    except OSError as error:
        raise ConnectError(f"{directory}: {error.strerror or error}") from error


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
