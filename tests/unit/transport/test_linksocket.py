"""One running link connection: nothing lost or changed, memory bounded, an end that is told once."""

import hashlib
import random
import select
import socket
import ssl
import struct
import threading
from datetime import UTC, datetime

import pytest

from pycolo import limits
from pycolo.errors import LinkError, StateError
from pycolo.link import codec
from pycolo.link.codec import DATA_FROM_PRIMARY, DATA_FROM_SECONDARY, HEADER_BYTES, MessageType
from pycolo.transport import tcpoptions
from pycolo.transport.certs import create
from pycolo.transport.linksocket import LinkSocket
from pycolo.transport.tls import client_context, server_context

SMALL_BUFFER_BYTES = 20_000


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    made = tmp_path_factory.mktemp("certificates") / "web"
    create(made, "web", 30, datetime.now(UTC))
    return made


class StingyTls(ssl.SSLSocket):
    """Reads as much as chance says, and so leaves decrypted bytes behind."""

    def recv_into(self, buffer, nbytes=None, flags=0):
        return super().recv_into(buffer[: chance.randrange(1, 9_000)])


class Stingy(socket.socket):
    """Reads as much as chance says."""

    def recv_into(self, buffer, nbytes=0, flags=0):
        return super().recv_into(buffer[: chance.randrange(1, 9_000)])


chance = random.Random(1)


def tcp_pair(buffer_bytes=None):
    with socket.socket() as listener:
        if buffer_bytes:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        client = socket.socket()
        if buffer_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        if buffer_bytes:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
    return server, client


def tls_pair(certificates, pair, socket_class=ssl.SSLSocket):
    server_side, client_side = server_context(certificates, "web"), client_context(certificates, "web")
    server_side.sslsocket_class = client_side.sslsocket_class = socket_class
    server, client = pair
    wrapped = []
    thread = threading.Thread(target=lambda: wrapped.append(server_side.wrap_socket(server, server_side=True)))
    thread.start()
    client = client_side.wrap_socket(client)
    thread.join()
    return wrapped[0], client


@pytest.fixture
def opened():
    """Closes every link that a test puts in."""
    links = []
    yield links
    for link in links:
        link.close()


@pytest.fixture(params=["plain", "tls"])
def raw_pair(request, certificates):
    """Two connected sockets with small kernel buffers, the primary's first."""
    pair = tcp_pair(SMALL_BUFFER_BYTES)
    return tls_pair(certificates, pair) if request.param == "tls" else pair


@pytest.fixture
def links(raw_pair, opened):
    """Both ends of a data connection: the primary's, the secondary's."""
    server, client = raw_pair
    opened += [
        LinkSocket(server, "data link from b", DATA_FROM_SECONDARY),
        LinkSocket(client, "data link to a", DATA_FROM_PRIMARY),
    ]
    return opened


def wait(link, timeout_s=5):
    """Until something can be done on `link`, as its owner's loop would wait."""
    if not link.has_pending:
        select.select([link], [link] if link.wants_write else [], [], timeout_s)


def receive_some(link):
    """The next messages, copied; a failure as it is raised."""
    for _ in range(100):
        if messages := [(kind, bytes(payload)) for kind, payload in link.receive()]:
            return messages
        wait(link)
    raise AssertionError(f"nothing came on {link.stream}")


class End:
    """Sends its own messages and digests the other's, a bit at a time."""

    def __init__(self, link, message_type, size, seed):
        self.link, self.message_type, self.unsent = link, message_type, size
        self.random = random.Random(seed)
        self.sent, self.received, self.received_bytes = hashlib.sha256(), hashlib.sha256(), 0

    def step(self):
        while self.unsent and self.link.can_queue and self.random.random() < 0.8:
            size = min(self.unsent, self.random.choice([4, 60, 1_448, 16_384, 65_000, limits.LINK_MESSAGE_BYTES_MAX]))
            payload = self.random.randbytes(size)
            cut = self.random.randrange(size + 1)
            self.link.queue(self.message_type, payload[:cut], memoryview(payload)[cut:])
            self.sent.update(payload + b"|")
            self.unsent -= size
        self.link.flush()
        for _, payload in self.link.receive():
            self.received.update(payload)
            self.received.update(b"|")
            self.received_bytes += len(payload)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_sixteen_megabytes_each_way_arrive_as_they_were(kind, seed, certificates, opened):
    chance.seed(seed)
    size = 16 << 20
    server, client = tcp_pair(SMALL_BUFFER_BYTES * 4)
    if kind == "tls":
        server, client = tls_pair(certificates, (server, client), StingyTls)
    else:
        server, client = (Stingy(sock.family, sock.type, 0, sock.detach()) for sock in (server, client))
    opened += [
        LinkSocket(server, "data link from b", DATA_FROM_SECONDARY),
        LinkSocket(client, "data link to a", DATA_FROM_PRIMARY),
    ]
    ends = [
        End(opened[0], MessageType.CLIENT_FRAMES, size, seed),
        End(opened[1], MessageType.GUEST_FRAMES, size, seed + 1),
    ]
    while any(end.received_bytes < size for end in ends):
        chance.choice(ends).step()
        if not any(link.has_pending for link in opened):
            select.select(opened, [link for link in opened if link.wants_write], [], 0.01)
    for end, other in (ends, reversed(ends)):
        assert end.received.digest() == other.sent.digest()
        assert end.link.received_bytes == other.link.sent_bytes > size


