"""The secondary node's data path.

::

    in normal service    link ──► rewriter ──► guest          guest ──► rewriter ──► link
    after takeover       lan  ──► rewriter ──► guest          guest ──► rewriter ──► lan

Until the takeover frames from the LAN are read and dropped: the primary mirrors them.

**A checkpoint** stops the guest, and makes it a copy of the primary's::

    in service ── hold_input ── hold ──► held ── loaded(epoch) ──► held until OFFSETS(epoch) has come ──► in service
                                           └──── take_over ──────► serving, in its own state: the checkpoint was never
                                                                   finished (E4)

From `hold_input` on nothing is written to the guest; clients' frames wait untranslated, since the state that they will
meet is not known yet. `hold` reads everything that the guest has sent: it belongs to the old state, and leaves before
the EPOCH_MARKER that `loaded` sends. While held, nothing is read from the guest either.

Beside a tap (`tap`) the border is exact: the guest has read everything that was written to it before it stopped
(`is_input_read`), and the primary's node sends OFFSETS where its guest had read everything that was mirrored. So what
waits before OFFSETS is part of the loaded state, and void (`pycolo.border`). On streams it is given to the guest again,
as any network may repeat a frame: frames that are translated but not written are translated again, with the new
offsets. A frame of which a part has been written already may reach the guest with the old offsets, or with a wrong
checksum: it counts as lost on the way, like those that QEMU had read when the guest stopped.

The link is still read while held, since the primary's table of offsets comes between the frames. Above
HOLD_INPUT_BYTES_MAX the oldest waiting frames are dropped, and counted: the copied state has most likely seen them, and
if not, no client was told that the secondary has them (rule C3), so they are sent again. Once the table has come, the
link is not read. So the same call serves before the first state has come: a secondary begins held, and the primary may
mirror for as long as the first copy takes.
"""

from collections.abc import Callable
from typing import Any

from pycolo import limits
from pycolo.border.inputs import SecondaryInput
from pycolo.core import Rewriter, SecondaryPump
from pycolo.errors import ConnectError, FramingError, LinkError, StateError
from pycolo.link.codec import MessageType, OffsetsAssembly, pack_epoch, unpack_rounds
from pycolo.node.announcer import AGAIN_US, Announcer
from pycolo.node.borders import Borders
from pycolo.node.datapath import DataPath
from pycolo.node.guestwire import OUTPUT_US_MAX, GuestWire
from pycolo.node.handover import PathState
from pycolo.node.rowsfile import KeptRows, Restored, RowsFile
from pycolo.path.clock import now_us
from pycolo.path.cores import new_secondary_order, rewriter_counters
from pycolo.transport.linksocket import LinkSocket
from pycolo.transport.ports import Port
from pycolo.transport.streamport import StreamPort


