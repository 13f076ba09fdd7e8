"""The pair table, row by row, and what `Pair` adds to it: numbers, terms, deadlines."""

import pytest

from pycolo.failover.pair import ANSWERED, ANSWERS, Pair, Record, Settings, Told, restarted
from pycolo.failover.pairdiagram import name, picture, rows_table, states_table
from pycolo.failover.pairstates import IN_STEP, SHOWN, Command, Fact, Release, Role, State
from pycolo.failover.pairtable import OTHERWISE, ROWS, TABLE, table

C, F, S = Command, Fact, State

SETTINGS = Settings(timeout_ms=150, head_start_ms=2_000)


def pair(state: State, **changes) -> Pair:
    """Linked by link 7, under term 3."""
    base = Pair(SETTINGS, state, 3, link=7, last_link=7, asked=1, doubt=1, is_heard=True)
    return base._replace(**changes)


def after(start: Pair, *facts, now_ms: int = 1_000) -> tuple[Pair, tuple[Command, ...]]:
    """The value behind `facts`, each a fact or a fact with what was told; the last one's commands."""
    does: tuple[Command, ...] = ()
    for fact in facts:
        what, told = fact if isinstance(fact, tuple) else (fact, Told(ask=start.asked))
        start, does = start.happened(what, now_ms, told)
    return start, does


# ── the table is whole ──────────────────────────────────────────────────────────────────────────────────────


def test_every_state_has_every_fact_with_a_reason():
    assert set(TABLE) == {(state, fact) for state in State for fact in Fact}
    assert all(row.says for row in TABLE.values())
    assert set(OTHERWISE) == set(Fact)


def test_every_state_is_reached_and_left():
    first = {S.PRIMARY_WAITING, S.SECONDARY_WAITING, S.RESTARTED, S.PRIMARY_EMPTY}
    changes = [(state, row.next) for (state, _), row in TABLE.items() if row.next is not state]
    assert {to for _, to in changes} | first == set(State)
    assert {of for of, _ in changes} == set(State)
    assert set(SHOWN) == set(State)


def test_every_command_is_given_and_one_question_at_a_time():
    given = {command for row in ROWS for command in row.does}
    assert given | {C.KEEP_WISH, C.BECOME_SECONDARY} == set(Command)
    assert all(len(ANSWERED.intersection(row.does)) <= 1 for row in ROWS)


def test_two_rows_for_one_state_and_fact_are_refused():
    with pytest.raises(ValueError, match="two rows for"):
        table((*ROWS, ROWS[0]))


def test_a_node_that_retires_ends_as_the_secondary():
    assert {fact for fact in Fact if TABLE[S.RETIRING, fact].next is not S.RETIRING} == {F.RETIRED}
    assert TABLE[S.RETIRING, F.RETIRED].next is S.SECONDARY_WAITING


# ── rows by name ────────────────────────────────────────────────────────────────────────────────────────────

