"""Laws of the fencing command's core: only its success grants, and whatever it has begun it brings to its end."""

from hypothesis import given
from hypothesis import strategies as st

from pycolo.failover.arbiter import Decision
from pycolo.failover.fencing import RETRY_FIRST_MS, RETRY_LAST_MS, FencingArbiter

FACTS = st.lists(
    st.sampled_from(["suspected", "recovered", "paired", "run", "exit 0", "exit 1", "not in time", "term 3"]),
    max_size=30,
)


def apply(facts):
    """(fact, verdict) after each fact that the shell could have brought; runs only when the core wants one."""
    core, is_running, seen = FencingArbiter(3), False, []
    for number, fact in enumerate(facts):
        now_ms = number * 1000
        match fact:
            case "suspected" | "recovered":
                getattr(core, fact)(now_ms)
            case "paired":
                core.paired(3, now_ms)
            case "run":
                if not core.wants_run(now_ms):
                    continue
                assert not is_running
                core.fencing_started(now_ms)
                is_running = True
            case "term 3":
                core.term_seen(3)
            case _:
                if not is_running:
                    continue
                exit_code = None if fact == "not in time" else int(fact[5:])
                core.fencing_finished(now_ms, exit_code, "it says so")
                is_running = False
        seen.append((fact, core.verdict()))
    return seen


@given(FACTS)
def test_only_success_grants(facts):
    granted_before = False
    for fact, verdict in apply(facts):
        granted = verdict.decision is Decision.GRANTED
        if fact == "exit 0":
            assert granted
        elif fact == "paired":
            assert not granted
        else:
            assert granted == granted_before
        granted_before = granted
        assert verdict.text.isprintable()


@given(FACTS)
def test_a_run_that_has_begun_counts_whatever_is_heard_meanwhile(facts):
    meanwhile = [fact for fact in facts if fact in ("recovered", "suspected", "paired", "term 3")]
    verdicts = apply(["suspected", "run", *meanwhile, "exit 0"])
    assert verdicts[-1][1][:2] == (Decision.GRANTED, 4)


def test_it_says_so_when_the_other_was_heard_again():
    assert "a fenced node does not serve" in apply(["suspected", "run", "recovered", "exit 0"])[-1][1].text


def test_a_failure_is_tried_again_later_and_later():
    core = FencingArbiter(1)
    core.suspected(0)
    now_ms, pauses = 0, []
    for _ in range(8):
        assert core.wants_run(now_ms)
        core.fencing_started(now_ms)
        assert not core.wants_run(now_ms + 1_000_000)
        core.fencing_finished(now_ms + 5, 1, "switch: busy")
        assert "exit code 1, switch: busy" in core.verdict().text
        pauses.append(core.deadline_ms() - now_ms - 5)
        assert not core.wants_run(core.deadline_ms() - 1)
        now_ms = core.deadline_ms()
    assert pauses[:3] == [RETRY_FIRST_MS, 2 * RETRY_FIRST_MS, 4 * RETRY_FIRST_MS]
    assert pauses[-1] == RETRY_LAST_MS


def test_nothing_runs_for_an_other_that_is_there():
    core = FencingArbiter(1)
    assert core.deadline_ms() is None
    core.suspected(0)
    core.recovered(1)
    assert not core.wants_run(1000)
    core.suspected(2)
    core.fencing_started(2)
    core.recovered(3)
    core.fencing_finished(4, 1, "")
    assert core.deadline_ms() is None
    assert core.verdict().text == "the other node is not suspected"


def test_the_operator_need_not_wait_for_the_command():
    core = FencingArbiter(1)
    core.suspected(0)
    core.fencing_started(0)
    core.operator_confirmed(1)
    assert core.verdict()[:2] == (Decision.GRANTED, 2)
    core.fencing_finished(2, 1, "")
    assert core.verdict()[:2] == (Decision.GRANTED, 2)
    assert core.deadline_ms() is None


def test_a_node_that_was_taken_over_from_is_denied():
    core = FencingArbiter(1)
    core.term_seen(2)
    core.suspected(0)
    assert not core.wants_run(0)
    assert core.verdict()[:2] == (Decision.DENIED, 2)
