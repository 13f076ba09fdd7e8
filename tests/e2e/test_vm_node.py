"""Two `colo node` processes with a fake QEMU each: protect, checkpoints, failovers, and back.

Clients hold every answer to the law of the counter (`support.fakevm.Client`).
"""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pycolo.qmp.commands import COMMANDS, EXPERIMENTAL, MONITOR_LINES
from support.fakevm import Client, Host, Pair, Pool
from support.nodes import PATIENCE_S, wait_for
from support.taphost import inside

pytestmark = [pytest.mark.namespaces, pytest.mark.tun]

METRICS_PORT = 9100

Make = Callable[..., Pair]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Pair] = []

    def build(**change: dict[str, Any]) -> Pair:
        made.append(Pair(tmp_path, change))
        return made[-1]

    yield build
    for pair in made:
        pair.close()


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    pool = Pool(lambda: tmp_path_factory.mktemp("pair"))
    yield pool
    pool.close()


@pytest.fixture
def linked(pool: Pool) -> Iterator[Pair]:
    with pool.linked() as pair:
        yield pair


@pytest.fixture
def protected(linked: Pair) -> Pair:
    linked.protect(linked.a)
    return linked


def draw_once(pair: Pair) -> int:
    """One difference between the guests, which a question that is asked again might double; how many are recorded."""
    pair.client.ask("count")  # what comes now arrives: everything is connected
    pair.client.ask("draw", again_s=PATIENCE_S)
    return wait_for(lambda: pair.a.do("status")["checkpoint"]["count"].get("divergence", 0), "the record")


def ask_a_lot(pair: Pair) -> None:
    """With and without a difference between the guests."""
    for word in ("count", "draw", "count", "count"):
        pair.client.ask(word)


def is_as_before(host: Host) -> bool:
    """Nothing of colo is left at the guest that serves, and it runs."""
    facts = host.facts()
    return host.is_as_before and facts["mode"] == "none" and facts["running"]


# ── a pair ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_protect_wires_both_guests_and_clients_notice_nothing(linked: Pair) -> None:
    linked.client.ask("draw")
    linked.a.do("protect")
    linked.wait("primary protected", "secondary protected")
    assert linked.a.is_beside
    assert linked.b.is_apart
    assert (linked.a.facts()["mode"], linked.b.facts()["mode"]) == ("primary", "secondary")
    ask_a_lot(linked)
    assert linked.serving() is linked.a


def test_no_qemu_is_asked_for_anything_that_is_not_in_the_list(protected: Pair) -> None:
    ask_a_lot(protected)
    protected.a.do("checkpoint")
    asked: set[str] = set()
    for host in (protected.a, protected.b):
        host.do("status")
        asked |= set(host.facts()["commands"])
        experimental = set(re.findall(r'"(x-[a-z-]+)"', json.dumps(host.facts()["received"])))
        assert experimental <= EXPERIMENTAL
        lines = {m["arguments"]["command-line"] for m in host.facts()["received"] if "command-line" in str(m)}
        assert lines <= MONITOR_LINES
    assert asked <= COMMANDS | {"qmp_capabilities"}
    assert {"query-version", "migrate", "migrate-incoming"} <= asked, "both plans were watched"


def test_warnings_are_in_the_answer_to_protect_and_stay_in_the_status(linked: Pair) -> None:
    said = linked.protect(linked.a)["warnings"]
    assert {note["where"] for note in said} == {"this host", "the other host"}
    assert "arbiter.kind" in {note["code"] for note in said}, "of a laboratory"
    assert not any(note["overridden"] for note in said)
    assert linked.a.do("status")["warnings"] == said
    assert {note["where"] for note in linked.b.do("status")["warnings"]} == {"this host"}
    linked.a.do("unprotect")
    assert linked.a.do("status")["warnings"] == []


