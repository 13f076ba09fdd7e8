"""The compiled loop between real sockets: what it does with frames, and what it leaves to Python."""

import random
import select
import socket
import struct
import time
from contextlib import suppress

import pytest

from pycolo.core import Batch, Comparator, ComparePump, RewritePump, Rewriter
from pycolo.errors import FramingError
from support.segments import Flow, Tcp, batch, frame, read, udp, unbatch

FRAMES = [udp(b"%d" % number * 40) for number in range(50)]
STREAM = bytes(batch(FRAMES))
FAR_US = 60_000_000


def now_us() -> int:
    return time.monotonic_ns() // 1000


class Stage:
    """A pump between socket pairs: `near` is what it has of each, `far` what the test holds. By name."""

    def __init__(self, make, inputs, outputs):
        self.epoll = select.epoll()
        self.near, self.far = {}, {}
        self.batches = {name: Batch() for name in (*inputs, *outputs)}
        self.pump = make(self.epoll.fileno(), self.batches)
        for name in (*inputs, *outputs):
            self.connect(name, select.EPOLLIN if name in inputs else select.EPOLLIN | select.EPOLLRDHUP)

    def connect(self, name, events):
        near, far = socket.socketpair()
        near.setblocking(False)
        self.adopt(name, near, far, events)

    def adopt(self, name, near, far, events):
        for old in (self.near.get(name), self.far.get(name)):
            if old is not None:
                old.close()
        self.near[name], self.far[name] = near, far
        self.epoll.register(near, events)
        getattr(self.pump, name).connect(near.fileno(), events)

    def run(self, milliseconds=0):
        """What is left to Python, by name."""
        names = {sock.fileno(): name for name, sock in self.near.items()}
        found = self.pump.run(now_us() + milliseconds * 1000)
        return {names.get(fd, fd): events for fd, events in found.items()}

    def received(self, name, until=None):
        """What has come out, with the pump running until there is as much."""
        octets = b""
        self.far[name].setblocking(False)
        give_up = time.monotonic() + 30
        while time.monotonic() < give_up:
            left = self.run()
            try:
                octets += self.far[name].recv(1 << 20)
            except BlockingIOError:
                if left or len(octets) >= (until or 0):
                    break
        return octets

    def close(self):
        for sock in (*self.near.values(), *self.far.values()):
            sock.close()
        self.epoll.close()


@pytest.fixture
def stages():
    made = []

    def comparing(**options):
        core = Comparator(1, **{"compare_timeout_ms": 60_000} | options)

        def make(epoll_fd, batches):
            return ComparePump(epoll_fd, 0, core, batches["secondary"], batches["primary"], batches["output"])

        stage = Stage(make, ["secondary", "primary"], ["output"])
        stage.core = core
        made.append(stage)
        return stage

    def rewriting():
        core = Rewriter(1)
        names = ("guest_in", "client_out", "client_in", "guest_out")
        stage = Stage(
            lambda epoll_fd, batches: RewritePump(epoll_fd, 0, core, *(batches[name] for name in names)),
            ["guest_in", "client_in"],
            ["client_out", "guest_out"],
        )
        stage.core = core
        made.append(stage)
        return stage

    yield {"comparing": comparing, "rewriting": rewriting}
    for stage in made:
        stage.close()


@pytest.fixture
def comparing(stages):
    return stages["comparing"]


# ── frames ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("pieces", [(1, 1), (3, 1000), (1000, 7), (len(STREAM), len(STREAM))])
def test_a_stream_may_come_in_any_pieces(comparing, pieces):
    stage = comparing()
    positions = [0, 0]
    while min(positions) < len(STREAM):
        for side, name in enumerate(("secondary", "primary")):
            piece = STREAM[positions[side] : positions[side] + pieces[side]]
            stage.far[name].sendall(piece)
            positions[side] += len(piece)
        assert stage.run() == {}
    assert stage.received("output", len(STREAM)) == STREAM
    assert stage.core.stats.primary_bytes == stage.core.stats.secondary_bytes == len(STREAM)
    assert stage.pump.primary.octets == stage.pump.secondary.octets == stage.pump.output.octets == len(STREAM)


def test_it_returns_when_it_is_told_to(comparing):
    stage = comparing()
    before = now_us()
    assert stage.run(20) == {}
    assert now_us() - before >= 20_000


def test_time_goes_on_for_the_comparator(comparing):
    """A difference by time-out is found, and left to Python, long before `run` is to return."""
    stage = comparing(compare_timeout_ms=20, scan_cycle_ms=10)
    stage.far["primary"].sendall(STREAM[: len(batch(FRAMES[:1]))])
    before = now_us()
    assert stage.pump.run(before + FAR_US) == {}
    assert now_us() - before < FAR_US
    assert len(stage.core.commands()) == 1


