"""Two node processes and everything that can be wrong between and around them: one clear line, and the rest goes on."""

import os
import random
import re
import select
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from pycolo.link.codec import Channel, MessageType
from pycolo.link.hello import Hello, Role
from pycolo.link.orders import Order, encode_order
from pycolo.node.links import FIRST_WORD
from pycolo.node.peerrpc import NO_ANSWER
from pycolo.transport.certs import create
from pycolo.transport.linksetup import Address, dial
from support.nodes import HEARTBEAT_TIMEOUT_MS, PATIENCE_S, Relay, World, one_line, wait_for
from support.segments import Flow, Tcp, batch, frame, mss, read, udp

MANUAL = ("--arbiter", "manual")
PATIENT = ("--compare-timeout", "60000")
MEMORY_KB_MAX = 300_000


@pytest.fixture
def world(tmp_path):
    found = World(tmp_path)
    yield found
    found.close()


@pytest.fixture
def relay(world):
    found = Relay()
    world.stack.callback(found.close)
    world.through = found
    return found


# ── the link ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("arbiter", ["manual", "first-to-notice"])
def test_a_data_connection_that_is_cut_is_replaced_without_a_takeover(world, relay, arbiter):
    options = ("--arbiter", arbiter)
    world.protected(primary=options, secondary=options)
    old = world.connect()
    relay.cut("data")
    for node in (world.primary, world.secondary):
        node.wait_log("the pair is whole", 2)
        node.wait_state("protected")
    old.ask(b"x")
    world.connect().ask(b"y")
    assert world.guests["secondary"].asked[-1] == b"y"
    assert world.primary.status()["term"] == world.secondary.status()["term"] == 0
    one_line(world.primary.log, "data link from")


def test_a_control_connection_that_is_cut_is_a_suspicion_and_is_replaced(world, relay):
    world.protected(primary=MANUAL, secondary=MANUAL)
    relay.cut("control")
    for node in (world.primary, world.secondary):
        node.wait_log("the pair is whole", 2)
        node.wait_state("protected")
    world.connect().ask(b"x")


def test_a_half_open_control_connection_is_a_suspicion_until_it_is_heard_again(world, relay):
    world.protected(primary=MANUAL, secondary=MANUAL)
    connection = world.connect()
    relay.stalled.add("control")
    world.primary.wait_state("suspect")
    wait_for(lambda: "may be dead" in world.secondary.log, "the secondary's suspicion")
    relay.stalled.clear()
    for node in (world.primary, world.secondary):
        node.wait_state("protected")
    connection.ask(b"x")


def test_a_stalled_data_connection_holds_answers_and_loses_none(world, relay):
    world.protected(primary=PATIENT)
    connection = world.connect()
    relay.stalled.add("data")
    connection.send(b"x")
    wait_for(lambda: world.guests["primary"].asked == [b"x"], "the primary to be asked")
    assert not any(read(octets).data for octets in world.lan.rest())
    relay.stalled.clear()
    connection.answer(b"x")


def test_a_slow_link_blocks_the_lan_and_fills_no_memory(world, relay):
    """The secondary's guest gets every frame, in order, in spite of a source that is faster than the link."""
    world.protected()
    relay.rate_bytes_s = 200_000
    count, blocked_s = 0, None
    world.lan.sock.setblocking(False)
    pending = b""
    while blocked_s is None or time.monotonic() < blocked_s + 1:
        if not pending:
            pending = bytes(batch([udp(struct.pack(">I", count) + bytes(8_000))]))
            count += 1
        try:
            pending = pending[world.lan.sock.send(pending) :]
            blocked_s = None
        except BlockingIOError:
            blocked_s = blocked_s or time.monotonic()
            select.select([], [world.lan.sock], [], 0.1)
        assert count < 20_000, "160 MB were taken: nothing pushes back"
    for node in (world.primary, world.secondary):
        assert node.memory_kb() < MEMORY_KB_MAX
        node.wait_state("protected")
    relay.rate_bytes_s = None
    world.lan.sock.setblocking(True)
    world.lan.sock.sendall(pending)
    for role, guest in world.guests.items():
        wait_for(lambda guest=guest: len(guest.other_frames) == count, f"all {count} frames at the {role}'s guest")
        numbers = [struct.unpack_from(">I", octets, 42)[0] for octets in guest.other_frames]
        assert numbers == list(range(count))