def test_the_check_shows_the_cards_of_both_hosts(linked: Pair) -> None:
    command = [*linked.a.nsenter, sys.executable, "-m", "pycolo", "check", "--json", str(linked.a.config)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    items = json.loads(ended.stdout)["items"]
    assert ended.returncode == 0, items
    cards = {item["where"]: item["text"] for item in items if item["name"] == "card hn0"}
    assert "in bridge br0" in cards["this host"]
    assert "bridge br0 is to be its place" in cards["the other host"]
    names = {item["name"] for item in items}
    assert {"permissions", "other managers", "guest card", "link latency"} <= names


@pytest.mark.rule("C5", "E1")
def test_a_difference_is_a_checkpoint_and_then_both_guests_know_the_same(protected: Pair) -> None:
    before = protected.a.do("status")["checkpoint"]["count"].get("divergence", 0)
    after = draw_once(protected)
    assert after == before + 1
    wait_for(lambda: protected.b.facts()["guest"] == protected.a.facts()["guest"], "the state to be copied")
    protected.client.ask("count")
    assert protected.a.do("status")["checkpoint"]["count"]["divergence"] == after


def test_the_operator_gets_the_record_of_a_checkpoint(protected: Pair) -> None:
    wait_for(lambda: protected.a.do("status")["checkpoint"]["count"].get("first"), "the first checkpoint")
    epoch = protected.a.do("status")["epoch"]
    record = protected.a.do("checkpoint")
    assert record["epoch"] > epoch
    assert record["outcome"] == "committed"
    assert [reason["kind"] for reason in record["reasons"]] == ["operator"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["at"])
    assert "ask the other node" in protected.b.ask("checkpoint")["error"]


# ── a node dies ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_primarys_guest_dies_and_the_other_goes_on_with_what_clients_saw(make: Make) -> None:
    pair = make().protected()
    ask_a_lot(pair)
    connection = pair.connect()
    connection.ask(b"before")
    pair.a.kill_qemu()
    ask_a_lot(pair)
    connection.ask(b"after")
    pair.wait("secondary linked", "primary linked")
    assert pair.serving() is pair.b
    assert pair.b.do("status")["term"] == 1


def test_an_answer_that_was_held_when_the_primary_died_is_given_by_the_other(make: Make) -> None:
    pair = make().protected()
    pair.client.ask("draw")
    pair.b.fault("before REPLY", "hang")  # the answer is held, and no checkpoint releases it
    pair.client.begin("draw")
    wait_for(lambda: pair.b.is_fault_done, "the checkpoint")
    pair.a.kill_qemu()
    pair.client.finish("draw")
    pair.client.ask()


def test_the_secondarys_guest_dies_and_the_primary_goes_on_alone(make: Make) -> None:
    pair = make().protected()
    ask_a_lot(pair)
    pair.b.kill_qemu()
    ask_a_lot(pair)
    pair.wait("primary linked", "secondary linked")
    wait_for(lambda: is_as_before(pair.a), "the tap to be in its place")
    ask_a_lot(pair)
    pair.protect(pair.a)
    ask_a_lot(pair)


def test_roles_are_swapped_three_times(make: Make) -> None:
    pair = make().protected()
    old = pair.connect()
    for turn, (dying, living) in enumerate(((pair.a, pair.b), (pair.b, pair.a), (pair.a, pair.b)), 1):
        ask_a_lot(pair)
        old.ask(b"turn %d" % turn)
        dying.kill_qemu()
        ask_a_lot(pair)
        old.ask(b"after %d" % turn)
        living.wait_state("primary linked")
        dying.wait_state("secondary linked")
        assert pair.protect(living)["term"] == turn
    ask_a_lot(pair)
    old.ask(b"last")


@pytest.mark.parametrize("is_killed", [False, True])
def test_connections_of_before_a_takeover_outlive_the_survivors_node(make: Make, *, is_killed: bool) -> None:
    """It is started again, twice, and its guest is protected in between."""
    pair = make().protected()
    old = pair.connect()
    old.ask(b"first")
    pair.a.kill_qemu()
    old.ask(b"after the takeover")
    for turn in range(2):
        pair.wait("secondary linked", "primary linked")
        if is_killed:
            pair.b.kill_node()
        else:
            pair.b.end_node()
        pair.b.start_node()
        old.ask(b"after restart %d" % turn)
        pair.wait("secondary linked", "primary linked")
        pair.protect(pair.b)
        old.ask(b"protected %d" % turn)
        pair.b.do("unprotect")
    ask_a_lot(pair)


@pytest.mark.parametrize("letter", ["a", "b"])
def test_a_node_is_killed_and_started_again(make: Make, letter: str) -> None:
    pair = make().protected()
    ask_a_lot(pair)
    dead = pair.hosts[letter]
    other = pair.other(dead)
    dead.kill_node()
    other.wait_state("primary alone", "primary serving")
    ask_a_lot(pair)
    dead.start_node()
    other.wait_state("primary linked")
    dead.wait_state("secondary linked")
    ask_a_lot(pair)
    assert pair.serving() is other
    assert pair.protect(other)["term"] == 1
    ask_a_lot(pair)


def test_both_nodes_are_killed_and_the_guest_comes_back_to_its_clients(make: Make) -> None:
    pair = make().protected()
    ask_a_lot(pair)
    for host in pair.hosts.values():
        host.kill_node()
    pair.client.begin()
    for host in pair.hosts.values():
        host.start_node()
    pair.wait("primary linked", "secondary linked")
    pair.client.finish()
    wait_for(lambda: is_as_before(pair.a), "the tap to be in its place")
    assert not pair.b.has_qemu
    pair.protect(pair.a)
    ask_a_lot(pair)


def test_a_guest_that_begins_anew_is_on_the_network(make: Make) -> None:
    """On the host that had the secondary, whose tap was never in a bridge."""
    pair = make(arbiter={"kind": "manual"}).protected()
    pair.b.kill_qemu()
    pair.wait("primary linked", "secondary linked")
    pair.a.kill_node()
    pair.a.kill_qemu()
    pair.b.wait_state("secondary waiting")
    assert "error" not in pair.b.ask("begin-anew", other_is_lost=True)
    pair.b.start_qemu(is_bridged=False)
    wait_for(lambda: pair.b.is_as_before, "the tap to be in its bridge")
    assert Client([pair.b]).ask("draw") != "-", "another guest, which counts anew"


def test_both_nodes_end_in_order_and_leave_the_guest_running(make: Make) -> None:
    pair = make().protected()
    pair.client.ask("draw")
    for host in (pair.b, pair.a):
        assert host.node is not None
        host.node.send_signal(signal.SIGTERM)
        assert host.node.wait(20) == 0, host.log
        host.node = None
    assert pair.a.facts()["running"]
    assert not pair.b.has_qemu


# ── the operator ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_planned_failover(make: Make) -> None:
    pair = make().protected()
    ask_a_lot(pair)
    pair.b.do("failover")  # its answer may come before it is done, on a busy machine
    pair.b.wait_state("primary serving", "primary linked")
    assert pair.b.do("status")["term"] == 1
    ask_a_lot(pair)
    pair.wait("secondary linked", "primary linked")
    assert pair.serving() is pair.b
    assert not pair.a.has_qemu
    assert (pair.a.serves.exists(), pair.b.serves.exists()) == (False, True), "the user's own commands"


def test_protection_is_a_wish_that_the_node_that_serves_fulfils_by_itself(make: Make) -> None:
    pair = make(protect={"automatic": True}).protected()
    ask_a_lot(pair)
    first = pair.b.facts()["pid"]
    pair.b.kill_qemu()
    wait_for(lambda: pair.b.has_qemu and pair.b.facts()["pid"] != first, "another secondary")
    pair.wait("primary protected", "secondary protected")
    ask_a_lot(pair)
    pair.a.kill_qemu()
    ask_a_lot(pair)
    pair.wait("secondary protected", "primary protected")
    ask_a_lot(pair)
    assert pair.b.do("status")["protection"]["wished"]
    pair.b.do("unprotect")
    pair.wait("secondary linked", "primary linked")
    assert not pair.b.do("status")["protection"]["wished"]


def test_a_wish_outlives_the_node(make: Make) -> None:
    pair = make(protect={"automatic": True}).protected()
    ask_a_lot(pair)
    pair.a.kill_node()
    pair.b.wait_state("primary serving")
    pair.b.kill_node()
    pair.client.begin()
    for host in (pair.b, pair.a):
        host.start_node()
    pair.client.finish()
    pair.wait("secondary protected", "primary protected")
    ask_a_lot(pair)


def test_a_serve_command_that_fails_is_not_serving(make: Make) -> None:
    """The node's TAP follows it: until it has succeeded nothing of this guest leaves."""
    pair = make()
    broken = pair.b.place / "broken"
    words = ["sh", "-c", f"test ! -e {broken} || {{ echo no route >&2; exit 3; }}"]
    text = pair.b.config.read_text()
    fresh = re.sub(r"^serve = .*$", lambda _: f"serve = {json.dumps(words)}", text, flags=re.MULTILINE)
    assert fresh != text
    pair.b.config.write_text(fresh)
    pair.protected()
    ask_a_lot(pair)
    broken.touch()
    pair.a.kill_qemu()
    pair.a.kill_node()
    wait_for(lambda: pair.b.log.count("the takeover is not done yet") >= 2, "two attempts")
    assert pair.b.state == "secondary taking-over"
    assert "exit code 3; no route" in pair.b.log
    assert not pair.b.is_on_lan
    blocked = pair.b.do("status")["blocked"]
    assert blocked.startswith("taking over: serve failed: ")
    assert "exit code 3; no route" in blocked
    assert pair.b.ask("failover")["error"].startswith("taking over: serve failed: ")
    broken.unlink()
    pair.b.wait_state("primary serving")
    ask_a_lot(pair)


@pytest.mark.parametrize(("letter", "key"), [("a", "command"), ("b", "command"), ("b", "serve")])
def test_a_misspelt_program_is_found_before_the_guest_is_touched(make: Make, letter: str, key: str) -> None:
    pair = make()
    config = (pair.a if letter == "a" else pair.b).config
    config.write_text(
        re.sub(rf'^{key} = \["[^"]+"', f'{key} = ["/nowhere/program"', config.read_text(), flags=re.MULTILINE)
    )
    pair.start()
    assert f"{key}: /nowhere/program does not exist" in pair.a.ask("protect")["error"]
    assert is_as_before(pair.a)
    assert not pair.b.has_qemu


def test_unprotect_leaves_nothing_behind(protected: Pair) -> None:
    ask_a_lot(protected)
    protected.a.do("unprotect")
    assert is_as_before(protected.a)
    assert "x-colo" not in protected.a.facts()["capabilities"]
    assert not protected.b.has_qemu
    protected.wait("primary linked", "secondary linked")
    ask_a_lot(protected)
    protected.protect(protected.a)
    ask_a_lot(protected)


def test_unprotect_stays_in_the_path_of_connections_from_before_a_takeover(make: Make) -> None:
    pair = make().protected()
    old = pair.connect()
    old.ask(b"one")
    pair.a.kill_qemu()
    old.ask(b"two")
    pair.wait("secondary linked", "primary linked")
    pair.b.do("unprotect")
    assert pair.b.is_beside
    old.ask(b"three")
    ask_a_lot(pair)


@pytest.mark.parametrize("command", ["protect", "unprotect"])
def test_the_secondary_refuses_what_is_the_primarys(linked: Pair, command: str) -> None:
    error = linked.b.ask(command)["error"]
    assert "ask the other node" in error
    assert "\n" not in error


def test_what_cannot_be_now_is_refused_in_one_line(linked: Pair) -> None:
    for command in ("checkpoint", "failover", "nonsense"):
        error = linked.a.ask(command)["error"]
        assert error
        assert "\n" not in error
    linked.a.do("protect")
    assert "protected" in linked.a.ask("protect")["error"]


# ── what it shows ───────────────────────────────────────────────────────────────────────────────────────────


def test_status_and_explain_have_the_documented_shape(make: Make) -> None:
    pair = make().protected()
    draw_once(pair)
    status = pair.a.do("status")
    expected = {"qmp": "connected", "version": "7.2.22", "status": "running"}
    assert status["vm"] == expected | {"colo": "primary", "pid": pair.a.facts()["pid"]}
    assert status["other_vm"] == expected | {"colo": "secondary", "pid": pair.b.facts()["pid"]}
    assert status["plan"] is None
    checkpoint = status["checkpoint"]
    assert checkpoint["count"] == {"first": 1, "divergence": 1}
    assert checkpoint["phase"] == "idle"
    assert checkpoint["epoch"] == status["epoch"]
    assert set(checkpoint["pause_ms"]) >= {"median", "p99", "max"}
    last = checkpoint["last"][-1]
    assert last["reasons"][0]["kind"] == "divergence"
    assert (last["outcome"], last["why"], last["released_frames"]) == ("committed", None, 1)
    explained = pair.a.do("explain")
    assert explained["checkpoint"]["epoch"] == status["epoch"]
    assert explained["divergences"][-1]["kind"] == "datagram"
    other = pair.b.do("status")
    assert (other["role"], other["vm"]["colo"]) == ("secondary", "secondary")
    assert other["other_vm"]["colo"] == "primary"


def test_metrics_say_what_status_says(make: Make) -> None:
    pair = make()
    for host in pair.hosts.values():
        host.config.write_text(host.config.read_text() + f'\n[metrics]\nlisten = "127.0.0.1:{METRICS_PORT}"\n')
    pair.protected()
    draw_once(pair)
    for role in ("primary", "secondary"):
        with (
            inside(pair.hosts["a" if role == "primary" else "b"].namespace.path),
            urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=20) as answer,
        ):
            text = answer.read().decode()
        assert re.search(rf'role="{role}"', text)
        if role == "primary":
            assert re.search(r'^\S*checkpoints\S*\{[^}]*"divergence"[^}]*\} 1', text, re.MULTILINE), text
    wait_for(lambda: shown_on_the_page(pair.a)["costs"]["start"]["total"]["waits"], "who has waited")
    page = shown_on_the_page(pair.a)
    assert (page["verdict"]["title"], page["role"]) == ("protected", "primary")
    assert [host["role"] for host in page["hosts"]] == ["primary", "secondary"]
    assert "divergence" in {record["reason"] for record in page["checkpoints"]}
    before = page["costs"]["start"]["total"]
    assert before["differences"] >= 1
    pair.a.end_node()
    pair.a.start_node()
    pair.a.wait_state("primary waiting", "primary linked", "primary alone")
    after = shown_on_the_page(pair.a)["costs"]["start"]["total"]
    assert after["checkpoints"] >= before["checkpoints"]
    assert after["differences"] >= before["differences"]


