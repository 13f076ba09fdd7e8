"""The comparator as a referee over frames: receives both guests' and the client's frames, and checks the output.

    referee.primary(frame, now_ms)      both guests' frames, as the comparator receives them
    referee.secondary(frame, now_ms)
    referee.client(frame, now_ms)       if the client's frames are seen (C8): whether the secondary gets it too (R1)
    referee.left(frame, now_ms)         the implementation released it: BrokenRuleError if it must not
    referee.reported(kind, key, now_ms) the implementation reported a difference
    referee.forgot(key, now_ms)         it has removed that connection's row
    referee.committed(now_ms)           a checkpoint: all held packets leave
    referee.marker()                    the secondary's stream has reached that checkpoint
    referee.lost(now_ms)                the secondary is gone: held packets leave, and all later ones
    referee.formed()                    there is a secondary again
    referee.settle(now_ms)              checks that everything due by now has happened, or BrokenRuleError

A vnet header is reduced to one number, `cut`: the size of the datagrams into which the host cuts a UDP frame; or 0.
"""

from collections import Counter, deque

from pycolo.model.datagrams import Bodies, Exchange
from pycolo.model.facts import Settings
from pycolo.model.fragments import Reassembly
from pycolo.model.numbers import near
from pycolo.model.packet import UDP, Datagram, Flag, Fragment, Key, Packet, Segment, read, whole
from pycolo.model.tcp import Connection
from pycolo.model.tracked import HELD_MS, UNSCALED
from pycolo.model.verdicts import BrokenRuleError, require

TOUCH_MS = 100
"""Precision of times."""

ROOM = ("QUEUE_FULL", "MEMORY_FULL", "TABLE_FULL")
"""A lack of room, not a disagreement: the implementation decides."""

SEGMENTS_MAX = 128
"""Linux cuts no frame into more datagrams (UDP_MAX_SEGMENTS), and refuses a frame that demands it."""

Passing = tuple[Key, bytes] | bytes
"""A unit that passes uncompared: a frame, or a datagram reassembled from fragments."""


