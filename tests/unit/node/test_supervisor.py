"""A node's states: what each fact leads to, and that nothing follows once the other node serves."""

import asyncio
import time
from contextlib import contextmanager

import pytest

from pycolo.failover.heartbeat import SuspicionReason
from pycolo.link.codec import Channel, GoodbyeReason
from pycolo.link.hello import Hello, Role, Welcome
from pycolo.node.linksides import ListeningSide
from pycolo.node.options import NodeOptions
from pycolo.node.roles import PrimaryNode, SecondaryNode
from pycolo.node.supervisor import NodeState, Supervisor
from pycolo.transport.controlchannel import ChannelClosed, Heard, PeerGoodbye, PeerState, PeerTakeover, Suspected
from pycolo.transport.linksetup import Address, Established
from pycolo.transport.linksocket import LinkSocket
from pycolo.transport.portspec import parse_port

SILENCE = Suspected(SuspicionReason.SILENCE, 150, 1, "silent")
LOST = Suspected(SuspicionReason.CONNECTION_LOST, 0, 1, "gone")
CLOSED = ChannelClosed("gone")
TAKEOVER = PeerTakeover(1, 0)
GOODBYE = PeerGoodbye(GoodbyeReason.SHUTDOWN, "bye")


class FakePath:
    """Does what is posted at once, and remembers it."""

    def __init__(self):
        self.done = []

    def post(self, action):
        action()

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

    def __init__(self):
        self.said = []

    def start(self):
        self.said.append("start")

    def announce_takeover(self, term, epoch):
        self.said.append(f"takeover {term}")

    def close(self, reason, text):
        self.said.append(f"goodbye {reason.name}")


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

    def __init__(self, node):
        self.node = node
        self.path = node.path = FakePath()
        self.links = []
        self.channels = []
        node._make_control = self._make_control

    def _make_control(self, link):
        self.channels.append(FakeChannel())
        return self.channels[-1]

    def bind(self, channel, *, instance=7, term=0):
        node = self.node
        theirs = Hello(
            program="test", pair="colo", role=node.options.role.other, channel=channel, term=term, epoch=0,
            features=frozenset(), instance=instance,
        )  # fmt: skip
        self.links.append(FakeLink())
        node._bind(channel, Established(self.links[-1], theirs, Welcome(max(term, node.term), frozenset())))

    def form(self, **more):
        self.bind(Channel.CONTROL, **more)
        self.bind(Channel.DATA, **more)

    def hear(self, *events, channel=None):
        for event in events:
            self.node._heard(channel or self.channels[-1], event)

    @property
    def state(self):
        return self.node.state


@contextmanager
def driven(role, arbiter, tmp_path):
    """A driver inside a running event loop that is turned by `turn`."""
    loop = asyncio.new_event_loop()

    async def make():
        return (PrimaryNode if role is Role.PRIMARY else SecondaryNode)(options(role, arbiter, tmp_path))

    driver = Driver(loop.run_until_complete(make()))
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
        loop.run_until_complete(loop.shutdown_default_executor())
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


@BOTH
def test_a_pair_needs_both_connections(drive, role):
    driver = drive(role)
    assert driver.state is NodeState.WAITING
    driver.bind(Channel.CONTROL)
    assert driver.state is NodeState.WAITING
    assert driver.path.done == []
    driver.bind(Channel.DATA)
    assert driver.state is NodeState.PROTECTED
    assert driver.path.done[0] == "attach"
    assert driver.channels[0].said == ["start"]


@BOTH
def test_with_the_manual_arbiter_silence_is_a_suspicion_and_no_more(drive, role):
    driver = drive(role)
    driver.form()
    before = list(driver.path.done)
    driver.hear(SILENCE)
    assert driver.state is NodeState.SUSPECT
    assert driver.path.done == before
    driver.hear(Heard(1, 1))
    assert driver.state is NodeState.PROTECTED


@pytest.mark.parametrize(
    ("role", "state", "action"),
    [(Role.PRIMARY, NodeState.ALONE, "go_alone"), (Role.SECONDARY, NodeState.SERVING, "take_over")],
)
@pytest.mark.parametrize("arbiter", ["manual", "first-to-notice"])
def test_a_permission_opens_a_new_term_and_is_announced(drive, role, state, action, arbiter):
    driver = drive(role, arbiter)
    driver.form()
    driver.hear(SILENCE)
    if arbiter == "manual":
        assert driver.node._confirmed()["state"] == state.value
    assert driver.state is state
    assert driver.node.term == 1
    assert driver.path.done[-1] == action
    driver.turn_until(lambda: len(driver.channels[0].said) == 3)
    assert driver.channels[0].said == ["start", "takeover 1", "goodbye OTHER"]
    assert driver.node.takeover["suspected_ns"] == SILENCE.at_ns
    assert "nothing to decide" in driver.node._confirmed()["error"]


@BOTH
def test_an_operator_need_not_wait_for_a_suspicion(drive, role):
    driver = drive(role)
    driver.form()
    before_ns = time.monotonic_ns()
    driver.node._confirmed()
    assert driver.state in (NodeState.ALONE, NodeState.SERVING)
    assert driver.node.takeover["suspected_ns"] >= before_ns, "not an old suspicion's"