def shown_on_the_page(host: Host) -> dict[str, Any]:
    place = f"http://127.0.0.1:{METRICS_PORT}/"
    with inside(host.namespace.path), urllib.request.urlopen(place, timeout=20) as answer:
        assert "script-src" in answer.headers["Content-Security-Policy"]
    with inside(host.namespace.path), urllib.request.urlopen(f"{place}page.json", timeout=20) as answer:
        return json.load(answer)


def test_the_log_is_json_when_wanted(make: Make) -> None:
    pair = make(log={"format": "json", "level": "debug"}).protected()
    pair.client.ask("draw")
    pair.a.kill_qemu()
    pair.client.ask()
    for host in pair.hosts.values():
        lines = [json.loads(line) for line in host.log.splitlines()]
        assert lines
        assert all(line["pair"] == "vm1" for line in lines)
        assert all({"event", "level", "role", "term", "epoch"} <= line.keys() for line in lines[1:]), lines


def test_over_tls(make: Make, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pycolo", "certs", "init", str(tmp_path / "tls"), "--pair", "vm1"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    pair = make(link={"tls": str(tmp_path / "tls")}).protected()
    ask_a_lot(pair)
    pair.a.kill_qemu()
    ask_a_lot(pair)


def test_a_periodic_checkpoint(make: Make) -> None:
    pair = make(checkpoint={"max_interval_ms": 50}).protected()
    wait_for(lambda: pair.a.do("status")["checkpoint"]["count"].get("periodic", 0) >= 3, "periodic checkpoints")
    ask_a_lot(pair)
