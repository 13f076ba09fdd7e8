"""The state of every object, as text for people (SIGUSR1). `exposition` renders it for Prometheus."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from typing import Final

from pycolo.proxy.path import ObjectState, ProxyPath, StreamState

ANSWER_S: Final = 2.0
"""An object's thread answers between two batches; a thread that takes longer is left out."""

STREAM_GAUGE: Final = "connected"
"""The one number of a stream that is a gauge."""


def states_of(paths: Iterable[ProxyPath]) -> list[ObjectState]:
    """The state of every object whose thread answers in time."""
    asked: list[Future[list[ObjectState]]] = [path.ask(path.states) for path in paths if path.is_alive()]
    found: list[ObjectState] = []
    for answer in asked:
        with suppress(FutureTimeout):
            found.extend(answer.result(ANSWER_S))
    return found


# ── for people ────────────────────────────────────────────────────────────────────────────────────────────────


def lines_of(state: ObjectState) -> Iterator[str]:
    """One line for the object and one per stream; zeros are left out."""
    words = [f"{state.kind} {state.object_id}:"]
    if state.is_waiting:
        words.append("waiting for connections (wait=on)")
    if state.held:
        words.append(f"{state.held} packets held, the oldest for {(state.holding_us or 0) / 1000:.1f} ms")
    numbers = state.gauges | state.counters
    words += [f"{name}={value}" for name, value in numbers.items() if value]
    yield " ".join(words)
    for stream in state.streams:
        yield "  " + _stream_line(stream)


def _stream_line(stream: StreamState) -> str:
    words = [f"{stream.role}: {stream.name}", "connected" if stream.is_connected else "not connected"]
    words += [f"{name}={value}" for name, value in stream.counters.items() if value and name != STREAM_GAUGE]
    return " ".join(words)
