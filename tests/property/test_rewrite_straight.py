"""The straight path gives what the general one gives: the same frames, and the same is known afterwards."""

from itertools import groupby

from hypothesis import given, settings
from hypothesis import strategies as st

from pycolo import core
from support.rewritescripts import ENDS, FLOWS, SCRIPTS, formed
from support.segments import NEEDS_CSUM, Flow, Tcp, batch, frame, sack, timestamps, udp, vnet_header

EXAMPLES = settings(max_examples=400)
OUT_BYTES = 1 << 18
EVENTS = [("wait", 200), ("wait", 70_000), ("wait", 4_000_000), ("commit", None), ("take over", None)]
RARE = ["datagram", "flags", "damaged", "event"]


class Twin:
    """A rewriter that is fed with batches. `room`: of what it writes to; None: it translates in place."""

    def __init__(self, vnet_len, room, connections_max, *, is_straight):
        has_vnet = vnet_len is not None
        self.core = core.Rewriter(1, has_vnet, connections_max, 1 << 20)
        self.core.straight.is_on = is_straight
        self.packets = core
        self.vnet_len = vnet_len
        self.room = room
        self.now_us = 0

    def feed(self, who, frames):
        """What comes out, at once and behind it."""
        take = self.core.client_frames if who == "client" else self.core.guest_frames
        buf, pos, found = batch(frames, self.vnet_len), 0, b""
        while pos < len(buf):
            out = buf if self.room is None else bytearray(self.room)
            before = pos if self.room is None else 0
            pos, start = take(buf, pos, len(buf), self.now_us, out, before), pos
            found += out[before : self.core.out_end]
            if pos == start:
                self.room = OUT_BYTES  # a frame is larger than that
        return found, self.drained()

    def drained(self):
        out = bytearray(OUT_BYTES)
        to_guest = bytes(out[: self.core.drain_guest(out, 0)])
        return to_guest, bytes(out[: self.core.drain_client(out, 0)])

    def play(self, script, vnet):
        """All that can be seen of it."""
        seen = []
        for what, items in groupby(script, key=lambda step: step[0]):
            if what in {"client", "guest"}:
                frames = [octets for _, (form, item) in items for octets in self.frames(form, item, vnet)]
                seen += [self.feed(what, frames), self.known()]
                self.now_us += 1000
                continue
            for _, item in items:
                self.happen(what, item)
            seen += [self.drained(), self.known()]
        self.core.takeover()
        return [*seen, self.drained(), self.known()]

    def frames(self, form, item, vnet):
        return [vnet + udp(b"datagram")] if item is None else formed(form, item, vnet)

    def happen(self, what, item):
        if what == "wait":
            self.now_us += item * 1000
            self.core.timer_fired(self.now_us)
        elif what == "commit":
            self.core.checkpoint_committed()
        else:
            self.core.takeover()

    def known(self):
        stats, copies, table = self.core.stats, self.core.copies, self.core.table
        counters = {name: getattr(stats, name) for name in dir(stats) if not name.startswith("_")}
        offsets = []
        for flow in FLOWS:
            octets, packet = bytearray(frame(Tcp(0, flow=flow))), self.packets.Packet()
            self.packets.parse_frame(octets, 0, len(octets), 0, packet)
            offsets.append(self.core.seq_offset(packet))
        used = copies.pool.used, copies.pool.used_bytes, copies.skipped, table.used, self.core.held.count
        return counters, offsets, used, self.core.neighbours.all(), self.core.export_offsets()


