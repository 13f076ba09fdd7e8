"""Two nodes with fake QEMUs: each QMP command is refused, each COLO message is the last one of a node.

One pair serves most of these tests, one after the other: what a fault leaves behind would show in the next one.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fakeqemu import SLOW_PIECE_BYTES, SLOW_PIECES
from support.fakevm import Host, Pair, Pool
from support.nodes import wait_for

PROBING = [
    ("query-version", 0),
    ("query-commands", 0),
    ("human-monitor-command", 0),
    ("qom-get", 1),
    ("query-block", 0),
]
PRIMARY = ["migrate-set-capabilities", "migrate-set-parameters", "migrate"]
SECONDARY = ["migrate-set-capabilities", "migrate-incoming"]
"""The commands of both plans, in order."""

pytestmark = [pytest.mark.namespaces, pytest.mark.tun]

HASTY_CHECKPOINTS = {
    "checkpoint": {"min_distance_ms": 0, "max_interval_ms": 0, "timeout_ms": 1_000},
    "heartbeat": {"interval_ms": 25, "timeout_ms": 1_000},
    "arbiter": {"kind": "manual"},
}
"""The manual arbiter permits nothing: a node that is only slow is heard again."""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    pool = Pool(lambda: tmp_path_factory.mktemp("pair"))
    yield pool
    with pool.linked() as pair:  # what the last tests have left would show here
        next_one_succeeds(pair)
    pool.close()


@pytest.fixture
def linked(pool: Pool) -> Iterator[Pair]:
    with pool.linked() as pair:
        yield pair


@pytest.fixture
def protected(linked: Pair) -> Pair:
    linked.protect(linked.serving())
    linked.client.ask("draw")
    return linked


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    yield pair
    pair.close()


def refused(pair: Pair) -> str:
    """Protecting fails with one line."""
    answer = pair.serving().ask("protect")
    assert "error" in answer, f"{answer}\n{pair.logs()}"
    assert "\n" not in answer["error"]
    assert "bug" not in answer["error"]
    return str(answer["error"])


def nothing_is_left(pair: Pair) -> None:
    """The guest runs as before there was a node, and the other host has none."""
    primary = pair.serving()
    wait_for(lambda: not pair.other(primary).has_qemu, "the secondary's QEMU to be gone")
    facts = primary.facts()
    assert (facts["mode"], facts["status"]) == ("none", "running"), pair.logs()
    assert primary.is_as_before, pair.logs()
    assert "x-colo" not in facts["capabilities"]
    assert not [path for host in pair.hosts.values() for path in host.place.glob("relay.sock")]
    pair.client.ask("draw")
    pair.client.ask()


def goes_alone(host: Host) -> None:
    """Until its plan has come to the end."""
    wait_for(lambda: host.is_as_before and "x-colo" not in host.facts()["capabilities"], "going alone")


def next_one_succeeds(pair: Pair) -> None:
    primary = pair.serving()
    primary.wait_state("primary linked")
    pair.other(primary).wait_state("secondary linked")
    pair.protect(primary)
    for word in ("draw", "count"):
        pair.client.ask(word)


# ── protect fails ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("role", ["primary", "secondary"])
def test_a_question_about_a_qemu_is_refused(linked: Pair, role: str) -> None:
    primary = linked.serving()
    host = primary if role == "primary" else linked.other(primary)
    for command, skip in PROBING:
        host.fault(command, "refuse", skip)
        error = refused(linked)
        assert "vm1" in error
        assert ("the other node" in error) is (role == "secondary"), error
        assert host.is_fault_done
        primary.wait_state("primary linked")
    nothing_is_left(linked)
    next_one_succeeds(linked)


@pytest.mark.parametrize("command", PRIMARY)
def test_the_primarys_qemu_refuses_a_command(linked: Pair, command: str) -> None:
    primary = linked.serving()
    primary.fault(command, "refuse")
    assert "vm1" in refused(linked)
    assert primary.is_fault_done
    nothing_is_left(linked)


@pytest.mark.parametrize("command", SECONDARY)
def test_the_secondarys_qemu_refuses_a_command(linked: Pair, command: str) -> None:
    secondary = linked.other(linked.serving())
    secondary.fault(command, "refuse")
    assert "the other node" in refused(linked)
    assert secondary.is_fault_done
    nothing_is_left(linked)


@pytest.mark.parametrize("command", ["query-block", "migrate-set-capabilities"])
def test_the_primarys_qemu_answers_a_command_too_late(linked: Pair, command: str) -> None:
    primary = linked.serving()
    primary.fault(command, "late")
    primary.hasten()
    wait_for(lambda: "no answer from QEMU" in refused(linked) and primary.is_fault_done, "its turn")
    primary.hasten(is_hasty=False)
    wait_for(lambda: not primary.facts()["hung"], "the QEMU to answer again")
    next_one_succeeds(linked)
    primary.do("unprotect")
    nothing_is_left(linked)


@pytest.mark.parametrize("command", ["migrate-set-capabilities", "migrate-incoming"])
def test_the_secondarys_qemu_hangs_at_a_command(linked: Pair, command: str) -> None:
    secondary = linked.other(linked.serving())
    secondary.fault(command, "hang")
    secondary.hasten()
    wait_for(lambda: refused(linked) and secondary.is_fault_done, "its turn")  # a slower command may come before
    secondary.hasten(is_hasty=False)
    nothing_is_left(linked)
    next_one_succeeds(linked)


@pytest.mark.parametrize("command", ["query-version", "migrate-set-capabilities", "migrate-incoming"])
def test_the_secondarys_qemu_dies_at_a_command(linked: Pair, command: str) -> None:
    linked.other(linked.serving()).fault(command, "die")
    refused(linked)
    nothing_is_left(linked)
    next_one_succeeds(linked)


@pytest.mark.parametrize("at", ["migrate-set-capabilities", "before FIRST_STATE"])
def test_the_primarys_qemu_dies_while_it_is_being_protected(fresh: Pair, at: str) -> None:
    """Neither node may serve then: the copy is not whole. A guest that is started again is a new one."""
    fresh.start()
    fresh.a.fault(at, "die")
    refused(fresh)
    wait_for(lambda: not fresh.b.has_qemu, "the secondary's QEMU to be gone")
    assert fresh.a.qemu is not None
    fresh.a.qemu.wait(20)
    fresh.wait("primary linked", "secondary linked")
    fresh.a.start_qemu()
    wait_for(lambda: fresh.a.do("status")["vm"]["qmp"] == "connected", "the node to find it")
    next_one_succeeds(fresh)


def test_the_primarys_qemu_dies_when_all_of_it_was_copied(linked: Pair) -> None:
    """READY has passed both nodes: the copy counts, whatever the plan has still to do."""
    dying, living = linked.serving(), linked.other(linked.serving())
    linked.client.ask("draw")
    dying.fault("heard READY", "die")
    assert "error" in dying.ask("protect")
    living.wait_state("primary linked")
    assert linked.serving() is living
    linked.client.ask()
    next_one_succeeds(linked)


# ── a node dies in a checkpoint ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("message", ["REQUEST", "STATE"])
def test_the_primarys_qemu_dies_in_a_checkpoint(protected: Pair, when: str, message: str) -> None:
    dying, living = protected.serving(), protected.other(protected.serving())
    dying.fault(f"{when} {message}", "die")
    protected.client.ask("draw")
    protected.client.ask()
    assert protected.serving() is living
    living.wait_state("primary linked")
    next_one_succeeds(protected)


@pytest.mark.parametrize(
    ("at", "what"),
    [
        *((f"{when} {message}", "die") for message in ("REPLY", "RECEIVED", "LOADED") for when in ("before", "after")),
        ("before REPLY", "cut"),
        ("after LOADED", "cut"),
    ],
)
def test_the_secondarys_qemu_fails_in_a_checkpoint(protected: Pair, at: str, what: str) -> None:
    living, failing = protected.serving(), protected.other(protected.serving())
    failing.fault(at, what)
    protected.client.ask("draw")
    protected.client.ask()
    wait_for(lambda: not failing.has_qemu, "the secondary's QEMU to be gone")
    goes_alone(living)
    assert protected.serving() is living
    next_one_succeeds(protected)


def test_a_checkpoint_that_qemu_refuses_keeps_the_pair(protected: Pair) -> None:
    """It is asked for again, and answers what has waited for it."""
    primary = protected.serving()
    before = primary.do("status")
    primary.fault("migrate-set-parameters", "refuse")
    protected.client.ask("draw")
    protected.client.ask()
    after = primary.do("status")
    assert primary.is_fault_done
    assert (primary.state, protected.other(primary).state) == ("primary protected", "secondary protected")
    assert after["checkpoint"]["aborted"] == before["checkpoint"]["aborted"] + 1
    wait_for(lambda: primary.do("status")["checkpoint"]["last"][-1]["outcome"] == "committed", "the record")
    refused, made = primary.do("status")["checkpoint"]["last"][-2:]
    assert (refused["outcome"], made["reasons"]) == ("aborted", refused["reasons"])
    assert "migrate-set-parameters" in refused["why"]
    assert after["failovers"] == before["failovers"]


def test_a_qemu_that_refuses_every_checkpoint_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    """What diverges waits for a checkpoint: after its time-out the guest serves on alone."""
    pair = Pair(tmp_path, HASTY_CHECKPOINTS)
    try:
        pair.protected()
        pair.a.fault("migrate-set-parameters", "refuse", times=1000)
        pair.client.ask("draw")
        pair.client.ask()
        goes_alone(pair.a)
        assert pair.serving() is pair.a
        assert pair.a.do("status")["checkpoint"]["aborted"] >= 2
        pair.a.no_fault()
        next_one_succeeds(pair)
    finally:
        pair.close()


@pytest.mark.parametrize("at", ["before RECEIVED", "before LOADED", "after LOADED"])
def test_a_checkpoint_that_fails_after_its_beginning_is_recorded_and_ends_the_pair(protected: Pair, at: str) -> None:
    """Both QEMUs live: the primary's serves on, the other one is discarded, and the pair can be made again."""
    primary, other = protected.serving(), protected.other(protected.serving())
    before, pid = primary.do("status"), primary.facts()["pid"]
    discarded = other.facts()["pid"]
    other.fault(at, "cut")
    protected.client.ask("draw")
    protected.client.ask()
    goes_alone(primary)
    wait_for(lambda: not other.has_qemu, "the secondary's QEMU to be gone")
    assert protected.serving() is primary
    after = primary.do("status")["checkpoint"]
    assert after["phase"] == "disarmed"
    if at != "after LOADED":  # LOADED was on its way already: this one is committed
        record = after["last"][-1]
        assert (record["outcome"], after["aborted"]) == ("aborted", before["checkpoint"]["aborted"] + 1)
        assert record["why"]
        assert after["epoch"] == before["epoch"]
    next_one_succeeds(protected)
    assert primary.facts()["pid"] == pid
    assert other.facts()["pid"] != discarded
    wait_for(
        lambda: primary.do("status")["epoch"] == other.do("status")["epoch"] > after["epoch"],
        "both nodes to know the same epoch",
    )