def test_what_a_rewriter_had_kept_leaves_with_the_handshake(stages):
    stage = stages["rewriting"]()
    syn = bytes(batch([frame(Tcp(700, "S", from_client=True))]))
    early = bytes(batch([frame(Tcp(701, ack=3001, from_client=True))]))
    answer = bytes(batch([frame(Tcp(5000, "SA", ack=701))]))
    stage.far["client_in"].sendall(syn + early)
    assert stage.received("guest_out", len(syn)) == syn
    stage.far["guest_in"].sendall(answer)
    assert len(stage.received("client_out", len(answer))) == len(answer)
    kept = bytes(batch([frame(Tcp(701, ack=5001, from_client=True))]))
    assert stage.received("guest_out", len(kept)) == kept


def test_both_ways_of_a_rewriter(stages):
    stage = stages["rewriting"]()
    for source, sink in (("client_in", "guest_out"), ("guest_in", "client_out")):
        stage.far[source].sendall(STREAM)
        assert stage.received(sink, len(STREAM)) == STREAM
    assert stage.core.stats.client_bytes == stage.core.stats.guest_bytes == len(STREAM)


@pytest.mark.parametrize("seed", range(8))
def test_each_frame_leaves_once_and_in_order_whichever_side_is_ahead(comparing, seed):
    """From the batch it came in or from where it waited, through an output that takes little at a time."""
    dice = random.Random(seed)
    stage = comparing()
    stage.near["output"].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    flows = [Flow(client_port=5000 + number) for number in range(dice.randint(1, 4))]
    ends = dict.fromkeys(flows, 1000)
    largest = dice.choice([3, 200, 20_000])
    greetings = [frame(Tcp(999, "SA", ack=100, flow=flow)) for flow in flows]
    sent = []
    for step in range(200):
        flow = dice.choice(flows)
        segment = Tcp(ends[flow], "A", bytes([step % 251]) * dice.randint(1, largest), ack=100, flow=flow)
        ends[flow] = segment.end
        sent.append(segment)
    octets = bytes(batch([*greetings, *map(frame, sent)]))
    given = {"primary": 0, "secondary": 0}
    came = bytearray()
    stage.far["output"].setblocking(False)
    for sock in (stage.far["primary"], stage.far["secondary"]):
        sock.setblocking(False)
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up and len(came) < len(octets):
        name = dice.choice(list(given))
        piece = octets[given[name] : given[name] + dice.choice([100, 5000, 200_000])]
        with suppress(BlockingIOError):
            given[name] += stage.far[name].send(piece)
        stage.run()
        with suppress(BlockingIOError):
            came += stage.far["output"].recv(dice.choice([100, 1000, 1 << 20]))
    left = [read(one) for one in unbatch(bytes(came))]
    for flow in flows:
        assert [one for one in left if one.flow == flow and one.data] == [one for one in sent if one.flow == flow]
    assert stage.core.commands() == []


# ── room ────────────────────────────────────────────────────────────────────────────────────────────────────


def fill(sock):
    """Send until there is no room; how much."""
    sock.setblocking(False)
    octets = 0
    try:
        while True:
            octets += sock.send(bytes(1 << 16))
    except BlockingIOError:
        return octets


@pytest.mark.parametrize("kind", ["comparing", "rewriting"])
def test_an_output_without_room_is_waited_for(stages, kind):
    stage = stages[kind]()
    sources, sink = (("secondary", "primary"), "output") if kind == "comparing" else (("client_in",), "guest_out")
    stage.near[sink].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 5000)
    rounds = 40
    sent = dict.fromkeys(sources, 0)
    for _ in range(400):
        for name in sources:
            stage.far[name].setblocking(False)
            try:
                sent[name] += stage.far[name].send((STREAM * rounds)[sent[name] :][:5000])
            except BlockingIOError:
                pass
        assert stage.run() == {}
    assert getattr(stage.pump, sink).events & select.EPOLLOUT
    out = b""
    for _ in range(10_000):
        for name in sources:
            if sent[name] < len(STREAM) * rounds:
                try:
                    sent[name] += stage.far[name].send((STREAM * rounds)[sent[name] :])
                except BlockingIOError:
                    pass
        out += stage.received(sink)
        if len(out) == len(STREAM) * rounds:
            break
    assert out == STREAM * rounds
    assert not getattr(stage.pump, sink).events & select.EPOLLOUT


def test_a_side_without_room_is_not_read_until_there_is(comparing):
    stage = comparing(queue_packets_max=4)
    stage.far["primary"].sendall(STREAM)
    assert stage.run() == {}
    assert stage.pump.primary.is_blocked
    assert len(stage.core.commands()) == 1, "which is told"
    assert stage.run() == {}
    assert stage.pump.primary.events == 0
    stage.far["secondary"].sendall(STREAM)
    out = b""
    for _ in range(50):
        out += stage.received("output")
        stage.core.commands()
    assert out == STREAM
    assert stage.pump.primary.events == select.EPOLLIN


