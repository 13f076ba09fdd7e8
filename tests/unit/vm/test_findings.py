"""What was found stops with one line, or is logged and kept for the status."""

import asyncio

import pytest
from structlog.testing import capture_logs

from pycolo.check.table import ok, warning
from pycolo.errors import PeerError
from pycolo.qmp.judge import Finding
from pycolo.vm.findings import BOTH_HOSTS, OTHER_HOST, THIS_HOST, Findings

WARNING = Finding("warn", "slow", "it is slow")
REFUSALS = [Finding("refuse", "old", "it is too old"), Finding("refuse", "far", "it is too far away")]
FATAL = Finding("refuse", "tcg", "it stands still", may_be_forced=True)


@pytest.fixture
def findings():
    return Findings()


def kept(findings):
    return [(note["code"], note["where"], note["overridden"]) for note in findings.to_status()]


def test_nothing_found_is_nothing_said(findings):
    with capture_logs() as lines:
        findings.weigh("guest", [], "vm1")
    assert (lines, findings.to_status()) == ([], [])


def test_a_warning_is_logged_with_its_code_and_kept(findings):
    with capture_logs() as lines:
        findings.weigh("guest", [WARNING], "vm1")
    assert lines == [{"event": "vm1: it is slow", "code": "slow", "log_level": "warning"}]
    assert findings.to_status() == [{"code": "slow", "text": "it is slow", "where": THIS_HOST, "overridden": False}]


def test_all_refusals_are_in_one_line_and_warnings_are_said_all_the_same(findings):
    with capture_logs() as lines, pytest.raises(PeerError) as caught:
        findings.weigh("guest", [REFUSALS[0], WARNING, REFUSALS[1]], "vm1")
    assert str(caught.value) == "vm1 cannot be protected: it is too old; it is too far away"
    assert [line["code"] for line in lines] == ["slow"]
    assert kept(findings) == [("slow", THIS_HOST, False)]


def test_what_is_fatal_is_refused_and_force_is_named_only_where_it_helps(findings):
    with pytest.raises(PeerError, match="it stands still; `colo protect --force`"):
        findings.weigh("guest", [FATAL], "vm1")
    with pytest.raises(PeerError, match=r"it stands still; it is too old$"):
        findings.weigh("guest", [FATAL, REFUSALS[0]], "vm1")


def test_force_overrides_what_is_fatal_and_nothing_else(findings):
    findings.is_forced = True
    findings.weigh("guest", [WARNING, FATAL], "vm1")
    assert kept(findings) == [("tcg", THIS_HOST, True), ("slow", THIS_HOST, False)], "the overridden one first"
    with pytest.raises(PeerError, match=r"cannot be protected: it is too old$"):
        findings.weigh("guest", [FATAL, REFUSALS[0]], "vm1")


def test_each_source_is_replaced_by_its_next_findings(findings):
    findings.weigh("pair", [WARNING], "vm1")
    findings.keep_items([ok("link.tls", "fine"), warning("arbiter.kind", "for laboratories")])
    assert kept(findings) == [("slow", BOTH_HOSTS, False), ("arbiter.kind", THIS_HOST, False)]
    findings.weigh("pair", [], "vm1")
    assert kept(findings) == [("arbiter.kind", THIS_HOST, False)]
    findings.forget()
    assert kept(findings) == []


def test_what_one_node_tells_the_other_keeps(findings):
    other = Findings()
    asyncio.run(other.hear_force({"is_forced": True, "term": 3}))
    other.weigh("guest", [FATAL], "vm1")
    other.keep_items([warning("arbiter.kind", "for laboratories")])
    findings.hear(other.told())
    assert kept(findings) == [("tcg", OTHER_HOST, True), ("arbiter.kind", OTHER_HOST, False)]
    assert findings.told() == {"notes": []}, "only a node's own"
    findings.hear({})
    assert kept(findings) == [], "an older node tells nothing"


@pytest.mark.parametrize("said", [{"notes": 5}, {"notes": [{}]}, {"notes": [{"code": 1, "text": "x"}]}])
def test_what_cannot_be_read_is_an_error(findings, said):
    with pytest.raises(PeerError, match="the other node's warnings cannot be read"):
        findings.hear(said)


@pytest.mark.parametrize("said", [{}, {"is_forced": 1}, {"is_forced": "true"}, {"is_forced": False}])
def test_only_true_is_force(findings, said):
    findings.is_forced = True
    asyncio.run(findings.hear_force(said))
    assert not findings.is_forced
