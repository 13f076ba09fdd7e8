"""How soon after a checkpoint the next one may begin that a difference asks for.

For a checkpoint clients stand still: from the moment when the hypervisor is asked, after which the secondary may stop,
until the primary runs again. That is its *cost*. A pair that differs all the time would be made of little else, so the
next one keeps a *distance* in which both guests work::

    distance = cost · (100 - busy) / busy         within [minimum, maximum]

so that at most `busy` percent of the time is spent standing still. The cost is the median of the last checkpoints: one
that was slow for another reason says nothing, and the distance is short again as soon as they are cheap again. Where
the minimum is more, it is kept: a cheap checkpoint is never made to wait for longer than that. Guests that have run for
longer than the distance have that to their credit, up to once the distance: then a second one may follow a first one
after the minimum. So a pair that differs now and then hardly waits.

A checkpoint answers everything that differs before its commit. What differs a moment after it needs another. So it may
pay to *wait* a little before asking: as long as the time saved, which is the cost times the share of checkpoints that
would have become needless, is more than the wait. For each checkpoint is noted after how long a wait the following one
would not have been made, in time for which the guests ran; never, if that has answered differences for longer than
any wait, as where guests differ all the time: a wait then only puts the next one off. Where waiting does not help it is
0.

Only differences wait. An operator's request, a periodic checkpoint, which follows the guest's memory (`pace`), and the
first one keep the minimum distance alone.
"""

from collections import deque
from statistics import median
from typing import Any, Final, NamedTuple

COSTS_KEPT: Final = 16
"""Checkpoints by which the distance is judged, and the wait."""

SAMPLES_MIN: Final = 8
"""Fewer checkpoints say little about waiting: they count as so many, of which the others were not followed."""

BUSY_PERCENT: Final = 50
"""If the pair differs all the time, the guests still run for half of it. Clients whose every answer differs get more in
less of it: each checkpoint answers all of them."""

NEVER: Final = float("inf")


class _Waited(NamedTuple):
    """How long the last checkpoint has waited; or when the last difference came that joined because it did."""

    us: int
    has_gathered: bool


