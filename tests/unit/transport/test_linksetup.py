"""How a link comes to be: the right node gets in, at once, whatever else knocks; all others get one line."""

import queue
import re
import socket
import ssl
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from pycolo.errors import ConfigError, ConnectError, LinkError
from pycolo.link import codec
from pycolo.link.codec import Channel, MessageType
from pycolo.link.hello import Hello, HelloError, RefusalReason, Role, encode_hello
from pycolo.transport import linksetup, tls
from pycolo.transport.certs import create
from pycolo.transport.linksetup import HANDSHAKES_MAX, Address, Listener, dial
from support.nodes import wait_for

pytestmark = pytest.mark.slow

SECONDARY = Hello(
    program="pycolo 0.1.0",
    pair="web",
    role=Role.SECONDARY,
    channel=Channel.CONTROL,
    term=0,
    epoch=0,
    features=frozenset({"vnet_hdr=12"}),
    instance=22,
)
PRIMARY = msgspec.structs.replace(SECONDARY, role=Role.PRIMARY, term=1, instance=11)
LOOPBACK = Address("127.0.0.1", 0)

PATIENCE_MS = 20_000
"""For handshakes that are not about time."""

IMPATIENCE_MS = 300
"""For peers whose time is to run out."""


def secondary(**changes):
    return msgspec.structs.replace(SECONDARY, **changes)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    made = tmp_path_factory.mktemp("certificates")
    create(made / "web", "web", 30, datetime.now(UTC))
    create(made / "impostor", "web", 30, datetime.now(UTC))
    create(made / "old", "web", 1, datetime.now(UTC) - timedelta(days=5))
    return made


class Node:
    """A primary that listens, what it welcomed and what it said of the others."""

    def __init__(self, context=None, timeout_ms=PATIENCE_MS, on_link=None):
        self.hello = PRIMARY
        self.welcomed, self.refused = queue.Queue(), queue.Queue()
        self.listener = Listener(
            LOOPBACK,
            context,
            lambda: self.hello,
            on_link or self.welcomed.put,
            self.refused.put,
            timeout_ms=timeout_ms,
        )
        self.address = self.listener.address

    def close(self):
        self.listener.close()
        while not self.welcomed.empty():
            self.welcomed.get().link.close()

    def line(self):
        """The one line for a peer that was turned away."""
        text = self.refused.get(timeout=20)
        assert text.isprintable()
        return text


@pytest.fixture
def node(stack):
    return stack.enter_context(closing(Node()))


@pytest.fixture
def tls_node(stack, certificates):
    return stack.enter_context(closing(Node(tls.server_context(certificates / "web", "web"))))


def connect(node, stack):
    return stack.enter_context(socket.create_connection(node.address, timeout=20))


# ── welcome ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_both_connections_of_a_pair(kind, certificates, stack, request):
    node = request.getfixturevalue("node" if kind == "plain" else "tls_node")
    context = tls.client_context(certificates / "web", "web") if kind == "tls" else None
    for channel, sent, answer in (
        (Channel.CONTROL, MessageType.HEARTBEAT, MessageType.HEARTBEAT),
        (Channel.DATA, MessageType.GUEST_FRAMES, MessageType.CLIENT_FRAMES),
    ):
        ours = dial(node.address, secondary(channel=channel), context)
        stack.callback(ours.link.close)
        theirs = node.welcomed.get(timeout=20)
        stack.callback(theirs.link.close)
        assert ours.theirs == msgspec.structs.replace(PRIMARY, channel=channel)
        assert theirs.theirs == secondary(channel=channel)
        assert ours.welcome == theirs.welcome
        assert ours.welcome.term == 1
        assert ours.link.stream == f"{channel.value} link to {node.address}"
        assert theirs.link.stream.startswith(f"{channel.value} link from 127.0.0.1:")
        payload = bytes(40)
        for sender, receiver, message_type in ((ours, theirs, sent), (theirs, ours, answer)):
            sender.link.queue(message_type, payload)
            sender.link.flush()
            assert first_message(receiver.link) == (message_type, payload)


def first_message(link):
    until_s = time.monotonic() + 20
    while time.monotonic() < until_s:
        for message_type, payload in link.receive():
            return message_type, bytes(payload)
        time.sleep(0.001)
    raise AssertionError("nothing came")


