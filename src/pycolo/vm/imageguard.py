"""Keeps a domain from being started by hand where its images are older, or not whole: on the secondary's host, on that
of a primary whose guest is dead while the other one may serve, and where a survivor has left overlays.

While that is so the node holds the lock by which a QEMU says that it shares an image with no writer, on
each image of the domain: `virsh start` fails with QEMU's own words, *Failed to get "write" lock*. The kernel lets the
lock go with the node's process.
"""

import asyncio
import errno
import fcntl
import os
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from pycolo.domain.disks import writable_disks
from pycolo.domain.host import DomainHost
from pycolo.errors import PycoloError

UNSHARED_WRITE: Final = 201
"""The byte of an image that a QEMU locks which shares it with no writer: 200 for what is not shared, 1 for writing."""

WRITE: Final = 101
"""The byte that one locks which writes."""

AGAIN_S: Final = 5.0
"""Until a libvirtd that was away is asked again."""

IN_USE_S: Final = 0.02
"""Until an image is tried again that is in use: mostly by a secondary's QEMU that is being ended."""

_FLOCK: Final = "hhqqi0q"
"""struct flock: type, whence, start, length, process."""

log = structlog.get_logger("colo")


class ImageGuard:
    """`images()`: of the domain, on this host. Used in asyncio's thread."""

    def __init__(self, images: Callable[[], Awaitable[Sequence[Path]]]) -> None:
        self._images = images
        self._is_guarded = self._is_held = self._is_paused = False
        self._locked: list[int] = []
        self._task: asyncio.Task[None] | None = None

    def set(self, *, is_guarded: bool) -> None:
        """This host's guest is not to run, by the state of the pair. A second call changes nothing."""
        self._is_guarded = is_guarded
        self._apply()

    def hold(self, *, is_held: bool) -> None:
        """The images are not whole, whatever the state of the pair: a survivor has left overlays."""
        self._is_held = is_held
        self._apply()

    def pause(self, *, is_paused: bool) -> None:
        """This node writes to them itself."""
        self._is_paused = is_paused
        self._apply()

    def let_go(self) -> None:
        """This node starts a guest."""
        self._is_guarded = self._is_held = False
        self._apply()

    def _apply(self) -> None:
        """Guard them from now on, or let them go at once."""
        if self._is_paused or not (self._is_guarded or self._is_held):
            self._release()
        elif self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._guard())

    async def _guard(self) -> None:
        images: Sequence[Path] | None = None
        while images is None:
            with suppress(PycoloError):
                images = await self._images()
            if images is None:
                await asyncio.sleep(AGAIN_S)
        while images:
            images = [image for image in images if self._is_in_use(image)]
            if images:
                await asyncio.sleep(IN_USE_S)
        if self._locked:
            log.info("no guest is to begin here: QEMU refuses to start the domain by hand, while this node runs")

    def _is_in_use(self, image: Path) -> bool:
        """Lock it, unless a QEMU writes to it, which is to end first."""
        try:
            self._locked.append(lock(image))
        except BlockingIOError:
            return True
        except OSError as error:  # it is not there yet
            log.debug(f"{image} is not guarded: {error.strerror or error}")
        return False

    def _release(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        locked, self._locked = self._locked, []
        for file in locked:
            os.close(file)

    async def close(self) -> None:
        """The node ends."""
        task = self._task
        self._release()
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)


def lock(image: Path) -> int:
    """An open file that keeps each QEMU from writing to `image` until it is closed. Raises `OSError`, also where one
    does: its next job would fail.
    """
    file = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, WRITE))
        if struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK:
            raise BlockingIOError(errno.EAGAIN, "a QEMU writes to it")
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, _flock(fcntl.F_RDLCK, UNSHARED_WRITE))
    except BaseException:
        os.close(file)
        raise
    return file


def _flock(kind: int, byte: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, byte, 1, 0)


def domain_guard(host: DomainHost) -> ImageGuard:
    """Of the domain's writable disks, as this host defines it."""

    async def images() -> Sequence[Path]:
        own = await host.kept_definition()
        return [disk.image.path for disk in writable_disks(own) if disk.image is not None] if own is not None else []

    return ImageGuard(images)
