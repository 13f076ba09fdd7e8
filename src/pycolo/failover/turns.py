"""Whose turn it is to fence, where two hosts that have lost each other could both do so.

Each node counts from its own suspicion. The primary's turn comes first and lasts `length_ms`; then the secondary's,
then the primary's again. Between two turns lies `apart_ms`, the most that the two suspicions may lie apart: so no two
turns overlap, whichever node has noticed first.

A shot begins in the first half of a turn and is given up at its end, so that no retry of one node can come to its end
in the other node's turn.
"""

from typing import Final, NamedTuple


class Turn(NamedTuple):
    """From when a shot may begin, and when it must have ended. `end_ms` None: no bound."""

    begin_ms: int
    end_ms: int | None = None


class Turns(NamedTuple):
    """`length_ms` 0: every moment is a turn of both nodes."""

    length_ms: int
    apart_ms: int

    def next(self, since_ms: int, now_ms: int, *, is_second: bool) -> Turn:
        """The turn in which a shot may begin first, at `now_ms` or later. `since_ms`: this node's suspicion."""
        if not self.length_ms:
            return Turn(now_ms)
        step_ms = self.length_ms + self.apart_ms
        begin_ms = since_ms + (step_ms if is_second else 0)
        over_ms = max(0, now_ms - begin_ms - self.length_ms // 2)
        begin_ms += -(-over_ms // (2 * step_ms)) * 2 * step_ms
        return Turn(max(begin_ms, now_ms), begin_ms + self.length_ms)


ALWAYS: Final = Turns(0, 0)
"""For a node whose shots nothing of another node's can meet."""
