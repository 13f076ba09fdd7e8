"""A node's states: what each fact leads to, what its parts are told, and that nothing follows once the other serves."""

import asyncio
import time
from contextlib import contextmanager

import pytest

from pycolo.failover.heartbeat import SuspicionReason
from pycolo.failover.pair import Record, Settings, restarted
from pycolo.failover.pairstates import Fact, State
from pycolo.failover.pairstates import Role as PairRole
from pycolo.link.codec import Channel, GoodbyeReason
from pycolo.link.hello import Hello, Role, Welcome
from pycolo.link.orders import Order, decode_order, encode_order
from pycolo.node.decider import Decider
from pycolo.node.linksides import ListeningSide
from pycolo.node.nopath import NoPath
from pycolo.node.options import NodeOptions
from pycolo.node.roles import put_together
from pycolo.transport.controlchannel import (
    ChannelClosed,
    Heard,
    PeerGoodbye,
    PeerOrder,
    PeerState,
    PeerTakeover,
    Suspected,
)
from pycolo.transport.linksetup import Address, Established
from pycolo.transport.linksocket import LinkSocket
from pycolo.transport.portspec import parse_port
from support.virtualloop import VirtualLoop

SILENCE = Suspected(SuspicionReason.SILENCE, 150, 1, "silent")
LOST = Suspected(SuspicionReason.CONNECTION_LOST, 0, 1, "gone")
CLOSED = ChannelClosed("gone")
TAKEOVER = PeerTakeover(1, 0)
GOODBYE = PeerGoodbye(GoodbyeReason.SHUTDOWN, "bye")


def order(name, number=0, **arguments):
    return PeerOrder(encode_order(Order(id=number, order=name, arguments=arguments)))


class FakePath:
    """Does what is posted at once, and remembers it."""

    def __init__(self):
        self.done = []

    post = NoPath.post
    ask = NoPath.ask

    def __getattr__(self, name):
        def record(*arguments):
            self.done.append(name)

        return record


class FakeLink(LinkSocket):
    stream = "link from a test"
    is_closed = False

    def __init__(self):
        """No socket."""

    def close(self):
        self.is_closed = True


class FakeChannel:
    trusted_until_ns = 0

    def __init__(self, on_event):
        self.on_event = on_event
        self.said = []
        self.orders = []

    def start(self):
        self.said.append("start")

    def fall_silent(self):
        """Heard at its end only."""

    def order(self, payload):
        self.orders.append(decode_order(payload))

    def announce_takeover(self, term, epoch):
        self.said.append(f"takeover {term}")

    def close(self, reason, text):
        self.said.append(f"goodbye {reason.name}" if reason is not None else "cut")


class FakeSides:
    def __init__(self):
        self.roles = []

    def become(self, role):
        self.roles.append(role.value)


def options(role, arbiter, tmp_path):
    lan, guest = (parse_port(f"unix:{tmp_path}/{role}-{name}", f"--{name}") for name in ("lan", "guest"))
    return NodeOptions(
        role=role,
        link=Address("127.0.0.1", 1),
        lan_in=lan,
        lan_out=lan,
        guest_in=guest,
        guest_out=guest,
        insecure=True,
        arbiter=arbiter,
        heartbeat_interval_ms=5,
        heartbeat_timeout_ms=30,
    )