def test_messages_that_follow_the_welcome_at_once_are_not_lost(certificates, stack):
    def speak_at_once(established):
        established.link.queue(MessageType.EPOCH_MARKER, codec.pack_epoch(9))
        established.link.flush()
        stack.callback(established.link.close)

    for context, own in (
        (None, None),
        (tls.server_context(certificates / "web", "web"), tls.client_context(certificates / "web", "web")),
    ):
        node = stack.enter_context(closing(Node(context, on_link=speak_at_once)))
        ours = dial(node.address, secondary(channel=Channel.DATA), own)
        stack.callback(ours.link.close)
        assert first_message(ours.link) == (MessageType.EPOCH_MARKER, codec.pack_epoch(9))


def test_the_control_connection_goes_first_through_the_interface(node, stack):
    ours = dial(node.address, SECONDARY, None)
    stack.callback(ours.link.close)
    with socket.socket(fileno=socket.dup(ours.link.fileno())) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY) == linksetup.CONTROL_PRIORITY


# ── refusal ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("hello", "reason", "text"),
    [
        (secondary(pair="shop"), RefusalReason.PAIR, "different pairs: shop and web"),
        (secondary(role=Role.PRIMARY, term=1), RefusalReason.ROLE, "both nodes are primary"),
        (secondary(term=2), RefusalReason.STALE_TERM, "has seen term 2"),
        (secondary(features=frozenset({"vnet_hdr=0"})), RefusalReason.FEATURES, "vnet_hdr=0 and vnet_hdr=12"),
        (secondary(peer_instance=5), RefusalReason.INSTANCE, "another process of the primary"),
    ],
)
def test_both_nodes_say_why_they_do_not_talk(node, hello, reason, text):
    with pytest.raises(HelloError, match=text) as found:
        dial(node.address, hello, None)
    assert found.value.reason is reason
    assert str(found.value).startswith(f"control link to {node.address}: refused by the other node: ")
    line = node.line()
    assert line.startswith("control link from 127.0.0.1:")
    assert text in line


def of_version_9(hello):
    return re.sub(rb'"protocol":\d+', b'"protocol":9', hello)


def test_another_version_is_told_by_both(node, monkeypatch, stack):
    with monkeypatch.context() as patched:
        patched.setattr(linksetup, "encode_hello", lambda hello: of_version_9(encode_hello(hello)))
        with pytest.raises(HelloError, match="speaks protocol version 9") as found:
            dial(node.address, SECONDARY, None)
    assert found.value.reason is RefusalReason.VERSION
    assert "speaks protocol version 9" in node.line()


def test_a_node_bound_to_one_process_refuses_another_until_it_is_gone(node, stack):
    node.hello = msgspec.structs.replace(PRIMARY, peer_instance=22)
    with pytest.raises(HelloError) as found:
        dial(node.address, secondary(instance=23), None)
    assert found.value.reason.is_passing
    node.hello = PRIMARY
    stack.callback(dial(node.address, secondary(instance=23), None).link.close)


# ── strangers ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "unknown type"),
        (bytes(range(256)) * 300, "unknown type"),
        (codec.header(MessageType.HELLO, 1 << 31), f"has {1 << 31} bytes, must be"),
        (codec.header(MessageType.CLIENT_FRAMES, 100), "CLIENT_FRAMES, which is not allowed here"),
        (codec.message(MessageType.HELLO, b'{"protocol":1,"program":"\x1b[2J"}'), "hello cannot be parsed"),
        (codec.header(MessageType.HELLO, 100) + b"{", "no HELLO in time"),
        (b"\x00", "no HELLO in time"),
        (b"", "no HELLO in time"),
    ],
)
def test_nonsense_is_answered_with_one_line_and_the_end(stack, octets, text):
    timeout_ms = IMPATIENCE_MS if "in time" in text else PATIENCE_MS
    node = stack.enter_context(closing(Node(timeout_ms=timeout_ms)))
    peer = connect(node, stack)
    peer.sendall(octets)
    assert text in node.line()
    while peer.recv(4096):
        pass
    assert node.refused.empty()
    node.listener._timeout_s = PATIENCE_MS / 1000
    stack.callback(dial(node.address, SECONDARY, None).link.close)


