"""What a packet costs does not grow with what waits: steps along lists are counted, for the traces of benchmarks/."""

import math
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture(autouse=True)
def _on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def names():
    lines = (BENCHMARKS / "hostile.py").read_text(encoding="utf-8").splitlines()
    return [line.split('"')[1] for line in lines if line.strip().startswith('Trace("')]


@pytest.mark.parametrize("name", names())
def test_few_steps_whatever_waits(name):
    """None, or as many as the number that waits has digits: what is sorted stands in a tree."""
    import hostile

    trace = next(one for one in hostile.TRACES if one.name == name)
    waiting = min(trace.most, 8000)
    bound = 20 + 3 * math.log2(waiting)
    assert hostile.steps(trace, waiting) <= bound
    assert hostile.steps(trace, waiting // 8) <= bound


def test_steps_are_counted():
    """The same measure sees a list that is looked through: a short one has no index."""
    import hostile

    few, many = (hostile.steps(hostile.Trace("", hostile.kept), waiting) for waiting in (0, 15))
    assert many >= few + 10


@pytest.mark.slow
@pytest.mark.parametrize("policy", [1, 2, 3], ids=["report", "hold", "reset"])
@pytest.mark.parametrize("name", names())
def test_nothing_is_left_of_it(name, policy):
    """All that a trace leaves waiting goes by its deadlines, and every list is empty then."""
    import hostile

    from pycolo.core import Comparator

    trace = next(one for one in hostile.TRACES if one.name == name)
    before, probes = trace.made(min(trace.most, 300))
    one = hostile.Comparing()
    one.core = core = Comparator(hostile.SEED, policy=policy, queue_packets_max=1 << 12, held_packets_max=1 << 14)
    one.feed([*before, *probes])
    one.drained()
    now_us = hostile.START_US
    while (due := core.deadline_us()) is not None:
        now_us = max(due, now_us + 1_000_000)
        core.timer_fired(now_us)
        one.drained()
    assert core.held_packets() == 0
    assert core.table.used == 0
    assert core.primary_fragments.used == 0


@pytest.mark.parametrize("policy", [1, 2, 3], ids=["report", "hold", "reset"])
@pytest.mark.parametrize("each", [1, 5])
def test_who_gives_way_is_found_in_few_steps(policy, each):
    """The memory is full of many connections that hold little: of each packet that needs room one gives way."""
    import hostile

    from pycolo.core import Comparator

    records = 12_000
    one = hostile.Comparing()
    one.core = core = Comparator(hostile.SEED, policy=policy, held_packets_max=records)
    datagrams = [
        bytearray(hostile.udp(hostile.alike(place), 1000 + number // each))
        for place, number in enumerate(range(2 * records))
    ]
    for datagram in datagrams[:records]:
        core.primary_frames(datagram, 0, len(datagram), hostile.START_US)
        one.drained()
    walked, gave_way = core.pool.walked, core.stats.gave_way
    for datagram in datagrams[records:]:
        core.primary_frames(datagram, 0, len(datagram), hostile.START_US)
        one.drained()
    found = core.stats.gave_way - gave_way
    assert found >= records / each / 8
    assert (core.pool.walked - walked) / found <= 4 * 64 + 2 * math.log2(records)
