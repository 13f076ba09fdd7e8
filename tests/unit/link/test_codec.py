"""Laws of the link's codec: any split of the stream gives the same messages, and a refusal is for ever."""

import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo import limits
from pycolo.core import LinkOutlet
from pycolo.errors import LinkError, StateError
from pycolo.link import codec
from pycolo.link.codec import (
    DATA_FROM_PRIMARY,
    HEADER_BYTES,
    Goodbye,
    GoodbyeReason,
    Heartbeat,
    MessageType,
    TakeoverNotice,
)
from pycolo.transport.decoder import Decoder

U64 = st.integers(0, 2**64 - 1)
FRAMES = st.binary(min_size=4, max_size=3000).map(lambda payload: (MessageType.CLIENT_FRAMES, payload))
MARKERS = U64.map(lambda epoch: (MessageType.EPOCH_MARKER, codec.pack_epoch(epoch)))


def decoder(read_bytes=codec.TLS_RECORD_BYTES_MAX):
    return Decoder("data link to b", DATA_FROM_PRIMARY, read_bytes)


def feed(into, octets):
    """All of `octets`, as a socket would give them; what came out, copied before the next read."""
    out = []
    while octets:
        room = into.writable()
        count = min(len(room), len(octets))
        room[:count] = octets[:count]
        into.received(count)
        octets = octets[count:]
        out += [(message_type, bytes(payload)) for message_type, payload in into.messages()]
    return out


@given(
    messages=st.lists(FRAMES | MARKERS, max_size=30),
    cuts=st.lists(st.integers(1, 5000), min_size=1, max_size=20),
)
def test_any_split_of_the_stream_gives_the_same_messages(messages, cuts):
    stream = b"".join(codec.message(*message) for message in messages)
    into, out, at, turn = decoder(), [], 0, 0
    while at < len(stream):
        cut = cuts[turn % len(cuts)]
        out += feed(into, stream[at : at + cut])
        at, turn = at + cut, turn + 1
    assert out == messages
    assert into.buffered_bytes == 0


def test_byte_by_byte_is_the_same_too():
    messages = [(MessageType.EPOCH_MARKER, bytes(8)), (MessageType.CLIENT_FRAMES, b"abcdef")]
    stream = b"".join(codec.message(*message) for message in messages)
    into = decoder()
    assert [out for at in range(len(stream)) for out in feed(into, stream[at : at + 1])] == messages


def test_the_largest_messages_pass_again_and_again_without_the_buffer_growing():
    into = decoder(limits.BATCH_BYTES)
    size_before = len(into.writable())
    for turn in range(8):
        payload = bytes([turn]) * limits.LINK_MESSAGE_BYTES_MAX
        # One odd byte of the next message in each read keeps the decoder from ever being empty.
        stream = codec.message(MessageType.CLIENT_FRAMES, payload)
        assert feed(into, stream) == [(MessageType.CLIENT_FRAMES, payload)]
    assert len(into.writable()) == size_before


@given(st.lists(st.integers(4, 40_000), min_size=1, max_size=40), st.integers(1, 60_000))
def test_there_is_always_room_for_a_whole_tls_record(sizes, step):
    into = decoder()
    stream = b"".join(codec.message(MessageType.CLIENT_FRAMES, bytes(size)) for size in sizes)
    at = 0
    while at < len(stream):
        room = into.writable()
        assert len(room) >= into.read_bytes
        count = min(len(room), step, len(stream) - at)
        room[:count] = stream[at : at + count]
        into.received(count)
        at += count
        for _ in into.messages():
            pass


