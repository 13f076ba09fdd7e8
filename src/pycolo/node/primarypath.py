"""The primary node's data path.

::

    lan ──► mirrored to the link ──► (rewriter ──►) guest                      (filter-mirror)
    guest ──► (rewriter ──►) comparator.primary ──┐
    link ──► comparator.secondary ────────────────┴─ released ──► lan          (colo-compare, filter-redirector)

A guest that gets the LAN's frames by itself (QEMU's own network) has no port here.

A primary that has taken over before translates some connections with its rewriter: frames are compared and mirrored in
the client's numbers. A primary without such a past has no rewriter.

**A checkpoint** (rules E1, E2), while the guest is stopped: `send_offsets` sends the table of the rewriter's offsets;
`commit` reads the guest's output to the last byte, releases all held packets, and discards the secondary's
output until its EPOCH_MARKER. The marker may arrive before `commit`, since it takes another way; then it waits, and so
does everything behind it. The first checkpoint is `start_comparing`: before it the guest serves alone.

Beside a tap (`tap`) the border of the input is exact: from `hold_input` on nothing is given to the guest, which stops
only after it has read everything (`is_input_read`), and frames are mirrored when its tap has taken them. So the copied
state contains what was mirrored before the table of offsets, and nothing else. `commit` lets the input flow again.
Mirroring begins with the first synchronisation (`start_comparing`).

While there is a secondary, frames leave for the LAN only as long as the secondary has certainly heard this node within
the heartbeat's time-out: until then it cannot have taken over (`ControlChannel.trusted_until_ns`). The check is made
right before each write, in the thread that writes: a node that was stopped and wakes up finds that the time has run
out, and lets nothing more out until the secondary has confirmed a heartbeat that was sent after that. Only one write in
progress may still leave, of frames on which the secondary had agreed. Time-outs of held packets wait as well: a silent
secondary is no divergence.
"""

from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Any

from pycolo import limits
from pycolo.compare.difference import Command
from pycolo.compare.wait import Wait
from pycolo.core import Comparator, PrimaryPump, Rewriter
from pycolo.frames import batch
from pycolo.link.codec import MessageType, offsets_payloads, unpack_epoch
from pycolo.link.hello import ORDERING
from pycolo.node.announcer import AGAIN_US, Announcer
from pycolo.node.borders import Borders
from pycolo.node.datapath import DataPath
from pycolo.node.guestwire import OUTPUT_US_MAX, GuestWire
from pycolo.node.handover import PathState
from pycolo.node.ordering import Ordering
from pycolo.node.rowsfile import RowsFile
from pycolo.order.tuner import Tuner
from pycolo.path.clock import now_us
from pycolo.path.cores import bypassed, comparator_counters, masked, new_primary_order
from pycolo.transport.linksocket import LinkSocket
from pycolo.transport.ports import VNET_LEN, Port


