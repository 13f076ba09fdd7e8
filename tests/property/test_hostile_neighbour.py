"""Law (d): an honest connection makes progress while a hostile one does anything.

In the comparator both guests' frames come on two streams, in order; a stream that is not read stands still with all
that is behind. The honest connections say the same on both sides; the hostile one's frames are anybody's.

In the rewriter honest connections are translated, at once and rightly, those that are open and those that begin, while
strangers claim what they like, and a hostile client and a hostile server in the guest keep up connections of their own.
"""

from collections import deque
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycolo import limits
from pycolo.compare.kinds import DivergencePolicy
from support.segments import SEQ_MASK, Flow, Tcp, fragments, frame, icmp_error, read, udp, udp_body
from support.traces import Comparing, Rewriting

EXAMPLES = settings(max_examples=150)
PRIMARY, SECONDARY = True, False
HONEST, HOSTILE = 9, 1
TICK_MS = 100.0
STALL_MS = 2 * (limits.COMPARE_TIMEOUT_MS + limits.EXPIRED_SCAN_CYCLE_MS)
"""One full queue of the hostile connection, and then one of the other side's."""

ENEMY = Flow(client_port=HOSTILE)
DATA = st.sampled_from([b"a", b"b", b"abcdabcd", bytes(1400)])
FLAGS = st.sampled_from(["A", "A", "SA", "FA", "R"])


@dataclass(frozen=True)
class Flood:
    """`count` frames of one kind. `step`: how far each TCP segment is behind the one before."""

    side: bool
    kind: str
    count: int
    data: bytes
    flags: str
    step: int

    def frames(self) -> list[bytes]:
        match self.kind:
            case "udp":
                return [udp(self.data, ENEMY)] * self.count
            case "tcp":
                return [
                    frame(Tcp(1000 + self.step * place, self.flags, self.data, ack=100, flow=ENEMY))
                    for place in range(self.count)
                ]
            case "firsts" | "lasts":
                body, which = udp_body(bytes(1600), ENEMY), self.kind == "lasts"
                return [fragments(17, body, [1480], place, ENEMY)[which] for place in range(self.count)]
            case _:
                body = udp_body(self.data * 4, ENEMY)
                return [part for place in range(self.count) for part in fragments(17, body, [8], place, ENEMY)]


FLOODS = st.builds(
    Flood,
    st.sampled_from([PRIMARY, SECONDARY]),
    st.sampled_from(["udp", "udp", "tcp", "tcp", "firsts", "lasts", "in fragments"]),
    st.sampled_from([1, 1, 3, 12, 40]),
    DATA,
    FLAGS,
    st.sampled_from([0, 1, 8, 1400]),
)


class Streams:
    """Two streams into one comparator, which is driven as a shell does."""

    def __init__(self, policy: DivergencePolicy, queue_packets_max: int) -> None:
        sizes = {"queue_packets_max": queue_packets_max, "held_packets_max": 12 * queue_packets_max}
        self.trace = Comparing(policy=policy, **sizes)
        self.waiting: dict[bool, deque[bytes]] = {PRIMARY: deque(), SECONDARY: deque()}
        self.left: list[bytes] = []
        self.blamed: set[int] = set()

    def give(self, side: bool, octets: bytes) -> None:
        self.waiting[side].append(octets)

    def pump(self) -> None:
        """Offer until nothing is taken."""
        while self._offer() or self._hear():
            pass

    def _offer(self) -> bool:
        moved = False
        for side, offer in [(SECONDARY, self.trace.offer_secondary), (PRIMARY, self.trace.offer_primary)]:
            taken = offer(*self.waiting[side]) if self.waiting[side] else 0
            for _ in range(taken):
                self.waiting[side].popleft()
            moved |= taken > 0
        return moved

    def _hear(self) -> bool:
        """What has left, what differs; a checkpoint that is asked for is made, and is of all that was sent before."""
        self.left += self.trace.frames()
        wants_checkpoint = False
        for command in self.trace.core.commands():
            wants_checkpoint |= type(command).__name__ == "RequestCheckpoint"
            key = command.difference.connection
            if key is not None and not command.difference.kind.name.endswith("FULL"):
                self.blamed.add(key.destination_port)
        if wants_checkpoint:
            while any(self.waiting.values()):
                self.trace.commit()
                self._offer()
                self.left += self.trace.frames()
            self.trace.core.commands()
            self.trace.commit()
            self.left += self.trace.frames()
        return wants_checkpoint

    def wait(self, ms: float) -> None:
        """As a shell: when the core is due both sides are offered first."""
        until = self.trace.now_ms + ms
        while (due := self.trace.core.deadline_us()) is not None and due / 1000 <= until:
            self.trace.now_ms = max(self.trace.now_ms, due / 1000)
            self.pump()
            self.trace.core.timer_fired(self.trace.now_us)
            self.pump()
        self.trace.now_ms = until
        self.pump()


