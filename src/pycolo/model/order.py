"""What `pycolo.order` must do, in plain Python: one object per frame and per connection, nothing bounded.

Times are microseconds. A connection is any hashable name; a frame says what matters about it.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

ALONE_US: Final = 1_000_000
MIRROR_US: Final = 3_000_000
FROZEN_US: Final = 200_000
COLD_US: Final = 500_000
ASLEEP_US: Final = 1_000
REQUEST_BYTES: Final = 8 << 10
REQUEST_SEGMENTS: Final = 6
KIND_BYTES: Final = 64
TRUSTED: Final = 16
BLOCKED_WEIGHT: Final = 50
TRUST_LOWEST: Final = -500
DOUBTS_MAX: Final = 6
DOUBT_ROUNDS: Final = 4096

HALF: Final = 1 << 31


def kind_of(payload: bytes) -> bytes:
    """What requests that begin alike have in common. The core tells 256 of them apart, by their hash."""
    return bytes(one for one in payload[:KIND_BYTES] if one >= ord(" ") and not ord("0") <= one <= ord("9"))


@dataclass(frozen=True)
class Frame:
    """One frame of a client, or of the guest: `octets` stand for it."""

    octets: bytes
    connection: Hashable
    port: int
    payload: int = 0
    seq: int = 0
    is_syn: bool = False
    is_fin: bool = False
    is_rst: bool = False
    kind: bytes = b""

    @property
    def says_nothing(self) -> bool:
        """Whether it only acknowledges."""
        return not (self.payload or self.is_syn or self.is_fin or self.is_rst)


@dataclass(eq=False)
class Lane:
    """One connection of an ordered port."""

    waiting: list[Frame] = field(default_factory=list)
    pending: list[Frame] = field(default_factory=list)
    since_us: int = 0
    mirror_by_us: int = 0
    round: int = -2
    octets: int = 0
    segments: int = 0
    kind: bytes = b""
    seq_end: int | None = None
    is_open: bool = False
    is_kept_back: bool = False

    @property
    def is_stream(self) -> bool:
        """Whether its client needs the guest's ACKs in order to go on."""
        return self.octets > REQUEST_BYTES or self.segments > REQUEST_SEGMENTS


@dataclass(eq=False)
class Gate:
    """One ordered port. `current`: requests of the round that are not answered."""

    width: int = 0
    is_early: bool = False
    is_cold: bool = False
    limit_us: int = 0
    due_us: int = 0
    round: int = 0
    line: list[Lane] = field(default_factory=list)
    members: list[Lane] = field(default_factory=list)
    current: list[Lane] = field(default_factory=list)
    deferred: list[Lane] = field(default_factory=list)
    trust: dict[bytes, int] = field(default_factory=dict)
    doubts: int = 0
    doubted: int = 0
    last: Lane | None = None
    many_us: int = -ALONE_US