ROWS_BY_NAME = {
    "silence is a suspicion": (S.PRIMARY_PROTECTED, F.SILENT, S.PRIMARY_SUSPECT),
    "the primary asks at once": (S.PRIMARY_PROTECTED, F.LINK_LOST, S.PRIMARY_SUSPECT),
    "the secondary yields first": (S.SECONDARY_PROTECTED, F.SILENT, S.YIELDING),
    "a suspicion is withdrawn by the primary": (S.PRIMARY_SUSPECT, F.HEARD, S.PRIMARY_PROTECTED),
    "a suspicion is withdrawn by the secondary": (S.ASKING, F.HEARD, S.SECONDARY_PROTECTED),
    "not behind the point of no return": (S.PRIMARY_ACTING, F.HEARD, S.PRIMARY_ACTING),
    "a failed fencing is no permission": (S.PRIMARY_ACTING, F.ARBITER_FAILED, S.PRIMARY_SUSPECT),
    "a primary that lives elsewhere is yielded to": (S.ASKING, F.PEER_ALIVE, S.YIELDING),
    "a resignation needs no fencing": (S.SECONDARY_PROTECTED, F.PEER_RESIGNED, S.ASKING),
    "a guest that was switched off is not to go on elsewhere": (S.PRIMARY_PROTECTED, F.GUEST_OFF, S.DISSOLVING),
    "a dead guest's node resigns": (S.PRIMARY_PROTECTED, F.GUEST_GONE, S.RETIRING),
    "so does a hanging one's": (S.PRIMARY_PROTECTED, F.GUEST_HANGS, S.RETIRING),
    "a failed serve is not serving": (S.SWITCHING, F.SERVE_FAILED, S.SWITCHING),
    "a failed record is not alone": (S.GOING_ALONE, F.RECORD_FAILED, S.GOING_ALONE),
    "a failed retire is tried again": (S.RETIRING, F.RETIRE_FAILED, S.RETIRING),
    "protected is left when health says so": (S.PRIMARY_PROTECTED, F.UNHEALTHY, S.DEGRADED),
    "and entered again": (S.DEGRADED, F.WELL, S.PRIMARY_PROTECTED),
    "a lost data connection waits for the heart": (S.PRIMARY_PROTECTED, F.DATA_LOST, S.PRIMARY_BROKEN),
    "then the promise is asked for": (S.PRIMARY_BROKEN, F.DEADLINE, S.DISSOLVING),
    "a refused lease ends a primary": (S.ALONE, F.REFUSED, S.RETIRING),
    "a lease that ends holds back": (S.PRIMARY_PROTECTED, F.LEASE_ENDED, S.PRIMARY_PROTECTED),
    "a fencing secondary promises nothing": (S.SECONDARY_ACTING, F.DISCARD_ASKED, S.SECONDARY_ACTING),
    "unprotect asks for the promise": (S.PRIMARY_PROTECTED, F.UNPROTECT_WISHED, S.DISSOLVING),
    "an operator at a primary that hears its secondary": (S.PRIMARY_PROTECTED, F.OPERATOR_CONFIRMED, S.DISSOLVING),
    "a linked primary protects by itself": (S.PRIMARY_LINKED, F.DEADLINE, S.PROTECTING),
}


@pytest.mark.parametrize("row", ROWS_BY_NAME)
def test_row(row):
    state, fact, then = ROWS_BY_NAME[row]
    assert TABLE[state, fact].next is then


@pytest.mark.parametrize(
    ("state", "fact", "done", "says"),
    [
        (S.SWITCHING, F.SERVE_FAILED, F.SERVED, "taking over: serve failed: no br0"),
        (S.GOING_ALONE, F.RECORD_FAILED, F.RECORDED, "suspect: record failed: no br0"),
        (S.RETIRING, F.RETIRE_FAILED, F.RETIRED, "fenced: retire failed: no br0"),
    ],
)
def test_what_failed_is_shown_until_it_has_succeeded(state, fact, done, says):
    began = pair(state)
    assert began.blocked == ""
    failed, _ = began.happened(fact, 0, Told(ask=1, text="no br0"))
    assert (failed.state, failed.blocked) == (state, says)
    again, _ = failed.deadline_passed(failed.deadline_ms)
    assert (again.state, again.blocked) == (state, says), "while it is tried again"
    ended, _ = again.happened(done, 1_100, Told(ask=again.asked))
    assert ended.state is not state
    assert ended.blocked == ""


def test_a_failure_that_comes_late_blocks_nothing():
    assert after(pair(S.SERVING), F.SERVE_FAILED)[0].blocked == ""


def test_a_secondary_serves_only_behind_a_grant_and_its_record():
    assert {key for key, row in TABLE.items() if row.next is S.TAKING_OVER is not key[0]} == {
        (state, F.GRANTED) for state in IN_STEP
    }
    assert [key for key, row in TABLE.items() if row.next is S.SWITCHING is not key[0]] == [(S.TAKING_OVER, F.RECORDED)]
    assert [key for key, row in TABLE.items() if row.next is S.SERVING is not key[0]] == [(S.SWITCHING, F.SERVED)]


ASKS = (
    *(S.PRIMARY_SUSPECT, S.PRIMARY_ACTING, S.HANDING_OVER),
    *(S.ASKING, S.CONFIRMED, S.RELIEVING, S.SECONDARY_ACTING),
)


@pytest.mark.parametrize("state", ASKS)
def test_a_question_is_withdrawn_with_its_doubt(state):
    for fact in Fact:
        row = TABLE[state, fact]
        if row.next not in ASKS and fact is not F.GRANTED:
            assert C.WITHDRAW in row.does, f"{state} / {fact}"


