"""IP datagrams from their fragments (C4, C8, C9): RFC 791 section 3.2, RFC 8200 section 4.5, RFC 5722.

Fragments may leave if their datagram is complete and was compared: `Reassembly` says which bodies they make. A datagram
that cannot be completed, or is not within the compare time-out, is given up: none of its fragments leaves, including
later ones, and it is a difference if the other guest has none like it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from pycolo.model.packet import Fragment, Key, whole

FORGET_MS = 60_000
"""For so long, the compare time-out apart, a client may put late fragments together (RFC 1122 section 3.3.2)."""

FRAGMENTS_MAX = 256
BODY_BYTES_MAX = 65_535


@dataclass
class Parts:
    """The parts of one datagram. `total`: its length, once the last fragment has arrived."""

    key: Key
    since_ms: int
    frames: list[bytes] = field(default_factory=list)
    pieces: dict[int, tuple[bytes, bool]] = field(default_factory=dict)
    total: int | None = None
    is_given_up: bool = False
    is_told: bool = False
    has_rival: bool = False

    @property
    def body(self) -> bytes:
        """What has come, in order."""
        return b"".join(data for _, (data, _) in sorted(self.pieces.items()))

    def add(self, frame: bytes, fragment: Fragment) -> bool:
        """Add a fragment; returns whether the datagram is now complete."""
        piece = fragment.data, fragment.is_last
        if self.pieces.get(fragment.offset) != piece:  # an exact copy adds nothing (RFC 8200 section 4.5)
            self.is_given_up |= not self._fits(fragment)
            self.pieces[fragment.offset] = piece
        self.frames.append(frame)
        if fragment.is_last:
            self.total = fragment.offset + len(fragment.data)
        self.is_given_up |= len(self.frames) > FRAGMENTS_MAX
        return not self.is_given_up and self.total is not None and len(self.body) == self.total

    def _fits(self, fragment: Fragment) -> bool:
        """Whether it may be added: RFC 5722 rejects datagrams with overlapping fragments."""
        end = fragment.offset + len(fragment.data)
        if end == fragment.offset or end > BODY_BYTES_MAX:
            return False
        if fragment.is_last:
            ends = [start + len(data) for start, (data, _) in self.pieces.items()]
            if self.total is not None or any(other > end for other in ends):
                return False
        elif len(fragment.data) % 8 or (self.total is not None and end > self.total):
            return False
        return all(end <= start or start + len(data) <= fragment.offset for start, (data, _) in self.pieces.items())


class Reassembly:
    """The fragments of one side. A datagram that is incomplete after `patience_ms` is given up, and never released."""

    def __init__(self, patience_ms: int, scan_ms: int = 0) -> None:
        self.patience_ms = patience_ms
        self.scan_ms = scan_ms
        self._parts: dict[tuple[Key, int], Parts] = {}
        self._gone: list[Parts] = []

    def add(self, frame: bytes, fragment: Fragment, now_ms: int) -> Parts | None:
        """Return the datagram that this fragment completes."""
        name = fragment.key, fragment.identification
        parts = self._parts.get(name)
        if parts is not None and now_ms - parts.since_ms >= self.patience_ms + FORGET_MS:
            self._gone.append(self._parts.pop(name))
            parts = None
        if parts is None:
            parts = self._parts[name] = Parts(fragment.key, now_ms)
        if now_ms - parts.since_ms >= self.patience_ms:
            parts.is_given_up = True
        if parts.is_given_up or not parts.add(frame, fragment):
            return None
        if isinstance(whole(parts.key, parts.body), Fragment):
            parts.is_given_up = True  # fragments within fragments: nothing that can be compared
            return None
        return self._parts.pop(name)

    def committed(self, now_ms: int) -> list[bytes]:
        """The frames of incomplete datagrams that are not given up: they leave."""
        for parts in self._parts.values():
            parts.is_given_up |= now_ms - parts.since_ms >= self.patience_ms
        frames = [frame for parts in self._parts.values() if not parts.is_given_up for frame in parts.frames]
        self._parts = {name: parts for name, parts in self._parts.items() if parts.is_given_up}
        self._gone = []
        for parts in self._parts.values():
            parts.is_told = True
        return frames

    @property
    def incomplete(self) -> list[Parts]:
        """All incomplete datagrams, given up or not."""
        return [*self._parts.values(), *self._gone]

    def meet(self, other: "Reassembly") -> None:
        """C8 speaks of one side alone: datagrams of both that are not whole, of the same ends, excuse each other."""
        for mine in self.incomplete:
            for theirs in other.incomplete:
                if mine.key == theirs.key:
                    mine.has_rival = theirs.has_rival = True

    def reported(self, key: Key, now_ms: int) -> bool:
        """A difference of these ends was reported. Returns whether it can be an incomplete datagram's."""
        for parts in self.incomplete:
            if parts.key == key and not parts.is_told and now_ms - parts.since_ms >= self.patience_ms:
                parts.is_told = True
                return True
        return False

    def overdue(self, now_ms: int) -> Iterator[tuple[Key, int]]:
        """Whose, and since when: incomplete datagrams that are overdue and unreported."""
        for parts in self.incomplete:
            is_due = now_ms - parts.since_ms > self.patience_ms + self.scan_ms
            if is_due and not parts.is_told and not parts.has_rival:
                yield parts.key, parts.since_ms