class Comparator:
    """The rules of comparison. `stops`: whether a difference holds its connection."""

    def __init__(self, settings: Settings | None = None, *, stops: bool = True) -> None:
        self.settings = settings or Settings()
        self.stops = stops
        self.connections: dict[Key, Connection] = {}
        self.exchanges: dict[Key, Exchange] = {}
        self.claims: dict[Key, tuple[int, int]] = {}
        self.sees_client = False
        self.passing: deque[Passing] = deque()
        self.owed: Counter[tuple[Key, Bodies]] = Counter()
        self.owed_fragments: Counter[bytes] = Counter()
        patience, scan = self.settings.compare_timeout_ms, self.settings.scan_ms
        self.mine, self.theirs, self.out = (Reassembly(patience, scan) for _ in range(3))
        self.requests = 0
        self.awaits_marker = self.is_alone = False

    # ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────

    def primary(self, frame: bytes, now_ms: int, cut: int = 0) -> None:
        """A frame of the primary."""
        if self.is_alone:
            self.passing.append(frame)
            packet = read(frame)
            if isinstance(packet, Segment) and not self.settings.needs_handshake and not self._is_exempt(packet):
                self._connection(packet.key).primary(packet, now_ms)
            return
        packet, passes = self._whole(self.mine, frame, now_ms)
        if self._is_exempt(packet):
            self.passing += [] if passes is None else [passes]
        elif isinstance(packet, Segment):
            self._connection(packet.key).primary(packet, now_ms)
        elif isinstance(packet, Datagram):
            self._exchange(packet.key).primary(_bodies(packet, cut), now_ms)
        elif passes is not None:
            self.passing.append(passes)
        self.mine.meet(self.theirs)

    def secondary(self, frame: bytes, now_ms: int, cut: int = 0) -> None:
        """A frame of the secondary; uncompared frames are discarded, and those of its old state."""
        if self.is_alone or self.awaits_marker:
            return
        packet, _ = self._whole(self.theirs, frame, now_ms)
        if self._is_exempt(packet):
            pass  # C7: nothing is compared with it
        elif isinstance(packet, Segment):
            self._connection(packet.key).secondary(packet, now_ms)
        elif isinstance(packet, Datagram):
            self._exchange(packet.key).secondary(_bodies(packet, cut), now_ms)
        self.mine.meet(self.theirs)

    def client(self, frame: bytes, now_ms: int, *, is_partial: bool = False) -> bool:
        """A frame of the client, on its way to the primary; False: the secondary must not get it (R1).

        A guest rejects a wrong checksum, unless it is a partial one.
        """
        packet = read(frame)
        if self.is_alone or not isinstance(packet, Segment):
            return True
        self.sees_client = True
        key, flags = packet.key.reversed(), packet.flags
        if self.settings.is_exempt(key):
            return True
        connection = self.connections.get(key)
        if flags & (Flag.SYN | Flag.ACK | Flag.RST) == Flag.SYN:
            self.claims[key] = packet.seq, now_ms
        elif flags & Flag.ACK and self._is_withheld(connection, packet, now_ms):
            return False
        if connection is not None and (packet.is_intact or is_partial):
            connection.client(packet, now_ms)
        return True

    def _is_withheld(self, connection: Connection | None, segment: Segment, now_ms: int) -> bool:
        if connection is not None and connection.turns_down(segment):
            return True
        return self._is_early(segment, now_ms) and (connection is None or not connection.may_take(segment))

    def _is_early(self, segment: Segment, now_ms: int) -> bool:
        """R1: it is near its client's latest SYN, which may still be answered."""
        isn, since_ms = self.claims.get(segment.key.reversed(), (0, -HELD_MS))
        is_near = abs(near(segment.seq, isn) - isn) <= UNSCALED
        return is_near and not segment.flags & Flag.RST and now_ms - since_ms < HELD_MS

    def committed(self, now_ms: int, *, awaits_marker: bool = False) -> None:
        """A checkpoint was made: the secondary is a copy of the primary.

        `awaits_marker`: its stream still brings earlier frames, up to `marker`.
        """
        self.requests = 0
        self.awaits_marker = awaits_marker
        for connection in self.connections.values():
            connection.committed(now_ms)
        for key, exchange in self.exchanges.items():
            self.owed.update((key, bodies) for bodies in exchange.committed())
        self.owed_fragments.update(self.mine.committed(now_ms))
        self.theirs.committed(now_ms)

    def marker(self) -> None:
        """The secondary's stream from here on was sent after the last checkpoint."""
        self.awaits_marker = False

    def lost(self, now_ms: int) -> None:
        """The arbiter has decided: this node serves alone."""
        self.committed(now_ms)
        self.is_alone = True

    def formed(self) -> None:
        """Open connections are older than the pair."""
        for connection in self.connections.values():
            connection.is_older()
        self.exchanges = {}
        self.awaits_marker = self.is_alone = False

    # ── output of the implementation ──────────────────────────────────────────────────────────────────────────

    def left(self, frame: bytes, now_ms: int, cut: int = 0) -> None:
        """The frame went to the client."""
        if self.is_alone and self.passing and self.passing[0] == frame:
            self.passing.popleft()
            return
        if self.owed_fragments[frame]:
            self.owed_fragments[frame] -= 1
            return
        packet, passes = self._whole(self.out, frame, now_ms)
        if self._is_exempt(packet):
            packet = None  # it passes like what is no packet
        if isinstance(packet, Segment):
            require("C1", packet.key in self.connections, "a segment left of a connection that no guest has")
            self.connections[packet.key].left(packet, now_ms)
        elif isinstance(packet, Datagram):
            name = packet.key, _bodies(packet, cut)
            if self.owed[name]:
                self.owed[name] -= 1
                return
            require("C4", packet.key in self.exchanges, "a datagram left that no guest has sent")
            self.exchanges[packet.key].left(name[1])
        elif passes is not None:
            require(
                "C4", self.passing and self.passing.popleft() == passes, "an uncompared frame left out of its order"
            )

    def reported(self, kind: str, key: Key | None, now_ms: int, *, is_request: bool) -> None:
        """A difference was reported, or requested a checkpoint (C5: once per epoch)."""
        self.requests += is_request
        require("C5", self.requests <= 1, "a checkpoint was asked for twice in one epoch")
        if kind in ROOM:
            if key in self.exchanges:
                self.exchanges[key].reported(kind, now_ms)
        elif key in self.exchanges and self.exchanges[key].explains(kind, now_ms):
            self.exchanges[key].reported(kind, now_ms)
        elif self._is_of_fragments(kind, key, now_ms):
            return
        elif key in self.connections:
            self.connections[key].reported(kind, now_ms)
            self.connections[key].is_stopped |= self.stops and not kind.endswith("TIMEOUT")
        else:
            raise BrokenRuleError("C5", f"{kind} was reported of a connection that no guest has")

    def forgot(self, key: Key, now_ms: int) -> None:
        """C10: ended connections and those silent for hours may be removed; a row with held packets must not."""
        connection = self.connections.pop(key)
        silent, patience = now_ms - connection.heard_ms, connection.patience_ms()
        require("C10", silent >= patience - TOUCH_MS, f"{key} was forgotten after {silent} ms of silence")

    def settle(self, now_ms: int) -> None:
        """Check that everything that the rules demand by now has happened."""
        require("C4", not self.passing, "an uncompared frame has not left")
        require("C4", not +self.owed, "a datagram that a checkpoint set free has not left")
        require("C9", not self.out.incomplete, "fragments left of a datagram that is not whole")
        require("C6", not +self.owed_fragments, "a fragment that a checkpoint set free has not left")
        if self.is_alone:
            return
        for parts in (self.mine, self.theirs):
            for key, since_ms in parts.overdue(now_ms):
                text = f"a datagram in fragments of {since_ms} ms is not whole, and not reported ({key})"
                require("C8", self.requests, text)
        referees: list[tuple[Key, Connection | Exchange]] = [*self.connections.items(), *self.exchanges.items()]
        for key, referee in referees:
            for text in referee.overdue(now_ms):
                if self.requests and "is not reported" in text:
                    continue  # one request answers all differences of an epoch
                rule, _, rest = text.partition(": ")
                raise BrokenRuleError(rule, f"{rest} ({key})")

    # ── parts ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _connection(self, key: Key) -> Connection:
        connection = self.connections.setdefault(key, Connection(self.settings, self.settings.masks(key)))
        connection.sees_client = self.sees_client
        return connection

    def _is_exempt(self, packet: Packet | None) -> bool:
        """C7: a rule of the user's lets its connection pass."""
        return isinstance(packet, Segment | Datagram) and self.settings.is_exempt(packet.key)

    def _exchange(self, key: Key) -> Exchange:
        new = Exchange(self.settings.compare_timeout_ms, self.settings.scan_ms, stops=self.stops)
        return self.exchanges.setdefault(key, new)

    def _is_of_fragments(self, kind: str, key: Key | None, now_ms: int) -> bool:
        """Whether the report is of an incomplete datagram; then it is recorded."""
        parts = {"TIMEOUT": self.mine, "SECONDARY_TIMEOUT": self.theirs}.get(kind)
        return parts is not None and key is not None and parts.reported(key, now_ms)

    def _whole(self, side: Reassembly, frame: bytes, now_ms: int) -> tuple[Packet | None, Passing | None]:
        """The packet that this frame completes; or the unit that passes uncompared."""
        packet = read(frame)
        if not isinstance(packet, Fragment):
            return packet, frame
        parts = side.add(frame, packet, now_ms)
        if parts is None:
            return packet, None
        return whole(parts.key, parts.body), (parts.key, parts.body)


def _bodies(datagram: Datagram, cut: int) -> Bodies:
    """USO: a frame and its datagrams."""
    body = datagram.body
    if datagram.key.proto != UDP or not 0 < cut < len(body) <= cut * SEGMENTS_MAX:
        return (body,)
    return tuple(body[at : at + cut] for at in range(0, len(body), cut))
