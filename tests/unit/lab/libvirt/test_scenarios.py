"""Which scenarios a run plays."""

import pytest

from pycolo_lab.errors import LabUsageError
from pycolo_lab.libvirt.facts import RoundFacts
from pycolo_lab.libvirt.scenarios import SCENARIOS, choose
from pycolo_lab.libvirt.session import round_line, table
from pycolo_lab.work.kinds import WORKS


def test_without_a_name_all_of_them_and_otherwise_the_named_ones():
    assert choose((), has_disk=True, has_services=True) == list(SCENARIOS)
    names = ("save", "reboot", "save")
    assert tuple(scenario.name for scenario in choose(names, has_disk=False)) == names


def test_those_without_nodes_come_first():
    assert [scenario.name for scenario in choose(("save", "plain"), has_disk=True)] == ["plain", "save"]


def test_a_name_that_there_is_not_is_refused_with_those_that_there_are():
    with pytest.raises(LabUsageError, match="no scenario plane; there are plain"):
        choose(("plane",), has_disk=True)


def test_what_needs_a_disk_is_not_played_without_one():
    lacking = set(choose((), has_disk=True)) - set(choose((), has_disk=False))
    assert {one.name for one in lacking} == {
        "disk-again",
        "disk-survivor",
        "disk-crash",
    }
    with pytest.raises(LabUsageError, match="disk-crash: the guest needs a disk for it"):
        choose(("plain", "disk-crash"), has_disk=False)


def test_scenarios_of_services_need_a_guest_that_has_them():
    assert {one.name for one in set(SCENARIOS) - set(choose((), has_disk=True))} == set(WORKS)
    assert [one.name for one in choose(("redis",), has_disk=True, has_services=True)] == ["redis"]
    with pytest.raises(LabUsageError, match="redis: the guest has no such service: add --guest debian"):
        choose(("save", "redis"), has_disk=True)


def test_the_table_counts_rounds_and_repeats_what_did_not_hold():
    held = RoundFacts(scenario="plain", broken=[], served_by="host A", connections=24, lost=0, gap_ms=1500.0)
    failed = RoundFacts(scenario="plain", broken=["why"], connections=24, lost=2, gap_ms=500.0)
    lines = table([held, failed])
    assert lines[1].split() == ["plain", "2", "1", "1.00", "1.50", "46/48"]
    assert lines[-1] == "plain: why"
    assert round_line(held) == "host A served, no answer for 1.50 s"
    assert round_line(failed) == "no host served, no answer for 0.50 s, FAILED: why"