# ── strangers on the link port ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "octets", [b"GET / HTTP/1.1\r\n\r\n", bytes(64), b"\xff" * 64, random.Random(1).randbytes(10_000), b""]
)
def test_garbage_on_the_link_port_costs_one_line(world, octets):
    world.protected()
    host, _, port = world.primary.link.rpartition(":")
    lines = len(world.primary.log.splitlines())
    for _ in range(3):
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(octets)
            sock.shutdown(socket.SHUT_WR)
            with suppress(OSError):
                while sock.recv(1000):
                    pass
    wait_for(lambda: len(world.primary.log.splitlines()) > lines, f"the line after {lines} lines")
    world.connect().ask(b"x")
    assert len(world.primary.log.splitlines()) == lines + 1, world.primary.log
    assert world.primary.log.count("the pair is whole") == 1


SILENT_MS = 5_000
"""The heartbeats' time-out where the other node is the test, which sends none but is not to be suspected at once."""


def hello(node, channel, peer_instance=0):
    return Hello(
        program="test",
        pair="colo",
        role=Role.SECONDARY,
        channel=channel,
        term=0,
        epoch=0,
        features=frozenset({"vnet_hdr=0", f"heartbeat_timeout={SILENT_MS}"}),
        instance=4711,
        peer_instance=peer_instance,
    )


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"\xff\xff\xff\xff" + bytes(60), "length word 4294967295"),
        (bytes(batch([udp(b"x")])) + b"\0\0\0\x40" + bytes(3), "ends within a frame"),
        (b"\0\0\0", "has 3 bytes"),
    ],
)
def test_a_secondary_that_sends_nonsense_loses_its_connection_and_the_primary_goes_on(world, payload, text):
    world.start("primary", "--heartbeat-timeout", f"{SILENT_MS}")
    world.attach("primary")
    world.lan = world.lans["primary"]
    address = Address.parse(world.primary.link, "")
    control = dial(address, hello(world.primary, Channel.CONTROL), None)
    data = dial(address, hello(world.primary, Channel.DATA), None)
    with world.stack.pop_all() as world.stack:
        world.stack.callback(control.link.close)
        world.stack.callback(data.link.close)
        first_word = encode_order(Order(id=NO_ANSWER, order=FIRST_WORD, arguments={"in_step": False}))
        control.link.queue(MessageType.ORDER, first_word)
        control.link.flush()
        wait_for(lambda: "the pair is whole" in world.primary.log, "the pair")
        data.link.queue(MessageType.GUEST_FRAMES, payload)
        data.link.flush()
        wait_for(lambda: text in world.primary.log, f"a line with {text!r}")
        one_line(world.primary.log, text)
        world.primary.wait_state("alone", "waiting")
        world.connect().ask(b"x")
        world.close()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--pair", "other"), "the nodes belong to different pairs: colo and other"),
        (("--heartbeat-timeout", "400"), f"heartbeat_timeout={HEARTBEAT_TIMEOUT_MS} and heartbeat_timeout=400"),
    ],
)
def test_a_secondary_that_does_not_fit_is_told_why_once_on_both_sides(world, options, text):
    world.start("primary")
    world.start("secondary", *options)
    for node in world.nodes.values():
        node.wait_log(text)
    time.sleep(0.7)
    for node in world.nodes.values():
        one_line(node.log, text)
        node.wait_state("waiting")


def strangers(node):
    """How many lines there are about a peer that has not said yet which of the two connections it is."""
    return len(re.findall(r"(?<!data )(?<!control )link from ", node.log))


