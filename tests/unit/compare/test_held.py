"""What is waiting: reports, the holding times, and that Python and C know the same names."""

import re
from enum import IntEnum
from pathlib import Path

import pytest

from pycolo.compare import kinds
from pycolo.compare.kinds import DivergencePolicy
from support.segments import Flow, Tcp, udp
from support.traces import Comparing

BASE = 1000


@pytest.mark.parametrize("name", ["DifferenceKind", "DivergencePolicy", "RowFlag", "Verdict"])
def test_compiled_code_has_the_same_numbers(name):
    text = Path(kinds.__file__).with_suffix(".pxd").read_text(encoding="utf-8")
    block = re.search(rf"cdef enum {name}:\n((?:    .*\n?)+)", text)
    assert block is not None
    declared = {key: int(value, 0) for key, value in re.findall(r"(\w+) = (\w+)", block[1])}
    enum: type[IntEnum] = getattr(kinds, name)
    assert declared == {member.name: member.value for member in enum}


def test_holding_times_are_counted_in_buckets_that_contain_them():
    trace = Comparing()
    times_us = [0, 1, 5, 8, 9, 100, 1000, 123_456, 2_000_000]
    for place, held_us in enumerate(times_us):
        segment = Tcp(BASE, "A", b"x", flow=Flow(client_port=place + 1))
        trace.primary(segment)
        trace.now_ms += held_us / 1000
        trace.secondary(segment)
    found = [bound for bound, packets in trace.core.hold_histogram() for _ in range(packets)]
    assert len(found) == len(times_us)
    for held_us, bound in zip(sorted(times_us), found, strict=True):
        assert held_us < bound <= max(held_us * 1.25 + 1, held_us + 1)


def test_bounds_of_the_histogram_rise():
    bounds = [bound for bound, _ in Comparing().core.hold_histogram()]
    assert bounds == sorted(bounds)


def test_more_differences_than_there_is_room_for_are_counted():
    trace = Comparing(policy=DivergencePolicy.REPORT, connections_max=256)
    for port in range(1, 101):
        flow = Flow(client_port=port)
        trace.primary(Tcp(BASE, "A", b"a", flow=flow))
        trace.secondary(Tcp(BASE, "A", b"b", flow=flow))
    told = len(trace.differences())
    assert told + trace.core.stats.reports_lost == trace.core.stats.differences == 100
    assert told >= 32


def test_a_batch_that_does_not_fit_the_callers_buffer_is_drained_in_parts():
    trace = Comparing()
    datagrams = [udp(bytes([place]) * 100) for place in range(5)]
    trace.primary(*datagrams)
    trace.secondary(*reversed(datagrams))
    small = bytearray(2 * (len(datagrams[0]) + 4) + 10)
    found = []
    while end := trace.core.drain(small, 0):
        assert end <= len(small)
        found.append(bytes(small[:end]))
    assert b"".join(found) == b"".join(len(octets).to_bytes(4, "big") + octets for octets in datagrams)
    assert not trace.core.has_ready()
    trace.assert_empty()


def test_drain_begins_where_it_is_told():
    trace = Comparing()
    segment = udp(b"data")
    trace.primary(segment)
    trace.secondary(segment)
    out = bytearray(b"\xaa" * 200)
    end = trace.core.drain(out, 50)
    assert bytes(out[:50]) == b"\xaa" * 50
    assert bytes(out[54:end]) == segment
    assert bytes(out[end:]) == b"\xaa" * (200 - end)
