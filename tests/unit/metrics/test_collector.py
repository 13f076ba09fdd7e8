"""Metrics are what the status answer says: all of it that is documented, nothing else, and no answer breaks it."""

import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from pycolo.checkpoint.table import State
from pycolo.compare.kinds import DifferenceKind
from pycolo.failover.pairstates import SHOWN
from pycolo.metrics.catalog import CATALOG, STATES
from pycolo.metrics.collector import NodeCollector
from pycolo.metrics.readings import HOLD_BOUNDS_US, LABEL_VALUES_MAX, READERS
from support.statuses import counters_of_a_primary, counters_of_a_secondary, vm_status

ROOT = Path(__file__).resolve().parents[3]

UNDER_WAY = {State.ADMITTED, State.SECONDARY_STOPPED, State.PRIMARY_STOPPED, State.LOADED}
"""From the command to QEMU up to the commit. Neither no pair nor a pending request is a checkpoint."""


def registry_of(status):
    registry = CollectorRegistry(auto_describe=False)
    registry.register(NodeCollector(lambda: status))
    return registry


def samples_of(status):
    """Sample name and labels → value, by the text and Prometheus' own parser."""
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry_of(status)).decode()):
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in found, "Prometheus refuses a scrape that says something twice"
            found[key] = sample.value
    return found


def value(status, name, **labels):
    return samples_of(status).get((name, *sorted(labels.items())))


@pytest.fixture(scope="module")
def complete():
    """Of every metric something: a status that no single node has, with the counters of both roles."""
    return vm_status(counters=counters_of_a_secondary() | counters_of_a_primary())


# ── the catalog ─────────────────────────────────────────────────────────────────────────────────────────────


def test_every_metric_of_the_catalog_is_exported_with_its_type_and_labels(complete):
    exported = {}
    for family in text_string_to_metric_families(generate_latest(registry_of(complete)).decode()):
        for sample in family.samples:
            name = sample.name if family.type == "counter" else family.name
            labels = tuple(name for name in sample.labels if name != "le")
            exported[name] = (family.type, frozenset(labels), family.documentation)
    wanted = {
        spec.name: (spec.type.replace("info", "gauge"), frozenset(spec.labels), spec.help.rstrip(".") + ".")
        for spec in CATALOG
    }
    assert exported == wanted


def test_every_metric_can_be_read():
    apart = {"colo_info", "colo_status_up", "colo_hold_seconds", "colo_checkpoint_pause_seconds"}
    assert {spec.name for spec in CATALOG} == READERS.keys() | apart


def test_names_say_what_they_count():
    for spec in CATALOG:
        assert spec.name.endswith("_total") == (spec.type == "counter"), spec.name
        assert spec.name.endswith("_info") == (spec.type == "info"), spec.name
        assert not re.search(r"_(ms|us|ns|kb)(_|$)", spec.name), f"{spec.name}: seconds and bytes only"


