"""A frame that both sides have to bring, and that never leaves."""

import pytest

from pycolo.core import Probe
from pycolo.limits import PROBE_BYTES_MAX
from pycolo.wire.build import probe
from support.segments import arp
from support.traces import Comparing

FRAME = probe(bytes(range(16)))


def came(trace):
    return trace.core.probe.from_primary, trace.core.probe.from_secondary


def test_what_is_expected_is_taken_out_of_both_streams():
    trace = Comparing()
    trace.core.probe.expect(FRAME)
    trace.primary(FRAME, arp())
    assert came(trace) == (1, 0)
    trace.secondary(FRAME)
    assert came(trace) == (1, 1)
    assert trace.frames() == [arp()]
    assert trace.core.stats.passed == 1


@pytest.mark.parametrize("expected", [None, probe(bytes(16)), FRAME[:-1]])
def test_any_other_frame_passes(expected):
    trace = Comparing()
    trace.core.probe.expect(expected)
    trace.primary(FRAME)
    trace.secondary(FRAME)
    assert trace.frames() == [FRAME]
    assert came(trace) == (0, 0)


def test_what_the_secondary_sent_before_its_marker_is_no_answer():
    trace = Comparing()
    trace.commit(awaits_marker=True)
    trace.core.probe.expect(FRAME)
    trace.secondary(FRAME)
    assert came(trace) == (0, 0)
    trace.core.epoch_marker(trace.core.epoch)
    trace.secondary(FRAME)
    assert came(trace) == (0, 1)


def test_a_new_probe_begins_anew():
    trace = Comparing()
    trace.core.probe.expect(FRAME)
    trace.primary(FRAME)
    trace.core.probe.expect(FRAME)
    assert came(trace) == (0, 0)


def test_it_is_bounded():
    Probe().expect(bytes(PROBE_BYTES_MAX))
    with pytest.raises(ValueError, match="129 bytes"):
        Probe().expect(bytes(PROBE_BYTES_MAX + 1))