@pytest.mark.rule("C6")
@EXAMPLES
@given(
    moves=st.lists(st.lists(FLOODS, max_size=2), max_size=30),
    policy=st.sampled_from(list(DivergencePolicy)),
    order=st.booleans(),
    queue_packets_max=st.sampled_from([16, 64]),
)
def test_an_honest_connection_makes_progress(moves, policy, order, queue_packets_max):
    streams = Streams(policy, queue_packets_max)
    sent: dict[bytes, float] = {}
    seen = 0
    for tick in range(len(moves) + int(2 * STALL_MS / TICK_MS)):
        floods = moves[tick] if tick < len(moves) else []
        hostile = [(flood.side, octets) for flood in floods for octets in flood.frames()]
        said = tick.to_bytes(4, "big")
        honest = [
            udp(said, Flow(client_port=HONEST)),
            frame(Tcp(5000 + 4 * tick, "A", said, ack=100, flow=Flow(client_port=HONEST))),
        ]
        facts = [(side, octets) for octets in honest for side in (PRIMARY, SECONDARY)]
        for side, octets in [*facts, *hostile] if order else [*hostile, *facts]:
            streams.give(side, octets)
        sent.update(dict.fromkeys(honest, streams.trace.now_ms))
        streams.wait(TICK_MS)
        for octets in streams.left[seen:]:
            sent.pop(octets, None)
        seen = len(streams.left)
        late = [octets for octets, since in sent.items() if streams.trace.now_ms - since > STALL_MS]
        assert not late, "an honest frame waits behind what is hostile"
    assert HONEST not in streams.blamed, "an honest connection was found to differ"


# ── the rewriter ────────────────────────────────────────────────────────────────────────────────────────────

ROWS = 16
KEPT_UP = 6
"""So many connections does the hostile pair keep up: with the honest ones they are fewer than there are rows."""

FAR = st.sampled_from([100_000, -100_000, 1 << 24, 1 << 30, (1 << 31) - 70_000, -(1 << 30)])


@dataclass
class Life:
    """An honest connection. `sent`: so many bytes has each end sent, and the other acknowledged."""

    flow: Flow
    client_isn: int
    primary_isn: int
    secondary_isn: int
    sent: int = 0

    def of_client(self, flags: str, data: bytes = b"", *, isn: int | None = None) -> Tcp:
        """As the client says it; `isn`: as it is to arrive at a guest with that number."""
        ack = (self.primary_isn if isn is None else isn) + 1 + self.sent
        return Tcp(
            (self.client_isn + 1 + self.sent) & SEQ_MASK, flags, data, ack & SEQ_MASK, 8000, b"", self.flow, True
        )

    def of_guest(self, isn: int, data: bytes, back: int) -> Tcp:
        return Tcp(
            (isn + 1 + self.sent) & SEQ_MASK, "PA", data, (self.client_isn + 1 + back) & SEQ_MASK, 8000, b"", self.flow
        )


