"""UDP, ICMP and other IP (C4, C5, C8): per connection a multiset of payloads, matched in any order."""

from collections.abc import Iterator
from dataclasses import dataclass

from pycolo.model.verdicts import require

REORDER_MS = 50

Bodies = tuple[bytes, ...]
"""The contents of one frame: one datagram, or the several into which a host cuts a USO frame."""


@dataclass
class Sent:
    """A frame of the primary that has not left. `missing`: its datagrams without an equal one of the secondary."""

    bodies: Bodies
    since_ms: int
    missing: list[bytes]


@dataclass(frozen=True)
class Alone:
    """A datagram of the secondary without a partner."""

    body: bytes
    since_ms: int


class Exchange:
    """The referee of one connection without sequence numbers. `stops`: whether a difference holds all later packets."""

    def __init__(self, compare_timeout_ms: int, scan_ms: int, *, stops: bool = True) -> None:
        self.compare_timeout_ms = compare_timeout_ms
        self.scan_ms = scan_ms
        self.stops = stops
        self.mine: list[Sent] = []
        self.theirs: list[Alone] = []
        self.is_stopped = False
        self.is_crowded = False  # a full queue was reported: see `left`

    # ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────

    def primary(self, bodies: Bodies, now_ms: int) -> None:
        """A frame of the primary: each of its datagrams takes the oldest equal one of the secondary."""
        sent = Sent(bodies, now_ms, [])
        for body in bodies:
            partner = next((other for other in self.theirs if other.body == body), None)
            if partner is None:
                sent.missing.append(body)
            else:
                self.theirs.remove(partner)
        self.mine.append(sent)

    def secondary(self, bodies: Bodies, now_ms: int) -> None:
        """A frame of the secondary."""
        for body in bodies:
            partner = next((sent for sent in self.mine if body in sent.missing), None)
            if partner is None:
                self.theirs.append(Alone(body, now_ms))
            else:
                partner.missing.remove(body)

    def committed(self) -> list[Bodies]:
        """All frames of the primary leave; the secondary's are void."""
        frames = [sent.bodies for sent in self.mine]
        self.mine, self.theirs, self.is_stopped, self.is_crowded = [], [], False, False
        return frames

    # ── output of the implementation ──────────────────────────────────────────────────────────────────────────

    def left(self, bodies: Bodies) -> None:
        """A frame left: in the primary's order, whole, and each of its datagrams equals one of the secondary.

        If a queue is full and no checkpoint can empty it, its frames leave as different.
        """
        require("C4", self.mine and self.mine[0].bodies == bodies, "a datagram left out of its order")
        require("C5", not self.is_stopped, "a datagram of a connection that differs left")
        first = self.mine.pop(0)
        require("C4", self.is_crowded or not first.missing, "a datagram left that the secondary has not sent")

    def reported(self, kind: str, now_ms: int) -> None:
        """It was reported as different."""
        if kind == "QUEUE_FULL":
            self.is_crowded = not self.stops
            return
        require("C5", self.explains(kind, now_ms), f"{kind} was reported, but nothing differs for so long")
        if self.stops:
            self.is_stopped = True
            return
        # Datagrams are independent: a differing one leaves, or is discarded; the others are checked separately.
        late = now_ms - self.compare_timeout_ms
        if kind == "DATAGRAM":
            next(sent for sent in self.mine if sent.missing).missing.pop(0)
            self.theirs.pop(0)
        elif kind == "TIMEOUT":
            for sent in self.mine:
                sent.missing = [] if sent.since_ms <= late else sent.missing
        else:
            self.theirs = [alone for alone in self.theirs if alone.since_ms > late]

    def explains(self, kind: str, now_ms: int) -> bool:
        """Whether there is such a difference."""
        found = dict(self.differences())
        return not self.is_stopped and kind in found and now_ms - found[kind] >= self.patience(kind)

    # ── obligations ───────────────────────────────────────────────────────────────────────────────────────────

    def differences(self) -> Iterator[tuple[str, int]]:
        """(kind, since when) of datagrams without a partner, each side separately (C8), and both together."""
        mine = [sent.since_ms for sent in self.mine if sent.missing]
        theirs = [alone.since_ms for alone in self.theirs]
        if mine and theirs:
            yield "DATAGRAM", max(mine[0], theirs[0])
        if mine:
            yield "TIMEOUT", mine[0]
        if theirs:
            yield "SECONDARY_TIMEOUT", theirs[0]

    def patience(self, kind: str) -> int:
        """How long a difference may wait."""
        return REORDER_MS if kind == "DATAGRAM" else self.compare_timeout_ms

    def overdue(self, now_ms: int) -> Iterator[str]:
        """Obligations by now that were not met."""
        if self.is_stopped:
            return
        if self.mine and not self.mine[0].missing:
            yield "C4: a datagram of both has not left"
        for kind, since in self.differences():
            scan = 0 if kind == "DATAGRAM" else self.scan_ms
            if now_ms - since > self.patience(kind) + scan:
                yield f"C5: {kind} is not reported"
