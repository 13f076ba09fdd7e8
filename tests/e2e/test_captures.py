"""Foreign captures through parser, comparator, rewriter and nodes: nothing crashes, nothing of the primary is lost.

What a rule forbids to leave is counted, and nothing else stays away: see `KEPT_BACK`.
"""

import threading
from collections import Counter, defaultdict

import pytest

from pycolo.core import Packet, parse_frame
from pycolo.wire.kinds import PacketKind
from support.captures import NAMES, frames_of, write_all
from support.nodes import World, wait_for
from support.segments import arp, batch
from support.traces import Comparing, Rewriting

KEPT_BACK = ("superseded", "dropped", "acks_owed")
"""Counters of what does not leave by rule: of an older life of a connection, of a datagram that was given up (C9), and
bare ACKs whose word follows in another one (C3)."""

ROOMY = {"connections_max": 1024, "held_bytes_max": 1 << 24}


IN_ORDER = [
    f"{kind}-sound"
    for kind in ("tcp", "tcp6", "vlan", "qinq6", "wrap", "zero-isn", "hop-by-hop", "routing", "options", "gso")
]


@pytest.fixture(scope="module")
def captures(tmp_path_factory):
    files = write_all(tmp_path_factory.mktemp("captures"))
    assert sorted(files) == sorted(NAMES)
    return {name: frames_of(file) for name, file in files.items()}


@pytest.fixture(scope="module")
def frames(captures, request):
    return captures[request.param]


def parsed(octets):
    packet = Packet()
    parse_frame(bytearray(octets), 0, len(octets), 0, packet)
    return packet


def identity(octets, *, is_mixed=False):
    """(connection, what must not change of the frame): without ack, window, SACK blocks and checksum of TCP.

    `is_mixed`: several captures of one connection went in at once; then a payload that was sent again may have
    overtaken a frame, whose TSval is made no older (RFC 7323 section 5.3).
    """
    packet = parsed(octets)
    if packet.kind != PacketKind.TCP:
        return (packet.kind,), octets
    kept = bytearray(octets)
    if packet.sack_len:  # no block leaves that the secondary does not have (C11): its place is padded
        kept[packet.sack_pos - 2 : packet.sack_pos + packet.sack_len] = b"\x01" * (packet.sack_len + 2)
    kept[packet.l4_pos + 8 : packet.l4_pos + 12] = bytes(4)
    kept[packet.l4_pos + 14 : packet.l4_pos + 18] = bytes(4)
    if is_mixed and packet.timestamp_pos:
        kept[packet.timestamp_pos : packet.timestamp_pos + 4] = bytes(4)
    source = (packet.source0, packet.source1, packet.source2, packet.source3, packet.source_port)
    target = (packet.destination0, packet.destination1, packet.destination2, packet.destination3)
    return (packet.kind, source, target, packet.destination_port, packet.vlan), bytes(kept)


def by_connection(frames, **how):
    found = defaultdict(list)
    for octets in frames:
        key, kept = identity(octets, **how)
        found[key].append(kept)
    return found


def assert_all_came_out(given, left, kept_back, **how):
    """Every frame but `kept_back`, or where the comparator let parts of one go earlier, those parts.

    `how`: see `identity`.
    """
    came = by_connection(left, **how)
    missing_in_all = 0
    for key, expected in by_connection(given, **how).items():
        missing = Counter(expected) - Counter(came[key])
        spare = Counter(came[key]) - Counter(expected)
        missing_in_all += sum(
            key[0] != PacketKind.TCP or not came_in_parts(octets, spare) for octets in missing.elements()
        )
    assert missing_in_all <= kept_back


def came_in_parts(octets, spare):
    """Whether frames of `spare` carry the payload of this one, piece by piece."""
    whole = parsed(octets)
    expected = octets[whole.payload_pos : whole.payload_pos + whole.payload_len]
    parts = {}
    for other in spare:
        packet = parsed(other)
        parts.setdefault(packet.seq, set()).add(other[packet.payload_pos : packet.payload_pos + packet.payload_len])
    pos = 0
    while pos < len(expected):
        fitting = [
            part for part in parts.get((whole.seq + pos) & 0xFFFFFFFF, ()) if part and expected.startswith(part, pos)
        ]
        if not fitting:
            return False
        pos += max(map(len, fitting))
    return pos > 0


