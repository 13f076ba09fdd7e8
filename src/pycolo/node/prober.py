"""Shows that the way is whole: a frame of the nodes' own goes from the primary to the secondary, back, and is compared.

It takes the data connection behind what is mirrored, the secondary's rewriter, and the comparator on both sides. It
reaches neither guest and no client: what a guest does with its frames it does not show.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

from pycolo.node.primarypath import PrimaryPath
from pycolo.wire.build import probe

PATIENCE_S: Final = 5.0
"""Much stands before the frame."""

AGAIN_S: Final = 0.5
"""A frame may be lost to a checkpoint: another one follows."""

LOOK_S: Final = 0.005
_TOKEN_BYTES: Final = 16


class Prober:
    """`paths()`: the primary's data paths of the moment, one for each card; none where this node has none.

    `is_standing()`: a checkpoint is made. The frame waits for it, which counts for nothing.
    """

    def __init__(
        self, paths: Callable[[], Sequence[PrimaryPath]], is_standing: Callable[[], bool] = lambda: False
    ) -> None:
        self._paths = paths
        self._is_standing = is_standing

    async def probe(self, patience_s: float = PATIENCE_S) -> float | None:
        """Milliseconds until each card's frame was back and compared; None: one was not, or there is no primary. Those
        that were lost before do not count.

        Raises `StateError` when the data path has ended.
        """
        patient_s = monotonic()
        while monotonic() - patient_s < patience_s:
            paths = self._paths()
            if not paths:
                return None
            began_s = monotonic()
            if all(await asyncio.gather(*map(_once, paths))):
                return (monotonic() - began_s) * 1000
            if self._is_standing():
                patient_s = monotonic()
        return None


async def _once(path: PrimaryPath) -> bool:
    frame = probe(secrets.token_bytes(_TOKEN_BYTES))
    await asyncio.wrap_future(path.ask(lambda: path.send_probe(frame)))
    again_s = monotonic() + AGAIN_S
    while monotonic() < again_s:
        if await asyncio.wrap_future(path.ask(path.has_probe_returned)):
            return True
        await asyncio.sleep(LOOK_S)
    return False
