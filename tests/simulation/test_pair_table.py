"""Who survives: two pair tables against everything that can happen to them, up to a depth.

The laws: never do both serve; never does none for ever while one could; what is served under is on disk and never goes
back; a node that is heard is not fenced; two healthy nodes are never both fenced; no fact in any state is an error.
And the checker finds what it should: tables with one row changed, each by its name.

The arbiters are models (`support.pairworld`), but for `lease`: the real core of the arbiter `etcd`, twice, with one
store (`support.leaseworld`).
"""

import pytest

from pycolo.failover import lease, leaserules
from pycolo.failover.pairstates import Command, Fact, State, Timer
from pycolo.failover.pairtable import TABLE, Transition
from pycolo.failover.store import KeysRead
from support.modelcheck import Checker, Searched
from support.pairkey import key
from support.pairlife import Life
from support.pairworld import Budget, Rules, World, broken_law, protected, steps, unprotected, without_the_stale

C, F, S = Command, Fact, State

pytestmark = pytest.mark.timeout(300)


def search(rules: Rules, first: World, depth: int, *lives: Life, states_max: int = 10_000_000) -> Searched:
    """Every world up to `depth` steps from `first`."""

    def successors(world: World):
        return ((name, without_the_stale(after)) for name, after in steps(world, rules))

    def law(world: World) -> str:
        return broken_law(world, rules) or next((said for life in lives if (said := life.law(world))), "")

    return Checker(successors, key, law).search([first], depth, states_max)


FAULT_AND_WORD = Budget(faults=1, words=1)
CUT_AND_WORD = Budget(cuts=1, words=1)
STALL_REPEAT_AND_WORD = Budget(repeats=1, pauses=1, words=1)
CUT_STALL_FAULT_AND_WORD = Budget(faults=1, cuts=1, pauses=1, words=1)


@pytest.mark.parametrize(
    ("arbiter", "budget", "depth"),
    [
        ("manual", FAULT_AND_WORD, 18),
        ("manual", STALL_REPEAT_AND_WORD, 40),
        ("manual", CUT_STALL_FAULT_AND_WORD, 9),
        ("command", FAULT_AND_WORD, 15),
        ("command", STALL_REPEAT_AND_WORD, 16),
        ("command", CUT_STALL_FAULT_AND_WORD, 8),
        ("etcd", FAULT_AND_WORD, 15),
        ("etcd", STALL_REPEAT_AND_WORD, 16),
        ("etcd", CUT_STALL_FAULT_AND_WORD, 8),
        ("lease", FAULT_AND_WORD, 9),
        ("lease", STALL_REPEAT_AND_WORD, 9),
        ("lease", CUT_STALL_FAULT_AND_WORD, 6),
    ],
)
def test_never_do_both_serve(arbiter: str, budget: Budget, depth: int) -> None:
    rules = Rules(arbiter)
    found = search(rules, protected(rules, budget), depth)
    print(f"{arbiter}, {budget}: {found.states} states, {found.depth} steps, all of them: {found.is_whole}")
    assert found.broken is None, str(found.broken)
    assert found.states > 500


@pytest.mark.parametrize("arbiter", ["manual", "command", "etcd", "lease"])
def test_never_do_both_serve_while_a_pair_is_formed(arbiter: str) -> None:
    rules = Rules(arbiter, is_wished=True)
    found = search(rules, unprotected(rules, FAULT_AND_WORD), 12 if arbiter == "lease" else 18)
    print(f"{arbiter}: {found.states} states, {found.depth} steps")
    assert found.broken is None, str(found.broken)


@pytest.mark.parametrize("budget", [Budget(cuts=1), Budget(cuts=1, repeats=1), Budget(cuts=2)])
def test_two_healthy_nodes_that_lose_each_other_are_never_both_fenced(budget: Budget) -> None:
    rules = Rules("command", only_cuts=True)
    found = search(rules, protected(rules, budget), 16)
    print(f"{budget}: {found.states} states, {found.depth} steps")
    assert found.broken is None, str(found.broken)


@pytest.mark.parametrize(("arbiter", "depth"), [("manual", 9), ("command", 9), ("etcd", 9), ("lease", 6)], ids=str)
@pytest.mark.parametrize(
    ("delivers", "restarts"), [(True, True), (False, True), (True, False)], ids=["", "all lost", "dead stay dead"]
)
def test_never_does_none_serve_for_ever_while_one_could(
    arbiter: str, depth: int, delivers: bool, restarts: bool
) -> None:
    rules = Rules(arbiter)
    first = protected(rules, Budget(faults=1, cuts=1, words=1))
    found = search(rules, first, depth, Life(rules, delivers=delivers, restarts=restarts))
    print(f"{arbiter}: {found.states} states, {found.depth} steps")
    assert found.broken is None, str(found.broken)


SWITCHOVER_AND_FAULT = Budget(switchovers=1, faults=1)
SWITCHOVER_CUT_AND_WORD = Budget(switchovers=1, cuts=1, words=1, repeats=1)


