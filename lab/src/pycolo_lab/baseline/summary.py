"""Facts -> numbers: the part `baseline` of what `colo demo --json` prints. Pure."""

from collections.abc import Iterable

import msgspec

from pycolo_lab.baseline.facts import Arm, Load, Measured

NS_PER_US = 1_000


class PlaceSummary(msgspec.Struct, kw_only=True):
    """One load in one place. `megabytes_per_second` is of both directions together.

    `answer_us_p50`: how long a small question took meanwhile, and `added_us_p50` how much longer than over the bare
    bridge; null without answers. `processor_seconds_per_gigabyte` is by process, null if no data moved.
    """

    seconds: float
    download_megabytes_per_second: float
    upload_megabytes_per_second: float
    megabytes_per_second: float
    processor_seconds_per_gigabyte: dict[str, float] | None
    answers: int
    answer_us_p50: float | None
    added_us_p50: float | None
    checked_bytes: int


class LoadSummary(msgspec.Struct, kw_only=True):
    """One load: over the bare bridge (a), through nodes that compare nothing (b), protected (c); (c) of both in per
    cent."""

    bridge: PlaceSummary
    uncompared: PlaceSummary
    protected: PlaceSummary
    percent_of_uncompared: float | None
    percent_of_bridge: float | None


class BaselineSummary(msgspec.Struct, kw_only=True):
    """Each transfer alone, and both at once."""

    download: LoadSummary
    upload: LoadSummary
    both: LoadSummary


def measure_baseline(found: Iterable[Measured]) -> BaselineSummary:
    """Compute it; each load must exist in each set-up."""
    by_load: dict[Load, dict[Arm, Measured]] = {load: {} for load in Load}
    for each in found:
        by_load[each.load][each.arm] = each
    return BaselineSummary(**{load.value: _load(arms) for load, arms in by_load.items()})


def percent(part: float, whole: float) -> float | None:
    """None of nothing."""
    return round(part / whole * 100, 1) if whole else None


def _load(arms: dict[Arm, Measured]) -> LoadSummary:
    bare_us = _median_us(arms[Arm.BRIDGE].answers_ns)
    bridge, uncompared, protected = (_place(arms[arm], bare_us) for arm in Arm)
    speed = protected.megabytes_per_second
    return LoadSummary(
        bridge=bridge,
        uncompared=uncompared,
        protected=protected,
        percent_of_uncompared=percent(speed, uncompared.megabytes_per_second),
        percent_of_bridge=percent(speed, bridge.megabytes_per_second),
    )


def _place(measured: Measured, bare_us: float | None) -> PlaceSummary:
    moved = measured.download_bytes + measured.upload_bytes
    answer_us = _median_us(measured.answers_ns)
    per_gigabyte = {who: round(ns / moved, 3) for who, ns in measured.processor_ns.items()} if moved else None
    return PlaceSummary(
        seconds=round(measured.seconds, 3),
        download_megabytes_per_second=_rate(measured.download_bytes, measured.seconds),
        upload_megabytes_per_second=_rate(measured.upload_bytes, measured.seconds),
        megabytes_per_second=_rate(moved, measured.seconds),
        processor_seconds_per_gigabyte=per_gigabyte,
        answers=len(measured.answers_ns),
        answer_us_p50=answer_us,
        added_us_p50=None if answer_us is None or bare_us is None else round(answer_us - bare_us, 1),
        checked_bytes=measured.checked_bytes,
    )


def _rate(moved: int, seconds: float) -> float:
    return round(moved / seconds / 1e6, 1)


def _median_us(took_ns: list[int]) -> float | None:
    return round(sorted(took_ns)[len(took_ns) // 2] / NS_PER_US, 1) if took_ns else None
