"""Frames on a stream: however the bytes arrive, the same frames are found, and nothing impossible is believed."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo import core, limits
from support.frames import framed

OCTETS = st.binary(max_size=60)
VNET_WORD = st.sampled_from(limits.VNET_HEADER_BYTES)


@st.composite
def streams(draw):
    """(has_vnet, [(vnet_len, octets)])"""
    has_vnet = draw(st.booleans())
    return has_vnet, draw(st.lists(st.tuples(VNET_WORD if has_vnet else st.just(0), OCTETS), max_size=6))


def on_stream(has_vnet, frames):
    return b"".join(framed(octets, vnet_len if has_vnet else None) for vnet_len, octets in frames)


def found_in(buf, end, has_vnet, pos=0):
    """The frames that are complete, the position behind them, and what stopped the search."""
    span, frames = core.Span(), []
    while (status := core.frame_at(buf, pos, end, has_vnet, span)) == core.COMPLETE:
        assert pos < span.start <= span.end <= end
        frames.append((span.vnet_len, bytes(buf[span.start : span.end])))
        pos = span.end
    return frames, pos, status


@given(stream=streams(), before=st.binary(max_size=5), trailing=st.binary(max_size=3))
def test_whole(stream, before, trailing):
    """A stream anywhere in a buffer, behind it too few bytes for a length word."""
    has_vnet, frames = stream
    octets = on_stream(has_vnet, frames)
    buf = bytearray(before + octets + trailing)
    assert found_in(buf, len(buf), has_vnet, len(before)) == (
        frames,
        len(before) + len(octets),
        core.INCOMPLETE,
    )


@given(stream=streams())
def test_byte_by_byte_is_the_same_as_whole(stream):
    has_vnet, frames = stream
    buf = bytearray(on_stream(has_vnet, frames))
    seen, pos = [], 0
    for end in range(len(buf) + 1):
        more, pos, status = found_in(buf, end, has_vnet, pos)
        assert status == core.INCOMPLETE
        seen += more
    assert (seen, pos) == (frames, len(buf))


@given(stream=streams(), after=st.binary(max_size=40))
def test_what_follows_changes_nothing_about_the_frames_before(stream, after):
    has_vnet, frames = stream
    octets = on_stream(has_vnet, frames)
    buf = bytearray(octets + after)
    assert found_in(buf, len(buf), has_vnet)[0][: len(frames)] == frames
    assert found_in(buf, len(octets), has_vnet)[0] == frames


@given(octets=OCTETS, vnet_len=VNET_WORD, has_vnet=st.booleans(), data=st.data())
def test_every_truncation_is_incomplete(octets, vnet_len, has_vnet, data):
    buf = bytearray(framed(octets, vnet_len if has_vnet else None))
    end = data.draw(st.integers(0, len(buf) - 1))
    assert core.frame_at(buf, 0, end, has_vnet, core.Span()) == core.INCOMPLETE


# ── impossible words ────────────────────────────────────────────────────────────────────────────────────────

IMPOSSIBLE_LENGTH = st.integers(limits.STREAM_LENGTH_BYTES_MAX + 1, 2**32 - 1)


@given(length=IMPOSSIBLE_LENGTH, has_vnet=st.booleans(), after=st.binary(max_size=20))
def test_an_impossible_length_is_refused_as_soon_as_its_word_is_there(length, has_vnet, after):
    """Without the vnet word too: waiting for a frame that cannot be would be waiting for ever."""
    buf, span = bytearray(struct.pack(">I", length) + after), core.Span()
    for end in range(len(buf) + 1):
        expected = core.INCOMPLETE if end < 4 else core.IMPOSSIBLE
        assert core.frame_at(buf, 0, end, has_vnet, span) == expected
    assert span.word == length


@given(word=st.integers(0, 2**32 - 1).filter(lambda word: word not in limits.VNET_HEADER_BYTES), octets=OCTETS)
def test_a_vnet_header_that_no_device_has_is_refused(word, octets):
    buf, span = bytearray(framed(octets, word)), core.Span()
    assert core.frame_at(buf, 0, 7, True, span) == core.INCOMPLETE
    assert core.frame_at(buf, 0, len(buf), True, span) == core.IMPOSSIBLE
    assert span.word == word


def test_a_span_that_knew_a_vnet_header_forgets_it():
    span = core.Span()
    with_vnet, without = bytearray(framed(bytes(20), 12)), bytearray(framed(bytes(20)))
    assert core.frame_at(with_vnet, 0, len(with_vnet), True, span) == core.COMPLETE
    assert span.vnet_len == 12
    assert core.frame_at(without, 0, len(without), False, span) == core.COMPLETE
    assert span.vnet_len == 0


@pytest.mark.parametrize("has_vnet", [False, True])
def test_the_largest_length_is_possible(has_vnet):
    octets = bytes(limits.STREAM_LENGTH_BYTES_MAX)
    buf, span = bytearray(framed(octets, 12 if has_vnet else None)), core.Span()
    assert core.frame_at(buf, 0, len(buf), has_vnet, span) == core.COMPLETE
    assert span.end - span.start == limits.STREAM_LENGTH_BYTES_MAX


def test_an_end_outside_the_buffer_is_a_bug_of_the_caller():
    with pytest.raises(IndexError):
        core.frame_at(bytearray(2), 0, 8, False, core.Span())