@pytest.mark.parametrize(("when", "what"), [("before", "die"), ("after", "die"), ("after", "cut")])
def test_the_secondarys_qemu_fails_at_the_first_synchronisation(linked: Pair, when: str, what: str) -> None:
    """Behind READY the pair was whole for a moment."""
    primary = linked.serving()
    linked.other(primary).fault(f"{when} READY", what)
    answer = primary.ask("protect")
    assert "error" in answer or when == "after", answer
    linked.client.ask("draw")
    goes_alone(primary)
    nothing_is_left(linked)
    next_one_succeeds(linked)


@pytest.mark.parametrize("at", ["before RECEIVED"])
def test_the_secondarys_qemu_hangs_in_a_checkpoint(tmp_path: Path, at: str) -> None:
    """The node gives the checkpoint up after its time-out; the guest goes on alone."""
    pair = Pair(tmp_path, HASTY_CHECKPOINTS)
    try:
        pair.protected()
        pair.b.fault(at, "hang")
        pair.client.ask("draw")
        pair.client.ask()
        goes_alone(pair.a)
        assert pair.serving() is pair.a
        next_one_succeeds(pair)
    finally:
        pair.close()


@pytest.mark.parametrize("at", ["before STATE"])
def test_the_primarys_qemu_hangs_in_a_checkpoint(tmp_path: Path, at: str) -> None:
    """It does not serve, though it lives: the other one goes on."""
    pair = Pair(tmp_path, HASTY_CHECKPOINTS)
    try:
        pair.protected()
        pair.client.ask("draw")
        pair.a.fault(at, "hang")
        pair.client.ask("draw")
        pair.client.ask()
        next_one_succeeds(pair)
    finally:
        pair.close()