@BOTH
@pytest.mark.parametrize(
    "last_words", [[TAKEOVER], [PeerState(1, 0)], [TAKEOVER, GOODBYE, CLOSED], [TAKEOVER, SILENCE]]
)
@pytest.mark.parametrize("arbiter", ["manual", "first-to-notice"])
def test_who_hears_of_a_higher_term_is_fenced_whatever_comes_after(drive, role, last_words, arbiter):
    driver = drive(role, arbiter)
    driver.form()
    driver.hear(*last_words)
    assert driver.state is NodeState.FENCED
    assert driver.path.done[-1] == "halt", "nothing after it"
    driver.node._data_lost("gone")
    driver.bind(Channel.CONTROL)
    driver.turn(0.05)
    assert driver.state is NodeState.FENCED
    assert driver.path.done[-1] == "halt"
    assert driver.links[-1].is_closed
    assert driver.node._exit_code == 3
    assert driver.node.gave_up.startswith("the other node has taken over under term ")
    assert ("raise --heartbeat-timeout" in driver.node.gave_up) is (arbiter != "manual")


@BOTH
def test_a_goodbye_is_no_suspicion_even_where_the_first_to_notice_decides(drive, role):
    driver = drive(role, "first-to-notice")
    driver.form()
    driver.hear(GOODBYE, LOST, CLOSED)
    assert driver.state is NodeState.WAITING
    assert driver.node.term == 0
    assert ("go_alone" in driver.path.done) == (role is Role.PRIMARY)
    assert "take_over" not in driver.path.done


@BOTH
def test_a_lost_connection_lets_any_process_of_the_other_node_in_again(drive, role):
    driver = drive(role)
    driver.form(instance=7)
    assert driver.node.hello(Channel.DATA).peer_instance == 7
    driver.hear(LOST, CLOSED)
    assert driver.state is NodeState.SUSPECT
    assert driver.node.hello(Channel.DATA).peer_instance == 0
    driver.form(instance=8)
    assert driver.state is NodeState.PROTECTED


@BOTH
def test_an_old_connections_last_words_mean_nothing(drive, role):
    driver = drive(role, "first-to-notice")
    driver.form()
    old = driver.channels[-1]
    driver.form()
    driver.turn_until(lambda: old.said[-1] == "goodbye REPLACED")
    driver.hear(SILENCE, CLOSED, TAKEOVER, channel=old)
    assert driver.state is NodeState.PROTECTED


@BOTH
def test_a_lost_data_connection_is_replaced_when_the_heart_still_beats(drive, role):
    driver = drive(role, "first-to-notice")
    driver.form()
    driver.node._data_lost("gone")
    assert driver.state is NodeState.PROTECTED
    driver.turn_until(lambda: driver.state is NodeState.WAITING)
    driver.turn_until(lambda: driver.channels[0].said[-1] == "goodbye OTHER")
    assert driver.node.term == 0
    driver.form()
    assert driver.state is NodeState.PROTECTED


@BOTH
def test_a_pair_formed_meanwhile_is_not_torn_down_for_an_older_loss(drive, role):
    driver = drive(role)
    driver.form()
    driver.node._data_lost("gone")
    driver.hear(LOST, CLOSED)
    driver.form()
    driver.turn(0.1)
    assert driver.state is NodeState.PROTECTED


@BOTH
def test_half_a_pair_that_is_lost_leaves_nothing_behind(drive, role):
    driver = drive(role)
    driver.bind(Channel.CONTROL)
    driver.hear(LOST, CLOSED)
    assert driver.state is NodeState.WAITING
    assert driver.node.peer is None
    driver.form(instance=9)
    assert driver.state is NodeState.PROTECTED


def test_a_primary_alone_takes_a_new_secondary_under_its_own_term(drive):
    driver = drive(Role.PRIMARY, "first-to-notice")
    driver.form()
    driver.hear(SILENCE)
    assert (driver.state, driver.node.term) == (NodeState.ALONE, 1)
    driver.form(instance=8)
    assert (driver.state, driver.node.term) == (NodeState.PROTECTED, 1)
    assert driver.node.takeover is None
    driver.hear(PeerState(1, 0))
    assert driver.state is NodeState.PROTECTED
    driver.hear(SILENCE)
    assert (driver.state, driver.node.term) == (NodeState.ALONE, 2)


def test_a_secondary_that_serves_is_not_moved_by_what_the_old_primary_says(drive):
    driver = drive(Role.SECONDARY, "first-to-notice")
    driver.form()
    driver.hear(SILENCE)
    driver.hear(Heard(1, 1), GOODBYE, CLOSED)
    driver.node._data_lost("gone")
    driver.turn(0.1)
    assert driver.state is NodeState.SERVING
    assert driver.path.done.count("take_over") == 1


def test_a_broken_data_path_ends_the_node_without_a_goodbye(drive):
    driver = drive()
    driver.form()
    driver.node._fatal(ZeroDivisionError("a bug"))
    assert driver.channels[0].said == ["start"]
    assert driver.node._exit_code == 70
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
    found = drive().node.hello(Channel.CONTROL)
    assert found.features == {"vnet_hdr=0", "heartbeat_timeout=30"}
    assert issubclass(PrimaryNode, Supervisor)
