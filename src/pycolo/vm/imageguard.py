"""Keeps a domain from being started by hand on the secondary's host, whose images are older, or no whole copy.

While the node's guest is not there, it holds the lock by which a QEMU says that it shares an image with no writer, on
each image of the domain: `virsh start` fails with QEMU's own words, *Failed to get "write" lock*. The kernel lets the
lock go with the node's process.
"""

import asyncio
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

AGAIN_S: Final = 5.0
"""Until a libvirtd that was away is asked again."""

log = structlog.get_logger("colo")


class ImageGuard:
    """`images()`: of the domain, on this host. Used in asyncio's thread."""

    def __init__(self, images: Callable[[], Awaitable[Sequence[Path]]]) -> None:
        self.is_busy: Callable[[], bool] = lambda: False
        """Whether this node writes to them itself."""
        self._images = images
        self._locked: list[int] = []
        self._task: asyncio.Task[None] | None = None

    def set(self, *, is_guarded: bool) -> None:
        """Guard them from now on, or let them go at once. A second call changes nothing."""
        if not is_guarded:
            self._release()
        elif self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._guard())

    async def _guard(self) -> None:
        images: Sequence[Path] | None = None
        while images is None or self.is_busy():
            with suppress(PycoloError):
                images = await self._images()
            if images is None or self.is_busy():
                await asyncio.sleep(AGAIN_S)
        for image in images:
            try:
                self._locked.append(lock(image))
            except OSError as error:  # it is not there yet, or in use
                log.debug(f"{image} is not guarded: {error.strerror or error}")
        if self._locked:
            log.info("this host is the secondary: QEMU refuses to start the domain by hand, while this node runs")

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
    """An open file that keeps each QEMU from writing to `image` until it is closed. Raises `OSError`."""
    file = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # struct flock: type, whence, start, length, process.
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi0q", fcntl.F_RDLCK, os.SEEK_SET, UNSHARED_WRITE, 1, 0))
    except BaseException:
        os.close(file)
        raise
    return file


def domain_guard(host: DomainHost) -> ImageGuard:
    """Of the domain's writable disks, as this host defines it."""

    async def images() -> Sequence[Path]:
        own = await host.kept_definition()
        return [disk.image.path for disk in writable_disks(own) if disk.image is not None] if own is not None else []

    return ImageGuard(images)
