"""The secondary node's data path.

::

    in normal service    link ──► rewriter ──► guest          guest ──► rewriter ──► link
    after takeover       lan  ──► rewriter ──► guest          guest ──► rewriter ──► lan

Until the takeover what comes from the LAN is read and thrown away: the primary mirrors it.
"""

import select
from collections.abc import Callable
from ipaddress import IPv4Address
from struct import pack
from typing import Any, Final

from pycolo.errors import FramingError
from pycolo.link.codec import MessageType
from pycolo.node.batch import Batch
from pycolo.node.datapath import DataPath, now_us
from pycolo.rewrite.rewriter import Rewriter
from pycolo.transport.ports import Port
from pycolo.wire.build import gratuitous_arp, unsolicited_advertisement

ANNOUNCE_AFTER_MS: Final = (0, 200, 1000)
"""The announcement is repeated: one lost frame would leave a switch with the wrong port (RFC 5227 section 2.3)."""

_TIMER_US: Final = 1_000_000


class SecondaryPath(DataPath):
    """`lan_in`, `lan_out`: from and to the clients after takeover; `guest_in`, `guest_out`: from and to the guest.

    `on_serving(resent)`: the takeover is done, and so many frames were sent again.
    """

    def __init__(
        self,
        rewriter: Rewriter,
        lan_in: Port,
        lan_out: Port,
        guest_in: Port,
        guest_out: Port,
        on_serving: Callable[[int], None],
        **base: Any,
    ) -> None:
        inputs = [lan_in, guest_in]
        outputs = [port for port in (lan_out, guest_out) if port not in inputs]
        super().__init__("data path", inputs, outputs, **base)
        self._rewriter = rewriter
        self._lan_in = lan_in
        self._lan_out = lan_out
        self._guest_in = guest_in
        self._guest_out = guest_out
        self._on_serving = on_serving
        self._from_lan = Batch()
        self._from_guest = Batch()
        self._to_guest = Batch()
        self._to_client = Batch()
        self._is_serving = False
        self._is_resending = False
        self._next_timer_us = 0
        self._announce_at_us: list[int] = []

    # ── posted by the supervisor ──────────────────────────────────────────────────────────────────────────────

    def take_over(self) -> None:
        """The arbiter has decided: this node serves the clients from now on."""
        self._finish_messages()
        self._drop_link()
        self._is_serving = True
        self._is_resending = True
        self._rewriter.takeover()
        self._announce_at_us = [now_us() + ms * 1000 for ms in ANNOUNCE_AFTER_MS]

    def _finish_messages(self) -> None:
        """What the primary mirrored before it died belongs to the guest, if the guest's port takes it now."""
        while self._messages:
            before = (len(self._messages), self._message_pos, self._to_guest.start)
            self._take_link()
            if before == (len(self._messages), self._message_pos, self._to_guest.start):
                return

    # ── the loop's parts ──────────────────────────────────────────────────────────────────────────────────────

    def _interest(self) -> dict[int, int]:
        ports: list[tuple[Port, int]] = []
        if self._to_guest.is_empty:
            ports.append((self._lan_in, select.EPOLLIN))
        else:
            ports.append((self._guest_out, select.EPOLLOUT))
        if not self._to_client.is_empty:
            ports.append((self._lan_out, select.EPOLLOUT))
        elif self._can_queue():
            ports.append((self._guest_in, select.EPOLLIN))
        return self._wanted(*ports)

    def _turn(self, ready: dict[int, int]) -> bool:
        stats = self._rewriter.stats
        before = stats.client_bytes + stats.guest_bytes
        self._receive(ready)
        self._take_link()
        self._take_lan(ready)
        if self._is_serving:
            self._announce()
            self._resend()
        self._take_guest(ready)
        if now_us() >= self._next_timer_us:
            self._next_timer_us = now_us() + _TIMER_US
            self._rewriter.timer_fired(now_us())
        if self._link is not None and self._link.wants_write:
            self._flush_link()
        return before != stats.client_bytes + stats.guest_bytes

    def _deadline_us(self) -> int | None:
        if not self._announce_at_us or not self._to_client.is_empty:
            return self._next_timer_us
        return min(self._next_timer_us, self._announce_at_us[0])

    def _take_link(self) -> None:
        """Clients' frames that the primary mirrored."""
        while self._send_to_guest() and self._messages:
            message_type, payload = self._messages[0]
            if message_type is MessageType.CLIENT_FRAMES:
                try:
                    self._message_pos = self._translate_client(payload, self._message_pos, len(payload))
                except FramingError as error:
                    self._lose_link(error)
                    return
                if self._message_pos < len(payload):
                    continue  # more than the buffer takes at once
            del self._messages[0]
            self._message_pos = 0

    def _send_to_guest(self) -> bool:
        """What is translated, then what the rewriter had kept until the guest answered; whether all has gone."""
        out = self._to_guest
        while out.write_to(self._guest_out):
            out.start, out.end = 0, self._rewriter.drain_guest(out.buf, 0)
            if out.is_empty:
                return True
        return False

    def _translate_client(self, buf: bytearray | memoryview, start: int, end: int) -> int:
        """Through the rewriter into `_to_guest`, which must be empty; what was taken of `buf` is returned."""
        out = self._to_guest
        taken = self._rewriter.client_frames(buf, start, end, now_us(), out.buf, 0)
        out.start, out.end = 0, self._rewriter.out_end
        return taken

    def _take_lan(self, ready: dict[int, int]) -> None:
        if self._lan_in.fileno() not in ready or not self._send_to_guest():
            return
        batch = self._from_lan
        batch.fill(self._lan_in)
        try:
            if self._is_serving:
                batch.start = self._translate_client(batch.buf, batch.start, batch.end)
            else:
                batch.start = batch.complete_end(self._lan_in)
        except FramingError as error:
            self._bad_stream(self._lan_in, batch, error)
            return
        self._send_to_guest()

    def _take_guest(self, ready: dict[int, int]) -> None:
        """The guest's output: to the link; to the LAN after takeover; kept as copies while nobody is decided."""
        out = self._to_client
        if self._is_resending or not out.write_to(self._lan_out) or not self._can_queue():
            return
        batch = self._from_guest
        if self._guest_in.fileno() not in ready:
            return
        batch.fill(self._guest_in)
        try:
            batch.start = self._rewriter.guest_frames(batch.buf, batch.start, batch.end, now_us(), out.buf, 0)
        except FramingError as error:
            self._bad_stream(self._guest_in, batch, error)
            return
        out.start, out.end = 0, self._rewriter.out_end
        self._send_to_guest()
        if self._is_serving:
            out.write_to(self._lan_out)
            return
        self._queue(MessageType.GUEST_FRAMES, out.view[: out.end])
        out.clear()

    # ── takeover ──────────────────────────────────────────────────────────────────────────────────────────────

    def _resend(self) -> None:
        """Send the copies again, before anything newer."""
        out = self._to_client
        while self._is_resending and out.write_to(self._lan_out):
            out.start, out.end = 0, self._rewriter.drain_client(out.buf, 0)
            if out.is_empty:
                self._is_resending = False
                self._on_serving(self._rewriter.stats.resent)

    def _announce(self) -> None:
        """When it is time, tell the LAN that the guest's addresses are here now.

        Only between two batches: the port may have a part of a frame of the last one.
        """
        out = self._to_client
        if not self._announce_at_us or self._announce_at_us[0] > now_us() or not out.write_to(self._lan_out):
            return
        del self._announce_at_us[0]
        out.clear()
        words = pack("!I", self._lan_out.vnet_len) if self._lan_out.vnet_len else b""
        header = bytes(self._lan_out.vnet_len)
        for neighbour in self._rewriter.neighbours.all():
            address = neighbour.address.packed
            if isinstance(neighbour.address, IPv4Address):
                frames = [
                    gratuitous_arp(neighbour.mac, address, vlan=neighbour.vlan, is_reply=is_reply)
                    for is_reply in (False, True)
                ]
            else:
                frames = [unsolicited_advertisement(neighbour.mac, address, vlan=neighbour.vlan)]
            for frame in frames:
                octets = pack("!I", len(header) + len(frame)) + words + header + frame
                out.buf[out.end : out.end + len(octets)] = octets
                out.end += len(octets)
        out.write_to(self._lan_out)

    # ── what it shows ─────────────────────────────────────────────────────────────────────────────────────────

    def snapshot(self) -> dict[str, Any]:
        """Counters."""
        stats = self._rewriter.stats
        table = self._rewriter.table
        names = [name for name in dir(stats) if not name.startswith("_")]
        counters = {name: getattr(stats, name) for name in names}
        counters |= {
            "link_frames": stats.client_frames,
            "copies": self._rewriter.copies.pool.used,
            "copies_bytes": self._rewriter.copies.pool.used_bytes,
            "copies_skipped": self._rewriter.copies.skipped,
            "connections": table.used,
            "evicted_idle": table.evicted_idle,
            "evicted_closed": table.evicted_closed,
            "evicted_lru": table.evicted_lru,
            "neighbours": self._rewriter.neighbours.count,
            "link_bytes_sent": self.link_bytes_sent,
            "link_bytes_received": self.link_bytes_received,
            **dict.fromkeys(("compared", "released", "discarded", "held", "divergences", "passed"), 0),
        }
        for side, port in (("lan", self._lan_in), ("guest", self._guest_in)):
            for name, value in port.counters().items():
                counters[f"{side}_{name}"] = value
        counters.setdefault("lan_frames", counters.get("lan_frames_in", 0))
        return {"counters": counters, "hold_us": None}
