"""The node's metrics for prometheus_client, made from its status answer at each scrape."""

from collections.abc import Callable, Iterator, Mapping
from math import isinf
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from pycolo.metrics.catalog import CATALOG, Spec
from pycolo.metrics.readings import READERS, Buckets, hold_buckets, pause_buckets, text


class NodeCollector(Collector):
    """`status()` returns the last status answer, or None when the node does not answer; it must not block."""

    def __init__(self, status: Callable[[], Mapping[str, Any] | None]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """The metrics of the catalog for which the answer has data. Never raises, whatever the answer is."""
        status = self._status()
        for spec in CATALOG:
            metric = _status_up(spec, status) if spec.name == "colo_status_up" else _metric(spec, status or {})
            if metric.samples:
                yield metric


def _status_up(spec: Spec, status: Mapping[str, Any] | None) -> Metric:
    return GaugeMetricFamily(spec.name, spec.help, value=float(status is not None))


def _metric(spec: Spec, status: Mapping[str, Any]) -> Metric:
    match spec.type:
        case "info":
            return _info(spec, status)
        case "histogram":
            return _histogram(spec, status)
        case _:
            return _numbers(spec, status)


def _numbers(spec: Spec, status: Mapping[str, Any]) -> Metric:
    is_counter = spec.type == "counter"
    kind = CounterMetricFamily if is_counter else GaugeMetricFamily
    metric = kind(spec.name, spec.help, labels=spec.labels)
    seen = set()
    for labels, value in READERS[spec.name](status):
        if labels not in seen and not (is_counter and value < 0):
            seen.add(labels)
            metric.add_metric(labels, value)
    return metric


def _info(spec: Spec, status: Mapping[str, Any]) -> Metric:
    metric = InfoMetricFamily(spec.name.removesuffix("_info"), spec.help)
    if status:
        metric.add_metric([], {name: text(status, name) for name in spec.labels})
    return metric


def _histogram(spec: Spec, status: Mapping[str, Any]) -> Metric:
    metric = HistogramMetricFamily(spec.name, spec.help)
    sum_us: float | None = None
    if spec.name == "colo_hold_seconds":
        buckets = hold_buckets(status)
    else:
        buckets, sum_us = pause_buckets(status)
    if buckets:
        metric.add_metric([], _in_seconds(buckets), None if sum_us is None else sum_us / 1e6)
    return metric


def _in_seconds(buckets: Buckets) -> list[tuple[str, float]]:
    return [("+Inf" if isinf(upper_us) else repr(upper_us / 1e6), count) for upper_us, count in buckets]
