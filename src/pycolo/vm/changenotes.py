"""What a primary's guest has written since the two hosts had the same disks: noted in QEMU's dirty bitmaps.

They are in QEMU and nowhere else, so they end with it; they outlive this node. What they say of the other host's images
is true only for the images that its node has noted the same token with: see `pycolo.vm.disknote`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from pycolo.errors import ConnectError, PeerError
from pycolo.qmp.diskbitmaps import (
    PREFIX,
    SLOTS,
    WORK,
    Base,
    bases,
    bitmap_name,
    found_bitmaps,
    granularity_bytes,
)
from pycolo.vm.machine import Machine

log = structlog.get_logger("colo")


class ChangeNotes:
    """Of one QEMU at a time: `machine()`."""

    def __init__(self, machine: Callable[[], Machine]) -> None:
        self._machine = machine
        self._token = ""
        self._nodes: dict[str, int] = {}
        self._passed = 0
        """So many checkpoints of this session, with the first state's."""

    def begin(self, token: str, nodes: Mapping[str, int]) -> None:
        """A session: the two hosts are about to have the same in these block nodes (with the disks' sizes)."""
        self._token, self._nodes, self._passed = token, dict(nodes), 0

    async def pass_checkpoint(self, timeout_s: float) -> None:
        """The guest stands still, and the other host has stopped for this checkpoint as well.

        It comes together with the question whether the hosts are in step. If they are not, the session ends, and a
        bitmap that was made or emptied in vain counts for nothing. Raises nothing: the next copy copies more then.
        """
        if not self._token:
            return
        number, self._passed = self._passed, self._passed + 1
        name = bitmap_name(self._token, number % len(SLOTS))
        change = self._make if number < len(SLOTS) else self._empty
        try:
            await asyncio.gather(*(change(node, name, timeout_s) for node in self._nodes))
        except (PeerError, ConnectError) as error:
            # QEMU may still do it, when the guest runs again: then this session must not go on with it.
            self._token = ""
            log.warning(f"what the guest writes to its disks is not noted any further: {error}")

    async def _make(self, node: str, name: str, timeout_s: float) -> None:
        made = {"node": node, "name": name, "granularity": granularity_bytes(self._nodes[node])}
        await self._machine().execute_aside("block-dirty-bitmap-add", timeout_s, made)

    async def _empty(self, node: str, name: str, timeout_s: float) -> None:
        await self._machine().execute_aside("block-dirty-bitmap-clear", timeout_s, {"node": node, "name": name})

    async def found(self, nodes: Sequence[str]) -> dict[str, list[Base]]:
        """See `bases`. Raises `PeerError`, `ConnectError`."""
        answer = await self._machine().execute("query-named-block-nodes", {"flat": True})
        return bases(found_bitmaps(answer), nodes)

    async def forget(self, *, but: Sequence[str] = ()) -> None:
        """Remove all bitmaps, except those of the sessions `but`. Raises `PeerError`, `ConnectError`."""
        kept = tuple(f"{PREFIX}{token}-" for token in but)
        await self._remove(lambda name: not name.startswith(kept))

    async def forget_work(self) -> None:
        """Remove what a resynchronisation has noted for itself. Raises `PeerError`, `ConnectError`."""
        await self._remove(lambda name: name == WORK)

    async def _remove(self, is_meant: Callable[[str], bool]) -> None:
        machine = self._machine()
        answer = await machine.execute("query-named-block-nodes", {"flat": True})
        for node, bitmaps in found_bitmaps(answer).items():
            for name in bitmaps:
                if is_meant(name):
                    await machine.execute("block-dirty-bitmap-remove", {"node": node, "name": name})