def test_a_peer_that_drips_is_cut_off_at_the_same_deadline(stack):
    node = stack.enter_context(closing(Node(timeout_ms=400)))
    peer = connect(node, stack)
    octets = codec.message(MessageType.HELLO, encode_hello(SECONDARY))

    def drip():
        """Takes twenty times as long as it may."""
        for octet in octets:
            peer.sendall(bytes([octet]))
            time.sleep(0.05)

    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        drip()
    assert "no HELLO in time" in node.line()


@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_a_crowd_of_silent_peers_does_not_keep_the_other_node_out(kind, certificates, stack, request):
    node = request.getfixturevalue("node" if kind == "plain" else "tls_node")
    context = tls.client_context(certificates / "web", "web") if kind == "tls" else None
    crowd = [connect(node, stack) for _ in range(HANDSHAKES_MAX * 3)]
    began_s = time.monotonic()
    stack.callback(dial(node.address, SECONDARY, context).link.close)
    assert time.monotonic() - began_s < PATIENCE_MS / 2_000, "it waited for none of them"
    wait_for(lambda: len(links_from()) <= HANDSHAKES_MAX + 1, "the threads of the others to end")
    assert f"more than {HANDSHAKES_MAX} connections" in node.line()
    assert crowd[0].recv(1) == b"" if kind == "plain" else True


def test_a_peer_that_leaves_at_once_is_one_line(node, tls_node, stack):
    connect(node, stack).close()
    assert "closed by the other side, no HELLO" in node.line()
    connect(tls_node, stack).close()
    assert "closed during the TLS handshake" in tls_node.line()