def test_what_may_leave_is_said_with_each_change():
    for (state, fact), row in TABLE.items():
        before, then = pair(state).release, pair(row.next).release
        where = f"{state} / {fact}"
        if before is not Release.NOTHING and then is Release.NOTHING:
            is_held = {C.HALT, C.HOLD}.intersection(row.does)
            assert is_held or row.next is S.GOING_ALONE, where  # the first copy's end holds nothing up
        if before is Release.NOTHING and then is Release.FREELY:
            assert {C.RELEASE, C.SWITCH}.intersection(row.does), where
        if row.next is S.RETIRING is not state:
            assert row.does[0] is C.HALT, where
            assert row.does[-1] is C.RETIRE, where


def test_a_pair_without_guests_of_qemu_is_formed_at_once():
    at_once = SETTINGS._replace(back_off_first_ms=0)
    record = Record(Role.PRIMARY, is_wished=True)
    primary, _ = restarted(at_once, record, has_guest=True)
    primary, _ = primary.happened(F.LINKED, 5, Told(link=1))
    primary, does = primary.deadline_passed(5)
    assert does == (C.PROTECT,)
    primary, does = after(primary, (F.SYNCHRONISED, Told(ask=primary.asked)))
    assert does == (C.RECORD,)
    primary, does = after(primary, (F.RECORDED, Told(ask=primary.asked)))
    assert (primary.state, does) == (S.PRIMARY_PROTECTED, (C.SAY_PROTECTED,))
    secondary, _ = restarted(at_once, Record(Role.SECONDARY), has_guest=True)
    for fact in (F.LINKED, F.PREPARE_ASKED, F.PEER_PROTECTED):
        secondary, _ = secondary.happened(fact, 5, Told(link=1))
    assert secondary.state is S.SECONDARY_PROTECTED


def test_only_a_recorded_primary_goes_alone():
    assert [key for key, row in TABLE.items() if row.next is S.ALONE is not key[0]] == [(S.GOING_ALONE, F.RECORDED)]


# ── what `Pair` adds ────────────────────────────────────────────────────────────────────────────────────────


def test_facts_of_another_link_are_none():
    start = pair(S.SECONDARY_PROTECTED)
    for fact in (F.LINK_LOST, F.PEER_RESIGNED, F.DISCARD_ASKED, F.SILENT):
        assert after(start, (fact, Told(link=6)))[0] is start
    assert after(start, (F.LINKED, Told(link=7)))[0] is start


@pytest.mark.parametrize("fact", sorted(ANSWERS))
@pytest.mark.parametrize("state", State)
def test_answers_to_an_earlier_question_are_none(fact, state):
    start = pair(state)
    assert after(start, (fact, Told(ask=0)))[0] is start


def test_a_link_that_was_dialled_before_the_takeover_is_none():
    start = pair(S.SERVING, link=0)
    assert after(start, (F.LINKED, Told(link=8, role=Role.SECONDARY)))[0] is start


def test_an_answer_over_another_path_is_to_the_present_doubt():
    start = pair(S.RESTARTED, link=0)
    assert after(start, (F.PEER_EMPTY, Told(ask=0)))[0] is start
    assert after(start, (F.PEER_EMPTY, Told(ask=1)))[0].state is S.GOING_ALONE


def test_a_term_is_shown_once_it_is_on_disk():
    taking, does = after(pair(S.ASKING, link=0), F.GRANTED)
    assert (taking.term, taking.opened) == (3, 4)
    assert C.RECORD in does
    assert taking.record() == Record(Role.PRIMARY, 4)
    switching, does = after(taking, (F.RECORDED, Told(ask=taking.asked)))
    assert (switching.term, switching.opened, switching.state, does) == (4, 0, S.SWITCHING, (C.SWITCH,))


def test_a_grant_may_name_its_term():
    assert after(pair(S.PRIMARY_SUSPECT), (F.GRANTED, Told(term=9)))[0].opened == 9


def test_a_higher_term_ends_a_node_whose_state_is_older():
    for state in (S.ALONE, S.PRIMARY_SUSPECT, S.YIELDING, S.PRIMARY_PROTECTED):
        ended, does = after(pair(state), (F.HEARD, Told(term=4, link=7)))
        assert (ended.state, ended.term) == (S.RETIRING, 4)
        assert C.RETIRE in does


