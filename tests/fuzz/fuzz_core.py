"""Random and damaged frames through the compiled packet path: parser, patches, comparator with its masks, rewriter.

Started by asan.sh, which compiles with AddressSanitizer and UBSan. What is looked for: a read or write outside a buffer
or a column, what C leaves undefined, an exception that is not the announced FramingError, a released frame that the
framing does not accept.
"""

import argparse
import ctypes
import random
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path

from fuzz import noisy
from pycolo import core
from pycolo.errors import FramingError
from pycolo.wire.kinds import PacketKind
from support import segments
from support.segments import Flow, Tcp

FLOWS = [Flow(80, 5000), Flow(80, 5001, 6), Flow(443, 5002, 4, (7,)), Flow(22, 5003, 6, (7, 9)), Flow(0, 0)]
STREAM = random.Random(0).randbytes(1 << 16)
ISN = 2**32 - 20_000
"""Sequence numbers wrap early in each stream."""

SESSION_STEPS_MAX = 400
OUT_BYTES = 1 << 20
SALT = 77
SHORT_US = (0, 0, 1, 1000, 3000, 60_000)
LONG_US = (1_000_000, 4_000_000, 70_000_000, 8_000_000_000)
"""Beyond the scan cycle, the compare timeout, the grace of closed connections, the idle time of all."""
VNET_LENGTHS = (None, 0, 10, 12)
FLAG_LETTERS = ("A", "A", "A", "PA", "FA", "FPA", "S", "SA", "R", "RA", "", "SFRPA")
OPTIONS = (
    b"",
    b"",
    segments.timestamps(1000, 2000),
    b"\1" + segments.timestamps(1, 0)[2:],
    segments.mss(1460) + segments.scale(7) + segments.SACK_PERMITTED + segments.timestamps(1),
    segments.sack(ISN + 5, ISN + 9),
    b"\1" + segments.sack(1, 2, 3, 4)[2:],
    b"\x08\x0a\0\0",
    b"\x05\xff",
)


def exact(octets: bytes) -> memoryview:
    """A writable copy in a heap block of just its size: a byte further is a finding."""
    return memoryview(array("B", octets))


# ── frames ──────────────────────────────────────────────────────────────────────────────────────────────────


def some_segment(rng: random.Random) -> Tcp:
    """Of one of a few connections, near what others of its kind say: the cores get somewhere with it."""
    at = rng.choice([0, 0, 1, 100, 1000, rng.randrange(5000)])
    data = STREAM[at : at + rng.choice([0, 0, 1, 100, 1448, rng.randrange(9000)])]
    if data and rng.random() < 0.05:
        data = b"other" + data[5:]
    seq = ISN + 1 + at if rng.random() < 0.95 else rng.getrandbits(32)
    ack = rng.choice([1, 1, 500, rng.getrandbits(32)])
    window = rng.choice([0, 1, 1000, 65535])
    letters = rng.choice(FLAG_LETTERS)
    if "S" in letters:
        seq, data = ISN, data if rng.random() < 0.1 else b""
    return Tcp(seq, letters, data, ack, window, rng.choice(OPTIONS), rng.choice(FLOWS), rng.random() < 0.3)


def some_datagram(rng: random.Random) -> list[bytes]:
    data = STREAM[: rng.choice([0, 1, 64, 3000])]
    flow = rng.choice(FLOWS)
    kind = rng.randrange(5)
    if kind == 0:
        return [segments.udp(data, flow)]
    if kind == 1:
        return [segments.icmp_echo(data)]
    if kind == 2:
        return [segments.arp()]
    if kind == 3:
        return [segments.ip_packet(rng.choice([0, 2, 33, 47, 50, 51, 132, 136]), data)]
    body = segments.udp_body(STREAM[:4000], flow)
    cuts = sorted({8 * rng.randrange(1, 500) for _ in range(rng.randrange(1, 5))})
    pieces = segments.fragments(17, body, cuts, rng.randrange(3), flow)
    rng.shuffle(pieces)
    return pieces[: rng.randrange(1, len(pieces) + 1)]