def test_a_checkpoint_that_copies_for_longer_than_the_time_limit_is_made(tmp_path: Path) -> None:
    """Much memory, or a slow link: what moves does not hang."""
    pair = Pair(tmp_path, HASTY_CHECKPOINTS)
    try:
        pair.protected()
        pair.a.fault("before STATE", "slow")
        record = pair.a.do("checkpoint")
        assert pair.a.is_fault_done
        assert record["outcome"] == "committed"
        assert record["pause_ms"] > HASTY_CHECKPOINTS["checkpoint"]["timeout_ms"]
        assert record["copied_bytes"] >= SLOW_PIECES * SLOW_PIECE_BYTES
        assert (pair.a.state, pair.b.state) == ("primary protected", "secondary protected")
        pair.client.ask("draw")
        pair.client.ask()
    finally:
        pair.close()


# ── undoing, going alone, taking over: what must be done in the end is done ─────────────────────────────────


def test_an_undo_is_refused_once(protected: Pair) -> None:
    primary = protected.serving()
    primary.fault("query-colo-status", "refuse")
    primary.ask("unprotect")
    protected.client.ask()
    primary.wait_state("primary linked")
    nothing_is_left(protected)
    next_one_succeeds(protected)


@pytest.mark.parametrize("command", ["query-colo-status", "query-migrate"])
def test_a_step_of_going_alone_is_refused_once(protected: Pair, command: str) -> None:
    primary = protected.serving()
    protected.client.ask("draw")
    primary.fault(command, "refuse")
    protected.other(primary).kill_qemu()
    protected.client.ask()
    wait_for(lambda: primary.is_fault_done, "the step")
    goes_alone(primary)
    primary.no_fault()
    next_one_succeeds(protected)


@pytest.mark.parametrize("command", ["x-colo-lost-heartbeat", "announce-self"])
def test_a_step_of_the_takeover_is_refused_once(protected: Pair, command: str) -> None:
    dying, living = protected.serving(), protected.other(protected.serving())
    protected.client.ask("draw")
    living.fault(command, "refuse")
    dying.kill_qemu()
    protected.client.ask()
    assert protected.serving() is living
    next_one_succeeds(protected)