def test_a_slow_peer_is_felt_and_fills_no_memory(links):
    primary, secondary = links
    payload = bytes(limits.BATCH_BYTES)
    batches = 0
    while primary.can_queue:
        primary.queue(MessageType.CLIENT_FRAMES, payload)
        primary.flush()
        batches += 1
    assert primary.wants_write
    assert limits.LINK_QUEUE_BYTES_MAX <= primary.queued_bytes <= limits.LINK_QUEUE_BYTES_MAX + len(payload) + 8
    largest = bytes(limits.LINK_MESSAGE_BYTES_MAX)
    while primary.queued_bytes + HEADER_BYTES + len(largest) <= primary.unsent_bytes_max:
        primary.queue(MessageType.CLIENT_FRAMES, largest)
        batches += 1
    with pytest.raises(StateError, match="data link from b"):
        primary.queue(MessageType.CLIENT_FRAMES, largest)
    held = primary.queued_bytes
    primary.queue(MessageType.EPOCH_MARKER, codec.pack_epoch(1))  # a refused message leaves no half of itself
    assert primary.queued_bytes == held + HEADER_BYTES + 8
    seen = []
    while MessageType.EPOCH_MARKER not in seen:
        primary.flush()
        seen += [kind for kind, _ in secondary.receive()]
    assert seen == [MessageType.CLIENT_FRAMES] * batches + [MessageType.EPOCH_MARKER]
    assert primary.can_queue
    assert not primary.wants_write


def test_the_queue_stays_whole_while_it_wraps_behind_a_peer_that_is_always_slow(links):
    primary, secondary = links
    sent, received = [], []
    number = 0
    while number < 400:
        while primary.can_queue and number < 400:
            primary.queue(MessageType.CLIENT_FRAMES, struct.pack(">I", number) * 16_000)
            sent.append(number)
            number += 1
        primary.flush()
        for _, payload in secondary.receive():
            assert payload == payload[:4].tobytes() * 16_000
            received.append(int.from_bytes(payload[:4]))
    while len(received) < len(sent):
        primary.flush()
        received += [int.from_bytes(payload[:4]) for _, payload in secondary.receive()]
    assert received == sent


def test_a_link_without_backlog_costs_no_memory_for_one():
    def resident_bytes():
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * 4096

    before = resident_bytes()
    pairs = [tcp_pair() for _ in range(10)]
    links = [LinkSocket(sock, "x", DATA_FROM_PRIMARY) for pair in pairs for sock in pair]
    grown = resident_bytes() - before
    for link in links:
        link.close()
    assert grown / len(links) < limits.LINK_QUEUE_BYTES_MAX / 4


def test_what_came_before_the_end_comes_out_before_the_end(links):
    primary, secondary = links
    primary.queue(MessageType.EPOCH_MARKER, codec.pack_epoch(7))
    primary.flush()
    primary.close()
    assert receive_some(secondary) == [(MessageType.EPOCH_MARKER, codec.pack_epoch(7))]
    with pytest.raises(LinkError, match=r"^data link to a: closed by the other node$") as first:
        receive_some(secondary)
    assert secondary.has_pending
    for again in (
        secondary.receive,
        secondary.flush,
        lambda: secondary.queue(MessageType.GUEST_FRAMES, b"1234"),
    ):
        with pytest.raises(LinkError) as later:
            again()
        assert later.value is first.value


