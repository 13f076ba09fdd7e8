"""What a probe has found: a refusal stops with one line, a warning is logged and stops nothing."""

import pytest
from structlog.testing import capture_logs

from pycolo.errors import PeerError
from pycolo.qmp.judge import Finding
from pycolo.vm.findings import check_findings

WARNING = Finding("warn", "slow", "it is slow")
REFUSALS = [Finding("refuse", "old", "it is too old"), Finding("refuse", "far", "it is too far away")]


def test_nothing_found_is_nothing_said():
    with capture_logs() as lines:
        check_findings([], "vm1")
    assert lines == []


def test_a_warning_is_logged_with_its_code():
    with capture_logs() as lines:
        check_findings([WARNING], "vm1")
    assert lines == [{"event": "vm1: it is slow", "code": "slow", "log_level": "warning"}]


def test_all_refusals_are_in_one_line_and_warnings_are_said_all_the_same():
    with capture_logs() as lines, pytest.raises(PeerError) as caught:
        check_findings([REFUSALS[0], WARNING, REFUSALS[1]], "vm1")
    assert str(caught.value) == "vm1 cannot be protected: it is too old; it is too far away"
    assert [line["code"] for line in lines] == ["slow"]