# ── what is left to Python ──────────────────────────────────────────────────────────────────────────────────


def test_another_descriptor_comes_first(comparing):
    stage = comparing()
    other, peer = socket.socketpair()
    with other, peer:
        stage.epoll.register(other, select.EPOLLIN)
        peer.send(b"x")
        stage.far["primary"].sendall(STREAM)
        assert stage.run(1000) == {other.fileno(): select.EPOLLIN, "primary": select.EPOLLIN}
        assert stage.pump.primary.octets == 0, "what waits is not read meanwhile"


@pytest.mark.parametrize("name", ["secondary", "primary"])
def test_an_end_is_seen_behind_what_came_before_it(comparing, name):
    stage = comparing()
    stage.far[name].sendall(STREAM)
    stage.far[name].close()
    assert stage.run(1000) == {name: select.EPOLLIN}
    assert stage.core.stats.primary_bytes + stage.core.stats.secondary_bytes == len(STREAM)


def test_a_connection_that_is_reset(comparing):
    stage = comparing()
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.create_connection(server.getsockname())
        near = server.accept()[0]
    near.setblocking(False)
    stage.adopt("primary", near, far, select.EPOLLIN)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    assert stage.run(1000) == {"primary": select.EPOLLIN}


def test_an_output_that_ends(comparing):
    stage = comparing()
    stage.far["output"].close()
    assert stage.run(1000)["output"] & select.EPOLLHUP


def test_a_frame_of_which_a_part_was_sent_is_sent_whole_on_the_next_connection(comparing):
    """And nothing that is left is lost where the output is not connected."""
    stage = comparing()
    blocked = fill(stage.near["output"])
    for name in ("secondary", "primary"):
        stage.far[name].sendall(STREAM)
    assert stage.run() == {}
    stage.far["output"].recv(blocked // 2, socket.MSG_WAITALL)
    assert stage.run() == {}
    gone = stage.pump.output.octets
    stage.near["output"].close()
    stage.pump.output.connect(-1, 0)
    assert stage.run() == {}
    stage.pump.output.sent_of_frame = 0  # as a port does when its connection ends
    stage.connect("output", select.EPOLLIN | select.EPOLLRDHUP)
    length = len(batch(FRAMES[:1]))
    left = stage.received("output")
    assert left == STREAM[len(STREAM) - len(left) :]
    assert gone - length < len(STREAM) - len(left) <= gone
    assert STREAM[: len(STREAM) - len(left)] in {bytes(batch(FRAMES[:n])) for n in range(51)}


def test_a_difference(comparing):
    stage = comparing()
    segment = Tcp(1000, "A", b"abcd", ack=100)
    stage.far["primary"].sendall(batch([frame(segment)]))
    assert stage.run() == {}
    stage.far["secondary"].sendall(batch([frame(Tcp(1000, "A", b"abXd", ack=100))]))
    assert stage.pump.run(now_us() + FAR_US) == {}
    assert len(stage.core.commands()) == 1


@pytest.mark.parametrize("word", [b"\xff\xff\xff\xff", b"\x00\x02\x00\x00"])
@pytest.mark.parametrize("name", ["secondary", "primary"])
def test_a_stream_that_cannot_be_read_on(comparing, name, word):
    """An offer made twice is refused; what came before counts."""
    stage = comparing()
    stage.far[name].sendall(STREAM + word)
    assert stage.pump.run(now_us() + FAR_US) == {}
    inlet = getattr(stage.pump, name)
    assert inlet.is_blocked
    assert inlet.batch.start == len(STREAM)
    take = getattr(stage.core, f"{name}_frames")
    with pytest.raises(FramingError):
        take(inlet.batch.buf, inlet.batch.start, inlet.batch.end, now_us())


def test_a_table_grows_without_python(comparing):
    stage = comparing(connections_max=1 << 14)
    count = stage.core.table.buckets + 10
    octets = batch([frame(Tcp(1, "S", flow=Flow(client_port=port + 1))) for port in range(count)])
    at = 0
    stage.far["primary"].setblocking(False)
    give_up = time.monotonic() + 30
    while stage.core.table.used < count and time.monotonic() < give_up:
        if at < len(octets):
            at += stage.far["primary"].send(octets[at : at + 10_000])
        assert stage.run() == {}
    assert not stage.pump.primary.is_blocked
    assert (stage.core.table.used, stage.core.table.buckets) == (count, count)


def test_an_epoll_that_is_closed_is_an_error_of_the_system(comparing):
    stage = comparing()
    stage.epoll.close()
    with pytest.raises(OSError, match="epoll"):
        stage.run()
