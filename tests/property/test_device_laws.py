"""Frames through a device: what goes in comes out, in order, whatever the sizes and whatever the kernel answers."""

import errno
import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycolo.core import BATCH_BUFFER_BYTES, FrameFd
from pycolo.transport.ports import VNET_LEN, open_device
from pycolo.transport.portspec import parse_port
from support import netns
from support.nodes import wait_for
from support.segments import GSO_TCPV4, NEEDS_CSUM, Tcp, batch, frame, unbatch, vnet_header

SEND_BUFFER_BYTES = 8192
MTU = 1500
ETHERNET = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x88\xb5"
GSO_DATA_MAX = 65536 - 1 - 14 - 20 - 20
"""A frame that is larger than a card's gso_max_size is cut by the kernel, as it should be."""

SEND_SCRIPT = Path(__file__).parents[1] / "support" / "sendanswers.py"


def numbered(sizes, start=b""):
    """Frames that can be told apart, `start` in front of each."""
    return [(start + bytes([i % 251]) * size)[: max(size, len(start))] for i, size in enumerate(sizes)]


# ── one per call is the specification ───────────────────────────────────────────────────────────────────────


def outcome(frames, taken, *, is_socket, has_vnet):
    """Positions, counters and what came out, where the other end reads `taken` frames between two writes."""
    octets = batch(frames, 0 if has_vnet else None)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES // 2)
        fd = FrameFd(ours.fileno(), VNET_LEN if has_vnet else 0, is_socket=is_socket)
        positions, received = [0], []
        for count in [*taken, 1000, 1000]:
            positions.append(fd.write_batch(octets, positions[-1], len(octets)))
            received += read_up_to(theirs, count)
        while positions[-1] < len(octets):
            positions.append(fd.write_batch(octets, positions[-1], len(octets)))
            received += read_up_to(theirs, 1000)
        return positions, received, fd.frames_out, fd.dropped, fd.last_errno


def read_up_to(end, count):
    found = []
    try:
        for _ in range(count):
            found.append(end.recv(1 << 17))
    except BlockingIOError:
        pass
    return found


SIZES = st.integers(0, 60) | st.sampled_from([0, 1514, 3000, SEND_BUFFER_BYTES * 2, 66000])


@settings(max_examples=150)
@given(st.lists(SIZES, max_size=200), st.lists(st.integers(0, 12), max_size=10), st.booleans())
def test_a_batch_ends_as_one_frame_after_the_other_does(sizes, taken, has_vnet):
    frames = numbered(sizes)
    found = outcome(frames, taken, is_socket=True, has_vnet=has_vnet)
    assert found == outcome(frames, taken, is_socket=False, has_vnet=has_vnet)
    _, received, frames_out, dropped, last_errno = found
    assert received == [octets for octets in frames if 0 < len(octets) < SEND_BUFFER_BYTES]
    assert frames_out == len(received)
    assert dropped == sum(len(octets) > SEND_BUFFER_BYTES for octets in frames)
    assert last_errno == (errno.EMSGSIZE if dropped else 0)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs cc: as root, apt-get install gcc libc6-dev")
def test_whatever_sendmmsg_answers_no_frame_is_lost_twice_there_or_out_of_order(tmp_path):
    """In a process whose sendmmsg is ours: it takes some, is interrupted, has no room, refuses."""
    library = tmp_path / "answers.so"
    source = SEND_SCRIPT.with_suffix(".c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True, capture_output=True, timeout=60)
    path = os.pathsep.join([str(SEND_SCRIPT.parents[1]), *sys.path])
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": path}
    command = [sys.executable, SEND_SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


# ── a cable ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def cable():
    """Packet sockets at both ends of a veth pair, without vnet headers and with them."""
    with ExitStack() as stack:
        namespace = netns.made()
        stack.callback(namespace.close)
        namespace.add_pair()
        found = {}
        for vnet in ("off", "on"):
            for name in ("one", "two"):
                port = open_device(
                    parse_port(f"packet:{name},netns={namespace.path},vnet_hdr={vnet}", "--lan"), "--lan"
                )
                stack.callback(port.close)
                found[name, vnet == "on"] = port
        yield found, namespace


def passed(source, target, octets, expected, has_vnet, skips=VNET_LEN):
    """All of `octets` is written, and as many frames as are `expected` read: these frames.

    `skips`: so much of a vnet header does not count.
    """
    buf, pos, found = bytearray(BATCH_BUFFER_BYTES), 0, []

    def is_done():
        nonlocal pos
        pos = source.write_batch(octets, pos, len(octets))
        while (end := target.read_batch(buf, 0)) > 0:
            frames = unbatch(bytes(buf[:end]), has_vnet=has_vnet, keeps_vnet=True)
            at = VNET_LEN if has_vnet else 0
            found.extend(octets[min(at, skips) :] for octets in frames if octets[at : at + 12] == ETHERNET[:12])
        return pos == len(octets) and len(found) >= len(expected)

    wait_for(is_done, "the frames")
    return found


def drain(*ports):
    buf = bytearray(BATCH_BUFFER_BYTES)
    for port in ports:
        while port.read_batch(buf, 0):
            pass


@pytest.mark.namespaces
@settings(max_examples=40)
@given(st.lists(st.integers(len(ETHERNET), MTU + 14) | st.sampled_from([MTU + 100, 9000, 65000]), max_size=300))
def test_over_a_cable_all_comes_out_that_is_no_larger_than_the_cable_takes(cable, sizes):
    ports, _ = cable
    one, two = ports["one", False], ports["two", False]
    drain(one, two)
    frames = numbered(sizes, ETHERNET)
    expected = [octets for octets in frames if len(octets) <= MTU + 14]
    before = one.counters()
    octets = batch(frames)
    assert passed(one, two, octets, expected, False) == expected
    after = one.counters()
    assert after["frames_out"] - before["frames_out"] == len(expected)
    assert after["dropped"] - before["dropped"] == len(frames) - len(expected)


@pytest.mark.namespaces
@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 1400) | st.integers(1500, GSO_DATA_MAX) | st.just(GSO_DATA_MAX), max_size=30),
)
def test_over_a_cable_large_frames_stay_whole_between_small_ones(cable, sizes):
    ports, _ = cable
    one, two = ports["one", True], ports["two", True]
    drain(one, two)
    frames, expected = [], []
    for i, size in enumerate(sizes):
        is_large = size > 1448
        vnet = bytearray(vnet_header(NEEDS_CSUM, GSO_TCPV4 if is_large else 0, 1448 if is_large else 0, size=VNET_LEN))
        vnet[2:4] = (54).to_bytes(2, "little")
        octets = frame(Tcp(i, data=bytes([i]) * size), bytes(vnet))
        octets = octets[:VNET_LEN] + ETHERNET[:12] + octets[VNET_LEN + 12 :]
        frames.append(octets)
        expected.append(octets[VNET_LEN:])
    octets = batch(frames, VNET_LEN)
    assert passed(one, two, octets, expected, True) == expected