class Driver:
    """Feeds a node the facts that its threads would bring."""

    def __init__(self, given):
        self.given = given
        self.is_primary = given.role is Role.PRIMARY
        settings = Settings(timeout_ms=30, back_off_first_ms=0, retry_ms=5)
        pair, commands = restarted(settings, Record(PairRole(given.role.value), is_wished=True), has_guest=True)
        self.links = []
        self.channels = []
        self.node = put_together(given, Decider(pair), commands, make_control=self._make_control)
        self.path = self.node.parts.guest.path = FakePath()
        self.sides = self.node.parts.sides
        self.node.parts.sides = FakeSides()
        self.node.begin()
        self.path.done.clear()

    def _make_control(self, link, on_event):
        self.channels.append(FakeChannel(on_event))
        return self.channels[-1]

    def made(self, channel, *, instance=7, term=0):
        theirs = Hello(
            program="test", pair="colo", role=self.given.role.other, channel=channel, term=term, epoch=0,
            features=frozenset(), instance=instance,
        )  # fmt: skip
        self.links.append(FakeLink())
        return Established(self.links[-1], theirs, Welcome(term, frozenset()))

    def connect(self, **more):
        """Both connections; nothing was said yet."""
        control, data = (self.made(channel, **more) for channel in (Channel.CONTROL, Channel.DATA))
        if self.is_primary:
            self.node.parts.links.accepted(control)
            self.node.parts.links.accepted(data)
        else:
            self.node.parts.links.dialed(control, data)

    def form(self, **more):
        """A whole pair."""
        self.connect(**more)
        if self.is_primary:
            self.hear(order("linked", in_step=False))
        else:
            self.hear(order("prepare"), order("protected"))
        self.turn_until(lambda: self.state == "protected")

    def hear(self, *events, channel=None):
        for event in events:
            (channel or self.channels[-1]).on_event(event)
        self.turn(0)
        self.turn(0)

    def asked(self, channel=None):
        return [
            order.order or ("refused" if order.error else "answer") for order in (channel or self.channels[-1]).orders
        ]

    def promise(self):
        """The secondary's answer to the last `discard`."""
        number = next(order.id for order in reversed(self.channels[-1].orders) if order.order == "discard")
        self.hear(PeerOrder(encode_order(Order(id=number, answer={}))))

    def failover(self):
        return self.loop.run_until_complete(self.node.operator.failover())

    def stop(self):
        self.loop.call_soon(self.node.stop, "SIGTERM")
        self.turn(0)

    @property
    def state(self):
        return self.node.pair.shown


async def _end_tasks():
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@contextmanager
def driven(role, arbiter, tmp_path):
    """A driver inside a running event loop that is turned by `turn`."""
    loop = VirtualLoop()

    async def make():
        return Driver(options(role, arbiter, tmp_path))

    driver = loop.run_until_complete(make())
    driver.loop = loop
    driver.turn = lambda seconds=0.02: loop.run_until_complete(asyncio.sleep(seconds))

    def turn_until(condition):
        until_s = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < until_s
            driver.turn(0.005)

    driver.turn_until = turn_until
    try:
        yield driver
    finally:
        loop.run_until_complete(_end_tasks())
        loop.close()


@pytest.fixture
def drive(tmp_path, request):
    opened = []

    def build(role=Role.PRIMARY, arbiter="manual"):
        context = driven(role, arbiter, tmp_path)
        opened.append(context)
        return context.__enter__()

    yield build
    for context in opened:
        context.__exit__(None, None, None)


BOTH = pytest.mark.parametrize("role", list(Role))


def test_a_primary_believes_in_a_link_when_the_secondarys_first_word_has_come(drive):
    driver = drive()
    assert driver.state == "waiting"
    driver.node.parts.links.accepted(driver.made(Channel.CONTROL))
    assert driver.channels == []
    driver.node.parts.links.accepted(driver.made(Channel.DATA))
    assert driver.channels[0].said == ["start"]
    driver.turn()
    assert driver.state == "waiting"
    assert driver.path.done == []
    driver.hear(order("linked", in_step=False))
    driver.turn_until(lambda: driver.state == "protected")
    assert driver.path.done == ["attach", "pair_formed"]
    assert driver.asked() == ["prepare", "protected"]


def test_a_secondary_says_whether_it_is_in_step_before_anything_else(drive):
    driver = drive(Role.SECONDARY)
    driver.connect()
    assert driver.channels[0].said == ["start"]
    assert [order.arguments for order in driver.channels[0].orders] == [{"in_step": False}]
    driver.hear(order("prepare"))
    assert driver.path.done[-1] == "attach"
    assert driver.state == "protecting"
    driver.hear(order("protected"))
    assert driver.state == "protected"
    driver.hear(LOST, CLOSED)
    driver.connect()
    assert [order.arguments for order in driver.channels[1].orders] == [{"in_step": True}]


@BOTH
def test_with_the_manual_arbiter_silence_is_a_suspicion_and_no_more(drive, role):
    driver = drive(role)
    driver.form()
    before = list(driver.path.done)
    driver.hear(SILENCE)
    assert driver.state == "suspect"
    assert driver.path.done == before
    driver.hear(Heard(1, 1))
    assert driver.state == "protected"