def damaged(rng: random.Random, frame: bytes) -> bytes:
    """Headers overwritten, cut off, or noise."""
    octets = bytearray(frame)
    for _ in range(rng.choice([1, 1, 2, 8])):
        if octets:
            octets[rng.randrange(min(len(octets), 100))] = rng.choice([0, 1, 0xFF, rng.randrange(256)])
    how = rng.randrange(6)
    if how == 0:
        del octets[rng.randrange(len(octets) + 1) :]
    elif how == 1:
        octets += rng.randbytes(rng.randrange(40))
    elif how == 2:
        return rng.randbytes(rng.randrange(200))
    return bytes(octets)


def some_frames(rng: random.Random, vnet_len: int | None, damage: float) -> list[bytes]:
    """Frames with their vnet headers."""
    frames = []
    for _ in range(rng.choice([1, 1, 4, 16])):
        vnet = b""
        if vnet_len:
            gso_type = rng.choice([0, 0, 1, 4, 0x81])
            vnet = segments.vnet_header(rng.choice([0, 1]), gso_type, rng.choice([0, 1, 500, 1448]), vnet_len)
        if rng.random() < 0.8:
            made = [segments.frame(some_segment(rng), vnet)]
        else:
            made = [vnet + octets for octets in some_datagram(rng)]
        frames += [damaged(rng, octets) if rng.random() < damage else octets for octets in made]
    return frames


# ── what is done with them ──────────────────────────────────────────────────────────────────────────────────


def parse_and_patch(rng: random.Random, parsed: core.Packet) -> None:
    """Every function of the wire layer, on a buffer that ends where the frame does."""
    vnet_len = rng.choice((0, 10, 12))
    for octets in some_frames(rng, vnet_len, 0.7):
        buf = exact(octets)
        if core.parse_frame(buf, 0, len(octets), vnet_len, parsed) != PacketKind.TCP:
            continue
        delta = rng.getrandbits(33) - 2**32
        core.shift_seq(buf, parsed, delta)
        core.set_ack(buf, parsed, rng.getrandbits(32))
        core.set_window(buf, parsed, rng.getrandbits(16))
        core.shift_sack(buf, parsed, delta)
        core.shift_timestamps(buf, parsed, delta, -delta)
        first, last = sorted(rng.randrange(parsed.payload_len + 1) for _ in range(2))
        part = exact(bytes(parsed.payload_pos + last - first))
        assert core.make_part(part, 0, buf, parsed, first, last) == len(part)
        bare = exact(bytes(parsed.payload_pos + 12))
        bare_len = core.make_bare(bare, 0, buf, parsed, rng.randrange(256), 1, 2, 3)
        for made, length in ((part, len(part)), (bare, bare_len)):
            again = core.Packet()
            assert core.parse_frame(made, 0, length, vnet_len, again) == PacketKind.TCP
            assert (again.kind, again.end) == (PacketKind.TCP, length)


def cut(rng: random.Random, segmenter: core.Segmenter) -> None:
    """Frames that the host has left to be cut, or that only say so."""
    vnet_len = rng.choice((10, 12))
    for octets in some_frames(rng, vnet_len, 0.5):
        gso = bytes([rng.choice([1, 4, 5, 0x81, 0x85, rng.randrange(256)])])
        size = rng.choice([1, 48, 500, 1448, rng.randrange(65536)]).to_bytes(2, "little")
        frame = exact(octets[:1] + gso + octets[2:4] + size + octets[6:])
        for piece in segmenter.segments(frame, rng.choice([vnet_len, vnet_len, 0, 10, 12])) or ():
            segments.unbatch(piece, has_vnet=True)


