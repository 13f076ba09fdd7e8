"""The order of requests against its specification, and its laws."""

from hypothesis import given
from hypothesis import strategies as st

from pycolo import limits
from pycolo.model import order as model
from support.examples import examples
from support.ordering import FLOWS, LIMIT_US, ORDERED, Both, BothPrimary, BothSecondary, Step
from support.segments import read

EXAMPLES = examples(300)
FRAMES = [
    "client",
    "client",
    "client",
    "resend",
    "ack",
    "fin",
    "syn",
    "rst",
    "answer",
    "answer",
    "note",
    "end",
    "abort",
]
SETTINGS = ["open", "early", "late", "narrow"]
CHECKPOINTS = ["freeze", "stop", "thaw", "flush"]
steps = st.builds(
    Step,
    st.sampled_from([*FRAMES, *FRAMES, "give", "give", "give", "pass", "sleep", *SETTINGS, *CHECKPOINTS]),
    st.integers(0, len(FLOWS) - 1),
    st.sampled_from([1, 2, 3, 25, 250, 1400]),
)
scripts = st.lists(steps, max_size=60)
requests = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["client", "give", "answer"])), max_size=60)


def of_each(frames: list[bytes], vnet_len: int) -> dict[object, list[bytes]]:
    """The frames of each connection, in order."""
    found: dict[object, list[bytes]] = {}
    for octets in frames:
        found.setdefault(read(octets[vnet_len:]).flow, []).append(octets)
    return found


def whole(both: Both) -> None:
    both.do(Step("thaw"))
    both.settle()
    both.do(Step("flush"))


@EXAMPLES
@given(script=scripts, has_vnet=st.booleans(), trusted=st.sampled_from([(), (1,), (1, 2)]))
def test_the_primarys_does_what_the_specification_says(script, has_vnet, trusted):
    """Nothing is lost, given twice or out of order, by the guest or by the mirror, through checkpoints and limits."""
    both = BothPrimary(has_vnet=has_vnet)
    both.set_gate(ORDERED[0], 1)
    for amount in trusted:
        trust(both, amount)
    for step in script:
        both.do(step)
    whole(both)
    came = of_each(both.came, len(both.vnet))
    assert of_each(both.gone, len(both.vnet)) == came
    assert of_each(both.mirrored, len(both.vnet)) == came
    assert both.core.lanes.pool.used == 0


@EXAMPLES
@given(script=scripts, has_vnet=st.booleans())
def test_the_secondarys_does_what_the_specification_says(script, has_vnet):
    """The same; a flush is what a takeover or a checkpoint leaves."""
    both = BothSecondary(has_vnet=has_vnet)
    both.set_gate(ORDERED[0], 1)
    for step in script:
        both.do(step)
    both.settle()
    assert of_each(both.gone, len(both.vnet)) == of_each(both.came, len(both.vnet))
    assert both.core.lanes.pool.used == 0


@EXAMPLES
@given(script=requests)
def test_nothing_waits_longer_than_the_limit_for_a_round(script):
    """While a request waits, a deadline is there that lets the next round begin."""
    both = BothPrimary()
    both.set_gate(ORDERED[0], 1)
    for who, what in script:
        both.do(Step(what, who))
        if both.core.waiting_frames:
            due = both.core.deadline_us()
            assert due is not None
            assert both.now <= due <= both.now + LIMIT_US
    rounds = both.core.waiting_frames
    for _ in range(rounds):
        both.wait(LIMIT_US)
    assert both.core.waiting_frames == 0


@EXAMPLES
@given(script=requests, is_stopping=st.booleans())
def test_nothing_is_begun_between_the_request_for_a_checkpoint_and_its_end(script, is_stopping):
    """But what was admitted is not held back, and a checkpoint that does not come does not hold anything for long."""
    both = BothPrimary()
    both.set_gate(ORDERED[0], 2)
    both.set_gate(ORDERED[1], 1)
    both.core.freeze(both.now, is_stopping)
    both.model.freeze(both.now, is_stopping=is_stopping)
    for who, what in script:
        both.do(Step(what, who))
    assert not both.gone
    assert not both.admitted()
    both.wait(limits.ORDERED_FROZEN_MS * 1000)
    has_begun = bool(both.admitted())
    assert has_begun == (not is_stopping and any(what == "client" for _, what in script))


@EXAMPLES
@given(script=requests)
def test_a_port_that_is_not_ordered_waits_for_nothing(script):
    both = BothPrimary()
    both.set_gate(ORDERED[0], 0)
    for who, what in script:
        both.do(Step(what, who))
        both.do(Step("give", 0, 1000))
        assert both.mirrored == both.gone == both.came