def test_the_documentation_has_every_metric():
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(colo_\w+)` \| (\w+) \|([^|]*)\|([^|]*)\|", page, flags=re.MULTILINE)
    documented = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in rows}
    assert len(rows) == len(documented)
    assert documented == {spec.name: (spec.type, spec.labels) for spec in CATALOG}


def test_every_state_of_a_node_has_a_sample():
    assert set(SHOWN.values()) == set(STATES)
    for state in STATES:
        for other in STATES:
            assert value(vm_status(state=state), "colo_state", state=other) == (state == other)


def test_a_takeover_whose_serve_failed_is_blocked():
    assert value(vm_status(), "colo_state_blocked") == 0
    failed = vm_status(state="taking-over", blocked="taking over: serve failed: network.serve: exit code 1")
    assert value(failed, "colo_state_blocked") == 1
    assert value(failed, "colo_state", state="serving") == 0


# ── values ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_status_and_its_metrics_say_the_same():
    status = vm_status()
    assert value(status, "colo_info", version="0.1.0", pair="vm1", role="primary") == 1
    assert value(status, "colo_status_up") == 1
    assert value(status, "colo_state_seconds") == 12.5
    assert (value(status, "colo_term"), value(status, "colo_epoch")) == (2, 7)
    assert value(status, "colo_checkpoints_total", reason="divergence") == 3
    assert value(status, "colo_checkpoints_total", reason="periodic") == 1
    assert value(status, "colo_checkpoint_released_frames_total") == 48
    assert value(status, "colo_checkpoint_pause_seconds_sum") == pytest.approx(4 * 0.0062)
    assert value(status, "colo_checkpoint_pause_seconds_bucket", le="0.006") == 0
    assert value(status, "colo_checkpoint_pause_seconds_bucket", le="0.008") == 4
    assert value(status, "colo_checkpoint_pause_seconds_count") == 4
    assert value(status, "colo_packets_total", side="primary", fate="compared") == 80
    assert value(status, "colo_link_bytes_total", direction="sent") == 1000
    assert value(status, "colo_heartbeat_silence_seconds") == 0.026
    assert value(status, "colo_failover_seconds") == 0.15
    assert value(status, "colo_connections_refused_total") == 4
    assert value(status, "colo_port_frames_total", port="lan", direction="in") == 50


def test_the_held_time_has_coarser_buckets_and_loses_no_packet():
    found = samples_of(vm_status())
    buckets = {key[1][1]: count for key, count in found.items() if key[0] == "colo_hold_seconds_bucket"}
    assert buckets["1.6e-05"] == 3
    assert buckets["3.2e-05"] == 15
    assert buckets["6.4e-05"] == 31
    assert buckets[repr(HOLD_BOUNDS_US[-1] / 1e6)] == 31, "the comparator's last bucket has no bound"
    assert buckets["+Inf"] == 63


def test_the_bounds_are_the_comparators_own():
    from pycolo.core import Comparator

    own = {bound for bound, _ in Comparator(1).hold_histogram()}
    assert set(HOLD_BOUNDS_US) <= own


@pytest.mark.parametrize(
    ("changed", "name", "expected"),
    [
        ({"peer": None}, "colo_link_up", 0),
        ({"peer": None, "link_up": True}, "colo_link_up", 1),
        ({"link_up": False}, "colo_link_up", 0),
        ({"vm": {"qmp": "connected", "status": None}}, "colo_guest_up", 0),
        ({"vm": {}}, "colo_guest_up", None),
        ({"plan": {"name": "take-over", "step": "yank", "done": []}}, "colo_plan_running", 1),
        ({"plan": None}, "colo_plan_running", 0),
        ({"vm": {"qmp": "absent", "status": "unknown"}}, "colo_qmp_up", 0),
        ({"vm": {"qmp": "connected", "status": "paused"}}, "colo_guest_up", 0),
        ({"vm": {"qmp": "connected", "status": "colo"}}, "colo_guest_up", 1),
        *(
            ({"checkpoint": {"phase": phase.value}}, "colo_checkpoint_running", int(phase in UNDER_WAY))
            for phase in State
        ),
        ({"checkpoint": {"phase": "idle", "pending": ["a", "b"]}}, "colo_checkpoint_pending_requests", 2),
        ({"takeover": None}, "colo_failover_seconds", None),
        ({"takeover": {"suspected_ns": 10**9, "decided_ns": 3 * 10**9}}, "colo_failover_seconds", 2),
        ({"heartbeat_silence_ms": None}, "colo_heartbeat_silence_seconds", None),
    ],
)
def test_what_changes_in_the_status_changes_in_the_metrics(changed, name, expected):
    assert value(vm_status(**changed), name) == expected


def test_a_secondary_has_its_own_packets_and_none_of_the_comparison():
    found = samples_of(vm_status(role="secondary", counters=counters_of_a_secondary(), hold_histogram=[]))
    sides = {dict(key[1:])["side"] for key in found if key[0] == "colo_packets_total"}
    assert sides == {"rewriter"}
    assert found["colo_frames_total", ("side", "guest")] == 90
    assert ("colo_divergences_total",) not in found
    assert not [key for key in found if key[0].startswith("colo_hold_seconds")]


def test_no_status_is_a_scrape_that_says_so():
    assert samples_of(None) == {("colo_status_up",): 0}


# ── whatever the status is ──────────────────────────────────────────────────────────────────────────────────

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged(draw):
    """A complete status of which any part is something else."""
    status = vm_status(counters=counters_of_a_secondary() | counters_of_a_primary())
    for _ in range(draw(st.integers(1, 6))):
        place = status
        while isinstance(place, dict) and place:
            key = draw(st.sampled_from(sorted(place)))
            if isinstance(place[key], dict) and draw(st.booleans()):
                place = place[key]
                continue
            place[key] = draw(JSON)
            break
    return status


@given(damaged() | st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_no_status_breaks_a_scrape(status):
    found = samples_of(status)
    assert found[("colo_status_up",)] == 1
    assert all(math.isfinite(number) for number in found.values())
    list(parse_openmetrics(generate_openmetrics(registry_of(status)).decode()))


@given(st.text(max_size=200))
def test_any_text_can_be_a_label(said):
    status = vm_status(pair=said, checkpoint={"count": {said: 1}}, state=said)
    families = list(text_string_to_metric_families(generate_latest(registry_of(status)).decode()))
    (info,) = [family.samples[0] for family in families if family.name == "colo_info"]
    assert info.labels["pair"] == said[:64]


def test_labels_are_bounded():
    many = {f"reason {i}": i for i in range(1000)}
    found = samples_of(vm_status(checkpoint={"count": many}, divergence_kinds=many, failovers=many))
    for name in ("colo_checkpoints_total", "colo_divergences_by_kind_total", "colo_failovers_total"):
        assert len([key for key in found if key[0] == name]) == LABEL_VALUES_MAX
    assert len(DifferenceKind) < LABEL_VALUES_MAX


def test_a_histogram_that_is_none_is_left_out():
    for histogram in ([[8, -1]], [[8, 1], [4, 1]], [[8]], "x", [[None, 1], [None, 2]], [["8", 1]]):
        found = samples_of(vm_status(hold_histogram=histogram))
        assert not [key for key in found if key[0].startswith("colo_hold")]


# ── the alert rules ─────────────────────────────────────────────────────────────────────────────────────────


def test_alert_rules_ask_for_metrics_that_exist():
    rules = (ROOT / "contrib/prometheus/colo-alerts.yml").read_text(encoding="utf-8")
    known = {spec.name for spec in CATALOG}
    histograms = {spec.name for spec in CATALOG if spec.type == "histogram"}
    known |= {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")}
    used = set(re.findall(r"\bcolo_\w+", rules))
    assert used - known == set()
    named = set(re.findall(r'state=~?"([a-z|]+)"', rules))
    assert {state for names in named for state in names.split("|")} <= set(STATES)
    assert len(re.findall(r"^ +- alert: ", rules, flags=re.MULTILINE)) >= 8


# ── the dashboard ───────────────────────────────────────────────────────────────────────────────────────────


def expressions(dashboard):
    """The queries of its panels and annotations, with the legend that goes with each."""
    for panel in dashboard["panels"]:
        assert panel["targets"], panel["title"]
        yield from ((target["expr"], target["legendFormat"]) for target in panel["targets"])
    yield from ((one["expr"], one["titleFormat"]) for one in dashboard["annotations"]["list"])


def test_the_dashboard_asks_for_metrics_and_labels_that_exist():
    dashboard = json.loads((ROOT / "contrib/grafana/colo-dashboard.json").read_text(encoding="utf-8"))
    specs = {spec.name: spec for spec in CATALOG}
    found = list(expressions(dashboard))
    assert len(found) >= 20
    for expression, legend in found:
        used = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bcolo_\w+", expression)}
        assert used
        assert used - specs.keys() == set(), expression
        for name in re.findall(r"\b(colo_\w+)_(?:bucket|sum|count)\b", expression):
            assert specs[name].type == "histogram"
        labels = {"instance", "le", "pair", "role"} | {label for name in used for label in specs[name].labels}
        grouped = {name.strip() for names in re.findall(r"\bby \(([^)]*)\)", expression) for name in names.split(",")}
        shown = set(re.findall(r"{{(\w+)}}", legend))
        assert grouped | shown <= labels, expression
        assert "rate(" not in expression or "$__rate_interval" in expression
        assert expression.count("(") == expression.count(")")
    sums = [expression for expression, _ in found if "colo_hold_seconds_sum" in expression]
    assert sums == [], "it has none"
    assert dashboard["templating"]["list"][1]["query"]["query"] == "label_values(colo_info, pair)"
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    assert all(0 <= place["x"] <= 24 - place["w"] for place in places)
    assert len({(place["x"], place["y"]) for place in places}) == len(places)