@pytest.mark.parametrize(
    ("role", "state", "action"),
    [(Role.PRIMARY, "alone", "go_alone"), (Role.SECONDARY, "serving", "take_over")],
)
@pytest.mark.parametrize("arbiter", ["manual", "first-to-notice"])
def test_a_permission_opens_a_new_term_and_is_announced(drive, role, state, action, arbiter):
    driver = drive(role, arbiter)
    driver.form()
    driver.hear(SILENCE)
    if arbiter == "manual":
        assert driver.failover() == {"state": state, "term": 1}
    driver.turn_until(lambda: driver.state == state)
    assert driver.node.pair.term == 1
    assert driver.path.done[-1] == action
    driver.turn_until(lambda: len(driver.channels[0].said) == 3)
    assert driver.channels[0].said == ["start", "takeover 1", "goodbye OTHER"]
    assert driver.node.journal.takeover["suspected_ns"] == SILENCE.at_ns
    assert "nothing to decide" in driver.failover()["error"]


def test_a_takeover_whose_serve_failed_is_not_serving(drive, monkeypatch, capsys):
    monkeypatch.setattr("pycolo.node.operator.FAILOVER_S", 0.05)
    driver = drive(Role.SECONDARY, "first-to-notice")
    driver.form()
    guest, does = driver.node.parts.guest, []
    monkeypatch.setattr(guest, "snapshot", no_counters)
    monkeypatch.setattr(guest, "switch", lambda answer: does.append("switch") or answer(*outcome))
    outcome = (Fact.SERVE_FAILED, "network.serve: ip: exit code 1; no br0")
    driver.hear(SILENCE, LOST, CLOSED)
    driver.turn_until(lambda: len(does) > 2)
    blocked = "taking over: serve failed: network.serve: ip: exit code 1; no br0"
    status = driver.loop.run_until_complete(driver.node.operator.status())
    assert (status["state"], status["blocked"]) == ("taking-over", blocked)
    assert driver.failover() == {"error": f"{blocked}; it is tried again"}
    assert "done_ns" not in driver.node.journal.takeover
    outcome = (Fact.SERVED, "")
    driver.turn_until(lambda: driver.state == "serving")
    assert driver.loop.run_until_complete(driver.node.operator.status())["blocked"] is None
    assert capsys.readouterr().out.count(blocked) == 1, "the same failure is logged once"


async def no_counters():
    return {}


def test_an_operators_word_at_a_primary_that_hears_its_secondary_is_a_request_for_its_promise(drive):
    driver = drive()
    driver.form()
    task = driver.loop.create_task(driver.node.operator.failover())
    driver.turn()
    assert driver.asked()[-1] == "discard"
    driver.promise()
    assert driver.loop.run_until_complete(task) == {"state": "alone", "term": 0}


def test_an_operators_word_at_a_secondary_that_hears_its_primary_is_a_request_to_hand_over(drive):
    driver = drive(Role.SECONDARY)
    driver.form()
    driver.hear(SILENCE, Heard(1, 1))
    before_ns = time.monotonic_ns()
    task = driver.loop.create_task(driver.node.operator.failover())
    driver.turn()
    assert driver.state == "protected"
    assert driver.asked()[-1] == "resign"
    driver.hear(PeerGoodbye(GoodbyeReason.RESIGNED, "as you wish"))
    assert driver.loop.run_until_complete(task) == {"state": "serving", "term": 1}
    assert driver.node.journal.takeover["suspected_ns"] >= before_ns, "not an old suspicion's"


def test_a_primary_that_is_asked_to_hand_over_says_so_and_ends(drive):
    driver = drive()
    driver.form()
    driver.hear(order("resign"))
    assert driver.state == "fenced"
    assert driver.path.done[-1] == "halt"
    assert driver.node.exit_code == 3
    assert driver.node.gave_up == "the operator wants the other node to serve"
    driver.turn_until(lambda: driver.channels[0].said[-1] == "goodbye RESIGNED")


@BOTH
@pytest.mark.parametrize(
    "last_words", [[TAKEOVER], [PeerState(1, 0)], [TAKEOVER, GOODBYE, CLOSED], [TAKEOVER, SILENCE]]
)
@pytest.mark.parametrize("arbiter", ["manual", "first-to-notice"])
def test_who_hears_of_a_higher_term_is_fenced_whatever_comes_after(drive, role, last_words, arbiter):
    driver = drive(role, arbiter)
    driver.form()
    driver.hear(*last_words)
    assert driver.state == "fenced"
    assert driver.path.done[-1] == "halt", "nothing after it"
    driver.node.data_lost(1, "gone")
    driver.connect()
    driver.turn(0.05)
    assert driver.state == "fenced"
    assert driver.path.done[-1] == "halt"
    assert driver.links[-1].is_closed
    assert driver.node.exit_code == 3
    assert driver.node.gave_up.startswith("the other node has taken over under term ")
    assert ("raise --heartbeat-timeout" in driver.node.gave_up) is (arbiter != "manual")