@pytest.mark.parametrize(
    ("arbiter", "budget", "depth"),
    [
        ("manual", SWITCHOVER_AND_FAULT, 9),
        ("manual", SWITCHOVER_CUT_AND_WORD, 8),
        ("command", SWITCHOVER_AND_FAULT, 7),
        ("command", SWITCHOVER_CUT_AND_WORD, 6),
        ("etcd", SWITCHOVER_AND_FAULT, 6),
        ("etcd", SWITCHOVER_CUT_AND_WORD, 5),
        ("lease", SWITCHOVER_AND_FAULT, 4),
    ],
)
def test_never_do_both_serve_while_one_hands_over(arbiter: str, budget: Budget, depth: int) -> None:
    rules = Rules(arbiter)
    found = search(rules, protected(rules, budget), depth)
    print(f"{arbiter}, {budget}: {found.states} states, {found.depth} steps")
    assert found.broken is None, str(found.broken)


@pytest.mark.parametrize(("arbiter", "depth"), [("manual", 5), ("command", 5), ("etcd", 4), ("lease", 3)], ids=str)
@pytest.mark.parametrize("restarts", [True, False])
def test_a_handover_leaves_none_that_serves_for_ever_only_if_none_could(
    arbiter: str, depth: int, *, restarts: bool
) -> None:
    rules = Rules(arbiter)
    first = protected(rules, Budget(switchovers=1, faults=1, cuts=1, words=1))
    found = search(rules, first, depth, Life(rules, delivers=True, restarts=restarts))
    print(f"{arbiter}: {found.states} states, {found.depth} steps")
    assert found.broken is None, str(found.broken)


def test_a_handover_without_a_fault_ends_with_the_other_node_serving() -> None:
    """Whatever the order of what happens; no host is fenced."""
    rules = Rules("command")

    def is_done(world: World) -> bool:
        states = [node.pair.state for node in world.nodes if node.pair is not None]
        return S.SERVING in states and (S.SECONDARY_WAITING in states or S.SECONDARY_LINKED in states)

    seen: list[World] = []
    found = Checker(
        lambda world: ((name, without_the_stale(after)) for name, after in steps(world, rules)),
        key,
        lambda world: seen.append(world) or ("a host is fenced" if world.shot or world.orders else ""),
    ).search([protected(rules, Budget(switchovers=1))], 12, 100_000)
    assert found.broken is None, str(found.broken)
    assert any(is_done(world) for world in seen)


# ── the checker finds what it should ────────────────────────────────────────────────────────────────────────


def changed(state: State, fact: Fact, then: State, *does: Command, timer: Timer | None = None):
    """The table with one row changed."""
    return {**TABLE, (state, fact): Transition(then, does, "broken on purpose", timer)}


MANUAL_WORDS = ("manual", Budget(faults=1, pauses=1, words=1), protected)
MANUAL_FORMING = ("manual", Budget(faults=1, words=1), unprotected)
CUTS = ("command", Budget(cuts=1), protected)
COMMAND_FAULTS = ("command", Budget(faults=1, cuts=1), protected)

