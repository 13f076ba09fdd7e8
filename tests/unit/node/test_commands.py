"""The table's commands: each reaches its part, and what takes time is answered by a fact with its question's number."""

import pytest

from pycolo.failover.pair import Pair, Settings, Told
from pycolo.failover.pairstates import Command, Fact, State
from pycolo.link.orders import Order
from pycolo.node.commands import Commands, Parts

C, F = Command, Fact


class Part:
    """Notes what it is told to do."""

    def __init__(self, name, done):
        self._name = name
        self._done = done
        self.present = None
        self.term = 3
        """What the lease is for, and "" when there is one."""
        self.why = ""

    def acquire(self, term, on_acquired):
        on_acquired(self.term, self.why)

    def __getattr__(self, verb):
        def note(*arguments):
            self._done.append((f"{self._name}.{verb}", arguments))

        return note


class FakeLink:
    number = 7

    def __init__(self):
        self.data = "data"

    def take_data(self):
        data, self.data = self.data, None
        return data


class World:
    def __init__(self):
        self.done = []
        self.facts = []
        names = ("guest", "links", "permission", "record", "sides", "paths", "lease")
        self.parts = Parts(*(Part(name, self.done) for name in names))
        self.parts.links.present = FakeLink()
        self.commands = Commands(
            self.parts,
            lambda fact, told: self.facts.append((fact, told.ask)),
            lambda: 5,
            lambda: self.done.append(("refused", ())),
        )
        self.pair = Pair(Settings(150), State.PRIMARY_SUSPECT, 3, link=7, asked=11, doubt=4)

    def do(self, command, told=None, **changes):
        self.commands(command, self.pair._replace(**changes), told or Told(ask=9, text="why"))
        return [name for name, _ in self.done]

    @property
    def last(self):
        return self.done[-1][1]


DOES = {
    C.HALT: ["guest.halt"],
    C.HOLD: [],
    C.RELEASE: ["links.announce", "permission.serves", "guest.release"],
    C.RECORD: ["record.keep"],
    C.KEEP_WISH: ["record.keep"],
    C.UNLINK: ["links.cut", "guest.unlinked"],
    C.SAY_RESIGNED: ["links.resign"],
    C.SAY_HANDED_OVER: ["links.say"],
    C.SAY_GONE: ["links.say"],
    C.SAY_BROKEN: ["links.say"],
    C.SAY_PROTECTED: ["links.say", "guest.committed"],
    C.ASK_RESIGN: ["links.say"],
    C.ASK_PATHS: ["paths.ask"],
    C.ASK_ARBITER: ["permission.ask"],
    C.ASK_HARMLESS: ["permission.ask_harmless"],
    C.WITHDRAW: ["permission.withdraw"],
    C.TELL_OPERATOR: ["permission.operator_confirmed"],
    C.TELL_RESIGNED: ["permission.peer_resigned"],
    C.RESIGN_LEASE: ["permission.resign"],
    C.ASK_DISCARD: ["links.ask", "paths.ask_discard"],
    C.PROMISE: ["links.answer"],
    C.REFUSE_PROMISE: ["links.refuse"],
    C.PROTECT: ["guest.protect"],
    C.CANCEL_PROTECT: ["lease.abandon", "guest.cancel_protect"],
    C.PREPARE: ["guest.prepare"],
    C.DISCARD_GUEST: ["guest.discard"],
    C.SWITCH: ["links.announce", "permission.serves", "guest.switch"],
    C.BECOME_PRIMARY: ["sides.become"],
    C.BECOME_SECONDARY: ["sides.become"],
    C.RETIRE: ["guest.retire"],
    C.REFUSE_OPERATOR: ["refused"],
}


@pytest.mark.parametrize("command", list(Command))
def test_each_command_reaches_its_part(command):
    assert World().do(command) == DOES[command]


@pytest.mark.parametrize(
    ("command", "fact"), [(C.SWITCH, F.SERVE_FAILED), (C.RETIRE, F.RETIRE_FAILED), (C.PROTECT, F.SYNCHRONISED)]
)
def test_a_guest_may_answer_late_and_the_answer_has_the_number_of_its_question(command, fact):
    """The guest with a QEMU takes seconds; what the table has given up meanwhile is told apart by the number."""
    world = World()
    world.do(command)
    answer = world.last[-1]
    world.pair = world.pair._replace(asked=12)
    assert world.facts == []
    answer(fact, "a reason")
    assert world.facts == [(fact, 11)]


@pytest.mark.parametrize(("fact", "told"), [(F.SERVED, ["links.announce"]), (F.SERVE_FAILED, [])])
def test_a_primary_that_hands_over_is_told_when_clients_are_heard_here(fact, told):
    """Until then it mirrors what they send."""
    world = World()
    assert world.do(C.SWITCH, has_word=True) == ["permission.serves", "guest.switch"]
    answer = world.last[-1]
    world.done.clear()
    answer(fact, "")
    assert [name for name, _ in world.done] == told
    assert world.facts == [(fact, 11)]


