"""How a port's requests are ordered: chosen by what is seen of it.

::

    off ── it diverges ──► one at a time, mirrored when answered ── nothing differs ──► mirrored when given ──► wider
     ▲                       │       ▲        ▲                                             │           │
     │                       │       │        └────── requests wait for each other (locks) ─┴───────────┤
     │                       │       └─────────────── a difference: half as wide, then when answered ───┘
     └─ later, again ── it does not help: given up

A port of the mode `follow` begins ordered and is never given up; one of the mode `auto` begins off. Times are monotonic
microseconds. Values in, values out: who uses it carries the settings out.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from pycolo import limits

LOOK_US: Final = 250_000
"""How often the counts of a port are to be shown."""

WIDTH_MAX: Final = 16
"""Sixteen requests at once were as fast as a guest is on two processors; more were no faster."""

STOPS_MIN: Final = 3
"""So many checkpoints within `WINDOW_US` are a port that diverges: a connection may differ as it begins (a key)."""

WINDOW_US: Final = 10_000_000

OBSERVED_US: Final = 1_000_000
"""A port diverges for so long before it is ordered: connections that begin together may differ in a burst."""

COST_MIN: Final = 0.2
"""Of the time in which answers wait for checkpoints. Order costs a tenth of a service's rate, on a busy host more; a
date that differs once a second costs less than this, and as much with it."""

MUTUAL_MIN: Final = 3
"""So many mutual waits within `WINDOW_US` are enough: they come from the order of requests, and clients lose more by
them than the time in which answers wait. Fewer may be those of a host that was busy for a moment."""

DIFFERENCE_US: Final = 50_000
"""Differences that are nearer to each other are one: a checkpoint answers them all."""

TRUST_MIN: Final = 200
"""Requests without a difference, before more is tried; twice as many after each attempt that failed."""

TRUST_MAX: Final = 1_000_000

BLOCKED_MIN: Final = 3
BLOCKED_PART: Final = 50
"""Requests that wait for others, more than a fiftieth: there are locks."""

TRIAL_US: Final = 5_000_000
TRIALS: Final = 2
HELP_PART: Final = 2
"""It helps if answers and requests wait for half as long as answers did without order, or as half of `COST_MIN`, in one
of two trials of five seconds. A request that is never answered holds others up for the limit of its round."""

REST_US: Final = 60_000_000
REST_US_MAX: Final = 3_600_000_000

REVIEW_US: Final = 600_000_000
REVIEW_US_MAX: Final = 3_600_000_000
"""What is ordered does not say whether it would still diverge: that is tried for a second after ten minutes, then after
twenty, up to an hour."""

LIMIT_US: Final = limits.ORDERED_LIMIT_MS * 1000
LIMIT_US_MIN: Final = 12_000
LIMIT_US_MAX: Final = limits.ORDERED_LIMIT_MS_MAX * 1000
SERVED_MIN: Final = 32
LEARNED_SHARE: Final = 0.8
LEARNED_TIMES: Final = 2
"""The limit is so many times what this share of the requests takes, and `LIMIT_US_MIN`."""


class Mode(StrEnum):
    """What the configuration says of a port."""

    OFF = "off"
    FOLLOW = "follow"
    AUTO = "auto"


class Setting(NamedTuple):
    """What both nodes are to do with a port; `width` 0: nothing. `is_early`: mirror when given."""

    port: int
    width: int
    is_early: bool
    limit_us: int


class Stop(NamedTuple):
    """A checkpoint for a difference of this port, and how long the oldest answer had waited for it."""

    ended_us: int
    lasted_us: int


class PortTuner:
    """One port. `setting` is the present one, `why` its reason in words."""

    def __init__(self, port: int, mode: Mode, now_us: int) -> None:
        self.mode = mode
        self.setting = Setting(port, int(mode is Mode.FOLLOW), False, LIMIT_US)
        self.why = "configured" if mode is Mode.FOLLOW else "few differences"
        self.differences = 0
        self._stops: deque[Stop] = deque()
        self._mutual_us: deque[int] = deque(maxlen=MUTUAL_MIN)
        self._has_differed = False
        self._differed_us = -WINDOW_US
        self._trust = TRUST_MIN
        self._clean_from = 0
        self._blocked_from = 0
        self._seen: Mapping[str, Any] = {}
        self._times = [0.0] * 64
        self._cost_before = 0.0
        self._trial_us = now_us
        self._trial_lost_us = 0
        self._bad_trials = 0
        self._rest_us = REST_US
        self._off_until_us = 0
        self._begun_us = now_us
        self._review_us = REVIEW_US

    @property
    def is_on(self) -> bool:
        """Whether its requests are ordered."""
        return self.setting.width > 0

    def differed(self, now_us: int, *, is_mutual: bool = False) -> bool:
        """The guests have answered differently on this port; `is_mutual`: by a mutual wait. Whether the setting has
        changed.
        """
        if self.mode is Mode.OFF or now_us - self._differed_us < DIFFERENCE_US:
            return False
        self._differed_us = now_us
        self._has_differed = True
        self.differences += 1
        if is_mutual:
            self._mutual_us.append(now_us)
        if not self.is_on:
            return False
        self._doubt()
        if self.setting.width > 1:
            return self._set(self.setting.width // 2, self.setting.is_early, "a difference: fewer at once")
        return self._set(1, False, "a difference: one at a time, mirrored when answered")

    def waited(self, longest_us: int, now_us: int) -> bool:
        """A checkpoint has let answers of this port go, the oldest after so long. Whether the setting has changed."""
        if not self._has_differed:
            return False
        self._has_differed = False
        if self.is_on:
            self._trial_lost_us += longest_us
            return False
        self._stops.append(Stop(now_us, longest_us))
        while self._stops[0].ended_us < now_us - WINDOW_US:
            self._stops.popleft()
        return self._try(now_us)

    def looked(self, counts: Mapping[str, Any], now_us: int) -> bool:
        """What the gate has counted since it exists. Whether the setting has changed."""
        before, self._seen = self._seen or dict.fromkeys(counts, 0) | {"times": [0] * 64}, counts
        if not self.is_on:
            return False
        self._trial_lost_us += counts["stalled_us"] - before["stalled_us"]
        if self.mode is Mode.AUTO and self._leave(now_us):
            return True
        has_learned = self._learn(before, counts)
        clean, blocked = counts["requests"] - self._clean_from, counts["blocked"] - self._blocked_from
        if blocked >= max(BLOCKED_MIN, clean // BLOCKED_PART) and (self.setting.width > 1 or self.setting.is_early):
            self._doubt()
            return self._set(1, False, "requests wait for each other: one at a time, mirrored when answered")
        if clean >= self._trust:
            self._clean_from, self._blocked_from = counts["requests"], counts["blocked"]
            if blocked >= max(BLOCKED_MIN, clean // BLOCKED_PART):
                self.why = "requests wait for each other: one at a time, mirrored when answered"
            elif not self.setting.is_early:
                return self._set(
                    self.setting.width, True, f"{clean} requests without a difference: mirrored when given"
                )
            elif self.setting.width < WIDTH_MAX:
                return self._set(2 * self.setting.width, True, f"{clean} requests without a difference: more at once")
        return has_learned

    # ── the parts ───────────────────────────────────────────────────────────────────────────────────────────────

    def _set(self, width: int, is_early: bool, why: str) -> bool:  # noqa: FBT001
        self.why = why
        before = self.setting
        self.setting = self.setting._replace(width=width, is_early=is_early)
        return self.setting != before

    def _doubt(self) -> None:
        """What was tried last has failed."""
        self._trust = min(2 * self._trust, TRUST_MAX)
        self._clean_from = self._seen.get("requests", 0)
        self._blocked_from = self._seen.get("blocked", 0)

    def _try(self, now_us: int) -> bool:
        """It is off, and a checkpoint was made because it has differed."""
        observed_us = now_us - self._stops[0].ended_us + self._stops[0].lasted_us
        is_mutual = len(self._mutual_us) == MUTUAL_MIN and self._mutual_us[0] > now_us - WINDOW_US
        if now_us < self._off_until_us or len(self._stops) < STOPS_MIN:
            return False
        cost = sum(stop.lasted_us for stop in self._stops) / observed_us
        if is_mutual:
            return self._begin(cost, f"{MUTUAL_MIN} mutual waits: requests are ordered", now_us)
        if observed_us < OBSERVED_US:
            return False
        if cost < COST_MIN:
            self.why = f"clients wait for checkpoints {cost:.0%} of the time, which is little"
            return False
        return self._begin(cost, f"clients wait for checkpoints {cost:.0%} of the time: requests are ordered", now_us)

    def _begin(self, cost: float, why: str, now_us: int) -> bool:
        """A trial. `cost`: of the time without order."""
        self._cost_before = cost
        self._begun_us = self._trial_us = now_us
        self._trial_lost_us = self._bad_trials = 0
        self._trust = TRUST_MIN
        self._doubt()
        return self._set(1, False, why)

    def _leave(self, now_us: int) -> bool:
        """Go without order when it does not help, and now and then to see whether it is needed."""
        if now_us - self._trial_us >= TRIAL_US and self._give_up(now_us):
            return True
        if now_us - self._begun_us < self._review_us:
            return False
        self._review_us = min(2 * self._review_us, REVIEW_US_MAX)
        return self._stop("tried without order")

    def _give_up(self, now_us: int) -> bool:
        """A trial is over."""
        cost = self._trial_lost_us / (now_us - self._trial_us)
        self._trial_us, self._trial_lost_us = now_us, 0
        if cost < max(self._cost_before, COST_MIN) / HELP_PART:
            self._bad_trials = 0
            return False
        self._bad_trials += 1
        if self._bad_trials < TRIALS:
            return False
        self._off_until_us = now_us + self._rest_us
        why = (
            f"no help: clients wait {cost:.0%} of the time with it, {self._cost_before:.0%} without; "
            f"tried again after {self._rest_us // 1_000_000} s"
        )
        self._rest_us = min(2 * self._rest_us, REST_US_MAX)
        return self._stop(why)

    def _stop(self, why: str) -> bool:
        self._stops.clear()
        self._mutual_us.clear()
        return self._set(0, False, why)

    def _learn(self, before: Mapping[str, Any], counts: Mapping[str, Any]) -> bool:
        """From answers within their round only: a request that waits for another one takes as long as that does."""
        served, limited = counts["served"] - before["served"], counts["limited"] - before["limited"]
        limit_us = self.setting.limit_us
        if limited * 4 > served + limited > BLOCKED_MIN:
            limit_us = limit_us * 3 // 2
        elif served >= SERVED_MIN:
            added = [now - then for now, then in zip(counts["times"], before["times"], strict=True)]
            self._times = [old / 2 + new for old, new in zip(self._times, added, strict=True)]
            limit_us = LIMIT_US_MIN + LEARNED_TIMES * quantile_us(self._times, LEARNED_SHARE)
        limit_us = min(max(limit_us, LIMIT_US_MIN), LIMIT_US_MAX)
        if abs(limit_us - self.setting.limit_us) * 4 <= self.setting.limit_us:
            return False
        self.setting = self.setting._replace(limit_us=limit_us)
        return True


class Tuner:
    """All ports. `modes`: those that are configured; `others`: of every other port."""

    def __init__(self, modes: Mapping[int, Mode], others: Mode = Mode.OFF) -> None:
        self._modes = dict(modes)
        self._others = others
        self.ports: dict[int, PortTuner] = {}

    @property
    def is_off(self) -> bool:
        """Whether no port will ever be ordered."""
        return self._others is Mode.OFF and all(mode is Mode.OFF for mode in self._modes.values())

    def begin(self, now_us: int) -> list[Setting]:
        """A secondary is there: what is configured to be on. What was learned before stays."""
        for port, mode in self._modes.items():
            if mode is not Mode.OFF and port not in self.ports:
                self.ports[port] = PortTuner(port, mode, now_us)
        return [one.setting for one in self.ports.values() if one.is_on]

    def differed(self, port: int, now_us: int, *, is_mutual: bool = False) -> list[Setting]:
        """The guests have answered differently on one of the guest's ports, or each waits for the other."""
        mode = self._modes.get(port, self._others)
        if port not in self.ports and mode is not Mode.OFF and len(self.ports) < limits.ORDERED_PORTS_MAX:
            self.ports[port] = PortTuner(port, mode, now_us)
        found = self.ports.get(port)
        return [found.setting] if found is not None and found.differed(now_us, is_mutual=is_mutual) else []

    def waited(self, port: int, longest_us: int, now_us: int) -> list[Setting]:
        """A checkpoint has let answers of one of the guest's ports go."""
        found = self.ports.get(port)
        return [found.setting] if found is not None and found.waited(longest_us, now_us) else []

    def looked(self, gates: Iterable[Mapping[str, Any]], now_us: int) -> list[Setting]:
        """The counts of all gates."""
        found = [(self.ports[gate["port"]], gate) for gate in gates if gate["port"] in self.ports]
        return [one.setting for one, gate in found if one.looked(gate, now_us)]


def quantile_us(times: list[float], share: float) -> int:
    """An upper bound of what this share of the times does not exceed; see `Lanes` for the buckets."""
    wanted, total = share * sum(times), 0.0
    for bucket, count in enumerate(times):
        total += count
        if count and total >= wanted:
            return int(2 ** (bucket / 2)) + 1
    return 0