def test_an_end_in_the_middle_of_a_message_is_told(raw_pair, opened):
    server, client = raw_pair
    opened.append(LinkSocket(client, "data link to a", DATA_FROM_PRIMARY))
    with server:
        server.sendall(codec.header(MessageType.CLIENT_FRAMES, 1_000) + b"half")
    with pytest.raises(LinkError, match="closed by the other node in the middle of a message"):
        receive_some(opened[0])


def test_a_reset_is_one_line(opened):
    server, client = tcp_pair()
    opened.append(LinkSocket(client, "data link to a", DATA_FROM_PRIMARY))
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.close()
    with pytest.raises(LinkError, match=r"^data link to a: connection lost: Connection reset by peer$"):
        receive_some(opened[0])


def test_a_write_to_a_connection_that_is_gone_is_one_line(links):
    primary, secondary = links
    primary.close()

    def send_on():
        for _ in range(10_000):
            if secondary.can_queue:
                secondary.queue(MessageType.GUEST_FRAMES, bytes(10_000))
            secondary.flush()
            secondary.receive()

    with pytest.raises(LinkError, match=r"^data link to a: (connection lost: |closed by the other node)"):
        send_on()


def test_a_last_message_is_read_although_the_connection_broke_in_sending(opened):
    primary, secondary = socket.socketpair()
    opened.append(LinkSocket(secondary, "data link to a", DATA_FROM_PRIMARY))
    with primary:
        primary.sendall(codec.message(MessageType.EPOCH_MARKER, codec.pack_epoch(1)))
    for _ in range(3):
        opened[0].queue(MessageType.GUEST_FRAMES, bytes(100))
        opened[0].flush()
    assert not opened[0].wants_write
    assert opened[0].has_pending
    assert [kind for kind, _ in opened[0].receive()] == [MessageType.EPOCH_MARKER]
    with pytest.raises(LinkError, match=r"closed by the other node|connection lost: Broken pipe"):
        opened[0].receive()


def test_nonsense_is_refused_after_what_was_good(raw_pair, opened):
    server, client = raw_pair
    opened.append(LinkSocket(client, "data link to a", DATA_FROM_PRIMARY))
    with server:
        server.sendall(codec.message(MessageType.EPOCH_MARKER, codec.pack_epoch(1)) + b"\xee" * 64)
        assert [kind for kind, _ in receive_some(opened[0])] == [MessageType.EPOCH_MARKER]
        assert opened[0].has_pending
        with pytest.raises(LinkError, match="data link to a: message at byte 16 has unknown type 238"):
            opened[0].receive()


def test_bytes_that_the_handshake_left_behind_are_not_forgotten(certificates, opened):
    server, client = tls_pair(certificates, tcp_pair())
    with server:
        server.sendall(b"hello" + codec.message(MessageType.EPOCH_MARKER, codec.pack_epoch(1)))  # one record
        assert client.recv(5) == b"hello"
        opened.append(LinkSocket(client, "data link to a", DATA_FROM_PRIMARY))
        assert select.select([opened[0]], [], [], 0)[0] == []
        assert opened[0].has_pending
        assert [kind for kind, _ in opened[0].receive()] == [MessageType.EPOCH_MARKER]
        assert not opened[0].has_pending


def test_tls_leaves_nothing_readable_inside_the_library(certificates, opened):
    server, client = tls_pair(certificates, tcp_pair())
    opened += [LinkSocket(server, "a", DATA_FROM_SECONDARY), LinkSocket(client, "b", DATA_FROM_PRIMARY)]
    for size in (4, 16_376, 16_384, 100_000, limits.LINK_MESSAGE_BYTES_MAX):
        opened[0].queue(MessageType.CLIENT_FRAMES, bytes(size))
    received = 0
    while received < 5:
        opened[0].flush()
        received += len(opened[1].receive())
        assert not opened[1].has_pending


def test_closing_is_always_possible(links):
    primary, _ = links
    primary.close()
    primary.close()
    assert primary.fileno() == -1
    with pytest.raises(LinkError, match="closed by this node"):
        primary.queue(MessageType.CLIENT_FRAMES, b"1234")


def test_half_open_connections_end_by_themselves(opened):
    server, client = tcp_pair()
    opened += [LinkSocket(server, "a", DATA_FROM_SECONDARY), LinkSocket(client, "b", DATA_FROM_PRIMARY)]
    for sock in (server, client):
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == tcpoptions.LINK_STUCK_MS