@pytest.mark.parametrize(("why", "fact"), [("", F.RECORDED), ("no space left on device", F.RECORD_FAILED)])
def test_a_record_is_kept_when_it_is_on_disk(why, fact):
    world = World()
    world.do(C.RECORD, opened=4)
    record, on_kept = world.last
    assert record.term == 4
    on_kept(why)
    assert world.facts == [(fact, 11)]


def test_a_wish_that_is_kept_answers_nothing():
    world = World()
    world.do(C.KEEP_WISH)
    world.last[1]("")
    assert world.facts == []


@pytest.mark.parametrize(("reply", "fact"), [({"answer": {}}, F.PROMISED), ({"error": "no"}, F.PROMISE_REFUSED)])
def test_the_other_nodes_promise_is_an_answer_to_this_question(reply, fact):
    world = World()
    world.do(C.ASK_DISCARD, is_heard=True)
    order, arguments, on_answer = world.last
    assert (order, arguments) == ("discard", {"term": 3})
    on_answer(Order(id=1, **reply))
    assert world.facts == [(fact, 11)]


def test_a_promise_answers_the_order_that_asked_for_it():
    world = World()
    world.do(C.PROMISE)
    assert world.last[0] == 9


def test_while_a_new_term_is_not_on_disk_the_link_is_kept_for_the_last_word():
    assert World().do(C.UNLINK, opened=4) == ["links.part", "guest.unlinked"]


def test_a_lease_comes_before_protecting_and_a_new_term_before_that():
    world = World()
    world.parts.lease.why = "etcd is away"
    world.do(C.PROTECT)
    world.parts.lease.term, world.parts.lease.why = 4, ""
    world.do(C.PROTECT)
    assert world.facts == [(F.PROTECT_FAILED, 11), (F.TERM_OPENED, 11)]
    assert world.done == []


@pytest.mark.parametrize("is_awaited", [False, True])
def test_an_attempt_that_is_given_up_while_its_lease_is_awaited_has_ended(is_awaited):
    world = World()
    ended = []
    world.commands.on_protect_ended = lambda fact, why: ended.append((fact, why))
    world.parts.lease.abandon = lambda: is_awaited
    world.do(C.CANCEL_PROTECT, Told(text="unprotect"))
    assert ended == [(F.PROTECT_FAILED, "unprotect")] * is_awaited
    assert world.done == [("guest.cancel_protect", ("unprotect",))]


@pytest.mark.parametrize(("why", "fact"), [("", F.RETIRED), ("disk full", F.RETIRE_FAILED)])
def test_a_node_has_retired_when_its_role_is_on_disk(why, fact):
    world = World()
    world.do(C.RETIRE, state=State.RETIRING)
    (answer,) = world.last
    answer(F.RETIRED, "")
    assert world.facts == []
    record, on_kept = world.last
    assert record.role == "secondary"
    on_kept(why)
    assert world.facts == [(fact, 11)]


def test_what_a_guest_says_when_it_is_ready_answers_the_question():
    world = World()
    world.do(C.PREPARE)
    _, _, ready, answer = world.last
    ready({"version": "7.2"})
    assert world.done[-1] == ("links.answer", (9, {"version": "7.2"}))
    answer(F.PREPARE_FAILED, "no QEMU")
    assert world.done[-1] == ("links.refuse", (9, "no QEMU"))
    assert world.facts == [(F.PREPARE_FAILED, 11)]


@pytest.mark.parametrize("is_heard", [False, True])
def test_a_node_in_doubt_asks_for_the_promise_over_every_path(is_heard):
    assert World().do(C.ASK_DISCARD, is_heard=is_heard) == ["links.ask"] + ["paths.ask_discard"] * (not is_heard)


def test_a_promise_goes_the_way_that_its_question_came():
    world = World()
    assert world.do(C.PROMISE, Told(ask=-5)) == ["paths.answer"]
    assert world.do(C.REFUSE_PROMISE, Told(ask=-5))[-1] == "paths.refuse"


@pytest.mark.parametrize(("command", "fact"), [(C.PROTECT, F.PROTECT_FAILED), (C.PREPARE, F.PREPARE_FAILED)])
@pytest.mark.parametrize("has_link", [False, True])
def test_without_a_data_connection_there_is_nothing_to_copy_over(command, fact, has_link):
    world = World()
    world.parts.links.present.data = None
    if not has_link:
        world.parts.links.present = None
    assert f"guest.{command.name.lower()}" not in world.do(command)
    assert world.facts == [(fact, 11)]