@st.composite
def talks(draw):
    """A connection in the middle of its life: payload, acks, and now and then anything that is not as simple."""
    ends = draw(ENDS)
    flow = draw(st.sampled_from([Flow(), Flow(), Flow(version=6)]))
    has_timestamps = draw(st.booleans())
    sent = {"client": 1, "guest": 1}
    begins = {"client": (ends.client, ends.primary), "guest": (ends.secondary, ends.client)}

    def say(who, flags, data=b"", *, skew=0, ahead=0, echo=0):
        mine, theirs = begins[who]
        other = sent["guest" if who == "client" else "client"]
        at = 0 if "S" in flags else sent[who] + skew
        value = 1000 + sent[who] + 10 * (who == "guest")
        options = timestamps(value, 0 if echo is None else 1000 + other + echo) if has_timestamps else b""
        ack = (theirs + other + ahead) * ("A" in flags)
        sent[who] += 0 if skew or "S" in flags else len(data) + ("F" in flags)
        return who, ("whole", Tcp(mine + at, flags, data, ack, 1000, options, flow, who == "client"))

    script = [say("client", "S"), say("guest", "SA"), say("client", "A"), say("guest", "A")]
    for _ in range(draw(st.integers(1, 20))):
        who = draw(st.sampled_from(["client", "guest"]))
        what = draw(st.sampled_from([*["payload", "ack"] * 3, *["keep-alive", "skewed"] * 2, *RARE]))
        skew, ahead = draw(st.integers(-3, 3)), draw(st.integers(-3, 3))
        data = draw(st.sampled_from([b"x", b"odd", bytes(64), bytes(range(256)) * 5]))
        match what:
            case "payload":
                script.append(say(who, draw(st.sampled_from(["A", "PA"])), data))
            case "ack":
                script.append(say(who, "A", ahead=ahead, echo=draw(st.none() | st.integers(-2, 20))))
            case "keep-alive":
                script.append(say(who, "A", draw(st.sampled_from([b"", b"x"])), skew=-1, ahead=ahead))
            case "skewed":
                script.append(say(who, "PA", data, skew=skew, ahead=ahead))
            case "datagram":
                script.append((who, ("whole", None)))
            case "flags":
                script.append(say(who, draw(st.sampled_from(["FA", "R", "RA", "S", "SA"])), skew=skew))
            case "damaged":
                script.append((who, ("damaged", say(who, "PA", data)[1][1])))
            case _:
                script.append(draw(st.sampled_from(EVENTS)))
    return script


@EXAMPLES
@given(
    script=talks() | SCRIPTS,
    vnet=st.sampled_from(
        [None, b"", vnet_header(size=10), vnet_header(NEEDS_CSUM), vnet_header(2), vnet_header(0, 1, 64)]
    ),
    room=st.sampled_from([None, 100, 500, OUT_BYTES]),
    connections_max=st.sampled_from([2, 64]),
)
def test_both_paths_are_one(script, vnet, room, connections_max):
    vnet_len = None if vnet is None else len(vnet)
    general = Twin(vnet_len, OUT_BYTES, connections_max, is_straight=False).play(script, vnet or b"")
    assert Twin(vnet_len, room, connections_max, is_straight=True).play(script, vnet or b"") == general


def established():
    twin = Twin(None, None, 64, is_straight=True)
    opening = [
        ("client", "S", 700, 0),
        ("guest", "SA", 5000, 701),
        ("client", "A", 701, 101),
        ("guest", "A", 5001, 701),
    ]
    for who, flags, seq, ack in opening:
        twin.feed(who, [frame(Tcp(seq, flags, b"", ack, 1000, from_client=who == "client"))])
    assert twin.core.stats.learned == 1
    assert twin.core.straight.taken == 0
    return twin


def test_what_a_guest_keeps_up_on_the_straight_path_does_not_expire():
    twin = established()
    for _ in range(4):
        twin.happen("wait", 4_000_000)
        twin.feed("guest", [frame(Tcp(5001, "A", b"", 701, 1000))])
    assert twin.core.straight.taken == 4
    assert twin.core.table.used == 1
    twin.happen("wait", 7_500_000)
    assert twin.core.table.used == 0


def test_an_answer_that_tells_the_guests_address_is_left_to_the_general_rules():
    twin = Twin(None, None, 64, is_straight=True)
    guest, client = frame(Tcp(5001, "A", b"", 701, 1000)), frame(Tcp(701, "A", b"", 5001, 1000, from_client=True))
    for who, octets, taken, addresses in [
        ("guest", guest, 0, 0),
        ("guest", guest, 1, 0),
        ("client", client, 2, 0),
        ("guest", guest, 2, 1),
        ("guest", guest, 3, 1),
    ]:
        twin.feed(who, [octets])
        assert (twin.core.straight.taken, len(twin.core.neighbours.all())) == (taken, addresses)


def test_what_takes_the_straight_path():
    """The middle of a connection, and datagrams; neither a handshake nor what has options of another kind."""
    twin = established()
    guest = [Tcp(5001, "PA", b"payload", 701, 1000), Tcp(5008, "A", b"", 701, 1000, timestamps(1, 2))]
    twin.feed("guest", [*map(frame, guest), udp(b"datagram")])
    twin.feed("client", [frame(Tcp(701, "A", b"", 108, 1000, from_client=True))])
    assert twin.core.straight.taken == 4
    for unusual in ("FA", "R"):
        twin.feed("client", [frame(Tcp(701, unusual, b"", 108, 1000, from_client=True))])
    twin.feed("client", [frame(Tcp(701, "A", b"", 108, 1000, sack(110, 112), from_client=True))])
    assert twin.core.straight.taken == 4