class Primary:
    """`admitted`: frames for the guest; `ready`: frames to mirror now, besides those that `given` returns."""

    def __init__(self) -> None:
        self.gates: dict[int, Gate] = {}
        self.lanes: dict[Hashable, Lane] = {}
        self.kept_back: list[Lane] = []
        self.admitted: list[Frame] = []
        self.ready: list[Frame] = []
        self.is_following = self.is_frozen = self.is_stopped = False
        self.frozen_until_us = 0

    # ── settings and facts ──────────────────────────────────────────────────────────────────────────────────────

    def set_gate(self, port: int, width: int, is_early: bool, limit_us: int, now_us: int) -> None:  # noqa: FBT001
        """Order this port so from now on."""
        gate = self.gates.setdefault(port, Gate())
        gate.width, gate.is_early, gate.limit_us = width, is_early, limit_us
        if width == 0:
            for lane in list(self.kept_back):
                if self._gate(lane) is gate:
                    self._mirror(lane)
            gate.current.clear()
            gate.deferred.clear()
        self._advance(gate, now_us)

    def client(self, frame: Frame, now_us: int) -> None:
        """A client's frame has come."""
        gate = self.gates.get(frame.port)
        is_closed = gate is not None and gate.width > 0 and self.is_following
        lane = self.lanes.get(frame.connection)
        if lane is None and is_closed:
            lane = self.lanes[frame.connection] = Lane()
        if lane is None or gate is None:
            self.admitted.append(frame)
            return
        if frame.is_syn:
            self._forget(gate, lane)
        if not frame.payload or not is_closed:
            self._behind(gate, lane, frame)
            if (frame.is_fin or frame.is_rst) and gate.last is lane:
                gate.last = None
            if frame.is_rst:
                self._forget(gate, lane)
        else:
            self._request(gate, lane, frame, now_us)
        for one in self.gates.values():
            self._advance(one, now_us)

    def given(self, frame: Frame) -> bool:
        """The guest has got it. Whether it is mirrored now."""
        lane = self.lanes.get(frame.connection)
        if lane is None or not (lane.pending or (lane.is_kept_back and frame.payload)):
            return True
        lane.pending.append(frame)
        return False

    def guest(self, frame: Frame, now_us: int) -> bool:
        """The guest has sent it. Whether it goes on."""
        gate, lane = self.gates.get(frame.port), self.lanes.get(frame.connection)
        if gate is None or lane is None:
            return True
        if frame.says_nothing:
            return not lane.pending
        if lane.is_open:
            self._answered(gate, lane)
            self._advance(gate, now_us)
        return True

    def timer(self, now_us: int) -> None:
        """Limits have passed."""
        if self.is_frozen:
            if self.is_stopped or now_us < self.frozen_until_us:
                return
            self.thaw(now_us)
        for gate in self.gates.values():
            if gate.current and gate.due_us <= now_us:
                self._go_on(gate, now_us)
        while self.kept_back and self.kept_back[0].mirror_by_us <= now_us:
            self._mirror(self.kept_back[0])

    def asleep(self, now_us: int) -> None:
        """The guest sleeps although it has requests."""
        for gate in self.gates.values():
            if gate.current and gate.line and not self.is_frozen:
                self._go_on(gate, now_us)

    def freeze(self, now_us: int, *, is_stopping: bool = False) -> None:
        """A checkpoint is asked for; `is_stopping`: it has begun."""
        if not self.is_following or not any(gate.width for gate in self.gates.values()):
            return
        if not self.is_frozen:
            self.frozen_until_us = now_us + FROZEN_US
            if not is_stopping:
                for gate in self.gates.values():
                    gate.doubts, gate.doubted = min(gate.doubts + 1, DOUBTS_MAX), gate.round
                    gate.trust = {kind: min(trust, 0) for kind, trust in gate.trust.items()}
        self.is_frozen = True
        self.is_stopped = self.is_stopped or is_stopping

    def thaw(self, now_us: int) -> None:
        """It is made."""
        self.is_frozen = self.is_stopped = False
        for gate in self.gates.values():
            gate.due_us = now_us + gate.limit_us
            self._advance(gate, now_us)

    def flush(self) -> list[Frame]:
        """The guest's state is copied: all that it has got is mirrored."""
        while self.kept_back:
            self._mirror(self.kept_back[0])
        ready, self.ready = self.ready, []
        return ready

    @property
    def due_us(self) -> int | None:
        """When `timer` is needed."""
        if self.is_frozen:
            return None if self.is_stopped else self.frozen_until_us
        dues = [gate.due_us for gate in self.gates.values() if gate.current]
        return min([*dues, *(lane.mirror_by_us for lane in self.kept_back[:1])], default=None)

    # ── the parts ───────────────────────────────────────────────────────────────────────────────────────────────

    def _gate(self, lane: Lane) -> Gate:
        port = next(key for key, value in self.lanes.items() if value is lane)
        assert isinstance(port, tuple)
        return self.gates[port[0]]

    def _request(self, gate: Gate, lane: Lane, frame: Frame, now_us: int) -> None:
        end = (frame.seq + frame.payload) % (2 * HALF)
        if lane.seq_end is not None and (end - lane.seq_end - 1) % (2 * HALF) >= HALF - 1:
            self._behind(gate, lane, frame)  # sent again
            return
        lane.seq_end = end
        if not lane.waiting and not lane.is_open:
            lane.octets = lane.segments = 0
            lane.since_us = now_us
            lane.kind = frame.kind
        lane.octets += frame.payload
        lane.segments += 1
        if lane.is_open and not lane.waiting:
            if lane.is_stream:
                self._mirror(lane)
            self.admitted.append(frame)
            return
        self._wait(gate, lane, frame)

    def _behind(self, gate: Gate, lane: Lane, frame: Frame) -> None:
        if lane.waiting:
            self._wait(gate, lane, frame)
        else:
            self.admitted.append(frame)

    def _wait(self, gate: Gate, lane: Lane, frame: Frame) -> None:
        lane.waiting.append(frame)
        if lane not in gate.line:
            gate.line.append(lane)

    def _let_go(self, gate: Gate, lane: Lane) -> None:
        if lane in gate.line:
            gate.line.remove(lane)
        self._mirror(lane)
        self.admitted += lane.waiting
        lane.waiting = []
        lane.is_open = True

    def _forget(self, gate: Gate, lane: Lane) -> None:
        self._let_go(gate, lane)
        lane.is_open, lane.seq_end = False, None
        if lane in gate.current:
            gate.current.remove(lane)
            if not gate.current:
                self._mirror_deferred(gate)

    def _advance(self, gate: Gate, now_us: int) -> None:
        if gate.width == 0 or not self.is_following:
            while gate.line:
                self._let_go(gate, gate.line[0])
            return
        if self.is_frozen or gate.current or not gate.line:
            return
        gate.round += 1
        if gate.doubts and gate.round - gate.doubted >= DOUBT_ROUNDS:
            gate.doubts, gate.doubted = gate.doubts - 1, gate.round
        gate.members = []
        fresh = [lane for lane in gate.line if lane.round != gate.round - 1]
        for lane in (fresh or gate.line[:1])[: gate.width]:
            self._give(gate, lane, now_us)

    def _give(self, gate: Gate, lane: Lane, now_us: int) -> None:
        if gate.last is not lane:
            if gate.last is not None:
                gate.many_us = now_us
            gate.last = lane
        gate.line.remove(lane)
        gate.members.append(lane)
        gate.current.append(lane)
        gate.due_us = now_us + gate.limit_us
        lane.round, lane.since_us, lane.is_open = gate.round, now_us, True
        is_trusted = gate.trust.get(lane.kind, 0) >= TRUSTED << gate.doubts
        if gate.is_early or is_trusted or now_us - gate.many_us >= ALONE_US or lane.is_stream:
            self._mirror(lane)
        else:
            lane.mirror_by_us = now_us + MIRROR_US
            if not lane.is_kept_back:
                lane.is_kept_back = True
                self.kept_back.append(lane)
        self.admitted += lane.waiting
        lane.waiting = []

    def _go_on(self, gate: Gate, now_us: int) -> None:
        for lane in gate.current if gate.line else ():
            gate.trust[lane.kind] = max(gate.trust.get(lane.kind, 0) - BLOCKED_WEIGHT, TRUST_LOWEST)
        gate.current.clear()
        self._mirror_deferred(gate)
        self._advance(gate, now_us)

    def _answered(self, gate: Gate, lane: Lane) -> None:
        lane.is_open = False
        if lane not in gate.current:
            if lane.is_kept_back and any(other.is_kept_back for other in gate.current):
                gate.deferred.append(lane)
            else:
                self._mirror(lane)
            return
        gate.current.remove(lane)
        gate.trust[lane.kind] = min(gate.trust.get(lane.kind, 0) + 1, TRUSTED << gate.doubts)
        for member in gate.members:
            if member.round == gate.round:
                self._mirror(member)
        if not gate.current:
            self._mirror_deferred(gate)

    def _mirror_deferred(self, gate: Gate) -> None:
        for lane in gate.deferred:
            self._mirror(lane)
        gate.deferred.clear()

    def _mirror(self, lane: Lane) -> None:
        if lane.is_kept_back:
            lane.is_kept_back = False
            self.kept_back.remove(lane)
            self.ready += lane.pending
            lane.pending = []


