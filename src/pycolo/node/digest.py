"""Log lines of what may happen a hundred times a second: the first ones whole, then one line a minute with counts.

Pure: the time is an argument.
"""

from collections import Counter
from typing import Final

WHOLE: Final = 10
"""Lines that are written whole, before the digest begins; again after a period in which nothing happened."""

PERIOD_MS: Final = 60_000


class Digest:
    """Of one kind of line; `what` names it in the plural: "divergences"."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._left = WHOLE
        self._counts: Counter[str] = Counter()
        self._has_any = False
        self._until_ms: int | None = None

    def is_whole(self, kind: str, now_ms: int) -> bool:
        """Whether this line is to be written; otherwise it is counted. Call `due` first."""
        if self._until_ms is None:
            self._until_ms = now_ms + PERIOD_MS
        self._has_any = True
        if self._left:
            self._left -= 1
            return True
        self._counts[kind] += 1
        return False

    def due(self, now_ms: int) -> str | None:
        """The line about the period that has ended, if lines were counted in it."""
        if self._until_ms is None or now_ms < self._until_ms:
            return None
        counts, self._counts = self._counts, Counter()
        if self._has_any:
            self._until_ms, self._has_any = now_ms + PERIOD_MS, False
        else:
            self._until_ms, self._left = None, WHOLE
        if not counts:
            return None
        kinds = ", ".join(f"{kind} {count}" for kind, count in counts.most_common())
        return f"{counts.total()} more {self._what} in the last minute ({kinds}); `colo explain` shows the last ones"
