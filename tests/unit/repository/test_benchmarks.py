"""The benchmarks' own instruments: frames that are right, a driver that sees what is wrong, rows that run."""

import json
import shutil
import socket
import struct
import threading
from pathlib import Path

import pytest

from support import frames

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
FLOWS = 5


@pytest.fixture(autouse=True)
def _on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def split(octets):
    """The frames of a stream."""
    found = []
    while octets:
        (length,) = struct.unpack_from(">I", octets)
        found.append(bytes(octets[4 : 4 + length]))
        octets = octets[4 + length :]
    return found


def streams(octets):
    """Connection → its bytes by sequence number."""
    found = {}
    for frame in split(octets):
        segment = frames.segment(frame)
        port = segment.tcp.dport
        found.setdefault(port, {})[segment.tcp.seq] = bytes(segment.tcp.payload)
    return {
        port: (min(pieces), b"".join(pieces[seq] for seq in sorted(pieces)), sorted(pieces))
        for port, pieces in found.items()
    }


# ── frames ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["SMALL", "MIXED", "HALF_ACKS", "LARGE", "CUT", "JOINED"])
@pytest.mark.parametrize("from_client", [False, True])
def test_frames_are_right_and_stay_so(name, from_client):
    import loads

    ends = loads.Ends(from_client, 0xFFFFF000, 77, 5000)
    one = loads.cycle(getattr(loads, name), "primary", FLOWS, ends)
    for _ in range(3):
        assert all(frames.is_valid(frame) for frame in split(one.octets))
        one.advance()


@pytest.mark.parametrize("name", ["SMALL", "MIXED", "LARGE", "CUT", "JOINED"])
@pytest.mark.parametrize("side", ["primary", "secondary"])
def test_the_next_cycle_continues_every_connection(name, side):
    import loads

    traffic = getattr(loads, name)
    one = loads.cycle(traffic, side, FLOWS)
    first = streams(one.octets)
    one.advance()
    following = streams(one.octets)
    for port, (seq, octets, _) in first.items():
        assert following[port][0] == seq + len(octets)
        assert following[port][1] == octets


@pytest.mark.parametrize("name", ["CUT", "JOINED"])
def test_both_guests_say_the_same_however_they_cut_it(name):
    import loads

    traffic = getattr(loads, name)
    primary, secondary = (streams(loads.cycle(traffic, side, FLOWS).octets) for side in ("primary", "secondary"))
    assert [one[:2] for one in primary.values()] == [one[:2] for one in secondary.values()]
    assert [one[2] for one in primary.values()] != [one[2] for one in secondary.values()]


def test_batches_are_the_cycle_in_whole_frames():
    import loads

    one = loads.cycle(loads.MIXED, "primary", FLOWS)
    batches = list(one.batches(4000))
    assert b"".join(batches) == one.octets
    assert all(len(batch) <= 4000 and split(batch) for batch in batches)


def test_datagrams_differ_from_one_another():
    import loads

    one = loads.cycle(loads.DATAGRAMS, "primary", FLOWS, repeat=3)
    before = split(one.octets)
    one.advance()
    assert len({*before, *split(one.octets)}) == 2 * 3 * FLOWS


# ── the driver ──────────────────────────────────────────────────────────────────────────────────────────────


def driven(traffic, change, cycles=3):
    """What the driver says of a peer that applies `change` to the whole stream of so many cycles."""
    import engine
    import loads

    source_end, peer_in = socket.socketpair()
    peer_out, outlet_end = socket.socketpair()
    one = loads.cycle(traffic, "primary", FLOWS)
    expected = len(one.octets) * cycles

    def peer():
        got = b""
        while len(got) < expected:
            got += peer_in.recv(1 << 16)
        framed = [struct.pack(">I", len(frame)) + frame for frame in change(split(got))]
        peer_out.sendall(b"".join(framed))

    thread = threading.Thread(target=peer)
    thread.start()
    try:
        source, outlet = engine.Source(source_end, one), engine.Outlet(outlet_end, one, traffic)
        begun = [engine.drive([source], [], 0)[1] for _ in range(cycles)]
        assert begun == [1] * cycles
        thread.join()
        outlet.fields.whole_per_cycle *= cycles
        outlet.fields.bare_per_cycle *= cycles
        engine.drive([], [outlet], 0)
    finally:
        thread.join()
        for end in (source_end, peer_in, peer_out, outlet_end):
            end.close()
    return outlet.fields


needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="needs cc: as root, apt-get install gcc libc6-dev")


@needs_cc
@pytest.mark.parametrize("name", ["SMALL", "MIXED", "HALF_ACKS", "LARGE", "CUT", "DATAGRAMS"])
def test_the_driver_finds_nothing_wrong_with_what_it_sent(name):
    import loads

    found = driven(getattr(loads, name), lambda sent: sent)
    assert (found.wrong, found.reordered, found.sum, found.parts) == (0, 0, 0, 0)
    assert found.whole == found.whole_per_cycle
    assert found.bare == found.bare_per_cycle
    assert found.sampled


@needs_cc
def test_the_driver_sees_another_order():
    import loads

    def swapped(sent):
        return [*sent[:1], sent[FLOWS + 1], *sent[2 : FLOWS + 1], sent[1], *sent[FLOWS + 2 :]]

    found = driven(loads.SMALL, swapped)
    assert (found.wrong, found.reordered, found.sum) == (0, 2, 0)


@needs_cc
def test_the_driver_sees_one_for_another():
    import loads

    found = driven(loads.SMALL, lambda sent: [*sent[:-1], sent[0]])
    assert found.sum


@needs_cc
@pytest.mark.parametrize("traffic", ["LARGE", "DATAGRAMS"])
def test_the_driver_sees_changed_bytes_in_what_it_samples(traffic):
    import loads

    found = driven(getattr(loads, traffic), lambda sent: [sent[0][:-1] + bytes([sent[0][-1] ^ 1]), *sent[1:]])
    assert found.wrong == 1


@needs_cc
def test_the_driver_puts_a_split_frame_together():
    import loads

    def halved(sent):
        head, data = sent[3][:54], sent[3][54:]
        seq = struct.unpack_from(">I", head, 38)[0]
        total = struct.unpack_from(">H", head, 16)[0] - len(data)
        pieces = []
        for at in (0, 700):
            piece = data[at : at + 700] if at == 0 else data[at:]
            words = head[:16] + struct.pack(">H", total + len(piece)) + head[18:38]
            pieces.append(words + struct.pack(">I", seq + at) + head[42:] + piece)
        return [*sent[:3], *pieces, *sent[4:]]

    found = driven(loads.LARGE, halved)
    assert (found.wrong, found.reordered, found.sum, found.parts) == (0, 0, 0, 1)
    assert found.whole == found.whole_per_cycle


# ── what is counted ─────────────────────────────────────────────────────────────────────────────────────────


def test_every_row_that_is_counted_runs_and_is_kept():
    import counted

    class Uncounted:
        def during(self, name, work):
            return work()

    kept = json.loads((BENCHMARKS / "instructions.json").read_text())["instructions"]
    rows = counted.rows()
    assert [row.name for row in rows] == list(kept)
    for row in rows:
        assert row.run(row, Uncounted()) >= counted.COUNTED_FRAMES, row.name


# ── what is said ────────────────────────────────────────────────────────────────────────────────────────────


def found_of(peer, rate, **more):
    facts = {"peer": peer, "rates": [rate], "rate": rate, "cpu": [1.0], "cpu_s_per_million": 1e6 / rate}
    return facts | {"is_contended": False, "wrong": "", "reordered": 0} | more


def test_the_table_says_ratios_and_what_was_wrong():
    import report

    peers = [found_of("qemu", 250e3, reordered=4), found_of("relay", 5e6), found_of("colo", 3e6, is_contended=True)]
    rows = [{"key": "compare-64", "title": "small", "flows": 1000, "peers": peers}]
    place = {"at": "today", "processors": 2, "model": "A <B>", "kernel": "6", "python": "3", "qemu": None}
    found = {"machine": place | {"peer_on": 0, "driver_on": 1}, "rounds": 3, "rows": rows, "latency": []}
    text = report.markdown(found)
    assert "| small | 250k | 5.00M | 3.00M* | 12.0 | 60% | - |" in text
    assert "out of their connection's order (small)" in text
    assert report.pictures(found)["rates.svg"].count("<rect") == 6
    peers[2] |= {"rates": [], "rate": 0, "wrong": "3 of 4 frames are missing"}
    text = report.markdown(found)
    assert "| small | 250k | 5.00M | wrong | - | - | - |" in text
    assert "small: colo proxy: 3 of 4 frames are missing" in text