def test_a_node_without_a_guest_takes_a_higher_term_over():
    taken, _ = after(pair(S.SECONDARY_WAITING, link=0, last_link=0), (F.LINKED, Told(term=4, link=1)))
    assert (taken.state, taken.term) == (S.SECONDARY_LINKED, 4)


def test_the_role_is_that_of_the_moment():
    serving = pair(S.ASKING, link=0)
    assert serving.role is Role.SECONDARY
    for fact in (F.GRANTED, F.RECORDED, F.SERVED):
        serving, _ = after(serving, (fact, Told(ask=serving.asked)))
    assert (serving.state, serving.role, serving.record().role) == (S.SERVING, Role.PRIMARY, Role.PRIMARY)
    retired, _ = after(serving, F.REFUSED)
    retired, _ = after(retired, (F.RETIRED, Told(ask=retired.asked)))
    assert (retired.state, retired.role) == (S.SECONDARY_WAITING, Role.SECONDARY)


def test_the_head_start_counts_from_where_the_primary_may_have_begun():
    yielding, _ = after(pair(S.SECONDARY_PROTECTED), (F.SILENT, Told(link=7)), now_ms=1_000)
    assert yielding.deadline_ms == 1_000 + 2_000 + 150
    assert yielding.deadline_passed(3_149) == (yielding, ())
    asking, does = yielding.deadline_passed(3_150)
    assert (asking.state, does) == (S.ASKING, (C.ASK_ARBITER,))
    no_shot = yielding._replace(settings=SETTINGS._replace(head_start_ms=0), state=S.SECONDARY_PROTECTED)
    assert after(no_shot, (F.LINK_LOST, Told(link=7)), now_ms=1_000)[0].deadline_ms == 1_000


def test_a_node_that_is_heard_while_it_is_fenced_in_vain_is_in_doubt_no_more():
    acting, _ = after(pair(S.PRIMARY_ACTING, is_heard=False), (F.HEARD, Told(link=7)))
    assert acting.state is S.PRIMARY_ACTING
    back, does = after(acting, F.ARBITER_FAILED)
    assert (back.state, does) == (S.PRIMARY_PROTECTED, (C.WITHDRAW,))


def test_a_pair_that_broke_while_it_was_suspect_is_dissolved_when_it_is_heard():
    suspect, _ = after(pair(S.PRIMARY_PROTECTED), F.COLO_BROKEN, (F.SILENT, Told(link=7)))
    assert suspect.state is S.PRIMARY_SUSPECT
    back, does = after(suspect, (F.HEARD, Told(link=7)))
    assert (back.state, does) == (S.DISSOLVING, (C.WITHDRAW, C.ASK_DISCARD))


def test_protection_comes_back_by_itself_with_a_back_off():
    waits = pair(S.ALONE, is_wished=True, link=0)
    pauses = []
    for number in range(8, 14):
        linked, _ = after(waits, (F.LINKED, Told(link=number)), now_ms=0)
        pauses.append(linked.deadline_ms)
        protecting, does = linked.deadline_passed(linked.deadline_ms or 0)
        assert does == (C.PROTECT,)
        waits, _ = after(protecting, (F.PROTECT_FAILED, Told(ask=protecting.asked)))
    assert pauses == [0, 1_000, 2_000, 4_000, 8_000, 16_000]
    linked, _ = after(waits, (F.LINKED, Told(link=20)), F.UNPROTECT_WISHED)
    assert linked.deadline_ms is None
    assert not linked.is_wished
    protecting, does = after(linked, F.PROTECT_WISHED)
    assert (protecting.state, does) == (S.PROTECTING, (C.KEEP_WISH, C.PROTECT))
    assert protecting.failures == 0


def linked_again(waits: Pair) -> Pair:
    return after(waits, (F.LINKED, Told(link=waits.last_link + 1)), now_ms=0)[0]


def begins(linked: Pair) -> Pair:
    protecting, does = linked.deadline_passed(linked.deadline_ms or 0)
    assert does == (C.PROTECT,)
    return protecting