def test_tls_on_both_sides_and_on_one(world, tmp_path):
    for name in ("ours", "theirs"):
        create(tmp_path / name, "colo", 30, datetime.now(UTC))
    ours, theirs = (("--tls", str(tmp_path / name)) for name in ("ours", "theirs"))
    world.protected(security=ours)
    world.connect().ask(b"x")
    for wrong in (theirs, ("--insecure",)):
        world.secondary.kill()
        world.primary.wait_state("alone")
        before = strangers(world.primary)
        world.start("secondary", security=wrong)
        world.secondary.wait_log("no pair yet", before + 1)  # both have written into this one
        wait_for(lambda before=before: strangers(world.primary) > before, "the line")
        time.sleep(0.7)
        assert strangers(world.primary) == before + 1, world.primary.log
        assert "Traceback" not in world.secondary.log
        world.connect().ask(b"y")


# ── garbage on the other sockets ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("octets", [b"\xff" * 100, b"GET / HTTP/1.1\r\n\r\n"])
@pytest.mark.parametrize("side", ["lan", "guest"])
def test_a_bad_length_word_closes_that_stream_only_and_it_may_come_back(world, side, octets):
    world.protected()
    connection = world.connect()
    wire = world.lan if side == "lan" else world.guests["primary"].wire
    wire.sock.sendall(octets)
    wait_for(lambda: "length word" in world.primary.log, "the line")
    if side == "lan":
        assert not any(read(octets).data for octets in world.lan.rest())
        assert world.lan.reconnect()
    connection.ask(b"x")
    one_line(world.primary.log, "length word")
    assert world.primary.log.count("the pair is whole") == 1
    assert world.primary.counters()[f"{side}_connections"] == 2


def test_half_a_frame_before_the_end_of_a_stream_is_forgotten(world):
    connection = world.protected().connect()
    for cut in (1, 4, 20):
        world.lan.sock.sendall(bytes(batch([udp(bytes(100))]))[:cut])
        time.sleep(0.05)
        assert world.lan.reconnect()
        connection.ask(b"%d" % cut)
    assert "length word" not in world.primary.log


NONSENSE = [b"\xff\n", b"{}\n", b"[]\n", b'"x"\n', b"[" * 60_000 + b"\n", b'{"command": 3}\n', b'{"command":"x"}\n']


def test_nonsense_on_the_control_socket_is_answered_with_an_error(world):
    node = world.start("primary")
    assert node.link
    wait_for(lambda: node.state == "waiting", "the control socket")
    for line in NONSENSE:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE_S)
            sock.connect(str(node.control))
            sock.sendall(line)
            assert b'"error"' in sock.recv(1000), line
        assert node.state == "waiting"
    assert "Traceback" not in node.log


def test_a_line_without_end_on_the_control_socket_is_cut_off(world):
    node = world.start("primary")
    wait_for(lambda: node.state == "waiting", "the control socket")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(node.control))
        with suppress(OSError):
            sock.sendall(b"x" * 1_000_000)
        with suppress(OSError):
            assert sock.recv(1000) == b""
    assert node.state == "waiting"
    assert "Traceback" not in node.log
    assert (node.control.stat().st_mode & 0o777) == 0o600


# ── where the log goes ──────────────────────────────────────────────────────────────────────────────────────


def test_a_full_disk_under_the_log_does_not_stop_a_takeover(world):
    full = open("/dev/full", "wb")  # noqa: SIM115 - closed by the node
    world.start("primary")
    assert world.primary.link
    world.start("secondary", stderr=full)
    for role in ("primary", "secondary"):
        world.attach(role)
    world.lan = world.lans["primary"]
    world.connect()  # without a secondary
    for node in world.nodes.values():
        node.wait_state("protected")
    connection = world.connect()
    world.primary.kill()
    world.lan = world.lans["secondary"]
    connection.ask(b"x")
    world.secondary.process.terminate()
    assert world.secondary.end() == 0


def test_a_log_without_a_reader_does_not_stop_a_takeover(world):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    world.start("primary")
    assert world.primary.link
    with os.fdopen(writing, "wb") as stderr, os.fdopen(reading, "rb"):
        world.start("secondary", stderr=stderr)
        for role in ("primary", "secondary"):
            world.attach(role)
        for node in world.nodes.values():
            node.wait_state("protected")
        world.lan = world.lans["primary"]
        connection = world.connect()
        world.primary.kill()
        world.lan = world.lans["secondary"]
        connection.ask(b"x")
        world.secondary.process.terminate()
        assert world.secondary.end() == 0