def trust(both: BothPrimary, amount: int) -> None:
    """Requests of this length, which are of one kind, are answered without waiting for others."""
    for number in range(model.TRUSTED):
        both.do(Step("client", number % 2, amount))
        both.do(Step("give", 0, 9))
        both.do(Step("answer", number % 2))


def busy(width: int) -> BothPrimary:
    """Two connections have asked and have been answered: neither is alone. The third is asked something."""
    both = BothPrimary()
    both.set_gate(ORDERED[0], width)
    for who in (0, 1, 2):
        both.do(Step("client", who, 10))
        both.do(Step("give", 0, 9))
        if who < 2:
            both.do(Step("answer", who))
    return both


def mirrored(both: BothPrimary, since: int) -> list[object]:
    return [read(octets).flow for octets in both.mirrored[since:]]


def test_a_round_is_mirrored_with_its_first_answer_in_the_order_in_which_it_was_given():
    both = busy(3)
    for who in (1, 0, 3):
        both.do(Step("client", who, 20))
    assert not both.admitted()
    both.do(Step("answer", 2))
    before = len(both.mirrored)
    both.do(Step("give", 0, 1))
    both.do(Step("give", 0, 9))
    assert mirrored(both, before) == []
    both.do(Step("answer", 3))
    assert mirrored(both, before) == [FLOWS[1], FLOWS[0], FLOWS[3]]


def test_no_connection_of_the_last_round_is_in_the_next_while_others_wait():
    """The guest may not have noticed yet that it has nothing more to do for it."""
    both = busy(2)
    for who in (0, 1):
        both.do(Step("client", who, 20))
    both.do(Step("answer", 2))
    both.do(Step("give", 0, 9))
    both.do(Step("answer", 0))
    for who in (0, 3):
        both.do(Step("client", who, 30))
    both.do(Step("answer", 1))
    assert [read(octets).flow for octets in both.admitted()] == [FLOWS[3]]
    both.do(Step("answer", 3))
    assert [read(octets).flow for octets in both.admitted()] == [FLOWS[3], FLOWS[0]]


def test_the_late_answer_of_a_request_that_waited_is_mirrored_behind_what_set_it_free():
    """2 asks for the lock that 1 has, and is blocked; 1 gives it back; its answer comes after that of 2."""
    both = busy(1)
    before = len(both.mirrored)
    both.do(Step("client", 1, 20))
    both.do(Step("sleep"))
    both.do(Step("give", 0, 9))
    both.do(Step("answer", 2))
    assert mirrored(both, before) == []
    both.do(Step("answer", 1))
    assert mirrored(both, before) == [FLOWS[1], FLOWS[2]]
    assert both.core.counts()[0]["blocked"] == both.core.counts()[0]["late"] == 1


def test_bare_acks_of_a_request_that_is_not_mirrored_are_withheld():
    both = busy(1)
    both.do(Step("note", 2))
    assert both.core.withheld == 1
    both.do(Step("answer", 2))
    both.do(Step("note", 2))
    assert both.core.withheld == 1


def test_a_connection_that_is_alone_is_mirrored_when_given():
    both = busy(1)
    both.do(Step("answer", 2))
    both.do(Step("client", 0, 10))
    both.do(Step("answer", 0))
    both.wait(2_000_000)
    both.do(Step("give", 0, 9))
    both.do(Step("client", 0, 10))
    before = len(both.mirrored)
    both.do(Step("give", 0, 9))
    assert mirrored(both, before) == [FLOWS[0]]


def test_a_connection_whose_neighbour_has_left_is_alone():
    both = busy(1)
    both.do(Step("answer", 2))
    both.do(Step("client", 1, 20))
    both.do(Step("answer", 1))
    both.do(Step("fin", 1))
    both.wait(999_000)
    for who in (0, 0):
        both.do(Step("client", who, 10))
        both.do(Step("give", 0, 9))
        both.do(Step("answer", who))
        both.wait(1_000)
    both.do(Step("client", 0, 10))
    before = len(both.mirrored)
    both.do(Step("give", 0, 9))
    assert mirrored(both, before) == [FLOWS[0]]