def compare(given, *, answers, **options):
    """What leaves a comparator; a checkpoint is committed when one is asked for, and at the end."""
    core = Comparing(**{**ROOMY, **options})
    left = []
    for start in range(0, len(given), 7):
        part = given[start : start + 7]
        core.primary(*part)
        if answers:
            core.secondary(*part)
        core.wait(1)
        left += core.frames()
        if any(name == "RequestCheckpoint" for name, _, _ in core.commands()):
            core.commit()
            left += core.frames()
    core.wait(10_000)
    core.commit()
    left += core.frames()
    core.assert_empty()
    return left, sum(getattr(core.core.stats, name) for name in KEPT_BACK)


@pytest.mark.parametrize("frames", NAMES, indirect=True)
@pytest.mark.parametrize("answers", [True, False], ids=["answered", "unanswered"])
def test_all_that_the_primary_sent_comes_out_of_the_comparator(frames, answers):
    assert_all_came_out(frames, *compare(frames, answers=answers))


@pytest.mark.parametrize("frames", IN_ORDER, indirect=True)
@pytest.mark.parametrize("answers", [True, False], ids=["answered", "unanswered"])
def test_what_came_in_order_leaves_in_order(frames, answers):
    left = by_connection(compare(frames, answers=answers)[0])
    for key, expected in by_connection(frames).items():
        rest = iter(left[key])  # with acks of the comparator's own making between them
        assert all(kept in rest for kept in expected)


@pytest.mark.parametrize("frames", NAMES, indirect=True)
def test_also_when_differences_are_let_through(frames):
    """As in the nodes without checkpoints: connections that differ go on uncompared."""
    assert_all_came_out(frames, *compare(frames, answers=False, policy=1, needs_handshake=True))


def rewritten_part(octets):
    """Everything but the TCP header."""
    packet = Packet()
    kind = parse_frame(bytearray(octets), 0, len(octets), 0, packet)
    if kind != PacketKind.TCP:
        return octets
    return octets[: packet.l4_pos] + octets[packet.payload_pos :]


@pytest.mark.parametrize("frames", NAMES, indirect=True)
def test_all_that_the_secondary_sent_comes_out_of_the_rewriter(frames):
    core = Rewriting(connections_max=1024)
    left = []
    for octets in frames:
        core.client(octets)
        left += core.guest(octets)
        core.to_guest()
    assert [rewritten_part(octets) for octets in left] == [rewritten_part(octets) for octets in frames]
    core.core.takeover()
    for octets in core.to_client():
        assert rewritten_part(octets) in set(map(rewritten_part, frames))


@pytest.mark.parametrize("frames", NAMES, indirect=True)
def test_all_that_the_clients_sent_reaches_the_guest_sooner_or_later(frames):
    core = Rewriting(connections_max=1024)
    left = core.client(*frames) + core.to_guest()
    core.core.checkpoint_committed()
    left += core.to_guest()
    dropped = core.core.stats.handshake_dropped
    missing = Counter(map(rewritten_part, frames)) - Counter(map(rewritten_part, left))
    assert sum(missing.values()) == dropped


class Reading(threading.Thread):
    """Keeps what comes out of a wire, so that a writer of the other wires never waits for it."""

    def __init__(self, wire):
        super().__init__(daemon=True)
        self.frames = []
        self._wire = wire
        self._is_over = False
        self.start()

    def run(self):
        while not self._is_over:
            octets = self._wire.receive(0.1)
            if octets is not None:
                self.frames.append(octets)

    def finish(self):
        self._is_over = True
        self.join()


def test_through_real_nodes(captures, tmp_path):
    """All captures from the LAN and from both guests at once: both nodes live, and all of the primary's comes out."""
    world = World(tmp_path)
    try:
        world.protected(primary=("--compare-timeout", "300"))
        for guest in world.guests.values():
            guest.is_mute = True
        given, lan = [], Reading(world.lan)
        for frames in captures.values():
            octets = bytes(batch(frames))
            for wire in (world.lan, world.guests["primary"].wire, world.guests["secondary"].wire):
                wire.sock.sendall(octets)
            given += frames

        def has_let_everything_out():
            counters = world.primary.counters()
            return counters["guest_frames"] >= len(given) and counters["held"] == 0

        wait_for(has_let_everything_out, "everything to be read and released")
        last = arp(sender=b"\x0a\x09\x09\x09")
        world.guests["primary"].wire.send(last)  # passes uncompared, behind all that was released
        wait_for(lambda: last in lan.frames, "the last frame")
        lan.finish()
        for node in world.nodes.values():
            node.wait_state("protected")
            assert "Traceback" not in node.log
        counters = world.primary.counters()
        assert_all_came_out(given, lan.frames, sum(counters[name] for name in KEPT_BACK), is_mixed=True)
        for guest in world.guests.values():
            guest.is_mute = False
        world.connect().ask(b"x")
    finally:
        world.close()
