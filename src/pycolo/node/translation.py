"""The rewriter of a primary that has taken over before: between its guest and everything else."""

from collections import deque
from collections.abc import Iterable
from typing import Final

from pycolo.core import Rewriter
from pycolo.node.batch import Batch
from pycolo.transport.ports import Port

_TIMER_US: Final = 1_000_000


class Translation:
    """`to_guest`: clients' frames as the guest knows them, not written yet; `from_guest`: the guest's as the clients
    know them, not taken yet; `first`: clients' frames that go before all others."""

    def __init__(self, rewriter: Rewriter, guest_out: Port, to_guest: Batch, first: Iterable[bytearray]) -> None:
        self.rewriter = rewriter
        self.to_guest = to_guest
        self.from_guest = Batch()
        self._guest_out = guest_out
        self._first = deque(first)
        self._next_timer_us = 0

    @property
    def next_timer_us(self) -> int:
        """When `timer_fired` is to be called next."""
        return self._next_timer_us

    @property
    def is_clear(self) -> bool:
        """Whether the guest has everything: more may be read for it."""
        return self.to_guest.is_empty and not self._first

    def timer_fired(self, now_us: int) -> None:
        """To be called as often as one likes."""
        if now_us >= self._next_timer_us:
            self._next_timer_us = now_us + _TIMER_US
            self.rewriter.timer_fired(now_us)

    def flush(self, now_us: int) -> bool:
        """Write to the guest what is there for it; whether it has everything."""
        while self._flush_translated():
            if not self._first:
                return True
            octets = self._first.popleft()
            taken = self.take_client(octets, 0, len(octets), now_us)
            if taken < len(octets):
                self._first.appendleft(octets[taken:])
        return False

    def _flush_translated(self) -> bool:
        out = self.to_guest
        while out.write_to(self._guest_out):
            out.start, out.end = 0, self.rewriter.drain_guest(out.buf, 0)
            if out.is_empty:
                return True
        return False

    def take_client(self, buf: bytearray, start: int, end: int, now_us: int) -> int:
        """Translate clients' frames into `to_guest`, which must be empty; what was taken is returned."""
        taken = self.rewriter.client_frames(buf, start, end, now_us, self.to_guest.buf, 0)
        self.to_guest.start, self.to_guest.end = 0, self.rewriter.out_end
        return taken

    def take_guest(self, batch: Batch, now_us: int) -> None:
        """Translate the guest's frames into `from_guest`, which must be empty.

        Raises `FramingError`; what came before that place is in `from_guest`.
        """
        out = self.from_guest
        try:
            batch.start = self.rewriter.guest_frames(batch.buf, batch.start, batch.end, now_us, out.buf, 0)
        finally:
            out.start, out.end = 0, self.rewriter.out_end
