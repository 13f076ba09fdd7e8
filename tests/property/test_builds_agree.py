"""The compiled and the uncompiled hot path do the same, byte for byte: the same sources, but C integers and C arrays.

The unit tests hold both builds to the same laws; here nothing is left open between them.
"""

from hypothesis import given
from hypothesis import strategies as st

from support.frames import parse
from support.strategies import DELTA, SEQ, TCP_FRAMES, U8, U16, VNET_LEN, damaged, tcp_frames_with_vnet

PACKET = "pycolo.wire.packet"
PATCH = "pycolo.wire.patch"
ARENA = "pycolo.storage.arena"
POOL = "pycolo.storage.pool"

ROOM = 1024


def fields(packet):
    return {name: getattr(packet, name) for name in dir(packet) if not name.startswith("_")}


def both(compiled, uncompiled, name):
    return compiled(name), uncompiled(name)


@given(octets=st.lists(st.binary(max_size=150) | damaged(), min_size=1, max_size=4), vnet_len=VNET_LEN)
def test_parsers(compiled, uncompiled, octets, vnet_len):
    """Stale fields too: a core that reads one by mistake would do so in both builds."""
    builds = both(compiled, uncompiled, PACKET)
    packets = [module.Packet() for module in builds]
    for frame in octets:
        for module, packet in zip(builds, packets, strict=True):
            module.parse_frame(bytearray(frame), 0, len(frame), vnet_len, packet)
        assert fields(packets[0]) == fields(packets[1])


@given(framed=tcp_frames_with_vnet(), delta=DELTA, echo_delta=DELTA, ack=SEQ, window=U16)
def test_patches_in_place(compiled, uncompiled, framed, delta, echo_delta, ack, window):
    results = []
    for packet_module, patch in zip(both(compiled, uncompiled, PACKET), both(compiled, uncompiled, PATCH), strict=True):
        parsed = parse(packet_module, *framed)
        patch.shift_seq(parsed.buf, parsed.packet, delta)
        patch.set_ack(parsed.buf, parsed.packet, ack)
        patch.set_window(parsed.buf, parsed.packet, window)
        patch.shift_sack(parsed.buf, parsed.packet, delta)
        patch.shift_timestamps(parsed.buf, parsed.packet, delta, echo_delta)
        results.append((parsed.buf, fields(parsed.packet)))
    assert results[0] == results[1]


@given(frame=TCP_FRAMES | damaged(TCP_FRAMES), flags=U8, seq=SEQ, ack=SEQ, window=U16, data=st.data())
def test_segments_made_anew(compiled, uncompiled, frame, flags, seq, ack, window, data):
    """Of damaged segments too, whose checksums are wrong and whose options are impossible."""
    results, ends = [], None
    for packet_module, patch in zip(both(compiled, uncompiled, PACKET), both(compiled, uncompiled, PATCH), strict=True):
        parsed = parse(packet_module, frame)
        if parsed.kind != 2:
            return
        length = parsed.packet.payload_len
        ends = ends or sorted(data.draw(st.tuples(st.integers(0, length), st.integers(0, length))))
        part, bare = bytearray(ROOM), bytearray(ROOM)
        results.append(
            (
                patch.make_part(part, 5, parsed.buf, parsed.packet, *ends),
                patch.make_bare(bare, 5, parsed.buf, parsed.packet, flags, seq, ack, window),
                part,
                bare,
            )
        )
    assert results[0] == results[1]


STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 140_000)), max_size=40)


@given(budget=st.integers(0, 500_000), steps=STEPS)
def test_arenas_lend_the_same_blocks(compiled, uncompiled, budget, steps):
    arenas = [module.Arena(budget) for module in both(compiled, uncompiled, ARENA)]
    lent = []
    for is_alloc, number in steps:
        if is_alloc:
            positions = {arena.alloc(number) for arena in arenas}
            assert len(positions) == 1
            lent += positions - {-1}
        elif lent:
            pos = lent.pop(number % len(lent))
            for arena in arenas:
                arena.free(pos)
    assert bytes(arenas[0].memory) == bytes(arenas[1].memory)


@given(budget=st.integers(0, 300_000), records_max=st.integers(1, 10), steps=STEPS)
def test_pools_store_the_same_bytes_at_the_same_place(compiled, uncompiled, budget, records_max, steps):
    pools = [module.Pool(budget, records_max) for module in both(compiled, uncompiled, POOL)]
    source = bytearray(bytes(range(256)) * 600)
    lent = []
    for is_store, number in steps:
        if is_store:
            records = {pool.store(source, number % 256, number, 0) for pool in pools}
            assert len(records) == 1
            lent += records - {-1}
        elif lent:
            record = lent.pop(number % len(lent))
            for pool in pools:
                pool.free(record)
    assert bytes(pools[0].arena.memory) == bytes(pools[1].arena.memory)
    assert pools[0].used == pools[1].used == len(lent)
