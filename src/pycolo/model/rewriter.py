"""The rewriter as a referee over frames: receives the client's and the secondary guest's, and checks the output.

    referee.client(frame, now_ms)      frames from outside, and of the guest, as the rewriter receives them
    referee.guest(frame, now_ms)
    referee.to_guest(frame, now_ms)    the implementation passed it on: BrokenRuleError if it must not
    referee.to_client(frame, now_ms)
    referee.again(frame)               a takeover sent it again to the client
    referee.forgot(key, now_ms)        it has removed that connection's row
    referee.settle()                   checks that everything due was passed on

A connection's numbers are those that its *guest* confirms (R1): a client's claims wait for that, and have no effect.
"""

from collections import deque
from dataclasses import replace

from pycolo.model.edits import Mention, judge, mention, told_address, with_numbers
from pycolo.model.numbers import near
from pycolo.model.packet import Flag, Key, Segment, read
from pycolo.model.tracked import HELD_MS, Connection, Said
from pycolo.model.verdicts import BrokenRuleError, require

HALF_OPEN_MS, CLOSED_MS, IDLE_MS = 120_000, 60_000, 7_440_000
TOUCH_MS = 100
"""Precision of times."""
SCAN_MS = 1_000


class Rewriter:
    """The rules of rewriting over frames without vnet headers (`is_partial`: their checksums are)."""

    def __init__(self) -> None:
        self.connections: dict[Key, Connection] = {}
        self.is_serving = False
        self.own_addresses: set[bytes] = set()
        self.owed: tuple[deque[tuple[bytes, bytes, bool]], ...] = (deque(), deque())

    # ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────

    def client(self, frame: bytes, now_ms: int, *, is_partial: bool = False) -> None:
        """A frame from outside."""
        packet, place = read(frame), mention(frame)
        if isinstance(packet, Segment):
            numbers = self._from_outside(packet, now_ms, is_partial=is_partial)
            if numbers is None:
                self.connections[packet.key.reversed()].waiting.append((frame, now_ms))
                return
        else:  # R2: what quotes a segment of the guest, or is the first part of one of the client
            numbers = {}
            row = place and self.connections.get(place.key.reversed() if place.icmp is None else place.key)
            if place and row and row.offsets and place.icmp is None:
                numbers = {"ack": row.offsets[0], "echo": row.offsets[1]}
            elif place and row and row.offsets:
                numbers = {"seq": row.offsets[0], "value": row.offsets[1]}
        self._owe(0, frame, place, numbers, is_partial=is_partial)

    def guest(self, frame: bytes, now_ms: int, *, is_partial: bool = False) -> None:
        """A frame of the secondary guest."""
        packet, place = read(frame), mention(frame)
        numbers = {}
        if (address := told_address(frame)) is not None:
            self.own_addresses.add(address)
        if isinstance(packet, Segment):
            numbers = self._from_guest(packet, now_ms)
        elif place is not None:  # R2: a part of a segment of the guest, or a quote of the client's
            row = self.connections.get(place.key if place.icmp is None else place.key.reversed())
            if row and row.offsets and place.icmp is None:
                numbers = {"seq": -row.offsets[0], "value": -row.offsets[1]}
            elif row and row.offsets:
                numbers = {"ack": -row.offsets[0], "echo": -row.offsets[1]}
        self._owe(1, frame, place, numbers, is_partial=is_partial)

    def committed(self) -> None:
        """A checkpoint: the guest's numbers are the primary's."""
        for row in self.connections.values():
            row.offsets, row.claim, row.has_spoken, row.answers, row.value = (0, 0), None, False, [], None
            row.said = set()
            if not row.is_fin_acked:
                row.guest_fin = None  # of a state that is no more

    def adopted(self, other: "Rewriter", now_ms: int) -> None:
        """A checkpoint of a guest that is itself translated, by `other`: this one's guest now has the same numbers."""
        self.committed()
        for key, row in other.connections.items():
            if row.isn is None or row.offsets == (0, 0) or (row.offsets is None and row.is_own):
                continue
            mine = self.connections.get(key, Connection(now_ms))
            self.connections[key] = replace(
                row,
                seen_ms=mine.seen_ms,
                claim=None,
                is_own=False,
                answers=[],
                waiting=mine.waiting,
                said=set(),
                is_heard=mine.is_heard,
                has_spoken=False,
                scale=mine.scale,
                value=None,
                echo=None,
            )

    def took_over(self) -> None:
        """From now on the client uses this guest: new connections have its numbers.

        No TSval may be older than what the client has echoed (PAWS, RFC 7323 section 5).
        """
        self.is_serving = True
        for row in self.connections.values():
            if row.offsets is not None and row.value is not None and row.echo is not None:
                row.offsets = row.offsets[0], row.offsets[1] - max(0, near(row.echo, row.value) - row.value)

    # ── output of the implementation ──────────────────────────────────────────────────────────────────────────

    def to_guest(self, frame: bytes, now_ms: int, *, is_partial: bool = False) -> None:
        """It gave a frame to the guest: the next of those that need not wait, or one that does not have to any more."""
        owed, found = self.owed[0], read(frame)
        row = self.connections.get(found.key.reversed()) if isinstance(found, Segment) else None
        wrong: BrokenRuleError | None = None
        if owed:
            try:
                judge("R1", *owed[0][:2], frame, mention(owed[0][0]), is_partial=owed[0][2])
                owed.popleft()
                return
            except BrokenRuleError as error:
                wrong = error
        while row is not None and row.waiting:  # in order; what it did not hold it has dropped
            held, since = row.waiting.popleft()
            packet = read(held)
            assert isinstance(packet, Segment)
            assert isinstance(found, Segment)
            if (packet.seq, packet.flags, packet.data) != (found.seq, found.flags, found.data):
                continue
            if now_ms - since > HELD_MS + SCAN_MS:
                continue  # R3: it has a deadline
            numbers = self._from_outside(packet, now_ms, is_partial=is_partial)
            require("R3", numbers is not None, "a frame left that has to wait for the guest's answer")
            place = mention(held)
            assert place is not None
            expected = with_numbers(held, place, **(numbers or {}))
            judge("R1", held, expected, frame, place, is_partial=is_partial)
            return
        raise wrong or BrokenRuleError("R1", f"a frame went to the guest that no client sent: {frame.hex()}")

    def to_client(self, frame: bytes) -> None:
        """It passed on a frame of the guest."""
        require("R1", self.owed[1], "a frame came out that the guest has not sent")
        before, expected, is_partial = self.owed[1].popleft()
        judge("R1", before, expected, frame, mention(before), is_partial=is_partial)
        packet = read(frame)
        if isinstance(packet, Segment) and packet.key in self.connections:
            self.connections[packet.key].said.add(_without_options(packet))

    def again(self, frame: bytes) -> None:
        """It sent a frame again to the client, at a takeover: one that the guest has sent, but for a newer TSval."""
        packet = read(frame)
        assert isinstance(packet, Segment), f"{frame.hex()} was sent again"
        row = self.connections.get(packet.key)
        is_known = row is not None and _without_options(packet) in row.said
        require("takeover", is_known, f"{frame.hex()} was sent again, and never before")
        if row and packet.timestamps and row.value is not None:
            newest = row.value if row.echo is None else max(row.value, near(row.echo, row.value))
            is_new = near(packet.timestamps[0], newest) >= newest
            require("takeover", is_new, "what was sent again is older than what the client has echoed")

    def forgot(self, key: Key, now_ms: int) -> None:
        """It removed a row. R3: only one that is half-open, closed or silent for long enough may be removed."""
        row = self.connections.pop(key)
        limit = CLOSED_MS if row.has_ended else IDLE_MS if row.is_complete else HALF_OPEN_MS
        require("R3", now_ms - row.seen_ms >= limit - TOUCH_MS, f"{key} was forgotten after {now_ms - row.seen_ms} ms")

    def settle(self) -> None:
        """Check that no frame is kept that need not wait."""
        require("R1", not self.owed[0] and not self.owed[1], "a frame has not left")

    def announced(self, addresses: set[bytes]) -> None:
        """The addresses to announce on the LAN at takeover."""
        require("R4", addresses <= self.own_addresses, f"{addresses - self.own_addresses} is not the guest's own")

    def offsets(self, key: Key) -> tuple[int, int]:
        """The amounts added towards the guest: (seq, ts), modulo 2^32."""
        row = self.connections.get(key)
        return (0, 0) if row is None or row.offsets is None else (row.offsets[0] % 2**32, row.offsets[1] % 2**32)

    def _owe(self, way: int, frame: bytes, place: Mention | None, numbers: dict[str, int], *, is_partial: bool) -> None:
        expected = frame if place is None else with_numbers(frame, place, **numbers)
        self.owed[way].append((frame, expected, is_partial))

    # ── R1, from outside: what is added to the numbers, or None for "it has to wait" ──────────────────────────

    def _from_outside(self, segment: Segment, now_ms: int, *, is_partial: bool) -> dict[str, int] | None:
        key, is_intact = segment.key.reversed(), segment.is_intact or is_partial
        row, kind = self.connections.get(key), segment.flags & (Flag.SYN | Flag.ACK | Flag.RST)
        if kind == Flag.SYN:
            if is_intact and row is None:
                row = self.connections[key] = Connection(now_ms)
            if is_intact and row is not None and (segment.seq + 1) % 2**32 not in (row.due, row.first):
                end = (segment.seq + segment.length) % 2**32
                if row.claim is not None and row.claim[0] == segment.seq and not segment.data:
                    end = row.claim[2]  # a retransmission has no payload
                row.claim = segment.seq, now_ms, end
            if row is not None:
                row.is_heard = True
            return {}
        if row is None:
            return {}
        row.is_heard = True
        if row.offsets is None:
            return self._before_known(row, segment, now_ms, is_intact=is_intact)
        if kind == Flag.SYN | Flag.ACK and row.answers and is_intact:
            self._learn(row, segment, is_answer=True)
        elif (
            not kind & (Flag.RST | Flag.SYN) and row.follows_claim(segment.seq, now_ms) and row.is_foreign(segment.seq)
        ):
            return None
        self._note(row, segment, is_intact=is_intact)
        return {"ack": row.offsets[0], "echo": row.offsets[1]}

    def _before_known(
        self, row: Connection, segment: Segment, now_ms: int, *, is_intact: bool
    ) -> dict[str, int] | None:
        """The guest has not answered, or the client has not confirmed that it heard the primary's answer."""
        flags = segment.flags
        if flags & Flag.RST:
            is_refusal = flags & Flag.ACK and row.is_opened_by_guest and row.isn is not None and not row.is_own
            return {"refused": (row.isn or 0) + 1} if is_refusal else {}
        if flags & Flag.SYN:
            if row.is_opened_by_guest and flags & Flag.ACK and is_intact:
                self._learn(row, segment, is_answer=True)
        elif row.due is not None and segment.seq in (row.due, row.first) and flags & Flag.ACK:
            if is_intact:
                self._learn(row, segment, is_answer=False)
        elif row.follows_claim(segment.seq, now_ms) or (flags & Flag.ACK and row.is_early(segment.seq)):
            return None
        if row.offsets is None:
            return {}
        self._note(row, segment, is_intact=is_intact)
        return {"ack": row.offsets[0], "echo": row.offsets[1]}

    def _learn(self, row: Connection, segment: Segment, *, is_answer: bool) -> None:
        """From the outside's SYN|ACK, or the ACK that exactly completes the handshake: both say the primary's ISN."""
        assert row.isn is not None
        seq, clock = row.isn - (segment.ack - 1), 0
        if row.clock is not None and segment.timestamps and segment.timestamps[1]:
            clock = row.clock - segment.timestamps[1]
        row.offsets = (0, 0) if row.is_own else (seq, clock)
        if is_answer:  # it may be a lie: the guest's own acknowledgement decides between the last two
            row.answers = [*row.answers, (segment.seq, row.offsets)][-2:]
        row.is_complete = True
        row.has_spoken = row.due is not None
        row.sent = row.acked = near(segment.ack, segment.ack)

    def _note(self, row: Connection, segment: Segment, *, is_intact: bool) -> None:
        """What the guest will believe of it: RFC 9293 section 3.10.7.4 and RFC 5961."""
        seq, ack = near(segment.seq, row.taken), near(segment.ack, row.sent)
        if segment.flags & Flag.RST:
            row.is_reset |= is_intact and row.has_spoken and seq in (row.taken, row.received)
            return
        if not row.is_in_window(segment.seq) or not segment.flags & Flag.ACK or ack > row.sent or seq < row.taken:
            return
        if seq <= row.received:
            row.received = max(row.received, seq + segment.length)
        if not is_intact:
            return
        row.acked = max(row.acked, ack)
        row.is_fin_acked |= ack == row.guest_fin
        if segment.flags & Flag.FIN:
            row.client_fin = seq + segment.length
        if segment.timestamps and segment.timestamps[1] and row.value is not None:
            newest = row.value if row.echo is None else max(row.value, near(row.echo, row.value))
            if near(segment.timestamps[1], newest) > newest:
                row.echo = near(segment.timestamps[1], newest)

    # ── R1, from the guest ────────────────────────────────────────────────────────────────────────────────────

    def _from_guest(self, segment: Segment, now_ms: int) -> dict[str, int]:
        row, flags = self.connections.get(segment.key), segment.flags
        if row is None:
            if flags & Flag.RST:
                return {}
            row = self.connections[segment.key] = Connection(now_ms)
        row.seen_ms = now_ms
        if row.is_heard and not flags & Flag.RST and segment.key.reversed() not in self.connections:
            self.own_addresses.add(segment.key.source)  # R4: it answers; a router would send the other end's too
        if flags & Flag.SYN and not flags & Flag.RST:
            row = self._guest_syn(row, segment)
        elif flags & Flag.RST:
            if row.claim is not None and flags & Flag.ACK and segment.ack == (row.claim[0] + 1) % 2**32:
                row.claim = None  # refused
        else:
            row.claim = None  # it goes on with what it had: an older connection, or one that it holds on to
            row.is_complete = True
            if row.isn is None and row.offsets is None:
                row.offsets = (0, 0)
            if row.answers:
                chosen = [offsets for isn, offsets in row.answers if (isn + 1) % 2**32 == segment.ack]
                row.offsets, row.answers = (chosen or [row.answers[-1][1]])[-1], []
        if row.offsets is None:
            return {}
        self._hear(row, segment)
        return {"seq": -row.offsets[0], "value": -row.offsets[1]}

    def _guest_syn(self, row: Connection, segment: Segment) -> Connection:
        """A SYN with a new number begins anew; otherwise it is sent again."""
        if row.isn is None or row.isn != segment.seq:
            new = Connection(row.seen_ms, row.claim, segment.seq, is_own=self.is_serving, waiting=row.waiting)
            new.is_heard = row.is_heard
            new.is_opened_by_guest = not segment.flags & Flag.ACK
            new.scale = segment.scale
            row = self.connections[segment.key] = new
        elif row.offsets is not None:
            return row
        if segment.timestamps:
            row.clock = segment.timestamps[0]
        if segment.flags & Flag.ACK:
            if row.due != segment.ack:
                row.first = segment.ack
            if row.claim is not None and segment.ack in ((row.claim[0] + 1) % 2**32, row.claim[2]):
                row.first, row.claim = (row.claim[0] + 1) % 2**32, None
            row.due = row.taken = row.received = segment.ack
            row.edge = segment.ack + segment.window
        return row

    def _hear(self, row: Connection, segment: Segment) -> None:
        """What it has sent, taken and expects, in the client's numbers."""
        assert row.offsets is not None
        seq, ack = near(segment.seq - row.offsets[0], row.sent), near(segment.ack, row.taken)
        if not row.has_spoken:
            row.sent = row.acked = seq
        if segment.timestamps:
            row.value = segment.timestamps[0] - row.offsets[1]
        if segment.flags & Flag.RST:
            row.is_reset |= not row.answers and row.acked <= seq <= row.sent
            return
        if segment.flags & Flag.ACK:
            edge = ack + (segment.window << (0 if segment.flags & Flag.SYN else row.scale))
            if not row.has_spoken:
                row.taken, row.received, row.edge, row.has_spoken = ack, ack, edge, True
            row.taken, row.received, row.edge = max(row.taken, ack), max(row.received, ack), max(row.edge, edge)
            row.is_reset = False
        row.sent = max(row.sent, seq + segment.length)
        if segment.flags & Flag.FIN:
            row.guest_fin = seq + segment.length


def _without_options(segment: Segment) -> Said:
    return segment.seq, int(segment.flags), segment.ack, segment.window, segment.data, segment.is_intact