class Spacing:
    """Facts as past-tense methods; times in µs, monotonic, and not before those of earlier facts."""

    def __init__(self, min_ms: int, max_ms: int, busy_percent: int = BUSY_PERCENT, max_wait_ms: int = 0) -> None:
        assert 0 <= min_ms <= max_ms
        assert 0 < busy_percent < 100
        assert max_wait_ms >= 0
        self._min_us, self._max_us = min_ms * 1000, max_ms * 1000
        self._idle_per_busy = (100 - busy_percent) / busy_percent
        self._busy_percent = busy_percent
        self._max_wait_us = max_wait_ms * 1000
        self.restarted(0)

    # ── facts ───────────────────────────────────────────────────────────────────────────────────────────────────

    def restarted(self, now_us: int) -> None:
        """A pair has formed: nothing is known of it, and its first checkpoint waits for nothing."""
        self._costs: deque[int] = deque(maxlen=COSTS_KEPT)
        self._leads: deque[int] = deque(maxlen=COSTS_KEPT)
        self._enough: deque[float] = deque(maxlen=COSTS_KEPT)
        """By checkpoint: the wait with which the next one would not have been made."""
        self._ended_us = now_us
        self._floor_us = now_us
        self._wanted_us: int | None = None
        self._differed_us: int | None = None
        self._is_urgent = False
        self._waits = True
        self._last: _Waited | None = None
        self._credit_us = 0  # the guests ran longer before the last one than they had to

    def ended(self, now_us: int) -> None:
        """One was committed, or the primary runs again after it."""
        self._ended_us, self._floor_us, self._waits = now_us, now_us + self._min_us, True

    def failed(self, now_us: int, retry_us: int) -> None:
        """One was aborted. Its reasons have waited already."""
        self._ended_us, self._floor_us, self._waits = now_us, now_us + max(self._min_us, retry_us), False
        self._last, self._credit_us = None, 0

    def cost(self, cost_us: int, lead_us: int) -> None:
        """One has cost so much, and the guest ran on for `lead_us` after it was asked for."""
        self._costs.append(max(0, cost_us))
        self._leads.append(max(0, lead_us))

    def wanted(self, now_us: int, *, is_difference: bool) -> None:
        """A checkpoint is asked for."""
        self._is_urgent = self._is_urgent or not is_difference
        if is_difference:
            self._wanted_us = now_us if self._wanted_us is None else self._wanted_us
            self._differed_us = now_us

    def differed(self, now_us: int) -> None:
        """Another connection differs while a checkpoint is wanted."""
        if self._wanted_us is not None:
            self._differed_us = now_us

    def asked(self, now_us: int, due_us: int | None) -> None:
        """The checkpoint begins; `due_us`: see `earliest_us`."""
        if self._wanted_us is not None and self._differed_us is not None:
            start_us = self._start_us(self._wanted_us, due_us)
            self._judge(self._wanted_us, self._differed_us)
            gathered_us = self._differed_us - start_us
            has_gathered = gathered_us > self._lead_us  # what comes sooner needs no waiting: it joins while one is made
            self._last = _Waited(gathered_us if has_gathered else max(0, now_us - start_us), has_gathered)
        elif self._last is not None:
            self._enough.append(NEVER)
            self._last = None
        self._credit_us = max(0, now_us - self._ended_us - self.owed_us)
        self._wanted_us = self._differed_us = None
        self._is_urgent = False

    def _judge(self, wanted_us: int, differed_us: int) -> None:
        """Which wait of the last checkpoint would have made this one needless."""
        if self._last is None:
            return
        waited_us, has_gathered = self._last
        if has_gathered:  # what it has gathered would otherwise have been answered now, if that is soon
            is_saved = wanted_us - self._ended_us > self.distance_us
            self._enough.append(waited_us if is_saved else NEVER)
        else:
            self._enough.append(waited_us + self._lead_us + max(0, differed_us - self._ended_us))

    # ── the next one ────────────────────────────────────────────────────────────────────────────────────────────

    def earliest_us(self, due_us: int | None) -> int:
        """When the next one may begin. `due_us`: when a periodic one is due, for which nothing has to wait."""
        if self._is_urgent or self._wanted_us is None:
            return self._floor_us
        return self._start_us(self._wanted_us, due_us) + (self.wait_us if self._waits else 0)

    def _start_us(self, wanted_us: int, due_us: int | None) -> int:
        """When it could begin without waiting for more differences."""
        apart_us = max(self._floor_us, self._ended_us + self.owed_us)
        if due_us is not None:
            apart_us = min(apart_us, max(self._floor_us, due_us))
        return max(wanted_us, apart_us)

    @property
    def cost_us(self) -> int:
        """What one costs: the median; 0 before the first."""
        return round(median(self._costs)) if self._costs else 0

    @property
    def _lead_us(self) -> int:
        return round(median(self._leads)) if self._leads else 0

    @property
    def distance_us(self) -> int:
        """The distance that differences keep in the long run."""
        return min(max(self._min_us, round(self.cost_us * self._idle_per_busy)), self._max_us)

    @property
    def owed_us(self) -> int:
        """The distance that the next difference keeps."""
        return max(self._min_us, self.distance_us - self._credit_us)

    @property
    def wait_us(self) -> int:
        """How long a difference waits for others; 0: that has not paid."""
        best_us, best = 0, 0.0
        for wait_us in sorted(one for one in self._enough if one <= self._max_wait_us):
            saved = self.cost_us * self._saved(wait_us) / max(len(self._enough), SAMPLES_MIN)
            if saved - wait_us > best:
                best_us, best = round(wait_us), saved - wait_us
        return best_us

    def _saved(self, wait_us: float) -> int:
        """How many of the last checkpoints that wait would have saved, or has."""
        return sum(one <= wait_us for one in self._enough)

    # ── what is known ───────────────────────────────────────────────────────────────────────────────────────────

    @property
    def why(self) -> str:
        """One line with the figures."""
        if not self._costs:
            return f"no checkpoint has cost anything yet: for differences they are {_ms(self.distance_us)} ms apart"
        limit = ""
        if self.distance_us == self._max_us > self._min_us:
            limit = ", the maximum"
        elif self.distance_us == self._min_us:
            limit = ", the minimum"
        last = "the last checkpoint has" if len(self._costs) == 1 else f"the last {len(self._costs)} checkpoints have"
        each = " each" if len(self._costs) > 1 else ""
        apart = f"for differences they are {_ms(self.distance_us)} ms apart{limit}"
        text = f"{last} cost {_ms(self.cost_us)} ms{each}; {apart}"
        if not self.wait_us:
            return f"{text}; none waits for more"
        found = f"{self._saved(self.wait_us)} of the last {len(self._enough)} had another within that time"
        return f"{text}; a difference waits {_ms(self.wait_us)} ms for more: {found}"

    def status(self) -> dict[str, Any]:
        """`checkpoint.spacing` in the control socket's answer."""
        return {
            "cost_ms": self.cost_us / 1000,
            "of": len(self._costs),
            "busy_percent": self._busy_percent,
            "distance_ms": self.distance_us / 1000,
            "next_distance_ms": self.owed_us / 1000,
            "wait_ms": self.wait_us / 1000,
            "why": self.why,
        }


def _ms(us: int) -> str:
    return f"{us / 1000:.1f}" if us < 10_000 and us % 1000 else f"{us / 1000:.0f}"