class SecondaryPath(DataPath):
    """`lan_in`, `lan_out`: from and to the clients after takeover; `guest_in`, `guest_out`: from and to the guest.

    `tap`: both of the latter, if they are the guest's tap.
    `on_serving(resent)`: the takeover is done, and so many frames were sent again. `rows`: where a takeover keeps what
    `resume` needs after a restart.
    """

    def __init__(
        self,
        rewriter: Rewriter,
        lan_in: Port,
        lan_out: Port,
        guest_in: Port,
        guest_out: Port,
        on_serving: Callable[[int], None],
        *,
        tap: GuestWire | None = None,
        rows: RowsFile | None = None,
        **base: Any,
    ) -> None:
        inputs = [lan_in, guest_in]
        outputs = [port for port in (lan_out, guest_out) if port not in inputs]
        super().__init__("data path", inputs, outputs, **base)
        self._rewriter = rewriter
        self._lan_out = lan_out
        self._guest_out = guest_out
        self._on_serving = on_serving
        self._rows = rows
        self._restored = Restored(0, 0)
        self._has_written_rows = False
        self._secondary = SecondaryPump(
            *(self._epoll.fileno(), self._spin_us, rewriter, lan_in, lan_out, guest_in, guest_out),
            new_secondary_order(has_vnet=self._has_vnet),
        )
        self._order = self._secondary.order
        has_own_headers = isinstance(lan_out, StreamPort) and lan_out.vnet_len != 0
        self._announcer = Announcer(rewriter.neighbours, None if has_own_headers else lan_out.vnet_len)
        self._tap = tap
        self._borders = Borders(tap)
        self._input: SecondaryInput[bytearray] = SecondaryInput()
        self._mirrored = self._input.kept
        self._mirrored_bytes = self._mirrored_pos = self._dropped_bytes = 0
        self._assembly = OffsetsAssembly("data link")
        self._newest_table = self._table = b""
        self._is_table_new = False

    @property
    def _pump(self) -> SecondaryPump:
        return self._secondary

    # ── before it runs ────────────────────────────────────────────────────────────────────────────────────────

    def resume(self, kept: KeptRows) -> Restored:
        """Serve from the start: this node has taken over before it was started again, and `kept` are its rows."""
        self._restored = kept.restore(self._rewriter, now_us())
        self._secondary.is_serving = True
        self._announcer.begin(now_us())  # the node may have ended before it had said all
        return self._restored

    # ── posted by the guest ──────────────────────────────────────────────────────────────────────────────

    def attach(self, link: LinkSocket) -> None:
        """Use the primary's data connection."""
        super().attach(link)
        self._assembly = OffsetsAssembly(link.stream)

    def hold_input(self) -> bool:
        """A checkpoint is about to stop the guest. False: wait, the offsets of the one before have not come yet."""
        if self._secondary.is_serving:
            raise StateError("data path: hold_input", "serving", "in service")
        if self._input.is_loading:
            return False
        if not self._input.is_held:
            self._input.requested()
            self._secondary.is_input_held = True
            self._is_table_new = False
            self._keep_ordered()
            self._keep_messages()
        return True

    def is_input_read(self) -> bool:
        """Whether the guest has read everything that was written to its tap."""
        return self._tap is None or self._tap.is_input_read()

    def give_up_input(self) -> int:
        """The guest does not read: throw away what its tap holds. Returns how many frames."""
        return self._tap.purge() if self._tap is not None else 0

    def hold(self) -> None:
        """The guest has stopped for a checkpoint, or waits for its first state. See the module's picture."""
        if not self.hold_input():
            raise StateError("data path: hold", "loading", "in service")
        self._drain_guest()
        self._secondary.is_held = True

    def hold_for_takeover(self) -> None:
        """Until `take_over` clients wait: what the guest says before that leaves for the other node only.

        The guest runs, so what it says is read all the same.
        """
        if not self._secondary.is_serving:
            self.hold_input()

    def loaded(self, epoch: int) -> None:
        """The guest is a copy of the primary's: go on when the primary's offsets of `epoch` are here."""
        if not self._secondary.is_held:
            raise StateError("data path: loaded", "not held", "held")
        void = self._input.loaded(epoch)
        self._borders.passed(output=False)
        if not self._input.is_loading:
            self._begin_epoch(epoch, void)

    def keep_rows(self) -> None:
        """The guest has left COLO, and its state is its own for good: from here on a restart finds its connections.

        Before the node has the guest's place in the network: if it is killed there, rows that are written later are
        never written. `take_over` follows, and until then the input stays held.
        """
        if self._input.is_loading:
            self._adopt_told()
            self.hold_input()
        self._write_rows()

    def take_over(self) -> None:
        """Serve the clients from now on. Ends a hold.

        Had the guest got the primary's state, but not the offsets that belong to it: those that the primary told last
        are as good, for a connection's offset never changes while it lives.
        """
        self._adopt_told()
        self._secondary.is_held = self._secondary.is_input_held = False
        self._drop_link()
        self._rewriter.takeover()
        self._write_rows()
        self._secondary.is_serving = True
        self._secondary.is_resending = True
        self._announcer.begin(now_us())

    def _adopt_told(self) -> None:
        """The primary says no more. What it had mirrored belongs to the guest, or to the state that it has loaded."""
        self._keep_ordered()
        self._order.end()
        self._keep_messages()
        is_loaded = self._input.is_loading
        void = self._input.taken_over()
        if is_loaded:
            self._adopt(self._table, void)

    def _write_rows(self) -> None:
        """Before anything is served: from the first frame on a restart finds them."""
        if self._rows is None or self._has_written_rows:
            return
        try:
            self._rows.write(self._rewriter)
        except ConnectError as error:
            self._on_note(str(error))
            self._rows = None
        self._has_written_rows = True

    def hand_over(self) -> PathState:
        """End a path that serves, with its ports open; its successor gets everything under way.

        To be asked: when the answer is there, this path touches none of it any more. Raises `StateError` when it does
        not serve. `on_serving` is called if it was not yet.
        """
        if not self._secondary.is_serving:
            raise StateError("data path: hand_over", "in service of the primary", "serving")
        if self._secondary.is_resending:
            self._on_serving(self._rewriter.stats.resent)
        self._leaves_ports_open = True
        self.halt()
        if self._mirrored:
            del self._mirrored[0][: self._mirrored_pos]
        return PathState(
            self._lan_in,
            self._lan_out,
            self._guest_in,
            self._guest_out,
            self._rewriter,
            self._secondary.lan_in.batch,
            self._secondary.guest_in.batch,
            self._secondary.guest_out.batch,
            self._secondary.lan_out.batch,
            self._mirrored,
            self._announcer,
            self._rows,
            self._tap,
        )

    def has_offsets(self) -> bool:
        """Whether a connection has other numbers on the guest's side: without this path it would break."""
        return self._rewriter.offsets.has_any(self._rewriter.table)

    # ── the loop's parts ──────────────────────────────────────────────────────────────────────────────────────

    def _act(self) -> None:
        pump = self._secondary
        self._end_bad_streams()
        if self._input.is_held:
            self._keep_messages()
        else:
            self._give_mirrored()
            self._take_messages()
        if pump.is_serving:
            self._announce()
            self._resend()
            if self._rows is not None:
                self._rows.tidy(self._rewriter, self._on_note)
        self._queue_waiting()
        pump.has_mirrored = bool(self._mirrored)
        pump.is_front_held = self._input.is_held and self._has_enough()

    def _deadline_us(self) -> int | None:
        due = self._announcer.due_us
        return due if due is None or self._secondary.lan_out.batch.is_empty else now_us() + AGAIN_US

    def _has_enough(self) -> bool:
        """Whether the link is not to be read for now."""
        return self._mirrored_bytes >= limits.HOLD_INPUT_BYTES_MAX and self._is_table_new

    def _take_bad_frames(self) -> None:
        batch = self._secondary.guest_in.batch
        self._rewriter.guest_frames(batch.buf, batch.start, batch.end, now_us(), batch.buf, batch.start)

    def _give_mirrored(self) -> None:
        """Send the guest the clients' frames that had to wait, before those of the link."""
        while self._mirrored and self._send_to_guest():
            try:
                if not self._take_mirrored():
                    return
            except FramingError as error:
                self._lose_link(error)
                return

    def _take_messages(self) -> None:
        """Handle the primary's messages, but for frames, which the pump takes."""
        while (found := self._front()) is not None and found[0] is not MessageType.CLIENT_FRAMES:
            if found[0] is MessageType.PROBE:
                self._answer_probe(bytearray(found[1]))
                self._advance()
            elif not self._take_word(*found):
                return

    def _take_word(self, message_type: MessageType, payload: memoryview) -> bool:
        """A message without frames. False: the link is lost."""
        try:
            if message_type is MessageType.OFFSETS:
                self._take_offsets(payload)
            for one in unpack_rounds(payload, "data link") if message_type is MessageType.ROUNDS else ():
                self._order.set_gate(*one, now_us())
        except LinkError as error:
            self._lose_link(error)
            return False
        self._advance()
        return True

    def _answer_probe(self, octets: bytearray) -> None:
        """Send it back as if the guest had sent it."""
        out = bytearray(len(octets))
        self._rewriter.guest_frames(octets, 0, len(octets), now_us(), out, 0)
        self._queue_behind(MessageType.GUEST_FRAMES, bytes(out[: self._rewriter.out_end]))

    def _take_mirrored(self) -> bool:
        """False: the order of requests has no room for it now."""
        octets, before = self._mirrored[0], self._mirrored_pos
        if self._order.is_ordering:
            self._mirrored_pos = self._order.mirrored_frames(octets, before, len(octets), now_us())
            turn = self._order.admitted
            if self._mirrored_pos == before and turn.is_empty:
                return False
            turn.start = self._translate_client(turn.buf, turn.start, turn.end)
        else:
            self._mirrored_pos = self._translate_client(octets, before, len(octets))
        if self._mirrored_pos == len(octets):
            self._mirrored_bytes -= len(octets)
            self._mirrored_pos = 0
            del self._mirrored[0]
        return True

    def _send_to_guest(self) -> bool:
        """Send what is translated, then what the rewriter kept until the guest answered. Whether all was sent."""
        out = self._secondary.guest_out.batch
        while out.write_to(self._guest_out):
            out.start, out.end = 0, self._rewriter.drain_guest(out.buf, 0)
            if out.is_empty:
                return True
        return False

    def _translate_client(self, buf: bytearray | memoryview, start: int, end: int) -> int:
        """Translate into `_to_guest`, which must be empty. Returns how far `buf` was taken."""
        out = self._secondary.guest_out.batch
        taken = self._rewriter.client_frames(buf, start, end, now_us(), out.buf, 0)
        out.start, out.end = 0, self._rewriter.out_end
        return taken

    def _translate_guest(self) -> bool:
        """Translate into `_to_client`, which must be empty. False when the stream had to be closed."""
        batch, out = self._secondary.guest_in.batch, self._secondary.lan_out.batch
        try:
            batch.start = self._rewriter.guest_frames(batch.buf, batch.start, batch.end, now_us(), out.buf, 0)
        except FramingError as error:
            self._bad_stream(self._guest_in, batch, error)
            return False
        out.start, out.end = 0, self._rewriter.out_end
        return True

    # ── checkpoint ────────────────────────────────────────────────────────────────────────────────────────────

    def _drain_guest(self) -> None:
        """Read what the stopped guest has sent."""
        batch, out = self._secondary.guest_in.batch, self._secondary.lan_out.batch
        taken, until_us = 0, now_us() + OUTPUT_US_MAX
        while taken < limits.DRAIN_BYTES_MAX:
            if not batch.fill(self._guest_in):
                if self._tap is None or self._tap.is_output_read():
                    return
                if now_us() > until_us:
                    self._tap.recount_output()
                    return
                continue
            taken += batch.end
            if not self._translate_guest():
                return
            if out.end:
                self._queue_behind(MessageType.GUEST_FRAMES, bytes(out.view[: out.end]))
            out.clear()

    def _keep_ordered(self) -> None:
        """What waits for its turn comes before all that is kept."""
        if waiting := self._order.flush():
            self._mirrored_bytes += len(waiting) - self._mirrored_pos
            if self._mirrored:
                del self._mirrored[0][: self._mirrored_pos]
            self._mirrored_pos = 0
            self._mirrored.appendleft(waiting)

    def _keep_messages(self) -> None:
        """Put the link's messages aside, so that it can still be read."""
        while (found := self._front()) is not None:
            message_type, payload = found
            if message_type is MessageType.CLIENT_FRAMES:
                self._input.mirrored(bytearray(payload))
                self._mirrored_bytes += len(payload)
            if message_type in (MessageType.CLIENT_FRAMES, MessageType.PROBE):
                self._advance()
            elif not self._take_word(message_type, payload):
                return
        while self._mirrored_bytes > limits.HOLD_INPUT_BYTES_MAX and self._input.is_held and not self._is_table_new:
            oldest = self._input.drop_oldest()
            self._mirrored_bytes -= len(oldest)
            self._dropped_bytes += len(oldest) - self._mirrored_pos
            self._mirrored_pos = 0

    def _take_offsets(self, payload: memoryview) -> None:
        """A piece of the primary's table. Raises `LinkError`."""
        whole = self._assembly.add(payload)
        if whole is None:
            return
        epoch, table = whole
        self._rewriter.traveling.check(bytearray(table))
        self._newest_table = table
        self._is_table_new = True
        was_loading = self._input.is_loading
        void = self._input.marked(epoch)
        if was_loading and not self._input.is_loading:
            self._begin_epoch(epoch, void)

    def _begin_epoch(self, epoch: int, void: list[bytearray]) -> None:
        """The guest is a copy of the primary's, and its offsets are here: go on."""
        self._adopt(self._newest_table, void)
        self._secondary.is_held = self._secondary.is_input_held = False
        self._queue_behind(MessageType.EPOCH_MARKER, pack_epoch(epoch))

    def _adopt(self, table: bytes, void: list[bytearray]) -> None:
        """The guest is a copy of the primary's, whose offsets these are; `void` is what its state contains."""
        out = self._secondary.guest_out.batch
        if void:
            self._mirrored_bytes -= sum(map(len, void))
            self._mirrored_pos = 0
        self._rewriter.adopt_offsets(table, now_us())
        while self._rewriter.drain_guest(out.buf, 0):
            continue  # what waited for a handshake is part of the state too
        out.clear()
        if self._tap is not None:
            self._tap.forget_begun()
        self._table = table
        self._secondary.guest_in.batch.void_part()

    # ── takeover ──────────────────────────────────────────────────────────────────────────────────────────────

    def _resend(self) -> None:
        """Send the copies again, before newer frames."""
        out = self._secondary.lan_out.batch
        while self._secondary.is_resending and out.write_to(self._lan_out):
            out.start, out.end = 0, self._rewriter.drain_client(out.buf, 0)
            if out.is_empty:
                self._secondary.is_resending = False
                self._on_serving(self._rewriter.stats.resent)

    def _announce(self) -> None:
        """Announce between two batches only: the port may hold a part of the last one's last frame."""
        batch = self._secondary.lan_out.batch
        if self._announcer.is_due(now_us()) and batch.write_to(self._lan_out):
            self._announcer.write(batch)
            batch.write_to(self._lan_out)

    # ── what it shows ─────────────────────────────────────────────────────────────────────────────────────────

    def snapshot(self) -> dict[str, Any]:
        """Counters; `mode` is service, held, loading (the offsets are not here yet) or serving."""
        counters = rewriter_counters(self._rewriter)
        counters |= {
            "link_frames": counters["client_frames"],
            "copies": self._rewriter.copies.pool.used,
            "copies_bytes": self._rewriter.copies.pool.used_bytes,
            "copies_skipped": self._rewriter.copies.skipped,
            "connections": self._rewriter.table.used,
            "neighbours": self._rewriter.neighbours.count,
            "rows_saved": self._rewriter.saved.used,
            "rows_restored": self._restored.rows,
            "rows_unreadable": self._restored.unreadable,
            "link_bytes_sent": self.link_bytes_sent,
            "link_bytes_received": self.link_bytes_received,
            "ordered_waiting": self._order.waiting_frames,
            "waiting_bytes": self._mirrored_bytes,
            "waiting_dropped_bytes": self._dropped_bytes,
            **self._borders.counters(),
            **dict.fromkeys(("compared", "released", "discarded", "held", "divergences", "passed"), 0),
        }
        for side, port in (("lan", self._lan_in), ("guest", self._guest_in)):
            for name, value in port.counters().items():
                counters[f"{side}_{name}"] = value
        counters.setdefault("lan_frames", counters.get("lan_frames_in", 0))
        if self._secondary.is_serving:
            mode = "serving"
        elif self._input.is_held:
            mode = "loading" if self._input.is_loading else "held"
        else:
            mode = "service"
        return {"counters": counters, "hold_us": None, "hold_histogram": [], "mode": mode}