def test_a_decoder_whose_messages_are_not_taken_says_so_instead_of_looking_like_an_end():
    into = decoder()
    into.received(len(into.writable()))
    with pytest.raises(StateError, match="data link to b"):
        into.writable()


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (struct.pack(">IBBH", 4, 99, 0, 0), "unknown type 99"),
        (struct.pack(">IBBH", 4, MessageType.HEARTBEAT, 0, 0), "HEARTBEAT, which is not allowed here"),
        (struct.pack(">IBBH", 4, MessageType.CLIENT_FRAMES, 1, 0), "flags 0x1"),
        (struct.pack(">IBBH", 4, MessageType.CLIENT_FRAMES, 0, 7), "reserved bits 0x7"),
        (struct.pack(">IBBH", 3, MessageType.CLIENT_FRAMES, 0, 0), "has 3 bytes"),
        (struct.pack(">IBBH", 9, MessageType.EPOCH_MARKER, 0, 0), "must be 8 to 8"),
        (
            struct.pack(">IBBH", limits.LINK_MESSAGE_BYTES_MAX + 1, MessageType.CLIENT_FRAMES, 0, 0),
            f"must be 4 to {limits.LINK_MESSAGE_BYTES_MAX}",
        ),
        (b"GET / HTTP/1.1\r\n\r\n", "data link to b: message at byte 16"),
    ],
)
def test_a_bad_header_is_refused_by_name_and_for_ever(octets, text):
    into = decoder()
    good = codec.message(MessageType.EPOCH_MARKER, codec.pack_epoch(5))
    assert feed(into, good) == [(MessageType.EPOCH_MARKER, good[HEADER_BYTES:])]
    with pytest.raises(LinkError, match="data link to b: message at byte 16") as first:
        feed(into, octets)
    assert text in str(first.value)
    assert "\n" not in str(first.value)
    for again in (into.writable, lambda: list(into.messages())):
        with pytest.raises(LinkError) as later:
            again()
        assert later.value is first.value


def test_messages_before_a_bad_header_come_out():
    into = decoder()
    octets = codec.message(MessageType.EPOCH_MARKER, codec.pack_epoch(5)) + b"\xff" * 8
    into.writable()[: len(octets)] = octets
    into.received(len(octets))
    messages = into.messages()
    assert next(messages)[0] is MessageType.EPOCH_MARKER
    with pytest.raises(LinkError):
        next(messages)


@given(st.binary(max_size=4000))
def test_any_bytes_give_messages_or_one_refusal(octets):
    into = decoder()
    try:
        feed(into, octets)
    except LinkError as error:
        refusal = str(error)
    else:
        refusal = "data link to b: none"
    assert refusal.startswith("data link to b: ")


@given(
    octets=st.binary(min_size=8, max_size=8)
    | st.builds(struct.Struct(">IBBH").pack, st.integers(0, 400_000), st.just(16), st.just(0), st.just(0))
)
def test_both_readers_of_headers_agree(octets):
    into = decoder()
    into.writable()[:8] = octets
    into.received(8)
    answers = []
    for read in (
        lambda: codec.parse_header(octets, 0, DATA_FROM_PRIMARY, "data link to b", 0),
        lambda: list(into.messages()),
    ):
        try:
            read()
            answers.append("accepted")
        except LinkError as error:
            answers.append(str(error))
    assert answers[0] == answers[1]


@given(
    st.sampled_from(MessageType),
    st.lists(st.binary(max_size=50), max_size=3),
)
def test_the_three_ways_to_write_a_message_agree(message_type, parts):
    outlet = LinkOutlet(memoryview(bytearray(1000)), 100)
    assert outlet.queue(message_type, *parts)
    payload = b"".join(parts)
    assert outlet.view[: outlet.tail] == codec.message(message_type, payload)
    assert codec.message(message_type, payload) == codec.header(message_type, len(payload)) + payload


@given(st.lists(st.integers(0, 300), max_size=60), st.lists(st.integers(1, 400), min_size=1, max_size=10))
def test_what_was_queued_leaves_in_order_whatever_is_taken_of_it(lengths, takes):
    """Through a buffer that is moved to the front again and again; what has no room is refused, and nothing else."""
    outlet = LinkOutlet(memoryview(bytearray(1000)), 100)
    queued, left = b"", b""
    for number, length in enumerate(lengths):
        payload = bytes([number]) * length
        unsent = outlet.tail - outlet.head
        assert outlet.can_queue == (unsent < 100)
        assert outlet.queue(MessageType.CLIENT_FRAMES, payload) == (unsent + HEADER_BYTES + length <= 500)
        if unsent + HEADER_BYTES + length <= 500:
            queued += codec.message(MessageType.CLIENT_FRAMES, payload)
        until = min(outlet.tail, outlet.head + takes[number % len(takes)])
        left += bytes(outlet.view[outlet.head : until])
        outlet.head = until
    assert left + bytes(outlet.view[outlet.head : outlet.tail]) == queued