def test_requests_of_a_kind_that_does_not_wait_for_others_are_mirrored_when_given():
    """Each is told from others by how it begins, whatever numbers it has and whoever asks."""
    both = BothPrimary()
    both.set_gate(ORDERED[0], 1)
    trust(both, 1)
    before = len(both.mirrored)
    both.do(Step("client", 2, 25))
    both.do(Step("give", 0, 9))
    assert mirrored(both, before) == [FLOWS[2]]
    both.do(Step("answer", 2))
    both.do(Step("client", 1, 2))
    both.do(Step("give", 0, 9))
    assert mirrored(both, before) == [FLOWS[2]], "another kind"


def test_one_that_has_waited_for_others_is_trusted_no_more():
    both = BothPrimary()
    both.set_gate(ORDERED[0], 1)
    trust(both, 1)
    both.do(Step("client", 0, 1))
    both.do(Step("client", 1, 2))
    both.do(Step("sleep"))
    for who in (0, 1):
        both.do(Step("give", 0, 9))
        both.do(Step("answer", who))
    both.do(Step("client", 2, 1))
    before = len(both.mirrored)
    both.do(Step("give", 0, 9))
    assert mirrored(both, before) == []


def test_after_a_difference_twice_as_many_answers_are_asked_for():
    both = BothPrimary()
    both.set_gate(ORDERED[0], 1)
    trust(both, 1)
    both.do(Step("freeze"))
    both.do(Step("thaw"))

    def is_trusted():
        before = len(both.mirrored)
        both.do(Step("client", 2, 1))
        both.do(Step("give", 0, 9))
        found = bool(mirrored(both, before))
        both.do(Step("answer", 2))
        return found

    trust(both, 1)
    assert not is_trusted(), "what was earned before is gone, and the same is not enough"
    trust(both, 1)
    assert is_trusted()


def test_a_late_answer_waits_for_the_round_no_longer_than_that_is_kept_back():
    """What has set it free is mirrored: it is of a kind that does not wait."""
    both = BothPrimary()
    both.set_gate(ORDERED[0], 1)
    trust(both, 1)
    both.do(Step("client", 0, 2))
    both.do(Step("client", 1, 1))
    both.do(Step("sleep"))
    before = len(both.mirrored)
    both.do(Step("give", 0, 9))
    assert mirrored(both, before) == [FLOWS[1]]
    both.do(Step("answer", 0))
    assert mirrored(both, before) == [FLOWS[1], FLOWS[0]]


def test_a_stream_is_mirrored_at_once():
    """Its client needs the guest's ACKs to go on."""
    both = busy(1)
    before = len(both.mirrored)
    for size in [1400] * 7:
        both.do(Step("client", 2, size))
    both.do(Step("give", 0, 99))
    assert mirrored(both, before) == [FLOWS[2]] * 8
    both.do(Step("note", 2))
    assert both.core.withheld == 0


def test_memory_is_bounded():
    """Above the limit of a connection all of it goes at once."""
    both = BothPrimary()
    both.set_gate(ORDERED[0], 1)
    both.core.freeze(both.now, False)
    talk = both.talks[0]
    for _ in range(200):
        octets = both.framed([both.fact(talk.client("client", 1400)).octets])
        both.core.client_frames(octets, 0, len(octets), both.now)
        assert both.core.lanes.pool.used_bytes <= 2 * limits.ORDERED_LANE_BYTES_MAX
    assert both.core.counts()[0]["overflowed"] == 1


def test_a_guest_that_has_loaded_a_state_has_longer_for_its_first_answer():
    both = BothSecondary()
    both.set_gate(ORDERED[0], 1)
    both.do(Step("flush"))
    both.do(Step("client", 0, 10))
    both.do(Step("client", 1, 10))
    both.wait(limits.ORDERED_COLD_MS * 1000 - 1)
    assert both.core.waiting_frames == 1
    both.do(Step("answer", 0))
    assert both.core.waiting_frames == 0
    both.do(Step("client", 2, 10))
    both.wait(LIMIT_US)
    assert both.core.waiting_frames == 0


def test_only_time_in_which_others_wait_for_a_round_that_is_not_answered_counts():
    both = BothPrimary()
    both.set_gate(ORDERED[0], 1)
    both.do(Step("client", 0))
    both.wait(LIMIT_US)
    both.do(Step("client", 1))
    both.do(Step("client", 2))
    assert both.core.counts()[0]["stalled_us"] == 0
    both.wait(LIMIT_US)
    assert both.core.counts()[0]["stalled_us"] == LIMIT_US
    both.do(Step("answer", 2))
    both.wait(LIMIT_US)
    assert both.core.counts()[0]["stalled_us"] == LIMIT_US