class Translated:
    """A rewriter with few rows and little memory; of what comes out, the honest connections' frames are looked at."""

    def __init__(self) -> None:
        self.trace = Rewriting(connections_max=ROWS, unacked_bytes_max=1 << 14)
        self.ports = iter(range(2000, 60_000))

    def client(self, segment: Tcp) -> list[Tcp]:
        return self._of(segment.flow, self.trace.client(segment))

    def guest(self, segment: Tcp) -> list[Tcp]:
        return self._of(segment.flow, self.trace.guest(segment))

    @staticmethod
    def _of(flow: Flow, frames: list[bytes]) -> list[Tcp]:
        found = [read(octets) for octets in frames if octets[14] == 0x45 and octets[23] == 6 and not octets[20] & 0x3F]
        return [segment for segment in found if segment.flow == flow]

    def open(self, port: int, *, is_early: bool) -> Life:
        """An honest handshake. `is_early`: the client's ACK comes before the secondary's answer, and once more."""
        life = Life(Flow(client_port=port), 77 * port, SEQ_MASK - port, 1_000_003 * port & SEQ_MASK)
        self.client(Tcp(life.client_isn, "S", flow=life.flow, from_client=True))
        last = life.of_client("A")
        if is_early:
            self.client(last)
        self.guest(Tcp(life.secondary_isn, "SA", ack=life.client_isn + 1, window=8000, flow=life.flow))
        assert self.client(last)[-1:] == [read(frame(life.of_client("A", isn=life.secondary_isn)))]
        return life

    def exchange(self, life: Life) -> None:
        """Both ends say something, and each gets it with its own numbers, at once."""
        said = life.of_client("PA", b"ask!")
        assert self.client(said) == [read(frame(life.of_client("PA", b"ask!", isn=life.secondary_isn)))]
        answer = life.of_guest(life.secondary_isn, b"told", life.sent + 4)
        assert self.guest(answer) == [read(frame(life.of_guest(life.primary_isn, b"told", life.sent + 4)))]
        life.sent += 4

    def attack(self, kind: str, count: int, far: int, flags: str, victim: Life) -> None:
        give = self.trace.client
        match kind:
            case "SYNs" | "answered SYNs" | "SYNs and more":
                for _ in range(count):
                    flow = Flow(client_port=next(self.ports))
                    give(Tcp(5, "S", flow=flow, from_client=True))
                    if kind == "answered SYNs":
                        self.trace.guest(Tcp(9, "SA", ack=6, flow=flow))
                    elif kind == "SYNs and more":
                        give(*[Tcp(6 + at, flags, bytes(500), 100, 100, b"", flow, True) for at in range(3)])
            case "kept up":
                for port in range(1000, 1000 + KEPT_UP):
                    flow = Flow(client_port=port)
                    give(Tcp(far, "S", flow=flow, from_client=True))
                    self.trace.guest(Tcp(9, "SA", ack=far + 1, flow=flow))
                    give(Tcp(far + 1, "A", ack=77, flow=flow, from_client=True))
                    self.trace.guest(
                        *[Tcp(10 + 900 * at, flags, bytes(900), far + 1, flow=flow) for at in range(count)]
                    )
            case "of the guest":
                for port in range(1000, 1000 + KEPT_UP):
                    self.trace.guest(Tcp(far, flags, bytes(8), ack=9, flow=Flow(client_port=port)))
            case "lies":
                truth = victim.of_client(flags)
                seq, ack = (truth.seq + far) & SEQ_MASK, (truth.ack - far) & SEQ_MASK
                lie = Tcp(seq, flags, b"lie" * ("S" not in flags), ack, 100, b"", victim.flow, True)
                give(*[lie] * count)
                give(icmp_error(frame(Tcp(seq, "A", b"x", ack, flow=victim.flow)), 3, from_client=True))
                damaged = bytearray(frame(truth))
                damaged[50] ^= 0x55
                give(bytes(damaged))


ATTACKS = st.tuples(
    st.sampled_from(["SYNs", "answered SYNs", "SYNs and more", "kept up", "of the guest", "lies", "lies"]),
    st.sampled_from([1, 3, 40]),
    FAR,
    st.sampled_from(["S", "SA", "A", "A", "PA", "FA", "R", "RA"]),
)


@pytest.mark.rule("C10")
@EXAMPLES
@given(
    moves=st.lists(st.lists(ATTACKS, max_size=3), max_size=20),
    early=st.booleans(),
    waits=st.lists(st.sampled_from([100, 100, 1_000, 4_000]), min_size=1, max_size=5),
)
def test_an_honest_connection_is_translated(moves, early, waits):
    world = Translated()
    lives = [world.open(HONEST, is_early=early)]
    for tick, attacks in enumerate(moves):
        for kind, count, far, flags in attacks:
            world.attack(kind, count, far, flags, lives[tick % len(lives)])
        if len(lives) < ROWS - KEPT_UP - 2:
            lives.append(world.open(HONEST + 1 + tick, is_early=early))
        for life in lives:
            world.exchange(life)
        world.trace.now_ms += waits[tick % len(waits)]
        world.trace.core.timer_fired(round(world.trace.now_ms * 1000))