def test_a_guest_that_switches_itself_off_is_no_failure_however_often():
    waits = pair(S.ALONE, is_wished=True, link=0)
    for number in range(20):
        protecting = begins(linked_again(waits))
        if number % 3 == 0:
            waits, does = after(protecting, F.GUEST_OFF)
            assert C.CANCEL_PROTECT in does
        else:
            waits, _ = after(protecting, F.SYNCHRONISED, F.RECORDED, F.GUEST_OFF, F.PROMISED, F.RECORDED)
        assert (linked_again(waits).deadline_ms or 0) <= SETTINGS.back_off_first_ms


def test_what_an_attempt_lacks_is_waited_for_and_is_no_failure():
    waits = pair(S.ALONE, is_wished=True, link=0)
    failed, _ = after(begins(linked_again(waits)), F.PROTECT_FAILED)
    lacks, does = after(begins(linked_again(failed)), F.PROTECT_LACKS)
    assert (lacks.state, lacks.failures, does) == (S.PRIMARY_WAITING, 1, (C.CANCEL_PROTECT, C.UNLINK))
    linked = linked_again(lacks)
    assert linked.deadline_ms == SETTINGS.back_off_last_ms, "it is tried without, now and then"
    there, _ = after(linked, F.AVAILABLE, now_ms=70_000)
    assert there.deadline_ms == 70_000 + SETTINGS.back_off_first_ms, "one has failed"
    assert after(there, F.AVAILABLE, now_ms=70_500)[0] == there, "nothing is lacking any more"
    before_the_link, _ = after(lacks, F.AVAILABLE)
    assert linked_again(before_the_link).deadline_ms == SETTINGS.back_off_first_ms
    begun, _ = after(linked, F.PROTECT_WISHED)
    again, _ = after(begun, F.PROTECT_FAILED)
    assert linked_again(again).deadline_ms == SETTINGS.back_off_first_ms, "that was another failure"
    unwished, _ = after(linked, F.UNPROTECT_WISHED, F.AVAILABLE)
    assert unwished.deadline_ms is None


def test_a_guest_that_comes_back_after_each_failure_does_not_make_the_pauses_shorter():
    waits = pair(S.ALONE, is_wished=True, link=0)
    pauses = []
    for _ in range(5):
        linked = linked_again(waits)
        assert after(linked, F.AVAILABLE, now_ms=0)[0] == linked
        pauses.append(linked.deadline_ms)
        waits, _ = after(begins(linked), F.GUEST_GONE, F.AVAILABLE)
    assert pauses == [0, 1_000, 2_000, 4_000, 8_000]


def test_a_restarted_node_begins_by_its_record():
    def begins(role, was_protected, has_guest):
        record = Record(role, 5, was_protected)
        return restarted(SETTINGS, record, has_guest=has_guest)[0]

    assert begins(Role.SECONDARY, True, True).state is S.SECONDARY_WAITING
    assert begins(Role.PRIMARY, False, True).state is S.PRIMARY_WAITING
    assert begins(Role.PRIMARY, True, False).state is S.PRIMARY_EMPTY
    waits = begins(Role.PRIMARY, True, True)
    assert (waits.state, waits.term, waits.release, waits.deadline_ms) == (S.RESTARTED, 5, Release.NOTHING, 5_000)
    assert waits.record() == Record(Role.PRIMARY, 5, True)


@pytest.mark.parametrize(
    ("state", "trusted_ns", "lease_ns", "may"),
    [
        (S.ALONE, 0, None, True),
        (S.ALONE, 0, 1_000_000_000, False),
        (S.PRIMARY_PROTECTED, 1_000_000_001, None, True),
        (S.PRIMARY_PROTECTED, 1_000_000_000, None, False),
        (S.PRIMARY_PROTECTED, 1_000_000_001, 1_000_000_000, False),
        (S.PRIMARY_SUSPECT, 2_000_000_000, None, False),
        (S.GOING_ALONE, 2_000_000_000, None, False),
        (S.RETIRING, 2_000_000_000, None, False),
        (S.SECONDARY_PROTECTED, 2_000_000_000, None, False),
    ],
)
def test_what_may_leave(state, trusted_ns, lease_ns, may):
    assert pair(state).may_release(1_000, trusted_ns, lease_ns) is may


# ── the picture ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_picture_and_the_tables_say_what_the_table_says():
    drawn = picture(State)
    assert all(name(state) in drawn for state in State)
    assert len(states_table()) == len(State)
    assert len(rows_table()) == len(ROWS)
