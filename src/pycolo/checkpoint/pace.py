"""The pace of checkpoints: when the next periodic one is due, and how long one may take.

While a checkpoint is made the guest stands still, and for as long as it takes to copy what has changed since the last
one::

    pause = fixed + changed / speed

`fixed` and `speed` are measured on finished checkpoints, by medians: one that was slow for another reason says nothing
about the next. The guest runs on for a moment after a checkpoint was asked for, which counts too.

How much has changed is known exactly when it has been copied, and roughly while the guest runs, if the caller looks
(`looked`): then the next checkpoint is due as soon as the copy would take as long as the target allows. Without looks
the guest is expected to change as much per second as before the last checkpoint, and the interval at most doubles with
each.

A checkpoint hangs when its stream has not moved for the time limit; not while bytes move, however many they are. When
they have all been sent, the secondary loads them, which takes no longer than sending them.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Any, Final

PAUSE_TARGET_MS: Final = 100
"""Half of the shortest time after which TCP sends again (Linux: 200 ms)."""

COPIES_KEPT: Final = 9
"""Finished checkpoints by which the next is judged; up to four odd ones do not move a median of nine."""

LARGE_BYTES: Final = 4 << 20
"""As many copies from this size on are kept as smaller ones: the speed is seen only between different sizes."""

DIFFERENT_BYTES: Final = 1 << 20
"""Two copies that differ by less say nothing about the speed."""

SPEED_MAX: Final = 1 << 36
"""Bytes per second: no host copies faster, whatever odd pauses make of it."""

MARGIN: Final = 0.8
"""Share of the target that is aimed at: no two copies of one size take the same time."""

GROWTH: Final = 2
"""The interval at most doubles from one checkpoint to the next: a guest that pauses its work goes on with it."""

SPEED_UNMEASURED: Final = 100 << 20
"""Bytes per second, until a large copy has been seen: a link of 1 Gbit/s."""

PATIENCE: Final = 4
"""A checkpoint that copies the guest's whole memory at a quarter of the measured speed is still within the limit."""

MISSED_MIN: Final = 2
"""The target counts as not held once so many of the last `COPIES_KEPT` pauses were longer, or one twice as long.
Looks are not believed once so many in a row have missed what was then copied."""

STANDING_MAX: Final = 0.5
"""A guest that stands still for more of its time is said to."""

LOOK_SHARE: Final = 0.01
"""Looking at the guest's memory may cost this share of a processor."""

LOOK_MIN_US: Final = 10_000
LOOK_MAX_US: Final = 1_000_000

SHORT_RUN: Final = 4
"""A run of less than a quarter of the interval, in which little was changed, says nothing about the interval."""

CORRECTION_MAX: Final = 4.0

HITS_CHANCE: Final = 2
"""So few changed pages are chance: one of them stands for megabytes."""

HITS_MIN: Final = 8
"""Fewer changed pages in the sample say too little to correct the estimate by."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A committed checkpoint: how long the guest had run, how long it then stood still, what was copied."""

    ran_us: int
    pause_us: int
    copied_bytes: int
    lead_us: int = 0
    """Part of `ran_us`: the guest ran on until the hypervisor had stopped both."""

    @property
    def change_rate(self) -> float:
        """Bytes changed per second of running."""
        return self.copied_bytes * 1e6 / max(self.ran_us, 1)