class Session:
    """A comparator and a rewriter that live for a few hundred batches, with small budgets."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.vnet_len = rng.choice(VNET_LENGTHS)
        self.damage = rng.choice([0.0, 0.1, 0.5])
        self.now_us = rng.getrandbits(40)
        self.steps_left = rng.randrange(SESSION_STEPS_MAX)
        has_vnet = self.vnet_len is not None
        masks = noisy.some_masks(rng) if rng.random() < 0.4 else []
        self.talks = [noisy.Talk(rng, flow, ISN) for flow in FLOWS if flow.guest_port] if masks else []
        self.comparator = core.Comparator(
            rng.getrandbits(32),
            has_vnet,
            masks=masks,
            policy=rng.randrange(4),
            commits_input=rng.random() < 0.8,
            needs_handshake=rng.random() < 0.3,
            queue_packets_max=rng.choice([1, 4, 1024]),
            connections_max=rng.choice([1, 3, 1 << 13, 1 << 13]),
            held_bytes_max=rng.choice([1 << 17, 1 << 20, 1 << 22]),
            held_packets_max=rng.choice([2, 50, 5000]),
        )
        self.rewriter = self.some_rewriter()
        self.saved = exact(b"")
        if rng.random() < 0.8:
            self.open_connections()

    def some_rewriter(self) -> core.Rewriter:
        return core.Rewriter(
            self.rng.getrandbits(32),
            self.vnet_len is not None,
            connections_max=self.rng.choice([1, 3, 1 << 13, 1 << 13]),
            unacked_bytes_max=self.rng.choice([1 << 17, 1 << 22]),
        )

    def open_connections(self) -> None:
        """Handshakes, as both guests and the clients would have them."""
        vnet = segments.vnet_header(size=self.vnet_len or 0)
        options = self.rng.choice(OPTIONS)
        out = exact(bytes(OUT_BYTES))
        for flow in FLOWS:
            client_syn = Tcp(0, "S", options=options, flow=flow, from_client=True)
            syn_ack = Tcp(ISN, "SA", ack=1, options=options, flow=flow)
            secondary_syn_ack = Tcp(self.rng.getrandbits(32), "SA", ack=1, options=options, flow=flow)
            client_ack = Tcp(1, "A", ack=ISN + 1, flow=flow, from_client=True)
            for take, segment in (
                (self.rewriter.client_frames, client_syn),
                (self.rewriter.guest_frames, secondary_syn_ack),
                (self.rewriter.client_frames, client_ack),
            ):
                octets = segments.batch([segments.frame(segment, vnet)], self.vnet_len)
                take(octets, 0, len(octets), self.now_us, out, 0)
            for take in (self.comparator.primary_frames, self.comparator.secondary_frames):
                octets = segments.batch([segments.frame(syn_ack, vnet)], self.vnet_len)
                take(octets, 0, len(octets), self.now_us)

    def batch(self) -> bytes:
        """A batch, whose last frame may be cut off or impossible."""
        octets = bytes(segments.batch(some_frames(self.rng, self.vnet_len, self.damage), self.vnet_len))
        if self.rng.random() < 0.02:
            octets = octets[: self.rng.randrange(len(octets))]
        if self.rng.random() < 0.005:
            octets += b"\xff" * 8
        return octets

    def step(self) -> bool:
        """Whether the session goes on."""
        self.steps_left -= 1
        self.now_us += self.rng.choice(LONG_US if self.rng.random() < 0.03 else SHORT_US)
        try:
            if self.talks and self.rng.random() < 0.9:
                self.compare_talks()
            else:
                self.compare()
            self.rewrite()
        except FramingError:
            return False
        return self.steps_left > 0

    def compare(self) -> None:
        rng, comparator, octets = self.rng, self.comparator, self.batch()
        for take in rng.sample([comparator.primary_frames, comparator.secondary_frames], rng.randrange(1, 3)):
            assert take(exact(octets), 0, len(octets), self.now_us) <= len(octets)
        happening = rng.randrange(40)
        if happening == 0:
            comparator.checkpoint_committed(self.now_us, rng.random() < 0.3)
            comparator.epoch_marker(comparator.epoch)
        elif happening == 1:
            comparator.pair_lost(self.now_us)
        elif happening == 2:
            comparator.pair_formed(self.now_us)
        self.compared()

    def compare_talks(self) -> None:
        """Streams that differ where a mask may say so; a checkpoint, most often, where they differ elsewhere."""
        rng, comparator = self.rng, self.comparator
        vnet = segments.vnet_header(size=self.vnet_len or 0)
        for side in rng.sample([0, 1], 2):
            talk = rng.choice(self.talks)
            frames = [segments.frame(segment, vnet) for segment in talk.segments(side)]
            frames = [damaged(rng, octets) if rng.random() < self.damage / 20 else octets for octets in frames]
            octets = bytes(segments.batch(frames, self.vnet_len))
            take = comparator.secondary_frames if side else comparator.primary_frames
            take(exact(octets), 0, len(octets), self.now_us)
        if rng.random() < 0.2:
            octets = bytes(segments.batch([segments.frame(rng.choice(self.talks).confirmed(), vnet)], self.vnet_len))
            comparator.client_frames(exact(octets), 0, len(octets), self.now_us)
        if self.compared() and rng.random() < 0.8:
            comparator.checkpoint_committed(self.now_us)
            for talk in self.talks:
                talk.made_alike()

    def compared(self) -> int:
        """The commands that the comparator gives, when it has been told of the time; what it releases are frames."""
        due = self.comparator.deadline_us()
        if due is not None and due <= self.now_us:
            self.comparator.timer_fired(self.now_us)
        found = len(self.comparator.commands())
        self.drained(self.comparator.drain)
        return found

    def masked(self) -> int:
        """Differences, so far."""
        return sum(matches for matches, _ in self.comparator.tcp.masks.counts().values())

    def rewrite(self) -> None:
        rng, rewriter, octets = self.rng, self.rewriter, self.batch()
        out = exact(bytes(len(octets)))
        take = rewriter.client_frames if rng.random() < 0.5 else rewriter.guest_frames
        assert take(exact(octets), 0, len(octets), self.now_us, out, 0) <= len(octets)
        self.assert_is_stream(bytes(out[: rewriter.out_end]))
        happening = rng.randrange(60)
        if happening == 0:
            rewriter.checkpoint_committed()
        elif happening == 1:
            rewriter.takeover()
        elif happening == 2:
            rewriter.timer_fired(self.now_us)
        elif happening == 3:
            self.saved = exact(bytes(rewriter.saved.needed_bytes()))
            rewriter.saved.begin(self.saved, SALT)
        elif happening == 4:
            self.restart()
        self.drained(rewriter.drain_guest)
        self.drained(rewriter.drain_client)

    def restart(self) -> None:
        """Another rewriter goes on, with the rows that this one has saved, or what damage has left of them."""
        rng, octets = self.rng, bytearray(self.saved)
        for _ in range(rng.choice([0, 0, 1, 5]) if octets else 0):
            octets[rng.randrange(len(octets))] = rng.getrandbits(8)
        self.rewriter, self.saved = self.some_rewriter(), exact(octets[: rng.choice([len(octets), rng.randrange(999)])])
        self.rewriter.read_rows(self.saved, SALT, self.now_us)

    def drained(self, drain: Callable[[memoryview, int], int]) -> None:
        out = exact(bytes(self.rng.choice([0, 3, 200, OUT_BYTES])))
        self.assert_is_stream(bytes(out[: drain(out, 0)]))

    def assert_is_stream(self, octets: bytes) -> None:
        """Nothing but whole frames."""
        buf, span, pos = bytearray(octets), core.Span(), 0
        while pos < len(buf):
            status = core.frame_at(buf, pos, len(buf), self.vnet_len is not None, span)
            assert status == core.COMPLETE, f"what came out is no stream of frames: status {status} at {pos}"
            pos = span.end


# ── the run ─────────────────────────────────────────────────────────────────────────────────────────────────


def assert_is_sanitized() -> None:
    """A run without AddressSanitizer would find nothing, and say so with a good conscience."""
    assert hasattr(ctypes.CDLL(None), "__asan_region_is_poisoned"), "libasan is not loaded: use tests/fuzz/asan.sh"
    octets = Path(core.__file__).read_bytes()
    for call in (b"__asan_report", b"__ubsan_handle"):
        assert call in octets, f"{core.__file__} is not sanitized: it does not call {call.decode()}…"


def run(rng: random.Random, cases_max: int, seconds_max: float) -> tuple[int, int, int]:
    """Cases and sessions that were run, and the differences that were masked in them."""
    ends, session, sessions, masked = time.monotonic() + seconds_max, Session(rng), 1, 0
    parsed, segmenter = core.Packet(), core.Segmenter()
    for case in range(cases_max):
        if time.monotonic() >= ends:
            return case, sessions, masked
        parse_and_patch(rng, parsed)
        cut(rng, segmenter)
        noisy.read_a_pattern(rng)
        if not session.step():
            masked += session.masked()
            session, sessions = Session(rng), sessions + 1
    return cases_max, sessions, masked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1 << 30, help="stop after so many batches")
    parser.add_argument("--seconds", type=float, default=60, help="stop after so long (default 60)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    options = parser.parse_args()
    assert_is_sanitized()
    sys.stdout.write(f"seed {options.seed}\n")
    sys.stdout.flush()
    cases, sessions, masked = run(random.Random(options.seed), options.cases, options.seconds)
    sys.stdout.write(f"nothing found in {cases} cases, {sessions} sessions; {masked} differences were masked\n")


if __name__ == "__main__":
    main()
