"""The state of every object as Prometheus text, for `--metrics HOST:PORT`.

======================================  ==============================================================================
colo_proxy_up                           1 while the process answers
colo_proxy_NAME_total                   a counter of an object; labels `object` and `type` (QEMU's type name)
colo_proxy_NAME                         a gauge: held_packets, held_bytes, tracked_connections, …
colo_proxy_holding_seconds              how long the oldest packet has been held; 0 if none is held
colo_proxy_stream_connected             1 while the peer is connected; label `stream`, the property
colo_proxy_stream_NAME_total            a stream's bytes_in, bytes_out, connections; a device's frames_in, frames_out
======================================  ==============================================================================

NAME is the cores' own name of it: for colo-compare primary_frames, secondary_frames, compared, released, discarded,
differences, timeouts, clamped, checkpoints_requested, checkpoints_committed …; for filter-rewriter rewritten,
untouched, learned …; for filters on a netdev seen_bytes and injected_bytes.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from pycolo.metrics.scraping import ScrapeServer
from pycolo.proxy.diagnostics import STREAM_GAUGE
from pycolo.proxy.path import ObjectState

_PREFIX: Final = "colo_proxy"


class ProxyCollector(Collector):
    """A collector that queries the objects at each scrape."""

    def __init__(self, states: Callable[[], list[ObjectState]]) -> None:
        self._states = states

    def collect(self) -> Iterator[Metric]:
        """All metrics of the table above."""
        yield GaugeMetricFamily(f"{_PREFIX}_up", "The process answers.", value=1)
        families: dict[str, Metric] = {}
        for state in self._states():
            labels = {"object": state.object_id, "type": state.kind}
            for name, value in state.counters.items():
                _add(families, name, labels, value, is_counter=True)
            for name, value in state.gauges.items():
                _add(families, name, labels, value, is_counter=False)
            _add(families, "holding_seconds", labels, (state.holding_us or 0) / 1e6, is_counter=False)
            for stream in state.streams:
                named = labels | {"stream": stream.role}
                _add(families, "stream_connected", named, int(stream.is_connected), is_counter=False)
                for name, value in stream.counters.items():
                    if name != STREAM_GAUGE:
                        _add(families, f"stream_{name}", named, value, is_counter=True)
        yield from families.values()


def _add(families: dict[str, Metric], name: str, labels: dict[str, str], value: float, *, is_counter: bool) -> None:
    kind = CounterMetricFamily if is_counter else GaugeMetricFamily
    if name not in families:
        text = name.replace("_", " ") + ("" if is_counter else ", now")
        families[name] = kind(f"{_PREFIX}_{name}", text, labels=list(labels))
    family = families[name]
    assert isinstance(family, CounterMetricFamily | GaugeMetricFamily)
    family.add_metric(list(labels.values()), value)


async def serve(listening: socket.socket, states: Callable[[], list[ObjectState]], until: asyncio.Future[None]) -> None:
    """Serve Prometheus on `listening` until told to stop. Each scrape queries the objects."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ProxyCollector(states))

    async def answer(accept: str) -> tuple[bytes, str]:
        encode, kind = choose_encoder(accept)
        return await asyncio.to_thread(encode, registry), kind

    server = ScrapeServer(listening, answer)
    server.start()
    try:
        await until
    finally:
        await server.close()