TAGS = st.lists(st.tuples(st.sampled_from([0x8100, 0x88A8]), st.integers(0, 0xFFFF)), max_size=3)
"""Ethertype and TCI of VLAN tags, from the outermost on."""


def tagged(octets, tags, vnet_len=0):
    """The frame with the tags behind its addresses."""
    at = vnet_len + 12
    return octets[:at] + b"".join(kind.to_bytes(2) + tci.to_bytes(2) for kind, tci in tags) + octets[at:]


@pytest.mark.namespaces
@settings(max_examples=40)
@given(st.lists(st.tuples(TAGS, st.integers(46, 1400)), max_size=40))
def test_over_a_cable_vlan_tags_stay_where_they_are(cable, kinds):
    """The kernel takes the outermost one out of what a packet socket receives, and says it beside."""
    ports, _ = cable
    one, two = ports["one", False], ports["two", False]
    drain(one, two)
    frames = [tagged(ETHERNET + bytes([i]) * size, tags) for i, (tags, size) in enumerate(kinds)]
    assert passed(one, two, batch(frames), frames, False) == frames


@pytest.mark.namespaces
@settings(max_examples=25)
@given(st.lists(st.tuples(TAGS.filter(lambda tags: len(tags) < 2), st.integers(1, 30_000)), max_size=20))
def test_over_a_cable_a_vnet_header_counts_the_tag_in_front_of_what_it_points_at(cable, kinds):
    ports, _ = cable
    one, two = ports["one", True], ports["two", True]
    drain(one, two)
    frames = []
    for i, (tags, size) in enumerate(kinds):
        is_large = size > 1448
        vnet = bytearray(vnet_header(NEEDS_CSUM, GSO_TCPV4 if is_large else 0, 1448 if is_large else 0, size=VNET_LEN))
        vnet[2:4] = (54 + 4 * len(tags)).to_bytes(2, "little")
        vnet[6:8] = (34 + 4 * len(tags)).to_bytes(2, "little")
        octets = frame(Tcp(i, data=bytes([i]) * size), bytes(vnet))
        frames.append(tagged(octets[:VNET_LEN] + ETHERNET[:12] + octets[VNET_LEN + 12 :], tags, VNET_LEN))
    got = passed(one, two, batch(frames, VNET_LEN), frames, True, skips=0)
    assert [octets[VNET_LEN:] for octets in got] == [octets[VNET_LEN:] for octets in frames]
    assert [octets[6:10] for octets in got] == [octets[6:10] for octets in frames], "csum_start and csum_offset"


@pytest.mark.namespaces
def test_what_a_full_queue_refuses_is_offered_again(cable):
    """ENOBUFS: the interface's queue discipline has no room."""
    ports, namespace = cable
    one, two = ports["one", False], ports["two", False]
    drain(one, two)
    limit = ["tc", "qdisc", "add", "dev", "one", "root", "tbf", "rate", "100mbit", "burst", "2000", "limit", "4000"]
    namespace.run(*limit)
    try:
        frames = numbered([1000] * 200, ETHERNET)
        octets = batch(frames)
        before = one.counters()["dropped"]
        assert one.write_batch(octets, 0, 0) == 0
        assert passed(one, two, octets, frames, False) == frames
        assert one.counters()["dropped"] == before
    finally:
        namespace.run("tc", "qdisc", "del", "dev", "one", "root")
