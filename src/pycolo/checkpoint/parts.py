"""The parts of a checkpoint, from the request to the primary's RESUME, by the moments at which the primary's node has
seen them. Pure.

::

    asked ─ stop-secondary ─ drain ─ stop-primary ─ STOP ─
    begin ─ write ─ link ─ disks ─ receive ─ load ─ commit ─ resume ─ RESUME

Those from STOP on are the pause. Moments of two clocks, QEMU's and the node's, may be some microseconds out of order:
each is taken as not before the one before it and not after RESUME, so that the parts add up exactly.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from statistics import median
from typing import Final


class Part(StrEnum):
    """In order. Whose time it is stands in brackets."""

    STOP_SECONDARY = "stop-secondary"
    """From asking QEMU until REPLY has come: the secondary's guest reads its ring empty and stops, and its node reads
    its output. (both)"""
    DRAIN = "drain"
    """Until REPLY has passed: the primary's guest gets no input any more, and reads its ring empty. (ours)"""
    STOP_PRIMARY = "stop-primary"
    """Until STOP: the primary's vCPUs stop. (QEMU)"""
    BEGIN = "begin"
    """Until the first byte of the state has left the node. (QEMU)"""
    WRITE = "write"
    """Until the last one has, without the next two. (QEMU)"""
    LINK = "link"
    """Bytes waited here for the link to take them. (the link, or the secondary's QEMU behind it)"""
    DISKS = "disks"
    """The last byte waited here for the word about the disks. (ours)"""
    RECEIVE = "receive"
    """Until RECEIVED has come: what is left in the link, and the secondary's QEMU reads it. (both)"""
    LOAD = "load"
    """Until LOADED has come: the secondary's QEMU loads it. (QEMU)"""
    COMMIT = "commit"
    """Until LOADED has passed: the primary's output is read to its end, and what is held is released. (ours)"""
    RESUME = "resume"
    """Until RESUME. (QEMU)"""


OF_THE_PAUSE: Final = tuple(Part)[3:]
"""These add up to the pause, from STOP to RESUME."""


@dataclass(frozen=True, slots=True)
class Flow:
    """The state on its way through the primary's node: when its first and its last byte left (monotonic µs; 0: none
    has), how long bytes waited for the link, and how long the last one waited for the disks' word.
    """

    first_us: int = 0
    last_us: int = 0
    blocked_us: int = 0
    disks_us: int = 0


@dataclass(slots=True)
class Moments:
    """Of one checkpoint at the primary's node, in monotonic µs; 0: not seen."""

    replied_us: int = 0
    reply_passed_us: int = 0
    received_us: int = 0
    loaded_us: int = 0
    committed_us: int = 0
    flow: Flow = Flow()
    clock_us: int = 0
    """What the clock of QEMU's events (unix time) is ahead of the monotonic one."""


def parts_of(moments: Moments, asked_us: int, stopped_at_us: int, resumed_at_us: int) -> dict[Part, int]:
    """Each part in µs; together they are the time from asking to RESUME. STOP and RESUME are in QEMU's clock."""
    flow = moments.flow
    until_us = max(asked_us, resumed_at_us - moments.clock_us)
    stopped_us = min(max(asked_us, stopped_at_us - moments.clock_us), until_us)
    before = _limited([asked_us, moments.replied_us, moments.reply_passed_us], stopped_us)
    after = _limited(
        [stopped_us, flow.first_us, flow.last_us, moments.received_us, moments.loaded_us, moments.committed_us],
        until_us,
    )
    sending_us = after[2] - after[1]
    link_us = min(flow.blocked_us, sending_us)
    disks_us = min(flow.disks_us, sending_us - link_us)
    spans = [later - earlier for earlier, later in pairwise([*before, *after, until_us])]
    begin, _, *rest = spans[3:]
    return dict(zip(Part, [*spans[:3], begin, sending_us - link_us - disks_us, link_us, disks_us, *rest], strict=True))


def _limited(moments: Iterable[int], until_us: int) -> list[int]:
    """None before the one before it, none after `until_us`."""
    found: list[int] = []
    for moment_us in moments:
        found.append(min(until_us, max(moment_us, found[-1] if found else moment_us)))
    return found


def medians(all_parts: Iterable[Mapping[Part, int]]) -> dict[Part, int] | None:
    """Of each part, in µs; None without any."""
    taken = list(all_parts)
    return {part: round(median(one[part] for one in taken)) for part in Part} if taken else None


def shown(parts: Mapping[Part, int] | None) -> dict[str, float] | None:
    """In milliseconds, as the control socket's answers show them."""
    return None if parts is None else {part.value: us / 1000 for part, us in parts.items()}