class Secondary:
    """`admitted`: frames for the guest."""

    def __init__(self) -> None:
        self.gates: dict[int, Gate] = {}
        self.queues: dict[int, list[Frame]] = {}
        self.rounds: dict[Hashable, int] = {}
        self.asked: dict[int, set[Hashable]] = {}
        self.admitted: list[Frame] = []

    def set_gate(self, port: int, width: int, limit_us: int, now_us: int) -> None:
        """Order this port so from now on."""
        gate = self.gates.setdefault(port, Gate())
        self.queues.setdefault(port, [])
        self.asked.setdefault(port, set())
        gate.width, gate.limit_us = width, limit_us
        if width == 0:
            self.asked[port].clear()
        self._advance(port, now_us)

    def mirrored(self, frame: Frame, now_us: int) -> None:
        """The primary has mirrored it."""
        gate = self.gates.get(frame.port)
        queue = self.queues.get(frame.port, [])
        is_queued = any(other.connection == frame.connection for other in queue)
        is_request = gate is not None and gate.width > 0 and frame.payload > 0
        if is_queued or (is_request and frame.connection not in self.asked[frame.port]):
            queue.append(frame)
        else:
            self.admitted.append(frame)
        for port in self.gates:
            self._advance(port, now_us)

    def guest(self, frame: Frame, now_us: int) -> None:
        """The guest has sent it."""
        if frame.port in self.gates and (frame.payload or frame.is_fin or frame.is_rst):
            if frame.connection in self.asked[frame.port]:
                self.gates[frame.port].is_cold = False
            self.asked[frame.port].discard(frame.connection)
        for port in self.gates:
            self._advance(port, now_us)

    def timer(self, now_us: int) -> None:
        """Limits have passed."""
        for port, gate in self.gates.items():
            if self.asked[port] and gate.due_us <= now_us:
                self.asked[port].clear()
                self._advance(port, now_us)

    def flush(self) -> list[Frame]:
        """All that is here; it is not any more."""
        found = self.admitted + [frame for queue in self.queues.values() for frame in queue]
        self.admitted = []
        for port in self.gates:
            self.queues[port] = []
            self.asked[port].clear()
            self.gates[port].is_cold = True
        return found

    @property
    def due_us(self) -> int | None:
        """When `timer` is needed."""
        return min((gate.due_us for port, gate in self.gates.items() if self.asked[port]), default=None)

    def _advance(self, port: int, now_us: int) -> None:
        gate, queue, asked = self.gates[port], self.queues[port], self.asked[port]
        begins, begun = not asked, 0
        while queue:
            frame = queue[0]
            if gate.width and frame.payload and frame.connection not in asked:
                was_last = self.rounds.get(frame.connection, -2) == gate.round - 1
                if not begins or begun >= gate.width or (begun and was_last):
                    return
                if not begun:
                    gate.round += 1
                begun += 1
                self.rounds[frame.connection] = gate.round
                asked.add(frame.connection)
                gate.due_us = now_us + (max(gate.limit_us, COLD_US) if gate.is_cold else gate.limit_us)
            self.admitted.append(queue.pop(0))