class Pace:
    """Facts as past-tense methods; times in µs, monotonic."""

    def __init__(self, target_ms: int, min_distance_ms: int, max_interval_ms: int, timeout_ms: int) -> None:
        """`max_interval_ms` 0: no periodic checkpoints."""
        assert target_ms > 0
        assert min_distance_ms >= 0
        assert max_interval_ms >= 0
        assert timeout_ms > 0
        self.target_us = target_ms * 1000
        self.timeout_us = timeout_ms * 1000
        self.ram_bytes = 0
        """The guest's memory; 0: unknown, then a checkpoint may move bytes for ever."""
        self._min_us = min_distance_ms * 1000
        self._max_us = max_interval_ms * 1000
        self.restarted(0)

    # ── facts ───────────────────────────────────────────────────────────────────────────────────────────────────

    def restarted(self, now_us: int) -> None:
        """A pair has formed: nothing is known of it."""
        self._copies: deque[Copied] = deque(maxlen=COPIES_KEPT)
        self._small: deque[Copied] = deque(maxlen=COPIES_KEPT)
        self._large: deque[Copied] = deque(maxlen=COPIES_KEPT)
        self._lead_us = 0
        self.fixed_us = 0
        """The part of a pause that does not depend on what is copied."""
        self.speed = float(SPEED_UNMEASURED)
        """Bytes copied per second of the rest of it."""
        self._interval_us = self._max_us
        self._change_rate: float | None = None
        self._burst_rate = 0.0
        self._corrections: deque[float] = deque(maxlen=COPIES_KEPT)
        self._look_took_us = 0
        self._first_looked_us = 0
        self._missed_looks = 0
        self.resumed(now_us)

    def resumed(self, now_us: int) -> None:
        """The guest runs again after a checkpoint; nothing has changed yet."""
        self._resumed_us = self._looked_us = now_us
        self._is_looking = False
        self._unseen_bytes = self._seen_bytes = 0.0
        self._rate: float | None = None  # by looks since
        self._hits = 0

    def look_began(self, now_us: int, took_us: int) -> None:
        """The sample of the guest's memory, with which later looks compare, was taken."""
        self._is_looking = True
        self._unseen_bytes = (self._change_rate or 0.0) * (now_us - self._resumed_us) / 1e6
        self._first_looked_us = self._looked_us = now_us
        self._look_took_us = took_us

    def looked(self, now_us: int, changed_bytes: int, hits: int, took_us: int) -> None:
        """`changed_bytes` is what the sample says has changed since `look_began`; `hits` are its changed pages."""
        if hits <= HITS_CHANCE:
            changed_bytes = 0
        passed_us = now_us - self._looked_us
        if passed_us > 0:
            self._rate = max(0.0, changed_bytes - self._seen_bytes) * self._correction * 1e6 / passed_us
        if self.is_blind:
            self._rate = None
        self._looked_us, self._seen_bytes, self._hits = now_us, float(changed_bytes), hits
        self._look_took_us = took_us

    def copied(self, copy: Copied) -> None:
        """A checkpoint has been committed, and the guest runs again. Call before `resumed`."""
        self._correct_looks(copy)
        self._burst_rate = max(self._rate or 0.0, copy.change_rate if copy.ran_us >= self._shortest_us else 0.0)
        self._copies.append(copy)
        (self._small if copy.copied_bytes < LARGE_BYTES else self._large).append(copy)
        self.speed, self.fixed_us = fitted([*self._small, *self._large])
        self._lead_us = round(median(one.lead_us for one in self._copies))
        wanted_us = grown_us = float(max(self._interval_us, self._shortest_us, 1) * GROWTH)
        # A short run says little about a long one, as what is changed again and again is copied once.
        is_telling = copy.ran_us * SHORT_RUN >= self._interval_us or copy.copied_bytes * 2 >= self._allowed_bytes
        if is_telling and copy.ran_us >= max(self._min_us, 1):
            self._change_rate = copy.change_rate
            wanted_us = self._allowed_bytes * 1e6 / max(copy.change_rate, 1.0) - self._lead_us
        self._interval_us = round(min(max(self._shortest_us, min(wanted_us, grown_us)), self._max_us))

    def _correct_looks(self, copy: Copied) -> None:
        """Compare what the last look has said with what was copied; after it the guest has changed more."""
        looked_us = self._looked_us - self._first_looked_us
        if not self._is_looking or looked_us <= 0 or looked_us * 2 < copy.ran_us:
            return
        expected = self._seen_bytes * copy.ran_us / looked_us
        if self._hits >= HITS_MIN and expected > 0:
            self._corrections.append(min(CORRECTION_MAX, max(1 / CORRECTION_MAX, copy.copied_bytes / expected)))
        is_missed = copy.copied_bytes > max(CORRECTION_MAX * expected, self._allowed_bytes)
        self._missed_looks = self._missed_looks + 1 if is_missed else 0

    # ── the next one ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_periodic(self) -> bool:
        """Whether there are periodic checkpoints at all."""
        return self._max_us > 0

    @property
    def is_blind(self) -> bool:
        """Whether looks have missed what changed: it is elsewhere, or written with what it held before."""
        return self._missed_looks >= MISSED_MIN

    @property
    def is_looking(self) -> bool:
        """Whether a sample of the memory was taken since the guest runs."""
        return self._is_looking

    @property
    def interval_us(self) -> int:
        """The interval by what finished checkpoints have copied."""
        return self._interval_us

    def due_us(self, ended_us: int) -> int | None:
        """When the next periodic checkpoint is due, the last one having ended at `ended_us`; None: never."""
        if not self.is_periodic:
            return None
        latest_us = ended_us + self._max_us
        earliest_us = min(ended_us + self._shortest_us, latest_us)
        if self._rate is None:
            due_us = min(latest_us, ended_us + self._interval_us)
            if self._is_looking and self._burst_rate:  # until the first comparison it is as busy as it was
                burst_us = round(self._allowed_bytes * 1e6 / self._burst_rate) - self._lead_us
                due_us = min(due_us, max(earliest_us, ended_us + burst_us))
            return due_us
        left = self._allowed_bytes - self._changed_bytes - self._rate * self._lead_us / 1e6
        if left <= 0:
            return max(earliest_us, min(self._looked_us, latest_us))
        if self._rate * (latest_us - self._looked_us) / 1e6 <= left:
            return latest_us
        return max(earliest_us, self._looked_us + round(left * 1e6 / self._rate))

    def look_us(self, ended_us: int) -> int | None:
        """When to look at the guest's memory; None: not before the next checkpoint."""
        due_us = self.due_us(ended_us)
        if due_us is None:
            return None
        pause_us = min(LOOK_MAX_US, max(LOOK_MIN_US, round(self._look_took_us / LOOK_SHARE)))
        at_us = self._looked_us + (pause_us if self._is_looking else LOOK_MIN_US)
        if not self._is_looking:  # frequent checkpoints are no reason to look more often
            at_us = max(at_us, self._first_looked_us + pause_us)
        return at_us if at_us < due_us else None

    # ── its time limit ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def longest_us(self) -> int | None:
        """A checkpoint that takes longer is given up even if bytes still move; None: there is no such limit."""
        if not self.ram_bytes:
            return None
        return self.timeout_us + round(PATIENCE * self.ram_bytes * 1e6 / self.speed)

    def overdue_us(self, began_us: int, moved_us: int | None) -> int:
        """When a checkpoint that began at `began_us` hangs; its stream has moved last at `moved_us`, if at all."""
        if moved_us is None or moved_us <= began_us:
            return began_us + self.timeout_us
        # The secondary loads what has come.
        quiet_us = moved_us + (moved_us - began_us) + self.timeout_us
        return quiet_us if self.longest_us is None else min(quiet_us, began_us + self.longest_us)

    # ── what is known ───────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _shortest_us(self) -> int:
        """The shortest interval: a guest runs at least as long as it would stand still if nothing had changed."""
        return max(self._min_us, self.fixed_us)

    @property
    def change_rate(self) -> float | None:
        """Bytes changed per second, as last seen."""
        return self._change_rate if self._rate is None else self._rate

    @property
    def _changed_bytes(self) -> float:
        """What looks say has changed since the guest runs."""
        return self._unseen_bytes + self._seen_bytes * self._correction

    @property
    def _correction(self) -> float:
        """What is copied, as a multiple of what looks say."""
        return median(self._corrections) if self._corrections else 1.0

    @property
    def _allowed_bytes(self) -> float:
        """What can be copied within the target; where the fixed part leaves no room for that, what doubles the pause.

        To hurry would not help then: the guest would stand still for the fixed part again and again.
        """
        room_us = self.target_us * MARGIN - self.fixed_us
        if room_us < self.target_us * (1 - MARGIN):
            room_us = max(self.target_us * (1 - MARGIN), min(self.fixed_us, self.target_us))
        return self.speed * room_us / 1e6

    @property
    def standing(self) -> float:
        """The share of its time for which the guest stands still, by the last checkpoints."""
        stood_us = sum(copy.pause_us for copy in self._copies)
        return stood_us / max(1, stood_us + sum(copy.ran_us for copy in self._copies))

    @property
    def missed(self) -> int:
        """How many of the last pauses were longer than the target."""
        return sum(copy.pause_us > self.target_us for copy in self._copies)

    @property
    def is_held(self) -> bool:
        """Whether pauses are within the target."""
        longest_us = max((copy.pause_us for copy in self._copies), default=0)
        return not self.is_periodic or (self.missed < MISSED_MIN and longest_us <= 2 * self.target_us)

    @property
    def finding(self) -> str | None:
        """One line with the figures while the target is not held, or costs the guest more than half of its time."""
        if self.is_held:
            return self._price
        worst = max(self._copies, key=lambda copy: copy.pause_us)
        more = f", and each checkpoint costs {ms(self.fixed_us)} ms more" if self._small else ""
        number = len(self._copies)
        many = f"{self.missed} of the last {number} pauses {'was' if self.missed == 1 else 'were'}"
        return (
            f"the pause target of {ms(self.target_us)} ms is not held: {many if number > 1 else 'the last pause was'} "
            f"longer, the longest {ms(worst.pause_us)} ms for {mib(worst.copied_bytes)}, changed in "
            f"{worst.ran_us / 1e6:.2f} s; {mib(self.speed)}/s are copied{more}; the guest stands still "
            f"for {self.standing:.0%} of its time"
        )

    @property
    def _price(self) -> str | None:
        if not self.is_periodic or len(self._copies) < COPIES_KEPT or self.standing <= STANDING_MAX:
            return None
        return (
            f"the guest stands still for {self.standing:.0%} of its time, so that no pause is longer than "
            f"{ms(self.target_us)} ms: {mib(self.change_rate or 0)}/s change and {mib(self.speed)}/s are copied; with "
            "a longer protect.pause_target_ms it gets more done"
        )

    def why_now(self, waited_us: int) -> str:
        """Why a periodic checkpoint is due after `waited_us`."""
        ago = f"{waited_us / 1e6:.1f} s" if waited_us >= 1_000_000 else f"{ms(waited_us)} ms"
        text = f"the last one was {ago} ago"
        if waited_us >= self._max_us or self.change_rate is None:
            return text
        return (
            f"{text}; {mib(self.change_rate)}/s change and {mib(self.speed)}/s are copied: later the guest would stand "
            f"still for more than {ms(self.target_us)} ms"
        )

    def status(self) -> dict[str, Any]:
        """`checkpoint.pace` in the control socket's answer."""
        longest_us, rate = self.longest_us, self.change_rate
        return {
            "target_ms": self.target_us / 1000,
            "is_held": self.is_held,
            "why": self.finding,
            "standing": round(self.standing, 3),
            "missed": self.missed,
            "of": len(self._copies),
            "interval_ms": self._interval_us / 1000 if self.is_periodic else None,
            "is_looking": self._is_looking,
            "change_bytes_per_s": None if rate is None else round(rate),
            "copy_bytes_per_s": round(self.speed) if self._large else None,
            "fixed_ms": self.fixed_us / 1000,
            "longest_ms": None if longest_us is None else longest_us // 1000,
        }


