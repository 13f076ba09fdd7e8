"""The primary node's data path.

::

    lan ──► mirrored to the link ──► guest                      (filter-mirror)
    guest ──► comparator.primary ──┐
    link ──► comparator.secondary ─┴─ released ──► lan          (colo-compare, filter-redirector)

With QEMU the frames from the LAN reach the guest through QEMU itself: there is no port to the guest then.

While there is a secondary, frames leave for the LAN only as long as it certainly has heard this node within the
heartbeat's time-out, for until then it cannot have taken over (`ControlChannel.trusted_until_ns`). The check stands
right before each write, in the thread that writes: a node that was stopped and wakes up finds the time run out before
anything else, and lets nothing more out until the secondary has confirmed a heartbeat that was sent after that. What
may still leave is one write that was under way, of frames on which the secondary had agreed. Time-outs of held packets
wait as well: a silent secondary is no divergence.
"""

import select
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Final

from pycolo.compare.comparator import Comparator
from pycolo.compare.difference import Command
from pycolo.errors import FramingError
from pycolo.link.codec import MessageType, unpack_epoch
from pycolo.node.batch import Batch
from pycolo.node.datapath import DataPath, now_us
from pycolo.transport.ports import Port

TRUST_CHECK_US: Final = 5_000
"""While nothing may leave: how often to look whether the secondary was heard again."""