@BOTH
def test_a_goodbye_is_no_suspicion_even_where_the_first_to_notice_decides(drive, role):
    driver = drive(role, "first-to-notice")
    driver.form()
    driver.hear(GOODBYE, LOST, CLOSED)
    assert driver.state == ("alone" if role is Role.PRIMARY else "waiting")
    assert driver.node.pair.term == 0
    assert ("go_alone" in driver.path.done) == (role is Role.PRIMARY)
    assert "take_over" not in driver.path.done
    assert driver.node.journal.takeover is None


def test_a_lost_connection_lets_any_process_of_the_secondary_in_again(drive):
    driver = drive()
    driver.form(instance=7)
    assert driver.sides.hello(Channel.DATA).peer_instance == 7
    driver.hear(SILENCE)
    assert driver.sides.hello(Channel.DATA).peer_instance == 0
    driver.hear(LOST, CLOSED)
    assert driver.state == "suspect"
    driver.connect(instance=8)
    driver.hear(order("linked", in_step=False))
    assert driver.state == "alone", "the one that could have served is gone"
    driver.form(instance=8)


def test_a_secondary_that_comes_back_in_step_must_promise_first(drive):
    driver = drive()
    driver.form()
    driver.hear(LOST, CLOSED)
    driver.connect()
    driver.hear(order("linked", in_step=True))
    assert set(driver.asked()) == {"discard"}, "again and again, until it is answered"
    assert "go_alone" not in driver.path.done
    driver.promise()
    assert driver.state == "alone"
    driver.turn_until(lambda: driver.channels[-1].said[-1] == "cut")
    driver.form()


def test_a_secondary_promises_once_and_gives_its_copy_up(drive):
    driver = drive(Role.SECONDARY)
    driver.form()
    driver.hear(order("discard", number=9))
    assert driver.state == "waiting"
    assert driver.asked()[-1] == "answer"
    assert driver.channels[0].orders[-1].id == 9
    assert driver.path.done[-1] == "detach"
    driver.turn_until(lambda: driver.channels[0].said == ["start", "cut"])


def test_an_order_that_this_node_does_not_know_is_refused(drive):
    driver = drive(Role.SECONDARY)
    driver.form()
    driver.hear(order("sing", number=3), PeerOrder(b"{"))
    assert driver.channels[0].orders[-1].error == "this node knows no order 'sing'"
    assert driver.state == "protected"


@pytest.mark.parametrize("term", [-1, 1 << 64, True, "9", None, 1.5])
def test_a_term_that_is_none_is_not_believed(drive, term):
    driver = drive(Role.SECONDARY)
    driver.form()
    driver.hear(order("discard", number=3, term=term))
    assert driver.node.pair.term == 0


@BOTH
def test_an_old_connections_last_words_mean_nothing(drive, role):
    driver = drive(role, "first-to-notice")
    driver.form()
    old = driver.channels[-1]
    driver.hear(GOODBYE)
    driver.form()
    driver.hear(SILENCE, CLOSED, TAKEOVER, channel=old)
    assert driver.state == "protected" or role is Role.PRIMARY


def test_a_new_connection_replaces_the_old_one_at_its_first_word(drive):
    driver = drive()
    driver.form()
    driver.connect()
    driver.turn()
    assert driver.state == "protected"
    assert driver.channels[0].said == ["start"]
    driver.hear(order("linked", in_step=True))
    driver.turn_until(lambda: driver.channels[0].said[-1] == "goodbye REPLACED")
    assert driver.state == "protecting"
    assert set(driver.asked()) == {"discard"}, "again and again, until it is answered"


def test_a_lost_data_connection_is_replaced_when_the_heart_still_beats(drive):
    driver = drive(Role.PRIMARY, "first-to-notice")
    driver.form()
    driver.node.data_lost(1, "gone")
    assert driver.state == "protected"
    driver.turn_until(lambda: driver.asked()[-1] == "discard")
    driver.promise()
    driver.turn_until(lambda: driver.channels[0].said[-1] == "cut")
    assert driver.node.pair.term == 0
    driver.form()


def test_a_secondary_whose_data_connection_is_lost_tells_the_primary_and_waits(drive):
    driver = drive(Role.SECONDARY, "first-to-notice")
    driver.form()
    driver.node.data_lost(1, "gone")
    driver.turn(0.1)
    assert driver.asked()[-1] == "broken"
    assert driver.state == "suspect"
    assert "take_over" not in driver.path.done


