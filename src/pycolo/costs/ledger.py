"""Adds up what traffic costs, over the last minute, the last hour and since the start.

Told of each difference, of each committed checkpoint, and of the connections that waited for one. A checkpoint counts
for its first reason, and for the connection of that; so the checkpoints of all rows are all checkpoints.

Time is in seconds of the wall clock, since sums outlive a restart. A clock that is set back makes the parts of its
future no part of the last minute or hour.
"""

from collections import deque
from typing import Any, Final, NamedTuple

import msgspec

from pycolo.checkpoint.records import CheckpointRecord, Outcome, ReasonKind
from pycolo.compare.difference import Difference
from pycolo.compare.wait import Wait
from pycolo.costs.labelled import ServiceCounters
from pycolo.costs.reasons import reason_of
from pycolo.costs.services import NONE, service_of
from pycolo.costs.shapes import shape_of
from pycolo.costs.sums import Part, Sums
from pycolo.costs.words import Shown, shown_rows

BY: Final = ("port", "connection", "reason")


class Window(NamedTuple):
    """`parts_s`: how long each of its parts is, so it covers up to that much more."""

    seconds: int
    parts_s: int


WINDOWS: Final = {"minute": Window(60, 5), "hour": Window(3600, 300)}
SINCE_START: Final = "start"
OVER: Final = (*WINDOWS, SINCE_START)

_SHORTEST_S: Final = min(window.parts_s for window in WINDOWS.values())

EPOCHS_KEPT: Final = 64
"""Epochs whose reason is known and whose waits may still come, or the reverse: both come within milliseconds."""

SHAPES_A_SECOND: Final = 50
"""Further differences of a second are counted without a shape, each of which takes up to 70 µs."""


class Kept(msgspec.Struct):
    """What outlives a restart: everything, and the last hour's parts."""

    all: Part
    hour: list[Part]


class Ledger:
    """`began_s`: now. `kept`: what an earlier process of the node has left.

    Facts go to the present part of a few seconds. When that has ended, it is added to the others.
    """

    def __init__(self, began_s: int, kept: Kept | None = None) -> None:
        self.services = ServiceCounters()
        self._all = kept.all if kept is not None else Part(began_s)
        self._parts: dict[str, deque[Part]] = {name: deque() for name in WINDOWS}
        if kept is not None:
            self._parts["hour"].extend(kept.hour[-WINDOWS["hour"].seconds // WINDOWS["hour"].parts_s - 1 :])
        self._present = Part(began_s)
        self._reasons: dict[int, str] = {}
        self._waits: dict[int, Sums] = {}
        self._shaped_s = began_s
        self._shapes_left = SHAPES_A_SECOND

    # ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────

    def difference(self, difference: Difference, now_s: int) -> None:
        """The comparator has found one."""
        connection = str(difference.connection) if difference.connection else None
        sums = Sums(differences=1, shapes=self._shapes(difference, now_s))
        part = self._part(now_s)
        part.total.add(sums)
        part.ports.add(service_of(connection), sums)
        part.connections.add(connection or NONE, sums)
        part.reasons.add(reason_of(difference.kind).value, sums)

    def _shapes(self, difference: Difference, now_s: int) -> dict[str, int]:
        if now_s != self._shaped_s:
            self._shaped_s, self._shapes_left = now_s, SHAPES_A_SECOND
        if not self._shapes_left:
            return {}
        self._shapes_left -= 1
        return {str(shape_of(difference)): 1}

    def checkpoint(self, record: CheckpointRecord, now_s: int) -> None:
        """One has ended."""
        if record.outcome is not Outcome.COMMITTED:
            return
        first = record.reasons[0] if record.reasons else None
        connection = first.connection if first is not None else None
        reason = (first.kind if first is not None else ReasonKind.HYPERVISOR).value
        sums = Sums(checkpoints=1, paused_us=record.pause_us or 0)
        self.services.add(service_of(connection), sums)
        part = self._part(now_s)
        part.total.add(sums)
        part.ports.add(service_of(connection), sums)
        part.connections.add(connection or NONE, sums)
        part.reasons.add(reason, sums)
        _keep(self._reasons, record.epoch, reason)
        if (waits := self._waits.pop(record.epoch, None)) is not None:
            part.reasons.add(reason, waits)

    def waited(self, epoch: int, waits: list[Wait], now_s: int) -> None:
        """The checkpoint that began `epoch` has released these; its record comes before or after."""
        together = Sums()
        part = self._part(now_s)
        for wait in waits:
            sums = Sums(0, 0, wait.count, wait.waited_us, wait.longest_us, 0, wait.uncompared_bytes)
            connection = str(wait.connection) if wait.connection else None
            service = service_of(connection) if connection else None
            together.add(sums)
            self.services.add(service, sums)
            part.total.add(sums)
            part.ports.add(service, sums)
            part.connections.add(connection if wait.count == 1 else None, sums)
        if (reason := self._reasons.get(epoch)) is not None:
            part.reasons.add(reason, together)
            return
        if epoch in self._waits:
            together.add(self._waits[epoch])
        _keep(self._waits, epoch, together)

    # ── answers ───────────────────────────────────────────────────────────────────────────────────────────────

    def over(self, window: str, now_s: int) -> Part:
        """The costs of `window`, one of `OVER`."""
        present = self._part(now_s)
        began_s = min(self._all.began_s, now_s)
        if window == SINCE_START:
            together, parts = Part(began_s), [self._all]
        else:
            together, parts = Part(max(now_s - WINDOWS[window].seconds, began_s)), list(self._recent(window, now_s))
        for part in (*parts, present):
            together.merge(part)
        together.trim()
        return together

    def answer(self, by: str, window: str, now_s: int) -> dict[str, Any]:
        """As the control socket and the page show it: the rows that cost most first, each in words."""
        part = self.over(window, now_s)
        shown: Shown = shown_rows(by, part.by(by), part.total)
        return {
            "by": by,
            "over": window,
            "since_s": part.began_s,
            "seconds": max(0, now_s - part.began_s),
            **shown,
        }

    def kept(self, now_s: int) -> Kept:
        """What is to outlive a restart."""
        self._end_part(now_s)
        hour = list(self._recent("hour", now_s))
        for part in (self._all, *hour):
            part.trim()
        return Kept(self._all, hour)

    # ── parts ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _part(self, now_s: int) -> Part:
        """The part that a fact of `now_s` belongs to."""
        if self._present.began_s // _SHORTEST_S != now_s // _SHORTEST_S:
            self._end_part(now_s)
        return self._present

    def _end_part(self, now_s: int) -> None:
        """Add the present part to the others, and begin another one."""
        ended, self._present = self._present, Part(now_s)
        self._all.merge(ended)
        for window, (_, parts_s) in WINDOWS.items():
            parts = self._recent(window, now_s)
            began_s = ended.began_s - ended.began_s % parts_s
            if not parts or parts[-1].began_s != began_s:
                parts.append(Part(began_s))
            parts[-1].merge(ended)

    def _recent(self, window: str, now_s: int) -> deque[Part]:
        """The parts that lie in `window`, without older ones and those of a clock that was set back."""
        seconds, parts_s = WINDOWS[window]
        parts = self._parts[window]
        while parts and parts[-1].began_s > now_s:
            parts.pop()
        while parts and parts[0].began_s + parts_s <= now_s - seconds:
            parts.popleft()
        return parts


def _keep(kept: dict[int, Any], epoch: int, value: Any) -> None:
    kept.pop(epoch, None)
    kept[epoch] = value
    while len(kept) > EPOCHS_KEPT:
        del kept[next(iter(kept))]