# ── divergence ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("C5")
@pytest.mark.parametrize("policy", ["report", "hold", "reset"])
def test_what_a_divergence_does_to_its_connection(world, policy):
    world.protected(primary=("--on-divergence", policy))
    differing, other = world.connect(), world.connect()
    world.guests["secondary"].prefix = b"RE:"
    differing.send(b"x")
    if policy == "report":
        differing.answer(b"x")
    else:
        wait_for(lambda: world.primary.counters()["divergences"], "the divergence")
        left = [read(octets) for octets in world.lan.rest(0.8)]
        while policy == "reset" and not any("R" in segment.flags for segment in left):
            octets = world.lan.receive(PATIENCE_S)
            assert octets is not None, "no reset"
            left.append(read(octets))
        assert not any(segment.data for segment in left)
        assert any("R" in segment.flags for segment in left) == (policy == "reset")
    world.guests["secondary"].prefix = b"re:"
    other.ask(b"y")
    status = world.primary.status()
    assert status["state"] == "protected"
    difference = status["divergences"][0]
    assert difference["kind"] == "payload"
    assert bytes.fromhex(difference["primary"])[difference["primary_index"] :].startswith(b"re:x")
    assert bytes.fromhex(difference["secondary"])[difference["secondary_index"] :].startswith(b"RE:x")
    assert str(differing.flow.client_port) in difference["connection"]
    world.primary.wait_log("divergence: ")
    one_line(world.primary.log, "divergence: ")


# ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────


def shake_hands(world, ports, turn):
    """Open and reset connections on `ports`, all guests' frames made here; ends when the primary has taken all."""
    flows = [Flow(client_port=port) for port in ports]
    isn = (turn * 1_000_003) & 0xFFFFFFFF

    def syn_acks(base):
        return [frame(Tcp(base, "SA", ack=isn + 1, options=mss(1460), flow=flow)) for flow in flows]

    for flags, seq, ack in (("S", isn, 0), ("A", isn + 1, isn + 101), ("RA", isn + 1, isn + 101)):
        segments = [
            Tcp(seq, flags, ack=ack, options=mss(1460) if flags == "S" else b"", flow=flow, from_client=True)
            for flow in flows
        ]
        world.lan.send(*map(frame, segments))
        if flags == "S":
            released = world.primary.counters()["released"] + len(flows)
            world.guests["primary"].wire.send(*syn_acks(isn + 100))
            world.guests["secondary"].wire.send(*syn_acks(isn + 7_000))
            wait_for(lambda goal=released: world.primary.counters()["released"] >= goal, "the SYN|ACKs")


def test_memory_stays_flat_over_many_connections(world):
    world.protected()
    for guest in world.guests.values():
        guest.is_mute = True
    size = {}
    for turn in range(1, 31):
        shake_hands(world, range(10_000, 11_500), turn)
        world.lan.rest(0.01)
        if turn == 10:
            size = {role: node.memory_kb() for role, node in world.nodes.items()}
    for role, node in world.nodes.items():
        assert node.memory_kb() < size[role] + 8_000, f"{role} grew from {size[role]} KiB to {node.memory_kb()} KiB"
        assert node.counters()["connections"] <= 1_500
    assert world.primary.counters()["divergences"] == 0


# ── starting ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_second_node_at_the_same_control_socket_says_so_and_leaves_the_first_alone(world):
    node = world.start("primary")
    wait_for(lambda: node.state == "waiting", "the control socket")
    place = world.place / "second"
    place.mkdir()
    command = [sys.executable, "-m", "pycolo", "primary", "--insecure", "--listen", "127.0.0.1:0"]
    command += ["--control", str(node.control), "--lan", f"unix:{place}/lan,server=on", "--guest", f"unix:{place}/g"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 1
    assert one_line(done.stderr, "already running: process ").startswith("colo: --control")
    assert node.state == "waiting"