class PrimaryPath(DataPath):
    """`lan_in`, `lan_out`: from and to the clients; `guest_in`: from the guest; `guest_out`: to it, or None.

    `tap`: both of the latter, if they are the guest's tap. `on_stray(text, epoch)`: its counts were wrong, so the
    guests may not have had the same input in that epoch. In this thread.
    `on_waits(epoch, waits)`: who has waited for the checkpoint that began `epoch`. In this thread.
    `on_commands`: differences and requests for checkpoints. `compares` False is a negative control: the primary's
    output leaves at once, while the secondary gets its input as always. `rewriter`: one that serves, with a
    `guest_out`; `rows`: the file with its rows. `mirrors_at_once`: from `attach` on; else from the first
    synchronisation on. `tuner`: of the order of requests (`pycolo.order`), which needs a `guest_out`.
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
        tap: GuestWire | None = None,
        rewriter: Rewriter | None = None,
        rows: RowsFile | None = None,
        mirrors_at_once: bool = True,
        tuner: Tuner | None = None,
        on_stray: Callable[[str, int], None] = lambda text, epoch: None,
        on_waits: Callable[[int, list[Wait]], None] = lambda epoch, waits: None,
        **base: Any,
    ) -> None:
        inputs = [lan_in, guest_in]
        outputs = [port for port in (lan_out, guest_out) if port is not None and port not in inputs]
        super().__init__("data path", inputs, outputs, **base)
        self._comparator = comparator
        self._lan_out = lan_out
        self._guest_out = guest_out
        self._on_commands = on_commands
        self._compares = compares
        self._tap = tap
        self._borders = Borders(tap)
        self._on_stray = on_stray
        self._on_waits = on_waits
        assert rewriter is None or guest_out is not None
        self._rewriter = rewriter
        self._rows = rows
        self._first: deque[bytearray] = deque()
        self._announcer: Announcer | None = None
        self._mirrors_at_once = mirrors_at_once
        self._trusted_until_ns: Callable[[], int] | None = None
        self._epoch = 0
        self._offsets_epoch = -1
        self._primary = PrimaryPump(
            *(self._epoll.fileno(), self._spin_us, comparator, lan_in, lan_out, guest_in, guest_out, rewriter),
            new_primary_order(has_vnet=self._has_vnet),
        )
        self._ordering = Ordering(tuner or Tuner({}), self._primary.order)
        comparator.pair_lost(now_us())  # there is nothing to compare with yet

    @property
    def _pump(self) -> PrimaryPump:
        return self._primary

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
        """A path that succeeds one that has served: it takes over its ports and all frames under way.

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
            tap=state.tap,
            rewriter=state.rewriter,
            rows=state.rows,
            **options,
        )
        path._announcer = state.announcer
        path._first.extend(state.mirrored)
        pump = path._primary
        pump.lan_in.batch, pump.guest_in.batch = state.from_lan, state.from_guest
        pump.lan_out.batch, pump.guest_out.batch = state.to_client, state.to_guest
        pump.lan_complete = state.from_lan.complete_end(state.lan_in)
        pump.is_lan_held = bool(path._first)
        pump.is_guest_blocked = True  # there may be whole frames already
        return path

    # ── posted by the guest ──────────────────────────────────────────────────────────────────────────────

    def attach(self, link: LinkSocket) -> None:
        """Use the secondary's data connection."""
        super().attach(link)
        self._primary.is_mirroring = self._mirrors_at_once

    def pair_formed(self, trusted_until_ns: Callable[[], int]) -> None:
        """The secondary's data connection is attached: compare what begins from here.

        `trusted_until_ns()`: up to when (CLOCK_MONOTONIC) the secondary certainly has not taken over.
        """
        self._trust(trusted_until_ns)
        if self._compares:
            self._comparator.pair_formed(now_us())

    def _trust(self, until_ns: Callable[[], int] | None) -> None:
        self._trusted_until_ns = until_ns
        self._primary.trust = None if until_ns is None else lambda: monotonic_ns() < until_ns()

    def start_comparing(self, epoch: int, trusted_until_ns: Callable[[], int]) -> dict[str, int]:
        """The secondary's guest is a copy of this one, which is stopped: compare what both send from here.

        Does `send_offsets`, `pair_formed` and `commit`, and returns what `commit` returns.
        """
        self._primary.is_mirroring = True
        self._drain_guest()  # there is nothing to compare it with: it leaves
        self._primary.send_released()
        self.pair_formed(trusted_until_ns)
        begun = self.commit(epoch)
        if self._link is not None and ORDERING in self._link.features and self._guest_out is not None:
            self._say_rounds(self._ordering.begin(now_us()))
        return begun

    def _say_rounds(self, payload: bytes) -> None:
        if payload:
            self._queue_behind(MessageType.ROUNDS, payload)

    def watch_processors(self, threads: Sequence[int]) -> None:
        """The guest's processors are these threads: a request is seen to wait when they sleep."""
        self._primary.sleepers = self._ordering.watch(threads)

    def hold_input(self) -> None:
        """The guest is about to stop for a checkpoint: give it nothing until `commit` or `go_alone`."""
        self._primary.order.freeze(now_us(), True)
        if self._tap is not None:
            self._primary.is_input_held = True

    def is_input_read(self) -> bool:
        """Whether the guest has read everything that was mirrored."""
        return self._tap is None or (self._primary.is_input_given() and self._tap.is_input_read())

    def give_up_input(self) -> int:
        """The guest does not read: throw away what its tap holds. Returns how many frames neither guest will get."""
        return self._tap.purge() if self._tap is not None else 0

    def send_offsets(self, epoch: int) -> None:
        """Send the secondary the offsets that its copy of this guest's state will have; `commit` does if need be."""
        self._offsets_epoch = epoch
        for octets in self._primary.order.mirror.flush():  # the guest has got it: it is part of the state
            self._queue_behind(MessageType.CLIENT_FRAMES, octets)
        table = b"" if self._rewriter is None else self._rewriter.export_offsets()
        for payload in offsets_payloads(epoch, table):
            self._queue_behind(MessageType.OFFSETS, payload)

    def commit(self, epoch: int) -> dict[str, int]:
        """The secondary's guest is a copy of this one, which is stopped: begin `epoch`.

        Returns released_frames and released_bytes (with the vnet header, without the length words; where the LAN
        does not take them at once: the memory they take), discarded_frames.
        """
        if self._offsets_epoch != epoch:
            self.send_offsets(epoch)
        pump, stats = self._primary, self._comparator.stats
        pump.send_released()  # what was equal before is not the checkpoint's
        released, released_bytes, discarded = stats.released, pump.released_octets, stats.discarded
        progress = -1
        while progress != (progress := stats.primary_bytes + stats.released):
            self._drain_guest()
            self._comparator.checkpoint_committed(now_us(), awaits_marker=True)
            pump.send_released()
            if not pump.is_guest_blocked:
                break
        self._epoch = epoch
        if pump.is_input_held:  # the first stop is not held up for the input
            self._borders.passed(output=True)
        pump.is_front_held = False  # the marker may have come already
        pump.is_input_held = False
        pump.order.thaw(now_us())
        released = stats.released - released
        words = 8 if self._has_vnet else 4
        released_bytes = max(0, pump.released_octets - released_bytes - words * released)
        if self._comparator.has_ready():
            released_bytes += self._comparator.held_bytes()
        return {
            "released_frames": released,
            "released_bytes": released_bytes,
            "discarded_frames": stats.discarded - discarded,
        }

    def send_probe(self, frame: bytes) -> None:
        """A frame of the node's own, to the comparator and to the secondary, which sends it back."""
        self._comparator.probe.expect(frame)
        vnet_len = VNET_LEN if self._has_vnet else None
        octets = batch([bytes(vnet_len or 0) + frame], vnet_header_bytes=vnet_len)
        self._comparator.primary_frames(octets, 0, len(octets), now_us())
        self._queue_behind(MessageType.PROBE, bytes(octets))

    def has_probe_returned(self) -> bool:
        """Whether the comparator has had the last probe of both sides."""
        probe = self._comparator.probe
        return probe.from_primary > 0 and probe.from_secondary > 0

    def has_offsets(self) -> bool:
        """Whether a connection has other numbers on the guest's side: without this path it would break."""
        rewriter = self._rewriter
        return rewriter is not None and rewriter.offsets.has_any(rewriter.table)

    @property
    def epoch(self) -> int:
        """The epoch of the frames that are compared now."""
        return self._epoch

    def go_alone(self) -> None:
        """There is no secondary any more: release everything, compare nothing."""
        self._drop_link()
        self._trust(None)
        self._offsets_epoch = -1
        self._primary.is_input_held = False
        self._ordering.end(now_us())
        self._comparator.pair_lost(now_us())

    # ── the loop's parts ──────────────────────────────────────────────────────────────────────────────────────

    def _deadline_us(self) -> int | None:
        if self._announcer is None or self._announcer.due_us is None:
            return self._ordering.due_us
        if self._primary.lan_out.batch.is_empty and self._primary.may_release():
            return self._announcer.due_us
        return now_us() + AGAIN_US

    def _act(self) -> None:
        self._end_bad_streams()
        self._look_for_strays()
        self._take_messages()
        self._give_first()
        self._announce()
        if self._rows is not None and self._rewriter is not None:
            self._rows.tidy(self._rewriter, self._on_note)
        self._queue_waiting()
        if waits := self._comparator.waits.take():
            self._say_rounds(self._ordering.waited(waits, now_us()))
            self._on_waits(self._epoch, waits)
        if commands := self._comparator.commands():
            self._say_rounds(self._ordering.differed(commands, now_us()))
            self._on_commands(commands)
        self._say_rounds(self._ordering.look(now_us()))

    def _close(self) -> None:
        super()._close()
        self._ordering.unwatch()

    def _look_for_strays(self) -> None:
        """Others have sent to the guest's tap: what it has read is not what was mirrored."""
        if self._tap is not None and self._primary.is_mirroring and (why := self._tap.strayed) is not None:
            self._tap.purge()
            self._on_note(why)
            self._on_stray(why, self._epoch)

    def _take_bad_frames(self) -> None:
        batch, translated = self._primary.guest_in.batch, self._primary.translated
        if self._rewriter is None:
            self._comparator.primary_frames(batch.buf, batch.start, batch.end, now_us())
        else:
            self._rewriter.guest_frames(batch.buf, batch.start, batch.end, now_us(), translated.buf, translated.end)

    def _take_messages(self) -> None:
        """Handle the secondary's messages, but for frames, which the pump takes."""
        while (found := self._front()) is not None and found[0] is MessageType.EPOCH_MARKER:
            epoch = unpack_epoch(found[1])
            if epoch > self._epoch:
                self._primary.is_front_held = True  # what follows is of an epoch that `commit` is about to begin
                return
            if epoch == self._epoch:
                self._comparator.epoch_marker(self._comparator.epoch)
            self._advance()

    def _give_first(self) -> None:
        """Send the guest the clients' frames that a takeover has left over."""
        out = self._primary.guest_out.batch
        while self._first and self._rewriter is not None and self._guest_out is not None:
            if not out.write_to(self._guest_out):
                break
            octets = self._first.popleft()
            taken = self._rewriter.client_frames(octets, 0, len(octets), now_us(), out.buf, 0)
            out.start, out.end = 0, self._rewriter.out_end
            if taken < len(octets):
                self._first.appendleft(octets[taken:])
        self._primary.is_lan_held = bool(self._first)

    def _announce(self) -> None:
        """Announce between two batches only: the port may hold a part of the last one's last frame."""
        batch = self._primary.lan_out.batch
        if self._announcer is None or not self._announcer.is_due(now_us()):
            return
        if batch.is_empty and self._primary.may_release():
            self._announcer.write(batch)
            batch.write_to(self._lan_out)

    def _drain_guest(self) -> None:
        """Read what the stopped guest has sent, as far as the comparator takes it."""
        pump, stats = self._primary, self._comparator.stats
        before, until_us = stats.primary_bytes, now_us() + OUTPUT_US_MAX
        while stats.primary_bytes - before < limits.DRAIN_BYTES_MAX:
            was_blocked = pump.is_guest_blocked
            has_read = pump.take_guest()
            self._end_bad_streams()
            if pump.is_guest_blocked:
                break
            if has_read or was_blocked:
                continue
            if self._tap is None or self._tap.is_output_read():
                break
            if now_us() > until_us:
                self._tap.recount_output()
                # What comes late is taken for output of the epoch that begins.
                why = f"{self._guest_in.name}: the primary's guest sends more or less than its tap counts"
                self._on_stray(why, max(self._epoch, self._offsets_epoch))
                break

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
            "rewritten": self._rewriter.stats.rewritten if self._rewriter is not None else 0,
            **self._borders.counters(),
            **self._ordering.counters(),
        }
        for side, port in (("lan", self._lan_in), ("guest", self._guest_in)):
            for name, value in port.counters().items():
                counters[f"{side}_{name}"] = value
        counters.setdefault("lan_frames", counters.get("lan_frames_in", 0))
        histogram = self._comparator.hold_histogram()
        return {
            "counters": counters,
            "order": self._ordering.ports(),
            "hold_us": _percentiles(histogram),
            "hold_histogram": [list(bucket) for bucket in histogram],
            "masks": masked(self._comparator),
            "bypassed": bypassed(self._comparator),
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
