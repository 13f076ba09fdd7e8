"""A very small TCP, enough to disagree about: byte streams, timers, segments of any size, acks at any time.

Numbers inside count from the endpoint's own ISN (its SYN is 0, the first byte 1) and never wrap; on the wire they do.
What RFC 9293 and RFC 7323 demand of a receiver is here (acceptance, PAWS, TSecr of the handshake); congestion control
is not.
"""

import random
import struct
from dataclasses import dataclass, field

from support.segments import SEQ_MASK, Tcp, mss, timestamps
from support.streams import ahead

MSS = 400
RTO_MS = 200.0
RTO_MAX_MS = 800.0
SEGMENTS_IN_FLIGHT = 8
FAR = 60_000
"""Nothing that an honest peer sends is as far from what is expected: a lie."""


@dataclass
class Endpoint:
    """`clock_start`: its TSval at time 0, one tick a millisecond. `out`: what it wants to send, taken by the test."""

    name: str
    dice: random.Random
    isn: int
    clock_start: int
    says: bytes
    is_client: bool = False
    window: int = 8000
    out: list[Tcp] = field(default_factory=list)
    heard: bytearray = field(default_factory=bytearray)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.peer_isn: int | None = None
        self.is_established = False
        self.sent = 0  # snd_nxt
        self.sent_max = 0
        self.acked = 0  # snd_una
        self.received = 0  # rcv_nxt, in the peer's numbers
        self.peer_edge = 0
        self.peer_has_ended = False
        self.pieces: dict[int, tuple[bytes, bool]] = {}
        self.recent_value: int | None = None  # TS.Recent
        self.syn_values: set[int] = set()
        self.repeats = 0
        self.rto_ms = RTO_MS
        self.retransmit_at: float | None = None
        self.ack_at: float | None = None

    # ── what is over, and when something is due ─────────────────────────────────────────────────────────────

    @property
    def end(self) -> int:
        """The number behind its FIN."""
        return 1 + len(self.says) + 1

    @property
    def is_done(self) -> bool:
        return self.acked == self.end and self.peer_has_ended

    def due(self) -> float | None:
        return min((at for at in (self.retransmit_at, self.ack_at) if at is not None), default=None)

    def timer(self, now: float) -> None:
        if self.ack_at is not None and now >= self.ack_at:
            self._acknowledge(now)
        if self.retransmit_at is not None and now >= self.retransmit_at:
            self.rto_ms = min(self.rto_ms * 2, RTO_MAX_MS)
            self._send_again(now)

    # ── sending ─────────────────────────────────────────────────────────────────────────────────────────────

    def connect(self, now: float) -> None:
        self._emit(now, 0, "S", b"", mss(MSS))
        self.sent = self.sent_max = 1

    def _clock(self, now: float) -> int:
        return (self.clock_start + int(now)) & SEQ_MASK

    def _emit(self, now: float, at: int, flags: str, data: bytes = b"", terms: bytes = b"") -> None:
        value = self._clock(now)
        if "S" in flags:
            self.syn_values.add(value)
        has_peer = self.peer_isn is not None
        ack = ((self.peer_isn or 0) + self.received) & SEQ_MASK if has_peer else 0
        options = terms + timestamps(value, self.recent_value or 0)
        seq = (self.isn + at) & SEQ_MASK
        self.out.append(Tcp(seq, flags, data, ack, self.window, options, from_client=self.is_client))
        if data or "S" in flags or "F" in flags:
            self.retransmit_at = self.retransmit_at or now + self.rto_ms
        if "A" in flags:
            self.ack_at = None

    def _acknowledge(self, now: float) -> None:
        self._emit(now, self.sent, "A")

    def _segment(self, now: float, at: int, size: int) -> int:
        """Send what stands at `at`: up to `size` bytes, and the FIN if it is reached; the number behind it."""
        data = self.says[at - 1 : at - 1 + size]
        behind = at + len(data)
        is_last = behind == self.end - 1 and (not data or self.dice.random() < 0.5)
        flags = ("F" if is_last else "") + ("PA" if data else "A")
        behind += is_last
        self._emit(now, at, flags, data)
        return behind

    def pump(self, now: float) -> None:
        """Send what the peer's window and the segments in flight allow, in pieces of any size."""
        while (
            self.is_established
            and self.sent < self.end
            and self.sent < self.peer_edge
            and self.sent - self.acked < SEGMENTS_IN_FLIGHT * MSS
        ):
            room = min(MSS, self.peer_edge - self.sent)
            self.sent = self._segment(now, self.sent, self.dice.randint(1, room))
            self.sent_max = max(self.sent_max, self.sent)

    def _send_again(self, now: float) -> None:
        self.retransmit_at = None
        if self.acked == self.sent_max:
            return
        if self.acked == 0:
            flags, terms = ("S" if self.is_client else "SA"), mss(MSS)
            self._emit(now, 0, flags, b"", terms)
        else:
            self._segment(now, self.acked, self.dice.randint(1, MSS))

    # ── receiving ───────────────────────────────────────────────────────────────────────────────────────────

    def take(self, segment: Tcp, now: float) -> None:
        value, echo = struct.unpack(">II", segment.options[-8:])
        if self.is_established and abs(ahead(segment.seq, (self.peer_isn or 0) + self.received)) > FAR:
            if "R" not in segment.flags:
                self._acknowledge(now)  # RFC 9293 section 3.10.7.4, RFC 5961 section 4.2
            return
        if "R" in segment.flags:
            self.complaints.append("reset")
            return
        if "S" in segment.flags and not self._take_syn(segment, value, now):
            return
        if self.peer_isn is None or "A" not in segment.flags:
            return
        if self.recent_value is not None and ahead(value, self.recent_value) < 0:
            self._acknowledge(now)  # PAWS: RFC 7323 section 5.3
            return
        if not self.is_established and not self._finish_handshake(segment, echo):
            return
        self._take_ack(segment, now)
        at = self.received + ahead(segment.seq + ("S" in segment.flags), self.peer_isn + self.received)
        if at <= self.received:
            self.recent_value = value
        if segment.data or "F" in segment.flags:
            self._take_payload(at, segment.data, "F" in segment.flags, now)
        self.pump(now)

    def _take_syn(self, segment: Tcp, value: int, now: float) -> bool:
        """Whether there is more to be done with it."""
        if self.is_established:
            self._acknowledge(now)
            return False
        self.peer_isn, self.received, self.recent_value = segment.seq, 1, value
        if not self.is_client:
            self._emit(now, 0, "SA", b"", mss(MSS))
            self.sent = self.sent_max = 1
        return self.is_client

    def _finish_handshake(self, segment: Tcp, echo: int) -> bool:
        if ahead(segment.ack, self.isn) != 1:
            self.complaints.append(f"an ack of {ahead(segment.ack, self.isn)} in the handshake")
            return False
        if echo not in self.syn_values:
            self.complaints.append(f"TSecr {echo} in the handshake, sent were {self.syn_values}")
            return False
        self.is_established = True
        if self.is_client:
            self.ack_at = 0.0
        return True

    def _take_ack(self, segment: Tcp, now: float) -> None:
        acked = self.acked + ahead(segment.ack, self.isn + self.acked)
        if acked > self.sent_max:
            self.complaints.append(f"acknowledged {acked}, sent {self.sent_max}")
            return
        edge = acked + segment.window
        if acked > self.acked:
            self.acked, self.repeats, self.rto_ms = acked, 0, RTO_MS
            self.sent = max(self.sent, acked)
            self.retransmit_at = now + self.rto_ms if acked < self.sent_max else None
        elif acked == self.acked < self.sent_max and not segment.data and edge == self.peer_edge:
            self.repeats += 1
            if self.repeats == 3:
                self._send_again(now)
        self.peer_edge = max(self.peer_edge, edge)

    def _take_payload(self, at: int, data: bytes, is_last: bool, now: float) -> None:
        behind = at + len(data) + is_last
        if at > self.received:
            self.pieces[at] = max(self.pieces.get(at, (b"", False)), (data, is_last), key=lambda piece: len(piece[0]))
        is_new = behind > self.received and at <= self.received
        if is_new:
            self._append(at, data, is_last)
            while ready := [place for place in self.pieces if place <= self.received]:
                self._append(ready[0], *self.pieces.pop(ready[0]))
        if not is_new or self.peer_has_ended or self.dice.random() < 0.5:
            self._acknowledge(now)  # RFC 5681 section 4.2: at once when it is out of order
        elif self.ack_at is None:
            self.ack_at = now + self.dice.uniform(1, 40)

    def _append(self, at: int, data: bytes, is_last: bool) -> None:
        fresh = data[self.received - at :] if at + len(data) > self.received else b""
        self.heard += fresh
        self.received += len(fresh)
        if is_last and self.received == at + len(data):
            self.received += 1
            self.peer_has_ended = True