@given(U64, U64, U64, U64)
def test_payloads_survive_the_wire(a, b, c, d):
    heartbeat = Heartbeat(a, b, c, d)
    assert Heartbeat.unpack(memoryview(heartbeat.pack())) == heartbeat
    assert TakeoverNotice.unpack(TakeoverNotice(a, b).pack()) == TakeoverNotice(a, b)
    assert codec.unpack_epoch(codec.pack_epoch(a)) == a


@given(st.integers(0, 2**64 - 1), st.integers(0, 3 * limits.BATCH_BYTES))
def test_a_table_of_offsets_survives_in_pieces(epoch, size):
    table = bytes(size)
    payloads = list(codec.offsets_payloads(epoch, table))
    assembly = codec.OffsetsAssembly("data link to b")
    found = [assembly.add(memoryview(payload)) for payload in payloads]
    assert found == [None] * (len(payloads) - 1) + [(epoch, table)]
    assert max(map(len, payloads)) <= codec.payload_bytes_max({MessageType.OFFSETS})


@given(st.lists(st.binary(min_size=16, max_size=40), max_size=5))
def test_pieces_that_do_not_fit_are_refused(payloads):
    assembly = codec.OffsetsAssembly("data link to b")
    refusal = "data link to b"
    for payload in payloads:
        try:
            assembly.add(payload)
        except LinkError as error:
            refusal = str(error)
    assert refusal.startswith("data link to b")
    assert "\n" not in refusal


def test_a_new_table_ends_one_that_is_not_whole():
    first, second = codec.offsets_payloads(1, bytes(limits.BATCH_BYTES + 1))
    assembly = codec.OffsetsAssembly("data link to b")
    assert assembly.add(first) is None
    assert assembly.add(next(codec.offsets_payloads(2, b"xy"))) == (2, b"xy")
    with pytest.raises(LinkError, match="do not fit"):
        assembly.add(second)


@given(st.sampled_from(GoodbyeReason), st.text(max_size=2000))
def test_a_goodbye_is_bounded_and_one_printable_line(reason, text):
    payload = Goodbye(reason, text).pack()
    assert len(payload) <= 1 + codec.TEXT_BYTES_MAX
    found = Goodbye.unpack(payload)
    assert found.reason is reason
    assert found.text.isprintable()
    assert "".join(c if c.isprintable() else "?" for c in text).startswith(found.text)


@given(st.binary(min_size=1, max_size=100))
def test_whatever_a_goodbye_holds_it_is_one(payload):
    assert Goodbye.unpack(payload).text.isprintable()


@given(
    st.lists(
        st.builds(
            codec.Rounds,
            st.integers(0, 65_535),
            st.integers(0, limits.ORDERED_WIDTH_MAX),
            st.integers(0, (1 << 32) - 1),
        ),
        max_size=limits.ORDERED_PORTS_MAX,
    )
)
def test_rounds_are_read_as_they_were_written(rounds):
    assert codec.unpack_rounds(codec.pack_rounds(rounds), "x") == rounds


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (bytes(9), "x: ROUNDS has 9 bytes, no multiple of 8; link closed"),
        (codec.pack_rounds([codec.Rounds(80, 65, 1)]), "x: ROUNDS gives 65 requests of port 80 at once; link closed"),
    ],
)
def test_rounds_that_no_node_sends_are_refused(payload, error):
    with pytest.raises(LinkError, match=re.escape(error)):
        codec.unpack_rounds(payload, "x")