def fitted(copies: Sequence[Copied]) -> tuple[float, int]:
    """Speed and fixed part: a line through the copies by the medians of Theil and Sen, which odd ones do not move.

    Pairs of copies that differ by more bytes say more about the speed, up to a limit.
    """
    slopes = [
        (
            (one.pause_us - other.pause_us) / (one.copied_bytes - other.copied_bytes),
            abs(one.copied_bytes - other.copied_bytes),
        )
        for one, other in combinations(copies, 2)
        if abs(one.copied_bytes - other.copied_bytes) >= DIFFERENT_BYTES
    ]
    if slopes:
        heaviest = 2 * median(weight for _, weight in slopes)
        slope = weighted_median([(value, min(weight, heaviest)) for value, weight in slopes])
    else:  # all of one size: the fixed part cannot be told apart
        large = [copy.pause_us / copy.copied_bytes for copy in copies if copy.copied_bytes >= LARGE_BYTES]
        slope = median(large) if large else 1e6 / SPEED_UNMEASURED
    slope = max(slope, 1e6 / SPEED_MAX)
    fixed_us = median(copy.pause_us - slope * copy.copied_bytes for copy in copies)
    return 1e6 / slope, max(0, round(fixed_us))


def weighted_median(values: list[tuple[float, float]]) -> float:
    """Of (value, weight) pairs, at least one: half of the weight lies on either side."""
    left = sum(weight for _, weight in values) / 2
    for value, weight in sorted(values):
        left -= weight
        if left <= 0:
            return value
    return max(values)[0]


def mib(octets: float) -> str:
    """A number of bytes as text."""
    if octets >= 1 << 30:
        return f"{octets / (1 << 30):.1f} GiB"
    return f"{octets / (1 << 20):.1f} MiB" if octets < 100 << 20 else f"{octets / (1 << 20):.0f} MiB"


def ms(us: int) -> str:
    """Milliseconds as text."""
    return f"{us / 1000:.0f}"