class PrimaryPath(DataPath):
    """`lan_in`, `lan_out`: from and to the clients; `guest_in`: from the guest; `guest_out`: to it, if it is ours.

    `on_commands`: differences and requests for checkpoints. `compares` False is a negative control: everything of the
    primary leaves at once, while the secondary gets its input as ever.
    """

    def __init__(
        self,
        comparator: Comparator,
        lan_in: Port,
        lan_out: Port,
        guest_in: Port,
        guest_out: Port | None,
        on_commands: Callable[[list[Command]], None],
        *,
        compares: bool,
        **base: Any,
    ) -> None:
        inputs = [lan_in, guest_in]
        outputs = [port for port in (lan_out, guest_out) if port is not None and port not in inputs]
        super().__init__("data path", inputs, outputs, **base)
        self._comparator = comparator
        self._lan_in = lan_in
        self._lan_out = lan_out
        self._guest_in = guest_in
        self._guest_out = guest_out
        self._on_commands = on_commands
        self._compares = compares
        self._from_lan = Batch()
        self._lan_complete = 0
        self._from_guest = Batch()
        self._released = Batch()
        self._is_guest_blocked = False
        self._must_retry = False
        self._trusted_until_ns: Callable[[], int] | None = None
        comparator.pair_lost(now_us())  # nobody there to compare with

    # ── posted by the supervisor ──────────────────────────────────────────────────────────────────────────────

    def pair_formed(self, trusted_until_ns: Callable[[], int]) -> None:
        """The secondary's data connection is attached: compare what begins from here.

        `trusted_until_ns()`: up to when (CLOCK_MONOTONIC) the secondary certainly has not taken over.
        """
        self._trusted_until_ns = trusted_until_ns
        if self._compares:
            self._comparator.pair_formed(now_us())

    def go_alone(self) -> None:
        """The arbiter has decided: there is no secondary any more."""
        self._drop_link()
        self._trusted_until_ns = None
        self._comparator.pair_lost(now_us())

    # ── the loop's parts ──────────────────────────────────────────────────────────────────────────────────────

    def _interest(self) -> dict[int, int]:
        ports: list[tuple[Port, int]] = []
        if self._from_lan.start < self._lan_complete:
            if self._guest_out is not None:
                ports.append((self._guest_out, select.EPOLLOUT))
        elif self._can_queue():
            ports.append((self._lan_in, select.EPOLLIN))
        if not self._is_guest_blocked:
            ports.append((self._guest_in, select.EPOLLIN))
        if not self._released.is_empty and self._may_release():
            ports.append((self._lan_out, select.EPOLLOUT))
        return self._wanted(*ports)

    def _deadline_us(self) -> int | None:
        if self._must_retry:
            return 0
        return self._comparator.deadline_us() if self._may_release() else now_us() + TRUST_CHECK_US

    def _may_release(self) -> bool:
        return self._trusted_until_ns is None or monotonic_ns() < self._trusted_until_ns()

    def _turn(self, ready: dict[int, int]) -> bool:
        before = self._comparator.stats.primary_bytes + self._comparator.stats.secondary_bytes
        self._receive(ready)
        self._take_secondary()
        if self._guest_in.fileno() in ready or self._is_guest_blocked:
            self._take_primary(ready)
        moved = self._take_lan(ready)
        due = self._comparator.deadline_us()
        if due is not None and due <= now_us() and self._may_release():
            self._comparator.timer_fired(now_us())
        moved |= self._send_released()
        if self._link is not None and self._link.wants_write:
            self._flush_link()
        commands = self._comparator.commands()
        if commands:
            self._on_commands(commands)
        moved |= before != self._comparator.stats.primary_bytes + self._comparator.stats.secondary_bytes
        # What had no room may have some now, and no descriptor would say so.
        self._must_retry = moved and (self._is_guest_blocked or bool(self._messages))
        return moved

    def _take_lan(self, ready: dict[int, int]) -> bool:
        """Clients' frames: mirror them, hand them to the guest. Read only while both can take them."""
        batch = self._from_lan
        if batch.start >= self._lan_complete:
            if self._lan_in.fileno() not in ready or not self._can_queue():
                return False
            batch.fill(self._lan_in)
            try:
                self._lan_complete = batch.complete_end(self._lan_in)
            except FramingError as error:
                self._lan_complete = 0
                self._bad_stream(self._lan_in, batch, error)
                return True
            self._queue(MessageType.CLIENT_FRAMES, batch.view[batch.start : self._lan_complete])
        before = batch.start
        if self._guest_out is None:
            batch.start = self._lan_complete
        elif batch.start < self._lan_complete:
            batch.start = self._guest_out.write_batch(batch.buf, batch.start, self._lan_complete)
        return batch.start > before

    def _take_primary(self, ready: dict[int, int]) -> None:
        """The guest's output. What the comparator cannot take stays here, and nothing more is read."""
        batch = self._from_guest
        if not self._is_guest_blocked and self._guest_in.fileno() in ready:
            batch.fill(self._guest_in)
        try:
            batch.start = self._comparator.primary_frames(batch.buf, batch.start, batch.end, now_us())
            self._is_guest_blocked = batch.start < batch.complete_end(self._guest_in)
        except FramingError as error:
            self._is_guest_blocked = False
            self._bad_stream(self._guest_in, batch, error)

    def _take_secondary(self) -> None:
        """The secondary's output, message by message; a message that is not fully taken is offered again."""
        while self._messages:
            message_type, payload = self._messages[0]
            if message_type is MessageType.EPOCH_MARKER:
                self._comparator.epoch_marker(unpack_epoch(payload))
            else:
                try:
                    pos = self._message_pos
                    self._message_pos = self._comparator.secondary_frames(payload, pos, len(payload), now_us())
                except FramingError as error:
                    self._lose_link(error)
                    return
                if self._message_pos < len(payload):
                    return
            del self._messages[0]
            self._message_pos = 0

    def _send_released(self) -> bool:
        batch = self._released
        moved = False
        while self._may_release():
            if batch.is_empty:
                batch.start, batch.end = 0, self._comparator.drain(batch.buf, 0)
                if batch.is_empty:
                    break
            moved = True
            if not batch.write_to(self._lan_out):
                break
        return moved

    # ── what it shows ─────────────────────────────────────────────────────────────────────────────────────────

    def snapshot(self) -> dict[str, Any]:
        """Counters and hold times."""
        stats = self._comparator.stats
        table = self._comparator.table
        names = [name for name in dir(stats) if not name.startswith("_")]
        counters = {name: getattr(stats, name) for name in names}
        counters |= {
            "guest_frames": stats.primary_frames,
            "link_frames": stats.secondary_frames,
            "held": self._comparator.held_packets(),
            "held_bytes": self._comparator.pool.used_bytes,
            "divergences": stats.differences,
            "connections": table.used,
            "evicted_idle": table.evicted_idle,
            "evicted_closed": table.evicted_closed,
            "evicted_lru": table.evicted_lru,
            "refused_full": table.refused_full,
            "link_bytes_sent": self.link_bytes_sent,
            "link_bytes_received": self.link_bytes_received,
            "rewritten": 0,
        }
        for side, port in (("lan", self._lan_in), ("guest", self._guest_in)):
            for name, value in port.counters().items():
                counters[f"{side}_{name}"] = value
        counters.setdefault("lan_frames", counters.get("lan_frames_in", 0))
        return {"counters": counters, "hold_us": _percentiles(self._comparator.hold_histogram())}


def _percentiles(histogram: list[tuple[int, int]]) -> dict[str, int] | None:
    """Upper bounds of the buckets in which p50, p99 and the maximum lie, in µs."""
    total = sum(count for _, count in histogram)
    if not total:
        return None
    found = {}
    for name, share in (("p50", 0.50), ("p99", 0.99), ("max", 1.0)):
        reached = 0
        for bound, count in histogram:
            reached += count
            if reached >= share * total:
                found[name] = bound
                break
    return found
