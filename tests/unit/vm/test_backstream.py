"""The reverse direction: every octet is passed on once, in order, and what QEMU never sends is an error."""

import itertools
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.errors import PeerError
from pycolo.vm.backstream import PARTIAL_BYTES_MAX, RETURN_PATH_LENGTHS, BackMessage, BackStream, ColoMessage

QEMU_11 = bytes.fromhex("0002 0004 00000001  0001 0004 00000000  00000000  00000002 00000005 00000006")
"""As QEMU 11.1.3 sent it: PONG, SHUT, READY, and the three messages of a checkpoint."""

CHECKPOINT = (ColoMessage.REPLY, ColoMessage.RECEIVED, ColoMessage.LOADED)

return_path = st.sampled_from(sorted(RETURN_PATH_LENGTHS)).flatmap(
    lambda kind: st.binary(min_size=RETURN_PATH_LENGTHS[kind], max_size=RETURN_PATH_LENGTHS[kind]).map(
        lambda payload: BackMessage(struct.pack(">HH", kind, len(payload)) + payload)
    )
)
words = st.lists(st.sampled_from(CHECKPOINT), max_size=9).map(
    lambda found: [BackMessage(struct.pack(">I", word), word) for word in (ColoMessage.READY, *found)]
)
streams = st.tuples(st.lists(return_path, max_size=4), words).map(lambda parts: [*parts[0], *parts[1]])


def pieces(octets: bytes, cuts: list[int]) -> list[bytes]:
    """`octets`, cut at these places."""
    places = [0, *sorted(cut % (len(octets) + 1) for cut in cuts), len(octets)]
    return [octets[start:end] for start, end in itertools.pairwise(places)]


def read(stream: BackStream, parts: list[bytes]) -> list[BackMessage]:
    return [message for part in parts for message in stream.feed(part)]


@given(streams, st.lists(st.integers(0, 400), max_size=12))
def test_the_pieces_in_which_a_stream_arrives_do_not_matter(sent: list[BackMessage], cuts: list[int]) -> None:
    octets = b"".join(message.octets for message in sent)
    assert read(BackStream(), pieces(octets, cuts)) == sent
    assert read(BackStream(), [octets[at : at + 1] for at in range(len(octets))]) == sent


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=6))
def test_any_octets_are_messages_or_one_error(octets: bytes, cuts: list[int]) -> None:
    outcomes = []
    for parts in ([octets], pieces(octets, cuts)):
        stream, failed = BackStream(), ""
        found: list[BackMessage] = []
        try:
            for part in parts:
                found.extend(stream.feed(part))  # also what precedes the error
        except PeerError as error:
            failed = str(error)
        passed = b"".join(message.octets for message in found)
        assert octets.startswith(passed)
        assert failed or len(octets) - len(passed) <= PARTIAL_BYTES_MAX, "little waits for its rest"
        outcomes.append((found, failed))
    assert outcomes[0] == outcomes[1]


def test_what_precedes_an_error_is_still_heard() -> None:
    heard = []
    with suppress(PeerError):
        for message in BackStream().feed(QEMU_11 + bytes.fromhex("00000099")):
            heard.append(message.word)
    assert heard[-1] is ColoMessage.LOADED


def test_the_streams_of_all_versions_are_read() -> None:
    found = read(BackStream(), [QEMU_11])
    assert [message.word for message in found] == [None, None, ColoMessage.READY, *CHECKPOINT]
    older = read(BackStream(), [QEMU_11[16:]])
    assert [message.word for message in older] == [ColoMessage.READY, *CHECKPOINT]


@pytest.mark.parametrize(
    ("octets", "names"),
    [
        ("0004 000c 000000000000000000001000", "return-path message 0x0004 of 12 bytes at byte 0"),
        ("0002 0005 0000000000", "return-path message 0x0002 of 5 bytes at byte 0"),
        ("ffff ffff", "return-path message 0xffff of 65535 bytes"),
        ("00000002", "COLO message REPLY, READY comes first and once at byte 0"),
        ("00000000 00000000", "COLO message READY, READY comes first and once at byte 4"),
        ("00000000 0002 0004 00000001", "COLO message 0x00020004 at byte 4"),
        ("00000001", "COLO message 0x00000001 at byte 0"),
    ],
)
def test_what_qemu_does_not_send_is_an_error_that_says_what_and_where(octets: str, names: str) -> None:
    with pytest.raises(PeerError, match="unexpected") as caught:
        read(BackStream(), [bytes.fromhex(octets)])
    assert names in str(caught.value)
