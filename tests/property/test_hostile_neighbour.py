"""Law: an honest connection makes progress while a hostile one does anything.

Both guests' frames come on two streams, in order; a stream that is not read stands still with all that is behind. The
honest connections say the same on both sides; the hostile one's frames are anybody's.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pycolo import limits
from pycolo.compare.kinds import DivergencePolicy
from support.segments import Flow, Tcp, fragments, frame, udp, udp_body
from support.traces import Comparing

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

    def __init__(self, build: Any, policy: DivergencePolicy, queue_packets_max: int) -> None:
        sizes = {"queue_packets_max": queue_packets_max, "held_packets_max": 12 * queue_packets_max}
        self.trace = Comparing(build, policy=policy, **sizes)
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


@EXAMPLES
@given(
    moves=st.lists(st.lists(FLOODS, max_size=2), max_size=30),
    policy=st.sampled_from(list(DivergencePolicy)),
    order=st.booleans(),
    queue_packets_max=st.sampled_from([16, 64]),
)
def test_an_honest_connection_makes_progress(build, moves, policy, order, queue_packets_max):
    streams = Streams(build, policy, queue_packets_max)
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