BROKEN = {
    "a lost link is taken for a permission": (
        changed(S.SECONDARY_PROTECTED, F.LINK_LOST, S.TAKING_OVER, C.UNLINK, C.RECORD),
        CUTS,
        "both serve",
    ),
    "the primary takes silence for a permission": (
        changed(S.PRIMARY_PROTECTED, F.SILENT, S.GOING_ALONE, C.HOLD, C.UNLINK, C.RECORD),
        ("manual", Budget(cuts=1, pauses=1, words=1), protected),
        "both serve",
    ),
    "the primary's head start is forgotten": (
        changed(S.SECONDARY_PROTECTED, F.LINK_LOST, S.ASKING, C.UNLINK, C.ASK_ARBITER),
        CUTS,
        "two healthy nodes are both fenced",
    ),
    "an operator's word is passed on while the primary may trust": (
        changed(S.ASKING, F.OPERATOR_CONFIRMED, S.ASKING, C.TELL_OPERATOR),
        ("manual", Budget(cuts=1, pauses=1, words=1), protected),
        "both serve",
    ),
    "a refuted suspicion is not withdrawn": (
        changed(S.ASKING, F.HEARD, S.SECONDARY_PROTECTED),
        ("etcd", Budget(cuts=1, pauses=1), protected),
        "a question stays open though nothing is in doubt",
    ),
    "a secondary promises, and stays in step": (
        changed(S.SECONDARY_BROKEN, F.DISCARD_ASKED, S.YIELDING, C.PROMISE, C.UNLINK, timer=Timer.YIELD),
        MANUAL_WORDS,
        "both serve",
    ),
    "the primary goes alone before its term is on disk": (
        changed(S.PRIMARY_SUSPECT, F.GRANTED, S.ALONE, C.UNLINK, C.RELEASE),
        ("etcd", Budget(cuts=1), protected),
        "a term is served under that is not on disk",
    ),
    "the secondary serves before its term is on disk": (
        changed(S.ASKING, F.GRANTED, S.SWITCHING, C.UNLINK, C.SWITCH),
        ("etcd", Budget(faults=1), protected),
        "a term is served under that is not on disk",
    ),
    "a record that failed is taken for one": (
        changed(S.TAKING_OVER, F.RECORD_FAILED, S.SWITCHING, C.SWITCH),
        ("manual", Budget(faults=2, words=1), protected),
        "a term is served under that is not on disk",
    ),
    "the secondary is told before the record says so": (
        changed(S.PROTECTING, F.SYNCHRONISED, S.PRIMARY_PROTECTED, C.SAY_PROTECTED),
        MANUAL_FORMING,
        "both serve",
    ),
    "half a copy counts as in step": (
        changed(S.PREPARING, F.LINK_LOST, S.YIELDING, C.UNLINK),
        ("manual", Budget(pauses=1, cuts=1, words=1), unprotected),
        "both serve",
    ),
    "a restarted primary asks for no promise": (
        changed(S.RESTARTED, F.LINKED_IN_STEP, S.GOING_ALONE, C.UNLINK, C.RECORD),
        MANUAL_WORDS,
        "both serve",
    ),
    "a failed serve counts as serving": (
        changed(S.SWITCHING, F.SERVE_FAILED, S.SERVING, C.BECOME_PRIMARY),
        ("manual", Budget(faults=2, words=1), protected),
        "serving is said, and the guest is not on the network",
    ),
    "a secondary that fences promises all the same": (
        changed(S.SECONDARY_ACTING, F.DISCARD_ASKED, S.SECONDARY_WAITING, C.PROMISE, C.UNLINK, C.DISCARD_GUEST),
        COMMAND_FAULTS,
        "a node that fences promises not to serve",
    ),
    "a primary without a guest fences": (
        changed(S.PRIMARY_SUSPECT, F.GUEST_GONE, S.PRIMARY_SUSPECT),
        COMMAND_FAULTS,
        "none serves for ever, though one could",
    ),
    "a primary that has handed over trusts heartbeats": (
        changed(S.HANDING_OVER, F.DEADLINE, S.PRIMARY_PROTECTED),
        ("manual", Budget(switchovers=1), protected),
        "both serve",
    ),
    "a primary that has handed over fences": (
        changed(S.HANDING_OVER, F.DEADLINE, S.HANDING_OVER, C.ASK_ARBITER, timer=Timer.RETRY),
        ("command", Budget(switchovers=1, faults=1), protected),
        "a node that has handed over fences the other one",
    ),
    "a primary that has handed over asks for no promise": (
        changed(S.HANDING_OVER, F.DEADLINE, S.GOING_ALONE, C.UNLINK, C.RECORD),
        ("manual", Budget(switchovers=1), protected),
        "a term goes back",
    ),
    "a secondary never asks": (
        changed(S.YIELDING, F.DEADLINE, S.YIELDING),
        ("command", Budget(faults=1), protected),
        "none serves for ever, though one could",
    ),
    "a secondary whose pair is broken waits for ever": (
        changed(S.SECONDARY_BROKEN, F.LINK_LOST, S.SECONDARY_BROKEN, C.UNLINK),
        ("manual", Budget(faults=2, words=1), protected),
        "none serves for ever, though one could",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_row_is_found(name: str) -> None:
    table, (arbiter, budget, begin), law = BROKEN[name]
    rules = Rules(arbiter, table, only_cuts=not budget.faults and arbiter == "command", is_wished=begin is unprotected)
    lives = [Life(rules, delivers=True, restarts=restarts) for restarts in (True, False)] if "none" in law else []
    found = search(rules, begin(rules, budget), 16, *lives)
    assert found.broken is not None, f"{name}: not found in {found.states} states, {found.depth} steps"
    print(f"{name}: {found.broken}")
    assert found.broken.law == law


def refuses_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = leaserules.refusal

    def refusal(keys: KeysRead, node: leaserules.Standing) -> leaserules.Refusal | None:
        refused = judge(keys, node)
        is_open = keys.term is not None and keys.term.grantee not in ("", node.identity)
        return refused._replace(is_final=True) if refused is not None and is_open else refused

    monkeypatch.setattr(lease, "refusal", refusal)


def returns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease.LeaseArbiter, "_look_back", lambda core, keys: setattr(core, "_looks_back", False))


BROKEN_CORES = {
    "an open grant makes the other replica old": refuses_for_good,
    "a grant is never returned": returns_nothing,
}


@pytest.mark.parametrize("name", BROKEN_CORES)
def test_a_broken_core_of_a_lease_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BROKEN_CORES[name](monkeypatch)
    rules = Rules("lease")
    found = search(rules, protected(rules, Budget(faults=1, cuts=1)), 6, Life(rules, delivers=True, restarts=True))
    assert found.broken is not None, f"{name}: not found in {found.states} states, {found.depth} steps"
    print(f"{name}: {found.broken}")
    assert found.broken.law == "none serves for ever, though one could"
