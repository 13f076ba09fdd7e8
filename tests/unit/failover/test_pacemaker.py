"""Laws of the arbiter `pacemaker`: what permits, what is asked of the cluster, and what never is."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pycolo.failover.arbiter import Decision
from pycolo.failover.fencing import Fenced
from pycolo.failover.pacemaker import (
    LOOK_MS,
    FailPeer,
    Look,
    PacemakerArbiter,
    PeerHost,
    Reported,
    Seen,
    Shoot,
)
from pycolo.failover.turns import Turns

TURN_MS, APART_MS = 2_000, 300
STEP_MS = 100

SEEN = st.builds(
    Seen,
    peer=st.sampled_from(PeerHost),
    is_quorate=st.booleans(),
    fences=st.booleans(),
    is_maintained=st.booleans(),
    has_two_votes=st.booleans(),
    is_member=st.booleans(),
    answers=st.booleans(),
    has_link=st.booleans(),
    has_node=st.booleans(),
    is_secondary=st.booleans(),
)
WORDS = ["suspected", "recovered", "paired", "promoted", "in step", "demoted", "stopped", "started", "confirmed"]
FACTS = st.lists(st.sampled_from([*WORDS, "peer resigned", "resigned"]) | SEEN | st.sampled_from([0, 1, None]))

GRANTS = {"in step", "stopped", "confirmed", "peer resigned", 0}


class World:
    """A core whose shell brings each answer when it is asked for it, and notes what was asked."""

    def __init__(self, term=3):
        self.core = PacemakerArbiter(term, Turns(TURN_MS, APART_MS))
        self.now_ms = 0
        self.pending = None
        self.asked = []
        self.seen = None

    def pump(self):
        """Ask what is wanted now."""
        self.now_ms += STEP_MS
        if self.pending is None:
            self.pending = self.core.request(self.now_ms * 1_000_000)
            if self.pending is not None:
                self.asked.append((self.pending, self.seen, self.now_ms))

    def does(self, fact):
        """Bring a fact, or the answer if it is one to what was asked; False: it could not happen."""
        core, pending = self.core, self.pending
        if isinstance(fact, Seen):
            if not isinstance(pending, Look):
                return False
            self.seen, self.pending = fact, None
            core.answered(fact, self.now_ms * 1_000_000)
        elif not isinstance(fact, str):
            if not isinstance(pending, Shoot | FailPeer):
                return False
            self.pending = None
            answer = Fenced(fact, "so") if isinstance(pending, Shoot) else Reported("" if fact == 0 else "so")
            core.answered(answer, self.now_ms * 1_000_000)
        else:
            self.word(fact)
        return True

    def word(self, fact):
        core = self.core
        match fact:
            case "suspected" | "recovered":
                getattr(core, fact)(self.now_ms)
            case "paired":
                core.paired(3, self.now_ms)
            case "promoted" | "in step":
                core.promoted(is_in_step=fact == "in step")
            case "demoted" | "resigned":
                getattr(core, fact)()
            case "stopped" | "started":
                getattr(core, f"peer_{fact}")()
            case "confirmed":
                core.operator_confirmed(self.now_ms)
            case "peer resigned":
                core.peer_resigned(self.now_ms, "so")


def run(facts):
    """(fact, decision before, after, world) for each fact that could happen."""
    world = World()
    for fact in facts:
        before, was_shooting = world.core.verdict().decision, world.core.is_acting
        if world.does(fact):
            yield fact, before, world.core.verdict().decision, was_shooting, world
        world.pump()


@given(FACTS)
def test_nothing_but_these_grants(facts):
    was_stopped = False
    for fact, before, after, was_shooting, _ in run(facts):
        was_stopped = fact == "stopped" or (was_stopped and fact != "started")
        if after is Decision.GRANTED and before is not after:
            if isinstance(fact, Seen):
                assert fact.peer is PeerHost.OFF or not fact.has_node
                assert fact.is_quorate
                assert fact.fences
                assert not fact.is_maintained
            elif fact == "suspected":
                assert was_stopped
            else:
                assert fact in GRANTS
                assert fact != 0 or was_shooting


@given(FACTS)
def test_a_host_is_shot_only_by_a_quorate_cluster_that_fences_and_where_nothing_of_it_answers(facts):
    for *_, world in run(facts):
        for asked, seen, _ in world.asked:
            if isinstance(asked, Shoot):
                assert (seen.is_quorate, seen.fences, seen.is_maintained, seen.answers) == (True, True, False, False)
                assert seen.peer in (PeerHost.ONLINE, PeerHost.UNCLEAN)
                assert seen.has_two_votes or not seen.is_member, "a quorum that is counted with the lost host"
            if isinstance(asked, FailPeer):
                assert (seen.is_quorate, seen.fences, seen.is_maintained, seen.answers) == (True, True, False, True)


@given(FACTS)
def test_a_demoted_node_lets_nothing_out_and_asks_for_nothing_until_it_is_permitted(facts):
    for fact, _, _, _, world in run(facts):
        if fact == "demoted":
            assert world.core.serve_until_ns() == 0
            assert world.core.request(world.now_ms * 1_000_000) is None
        assert (world.core.serve_until_ns() is None) is world.core.may_serve
        if world.core.is_promoted:
            assert world.core.may_serve
            assert not world.core.is_demoted


def cluster(**more):
    """Of a pair whose other host has fallen silent."""
    return Seen(PeerHost.ONLINE, **more)


def ask_until(world, seen, wanted, steps=60):
    """Answer looks with `seen` until something of the kind `wanted` is asked for; the time then."""
    for _ in range(steps):
        if isinstance(world.pending, wanted):
            return world.now_ms
        if isinstance(world.pending, Look):
            world.does(seen)
        world.pump()
    raise AssertionError(f"no {wanted.__name__}: {world.core.verdict().text}")


def suspicious(**more):
    world = World(**more)
    world.does("suspected")
    world.pump()
    return world


def test_the_primary_shoots_first_where_there_are_two_votes():
    assert ask_until(suspicious(), cluster(is_secondary=False), Shoot) <= 3 * STEP_MS
    waited = ask_until(suspicious(), cluster(is_secondary=True), Shoot)
    assert TURN_MS + APART_MS <= waited < TURN_MS + APART_MS + LOOK_MS + STEP_MS
    third = cluster(is_secondary=True, has_two_votes=False, is_member=False)
    assert ask_until(suspicious(), third, Shoot) <= 3 * STEP_MS


def test_a_suspicion_that_is_refuted_before_the_shot_is_withdrawn():
    world = suspicious()
    world.does(cluster())
    world.does("recovered")
    for _ in range(40):
        world.pump()
    assert [type(asked) for asked, *_ in world.asked] == [Look]


def test_a_host_that_answers_is_not_shot_its_node_is_reported_once():
    world = suspicious()
    ask_until(world, cluster(answers=True, has_link=True), FailPeer)
    world.does(0)
    for _ in range(100):
        world.pump()
        world.does(cluster(answers=True, has_link=True))
    assert [asked for asked, *_ in world.asked if not isinstance(asked, Look)] == [FailPeer()]
    world.does("stopped")
    assert world.core.verdict()[:2] == (Decision.GRANTED, 4)


def test_where_the_link_alone_is_cut_only_the_primary_has_the_other_node_stopped():
    """Each would have the other one stopped, and the guest would be lost."""
    assert ask_until(suspicious(), cluster(answers=True, is_secondary=False), FailPeer)
    world = suspicious()
    for _ in range(200):
        world.pump()
        world.does(cluster(answers=True))
    assert {type(asked) for asked, *_ in world.asked} == {Look}


def test_a_node_that_pacemaker_had_stopped_before_it_was_missed_needs_no_look():
    world = World()
    world.does("stopped")
    world.does("suspected")
    assert world.core.verdict().decision is Decision.GRANTED
    world = World()
    world.does("stopped")
    world.does("started")
    world.does("suspected")
    assert world.core.verdict().decision is Decision.WAIT


def test_a_shot_under_way_counts_whatever_is_heard_meanwhile():
    world = suspicious()
    ask_until(world, cluster(is_secondary=False), Shoot)
    assert world.core.is_acting
    for fact in ("recovered", "suspected", "paired"):
        world.does(fact)
    world.does(0)
    assert not world.core.is_acting
    assert world.core.verdict().decision is Decision.GRANTED


def test_a_shot_that_failed_is_tried_again_later_and_later():
    world, times = suspicious(), []
    for _ in range(7):
        times.append(ask_until(world, cluster(has_two_votes=False, is_member=False), Shoot, steps=400))
        world.does(1)
        assert "exit code 1; so" in world.core.trouble
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses == sorted(pauses)
    assert pauses[-1] > 4 * pauses[0]


def test_after_a_shot_that_failed_the_cluster_is_looked_at_without_a_pause():
    """It may have been done all the same."""
    world = suspicious()
    ask_until(world, cluster(is_secondary=False), Shoot)
    world.does(None)
    ask_until(world, cluster(is_secondary=False), Look, steps=4)
    world.does(Seen(PeerHost.OFF))
    assert world.core.verdict().decision is Decision.GRANTED


def shots_of(is_secondary, since_ms, until_ms):
    """(begin, end) of the shots of a node whose switch always fails, in a cluster of two votes."""
    world, shots = World(), []
    world.now_ms = since_ms
    world.does("suspected")
    while world.now_ms < until_ms:
        world.pump()
        if isinstance(world.pending, Shoot):
            shots.append((world.now_ms, world.now_ms + world.pending.limit_ms))
        world.does(1 if isinstance(world.pending, Shoot) else cluster(is_secondary=is_secondary))
    return shots


@given(st.integers(0, APART_MS), st.booleans())
def test_a_node_whose_shots_fail_never_shoots_in_the_other_nodes_turn(apart_ms, is_primary_late):
    """Both hosts would be off if a retry of one and a shot of the other one came to their ends together."""
    late = (apart_ms, 0) if is_primary_late else (0, apart_ms)
    primary = shots_of(False, late[0], 40_000)
    secondary = shots_of(True, late[1], 40_000)
    assert len(primary) > 2
    assert len(secondary) > 2
    assert all(one[1] <= other[0] or other[1] <= one[0] for one in primary for other in secondary)


def test_a_cluster_that_does_not_answer_is_asked_again():
    world = suspicious()
    world.core.unanswered("crm_mon: no answer", 0)
    assert world.core.trouble == "pacemaker: crm_mon: no answer"
    world.pending = None
    assert ask_until(world, cluster(is_secondary=False), Shoot)


def test_the_operator_hears_what_is_waited_for():
    for seen, text in (
        (cluster(fences=False), "stonith-enabled is false"),
        (cluster(is_maintained=True), "`colo failover` decides"),
        (cluster(is_quorate=False), "no quorum"),
        (Seen(PeerHost.UNKNOWN), "does not know the other host"),
    ):
        world = suspicious()
        world.does(seen)
        assert text in world.core.verdict().text
