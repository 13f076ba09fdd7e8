"""The primary node's data path.

::

    lan ──► mirrored to the link ──► (rewriter ──►) guest                      (filter-mirror)
    guest ──► (rewriter ──►) comparator.primary ──┐
    link ──► comparator.secondary ────────────────┴─ released ──► lan          (colo-compare, filter-redirector)

Where the frames from the LAN reach the guest by themselves there is no port to the guest.

A primary that has taken over before serves some connections through its rewriter: what is compared and mirrored is
in the client's numbers, whatever the guest's are. Without such a past there is no rewriter, and none is passed.

**A checkpoint** (rules E1, E2), the guest being stopped: `send_offsets` puts the table of the rewriter's offsets into
the link; `commit` reads what the guest has sent to the last byte, releases all that is held, and counts what the
secondary sends as nothing until its EPOCH_MARKER. The marker may come before `commit` does, for it takes another way:
then it waits, and with it what stands behind it. The first one is `start_comparing`: before it the guest serves alone.
Mirroring begins earlier, with `start_mirroring`, to be called while the guest still runs: the copy of its state lacks
what the guest gets after that. The secondary keeps what comes and feeds it to the copy; for what the state has seen
too that is a repetition, as any network makes them.

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

from pycolo import limits
from pycolo.compare.difference import Command
from pycolo.core import Comparator, Rewriter
from pycolo.errors import FramingError
from pycolo.link.codec import MessageType, offsets_payloads, unpack_epoch
from pycolo.node.announcer import Announcer
from pycolo.node.batch import Batch
from pycolo.node.clock import now_us
from pycolo.node.datapath import DataPath
from pycolo.node.handover import PathState
from pycolo.node.translation import Translation
from pycolo.path.cores import comparator_counters
from pycolo.transport.linksocket import LinkSocket
from pycolo.transport.ports import Port

TRUST_CHECK_US: Final = 5_000
"""While nothing may leave: how often to look whether the secondary was heard again."""


class PrimaryPath(DataPath):
    """`lan_in`, `lan_out`: from and to the clients; `guest_in`: from the guest; `guest_out`: to it, if it is ours.

    `on_commands`: differences and requests for checkpoints. `compares` False is a negative control: everything of the
    primary leaves at once, while the secondary gets its input as ever. `rewriter`: one that serves, with a
    `guest_out`. `mirrors_at_once`: `attach` is `start_mirroring` as well.
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
        rewriter: Rewriter | None = None,
        mirrors_at_once: bool = True,
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
        self._translation: Translation | None = None
        if rewriter is not None:
            assert guest_out is not None
            self._translation = Translation(rewriter, guest_out, Batch(), ())
        self._announcer: Announcer | None = None
        self._mirrors_at_once = mirrors_at_once
        self._is_mirroring = False
        self._from_lan = Batch()
        self._lan_complete = 0
        self._from_guest = Batch()
        self._released = Batch()
        self._released_bytes = 0
        self._is_guest_blocked = False
        self._must_retry = False
        self._trusted_until_ns: Callable[[], int] | None = None
        self._epoch = 0
        self._offsets_epoch = -1
        comparator.pair_lost(now_us())  # nobody there to compare with

    @classmethod
    def from_state(
        cls,
        comparator: Comparator,
        state: PathState,
        on_commands: Callable[[list[Command]], None],
        *,
        compares: bool,
        **options: Any,
    ) -> "PrimaryPath":
        """Follow a path that has served: its ports and all that it had under way are this one's now.

        `options`: those of the class.
        """
        path = cls(
            comparator,
            state.lan_in,
            state.lan_out,
            state.guest_in,
            state.guest_out,
            on_commands,
            compares=compares,
            **options,
        )
        path._translation = Translation(state.rewriter, state.guest_out, state.to_guest, state.mirrored)
        path._announcer = state.announcer
        path._from_lan = state.from_lan
        path._from_guest = state.from_guest
        path._released = state.to_client
        path._lan_complete = state.from_lan.complete_end(state.lan_in)
        path._is_guest_blocked = True  # whole frames may be there already
        return path

    # ── posted by the supervisor ──────────────────────────────────────────────────────────────────────────────

    def attach(self, link: LinkSocket) -> None:
        """The secondary's data connection is there."""
        super().attach(link)
        self._is_mirroring = self._mirrors_at_once

    def start_mirroring(self) -> None:
        """From now on the secondary gets the clients' frames. See the module's text."""
        self._is_mirroring = True

    def pair_formed(self, trusted_until_ns: Callable[[], int]) -> None:
        """The secondary's data connection is attached: compare what begins from here.

        `trusted_until_ns()`: up to when (CLOCK_MONOTONIC) the secondary certainly has not taken over.
        """
        self._trusted_until_ns = trusted_until_ns
        if self._compares:
            self._comparator.pair_formed(now_us())

    def start_comparing(self, epoch: int, trusted_until_ns: Callable[[], int]) -> dict[str, int]:
        """The secondary's guest is a copy of this one, which is stopped: compare what both send from here.

        As `send_offsets`, `pair_formed` and `commit`, whose answer it gives.
        """
        self._is_mirroring = True
        self._drain_guest()  # nobody to compare it with: it leaves
        self._send_released()
        self.pair_formed(trusted_until_ns)
        return self.commit(epoch)

    def send_offsets(self, epoch: int) -> None:
        """Tell the secondary which offsets its guest's copy of this one's state will have; `commit` does if need be."""
        self._offsets_epoch = epoch
        table = b"" if self._translation is None else self._translation.rewriter.export_offsets()
        for payload in offsets_payloads(epoch, table):
            self._queue_behind(MessageType.OFFSETS, payload)

    def commit(self, epoch: int) -> dict[str, int]:
        """The secondary's guest is a copy of this one, which is stopped: begin `epoch`.

        The answer: released_frames and released_bytes (with the vnet header, without the length words; where the LAN
        does not take them at once: the memory they take), discarded_frames.
        """
        if self._offsets_epoch != epoch:
            self.send_offsets(epoch)
        self._send_released()  # what was equal before is not the checkpoint's
        stats = self._comparator.stats
        released, released_bytes, discarded = stats.released, self._released_bytes, stats.discarded
        progress = -1
        while progress != (progress := stats.primary_bytes + stats.released):
            self._drain_guest()
            self._comparator.checkpoint_committed(now_us(), awaits_marker=True)
            self._send_released()
            if not self._is_guest_blocked:
                break
        self._epoch = epoch
        released = stats.released - released
        words = 8 if self._has_vnet else 4
        released_bytes = max(0, self._released_bytes - released_bytes - words * released)
        if self._comparator.has_ready():
            released_bytes += self._comparator.held_bytes()
        return {
            "released_frames": released,
            "released_bytes": released_bytes,
            "discarded_frames": stats.discarded - discarded,
        }

    def has_offsets(self) -> bool:
        """Whether some connection has other numbers on the guest's side: without this path it would end."""
        translation = self._translation
        return translation is not None and translation.rewriter.offsets.has_any(translation.rewriter.table)

    @property
    def epoch(self) -> int:
        """The one in which what is compared now was sent."""
        return self._epoch

    def go_alone(self) -> None:
        """The arbiter has decided: there is no secondary any more."""
        self._drop_link()
        self._trusted_until_ns = None
        self._offsets_epoch = -1
        self._comparator.pair_lost(now_us())

    # ── the loop's parts ──────────────────────────────────────────────────────────────────────────────────────

    def _interest(self) -> dict[int, int]:
        ports: list[tuple[Port, int]] = []
        if self._has_left_for_guest():
            if self._guest_out is not None:
                ports.append((self._guest_out, select.EPOLLOUT))
        elif self._can_mirror():
            ports.append((self._lan_in, select.EPOLLIN))
        if not self._is_guest_blocked:
            ports.append((self._guest_in, select.EPOLLIN))
        if not self._released.is_empty and self._may_release():
            ports.append((self._lan_out, select.EPOLLOUT))
        return self._wanted(*ports)

    def _deadline_us(self) -> int | None:
        if self._must_retry:
            return 0
        dues = [self._comparator.deadline_us() if self._may_release() else now_us() + TRUST_CHECK_US]
        if self._translation is not None:
            dues.append(self._translation.next_timer_us)
        if self._announcer is not None and self._released.is_empty and self._may_release():
            dues.append(self._announcer.due_us)
        return min((due for due in dues if due is not None), default=None)

    def _may_release(self) -> bool:
        return self._trusted_until_ns is None or monotonic_ns() < self._trusted_until_ns()

    def _turn(self, ready: dict[int, int]) -> bool:
        before = self._comparator.stats.primary_bytes + self._comparator.stats.secondary_bytes
        self._receive(ready)
        self._take_secondary()
        if self._guest_in.fileno() in ready or self._is_guest_blocked:
            self._take_primary(is_ready=self._guest_in.fileno() in ready)
        moved = self._take_lan(ready) if self._translation is None else self._translate_lan(self._translation, ready)
        due = self._comparator.deadline_us()
        if due is not None and due <= now_us() and self._may_release():
            self._comparator.timer_fired(now_us())
        moved |= self._send_released()
        self._tend_link()
        commands = self._comparator.commands()
        if commands:
            self._on_commands(commands)
        moved |= before != self._comparator.stats.primary_bytes + self._comparator.stats.secondary_bytes
        # What had no room may have some now, and no descriptor would say so.
        self._must_retry = moved and (self._is_guest_blocked or bool(self._messages))
        return moved

    # ── from the LAN ──────────────────────────────────────────────────────────────────────────────────────────

    def _has_left_for_guest(self) -> bool:
        if self._translation is not None:
            return not self._translation.is_clear
        return self._from_lan.start < self._lan_complete

    def _can_mirror(self) -> bool:
        return not self._is_mirroring or self._can_queue()

    def _read_lan(self, ready: dict[int, int]) -> bool:
        """Clients' frames, mirrored. Read only while the link can take them too; whether anything was done."""
        batch = self._from_lan
        if self._lan_in.fileno() not in ready or not self._can_mirror():
            return False
        batch.fill(self._lan_in)
        try:
            self._lan_complete = batch.complete_end(self._lan_in)
        except FramingError as error:
            self._lan_complete = 0
            self._bad_stream(self._lan_in, batch, error)
            return True
        if self._is_mirroring:
            self._mirror(batch)
        return True

    def _mirror(self, batch: Batch) -> None:
        """What has just come, to the secondary; but not what this guest turns down and that one might not (rule R1)."""
        pos = batch.start
        parts = []
        while pos < self._lan_complete:
            until, behind = self._comparator.client_frames(batch.buf, pos, self._lan_complete, now_us())
            parts.append(batch.view[pos:until])
            pos = behind
        self._queue(MessageType.CLIENT_FRAMES, parts[0] if len(parts) == 1 else b"".join(parts))

    def _take_lan(self, ready: dict[int, int]) -> bool:
        """Clients' frames to the link and the guest; whether anything moved."""
        batch = self._from_lan
        if batch.start >= self._lan_complete and not self._read_lan(ready):
            return False
        before = batch.start
        if self._guest_out is None:
            batch.start = self._lan_complete
        elif batch.start < self._lan_complete:
            batch.start = self._guest_out.write_batch(batch.buf, batch.start, self._lan_complete)
        return batch.start > before

    def _translate_lan(self, translation: Translation, ready: dict[int, int]) -> bool:
        """The same, with the guest's numbers on the way to it."""
        batch = self._from_lan
        before = translation.rewriter.stats.client_bytes
        has_read = False
        while translation.flush(now_us()):
            if batch.start < self._lan_complete:
                batch.start = translation.take_client(batch.buf, batch.start, self._lan_complete, now_us())
            elif has_read or not self._read_lan(ready):
                break
            else:
                has_read = True
        translation.timer_fired(now_us())
        return translation.rewriter.stats.client_bytes != before

    # ── from the guests ───────────────────────────────────────────────────────────────────────────────────────

    def _take_primary(self, *, is_ready: bool) -> bool:
        """The guest's output; whether anything was read. What the comparator cannot take stays, and no more is read."""
        raw = self._from_guest
        has_read = not self._is_guest_blocked and is_ready and raw.fill(self._guest_in)
        if self._translation is None:
            self._compare(raw, self._guest_in)
            return has_read
        batch = self._translation.from_guest
        try:
            if batch.is_empty:
                self._translation.take_guest(raw, now_us())
        except FramingError as error:
            self._bad_stream(self._guest_in, raw, error)
        self._compare(batch, self._guest_in)
        return has_read

    def _compare(self, batch: Batch, port: Port) -> None:
        try:
            batch.start = self._comparator.primary_frames(batch.buf, batch.start, batch.end, now_us())
            self._is_guest_blocked = batch.start < batch.complete_end(port)
        except FramingError as error:
            self._is_guest_blocked = False
            self._bad_stream(port, batch, error)

    def _drain_guest(self) -> None:
        """Take all that the stopped guest has sent, as far as the comparator can."""
        stats = self._comparator.stats
        before = stats.primary_bytes
        while stats.primary_bytes - before < limits.DRAIN_BYTES_MAX:
            was_blocked = self._is_guest_blocked
            has_read = self._take_primary(is_ready=True)
            if self._is_guest_blocked or not (has_read or was_blocked):
                break

    def _take_secondary(self) -> None:
        """The secondary's output, message by message; a message that is not fully taken is offered again."""
        while self._messages:
            message_type, payload = self._messages[0]
            if message_type is MessageType.EPOCH_MARKER:
                epoch = unpack_epoch(payload)
                if epoch > self._epoch:
                    return  # what follows is of an epoch that `commit` is about to begin
                if epoch == self._epoch:
                    self._comparator.epoch_marker(self._comparator.epoch)
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
            if batch.is_empty and not self._next_released():
                break
            moved = True
            if not batch.write_to(self._lan_out):
                break
        return moved

    def _next_released(self) -> bool:
        """Fill `_released`: with what a takeover still has to say and to send again, then with what was compared."""
        batch = self._released
        if self._announcer is not None and self._announcer.is_due(now_us()):
            self._announcer.write(batch)
            if not batch.is_empty:
                return True
        batch.start = batch.end = 0
        if self._translation is not None:
            batch.end = self._translation.rewriter.drain_client(batch.buf, 0)
        if batch.is_empty:
            batch.end = self._comparator.drain(batch.buf, 0)
            self._released_bytes += batch.end
        return not batch.is_empty

    # ── what it shows ─────────────────────────────────────────────────────────────────────────────────────────

    def snapshot(self) -> dict[str, Any]:
        """Counters and hold times; `mode` is alone, comparing or uncompared (the negative control)."""
        stats = self._comparator.stats
        counters = comparator_counters(self._comparator) | {
            "guest_frames": stats.primary_frames,
            "link_frames": stats.secondary_frames,
            "held": self._comparator.held_packets(),
            "held_bytes": self._comparator.held_bytes(),
            "divergences": stats.differences,
            "connections": self._comparator.table.used,
            "link_bytes_sent": self.link_bytes_sent,
            "link_bytes_received": self.link_bytes_received,
            "rewritten": self._translation.rewriter.stats.rewritten if self._translation else 0,
        }
        for side, port in (("lan", self._lan_in), ("guest", self._guest_in)):
            for name, value in port.counters().items():
                counters[f"{side}_{name}"] = value
        counters.setdefault("lan_frames", counters.get("lan_frames_in", 0))
        histogram = self._comparator.hold_histogram()
        return {
            "counters": counters,
            "hold_us": _percentiles(histogram),
            "hold_histogram": [list(bucket) for bucket in histogram],
            "mode": "alone" if self._trusted_until_ns is None else "comparing" if self._compares else "uncompared",
        }


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