def links_from():
    """The handshakes that listeners of this process are in."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("link from")}


def test_closing_the_listener_waits_for_no_peer(stack):
    node = Node(timeout_ms=60_000)
    before = links_from()
    peers = [connect(node, stack) for _ in range(5)]
    wait_for(lambda: len(links_from() - before) == 5, "all of them to be accepted")
    began_s = time.monotonic()
    node.close()
    assert time.monotonic() - began_s < 20
    assert [peer.recv(10) for peer in peers] == [b""] * 5
    assert node.refused.empty()
    with pytest.raises(ConnectError):
        dial(node.address, SECONDARY, None)


# ── who is who ──────────────────────────────────────────────────────────────────────────────────────────────


def unchecked_context(make, directory, role, monkeypatch):
    """A context with files that this node itself would refuse at start."""
    with monkeypatch.context() as patched:
        patched.setattr(tls, "check_own_files", lambda *_: None)
        return make(directory, "web", role)


def failure_of_dial(node, context):
    with pytest.raises(LinkError) as found:
        dial(node.address, SECONDARY, context, timeout_ms=PATIENCE_MS).link.close()
    assert str(found.value).startswith(f"control link to {node.address}: ")
    assert str(found.value).isprintable()
    return str(found.value)


def test_another_authority_is_refused_by_both(certificates, tls_node):
    assert "certificate is refused: " in failure_of_dial(tls_node, tls.client_context(certificates / "impostor", "web"))
    tls_node.line()


def test_a_secondary_signed_by_another_authority_is_refused(certificates, tls_node, tmp_path):
    create(tmp_path / "mixed", "web", 30, datetime.now(UTC))
    (tmp_path / "mixed" / "ca.pem").write_bytes((certificates / "web" / "ca.pem").read_bytes())
    context = tls.client_context(tmp_path / "mixed", "web")
    text = failure_of_dial(tls_node, context)
    assert "certificate" in text
    assert "both need the files of one `colo certs init`" in text
    assert "the other side's certificate is refused" in tls_node.line()


def test_an_expired_certificate_is_refused(certificates, monkeypatch, stack, tls_node, tmp_path):
    old = unchecked_context(tls.server_context, certificates / "old", Role.PRIMARY, monkeypatch)
    node = stack.enter_context(closing(Node(old)))
    assert "certificate has expired" in failure_of_dial(
        node, unchecked_context(tls.client_context, certificates / "old", Role.SECONDARY, monkeypatch)
    )
    assert "has expired" in node.line()


def test_an_expired_secondary_learns_that_it_is(certificates, monkeypatch, stack):
    both = certificates / "old"
    lenient = unchecked_context(tls.client_context, both, Role.SECONDARY, monkeypatch)
    lenient.verify_mode = ssl.CERT_NONE
    node = stack.enter_context(closing(Node(unchecked_context(tls.server_context, both, Role.PRIMARY, monkeypatch))))
    monkeypatch.setattr(tls, "check_peer", lambda *_: None)
    assert "this node's certificate has expired" in failure_of_dial(node, lenient)
    assert "the other side's certificate has expired" in node.line()


def test_a_second_primary_is_refused(certificates, tls_node):
    context = tls.client_context(certificates / "web", "web", Role.PRIMARY)
    text = "the other side's certificate is for colo:web/primary, must be for colo:web/secondary"
    assert text in failure_of_dial(tls_node, context)
    assert text in tls_node.line()


def test_a_peer_without_a_certificate_is_refused(certificates, tls_node):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(certificates / "web" / "ca.pem")
    assert "requires a certificate and got none" in failure_of_dial(tls_node, context)
    assert "shows no certificate" in tls_node.line()


def test_plain_text_to_a_node_with_tls(tls_node):
    assert "closed by the other side, no REFUSED or WELCOME (is one node without --tls?)" in failure_of_dial(
        tls_node, None
    )
    assert "does not speak TLS" in tls_node.line()


def test_tls_to_a_node_with_plain_text(certificates, node):
    assert "does not speak TLS" in failure_of_dial(node, tls.client_context(certificates / "web", "web"))
    assert "the other side speaks TLS, this node plain text" in node.line()


# ── dialling ────────────────────────────────────────────────────────────────────────────────────────────────


def test_not_connected_is_one_line(stack):
    sock = stack.enter_context(socket.socket())
    sock.bind(LOOPBACK)
    address = Address(*sock.getsockname())  # bound, but not listening
    with pytest.raises(ConnectError, match=rf"^data link to {address}: cannot connect: Connection refused") as found:
        dial(address, secondary(channel=Channel.DATA), None)
    assert isinstance(found.value.__cause__, ConnectionRefusedError)


@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_a_listener_that_says_nothing_is_left_in_time(kind, certificates, stack):
    sock = stack.enter_context(socket.create_server(LOOPBACK))
    context = tls.client_context(certificates / "web", "web") if kind == "tls" else None
    began_s = time.monotonic()
    with pytest.raises(LinkError, match="in time"):
        dial(Address(*sock.getsockname()), SECONDARY, context, timeout_ms=200)
    assert time.monotonic() - began_s < 20


def test_an_address_in_use_is_one_line(node):
    with pytest.raises(ConnectError, match=rf"^link at {node.address}: cannot listen: already running: process "):
        Listener(node.address, None, lambda: PRIMARY, print, print)


def test_an_interface_binds_the_socket(stack):
    try:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
    except PermissionError:
        pytest.skip("needs to bind a socket to an interface: run it as root, or on a kernel that lets everyone")
    node = Listener(LOOPBACK, None, lambda: PRIMARY, lambda found: found.link.close(), print, interface="lo")
    stack.callback(node.close)
    stack.callback(dial(node.address, SECONDARY, None, interface="lo").link.close)
    with pytest.raises(ConnectError, match="No such device"):
        dial(node.address, SECONDARY, None, interface="no-such0")


@pytest.mark.parametrize(
    ("text", "address"),
    [("a:1", ("a", 1)), ("10.0.0.1:0", ("10.0.0.1", 0)), ("[::1]:65535", ("::1", 65535))],
)
def test_addresses_are_read_and_shown(text, address):
    assert Address.parse(text, "--listen") == address
    assert str(Address(*address)) == text


@pytest.mark.parametrize("text", ["", "a", "a:", ":1", "a:x", "a:-1", "a:65536", "::1:5", "[]:1", "a:١"])
def test_what_is_no_address_is_a_configuration_error(text):
    with pytest.raises(ConfigError, match="--listen"):
        Address.parse(text, "--listen")