def test_a_pair_formed_meanwhile_is_not_torn_down_for_an_older_loss(drive):
    driver = drive()
    driver.form()
    driver.hear(GOODBYE)
    driver.form()
    driver.node.data_lost(1, "gone")
    driver.turn(0.1)
    assert driver.state == "protected"


@BOTH
def test_half_a_pair_that_is_lost_leaves_nothing_behind(drive, role):
    driver = drive(role)
    driver.connect()
    driver.hear(LOST, CLOSED)
    assert driver.state == "waiting"
    assert driver.node.parts.links.present is None
    driver.form(instance=9)


def test_data_of_another_process_than_its_control_connection_is_not_taken(drive):
    driver = drive()
    driver.node.parts.links.accepted(driver.made(Channel.CONTROL, instance=7))
    driver.node.parts.links.accepted(driver.made(Channel.DATA, instance=8))
    assert driver.links[1].is_closed
    assert driver.channels == []
    driver.form(instance=8)
    assert driver.links[0].is_closed


def test_a_primary_alone_takes_a_new_secondary_under_its_own_term(drive):
    driver = drive(Role.PRIMARY, "first-to-notice")
    driver.form()
    driver.hear(SILENCE)
    assert (driver.state, driver.node.pair.term) == ("alone", 1)
    driver.form(instance=8)
    assert (driver.state, driver.node.pair.term) == ("protected", 1)
    assert driver.node.journal.takeover is None
    driver.hear(PeerState(1, 0))
    assert driver.state == "protected"
    driver.hear(SILENCE)
    assert (driver.state, driver.node.pair.term) == ("alone", 2)


def test_a_secondary_that_serves_is_not_moved_by_what_the_old_primary_says(drive):
    driver = drive(Role.SECONDARY, "first-to-notice")
    driver.form()
    driver.hear(SILENCE)
    driver.turn_until(lambda: driver.state == "serving")
    driver.hear(Heard(1, 1), GOODBYE, CLOSED)
    driver.node.data_lost(1, "gone")
    driver.turn(0.1)
    assert driver.state == "serving"
    assert driver.path.done.count("take_over") == 1


@BOTH
def test_a_suspicion_that_is_refuted_is_withdrawn(drive, role):
    """The question of a later suspicion is a new one: an operator's word for the first does not answer it."""
    driver = drive(role)
    driver.form()
    for _ in range(3):
        driver.hear(SILENCE)
        assert "waiting for the operator" in driver.node.parts.permission.says or role is Role.SECONDARY
        driver.hear(Heard(1, 1))
        assert driver.node.parts.permission.says == "the other node is not suspected"
    assert driver.node.pair.state in (State.PRIMARY_PROTECTED, State.SECONDARY_PROTECTED)


def test_a_primary_that_is_told_to_end_asks_for_the_promise_first(drive):
    driver = drive()
    driver.form()
    driver.stop()
    assert driver.asked()[-1] == "discard"
    driver.promise()
    driver.turn_until(driver.node._done.is_set)
    assert driver.node.exit_code == 0
    assert "go_alone" in driver.path.done


def test_told_twice_it_ends_at_once(drive):
    driver = drive()
    driver.form()
    driver.stop()
    assert not driver.node._done.is_set()
    driver.stop()
    assert driver.node._done.is_set()


def test_a_broken_data_path_ends_the_node_without_a_goodbye(drive):
    driver = drive()
    driver.form()
    driver.node.failed(ZeroDivisionError("a bug"))
    assert driver.channels[0].said == ["start"]
    assert driver.node.exit_code == 70
    assert driver.node.gave_up == "the data path has failed; this is a bug"


def test_each_refusal_is_said_once_a_minute_and_their_number_is_bounded(capsys):
    def call(function, *arguments):
        function(*arguments)

    side = ListeningSide(Address("127.0.0.1", 0), None, None, list, list, call)
    for port in range(50):
        side._refused(f"link from 127.0.0.1:{port}: no hello")
    for reason in range(100):
        side._refused(f"link from 127.0.0.1:1: reason {reason}")
    asyncio.run(side.close())
    out = capsys.readouterr().out
    assert out.count("no hello") == 1
    assert out.count(": reason") == 31


def test_the_hello_says_what_must_be_the_same_on_both_nodes(drive):
    found = drive().sides.hello(Channel.CONTROL)
    assert found.features == {"vnet_hdr=0", "heartbeat_timeout=30"}
