"""QEMU's order of execution: what each filter sees, and where frames end up."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.errors import ConnectError
from pycolo.proxy.chain import Chain, DumpFile, Filter, Sink
from pycolo.proxy.objects import MIRROR, REDIRECTOR, Direction, FilterSpec
from support.frames import framed

BOTH = tuple(Direction)
FRAME = framed(b"frame")


class Taker:
    """A port that takes everything, or nothing while it is `full`."""

    vnet_len = 0
    name = "taker"

    def __init__(self) -> None:
        self.octets = b""
        self.full = False

    def write_batch(self, buf: bytearray, pos: int, end: int) -> int:
        if self.full:
            return pos
        self.octets += bytes(buf[pos:end])
        return end


def sink() -> Sink:
    return Sink(Taker())  # type: ignore[arg-type]


def taken(where: Sink) -> bytes:
    return where.port.octets  # type: ignore[attr-defined]


def stage(kind: str, directions: tuple[Direction, ...] = BOTH, has_outdev: bool = True, is_on: bool = True) -> Filter:
    return Filter(FilterSpec("f", kind, "n", directions, is_on, {}, False), sink() if has_outdev else None)


def run(way: Iterator[Sink]) -> bool:
    """Let a batch go as far as the sinks take it; whether it arrived."""
    return all(waiting.batch.write_to(waiting.port) for waiting in way)


def outputs(chain: Chain) -> list[bytes]:
    return [taken(one.outdev) for one in chain.filters if one.outdev is not None]


def test_a_mirror_copies_and_a_redirector_takes_out():
    chain = Chain([stage(MIRROR), stage(REDIRECTOR), stage(MIRROR)], sink(), False)
    assert run(chain.from_device(bytearray(FRAME), 0, len(FRAME)))
    assert outputs(chain) == [FRAME, FRAME, b""]
    assert chain.no_guest_bytes == 0


def test_the_end_of_tx_is_where_the_guest_would_be():
    chain = Chain([stage(MIRROR), stage(MIRROR, (Direction.RX,))], sink(), False)
    assert run(chain.from_device(bytearray(FRAME), 0, len(FRAME)))
    assert outputs(chain) == [FRAME, b""]
    assert chain.no_guest_bytes == len(FRAME)
    assert taken(chain.device) == b""


def test_injected_tx_frames_go_on_behind_and_rx_frames_before():
    injector = stage(REDIRECTOR, (Direction.TX,), has_outdev=False)
    chain = Chain([stage(MIRROR), injector, stage(MIRROR)], sink(), False)
    assert run(chain.injected(1, bytearray(FRAME), 0, len(FRAME)))
    assert outputs(chain) == [b"", FRAME]

    injector = stage(REDIRECTOR, (Direction.RX,), has_outdev=False)
    chain = Chain([stage(MIRROR), injector, stage(MIRROR)], sink(), False)
    assert run(chain.injected(1, bytearray(FRAME), 0, len(FRAME)))
    assert outputs(chain) == [FRAME, b""]
    assert taken(chain.device) == FRAME


def test_injected_frames_of_queue_all_go_both_ways():
    chain = Chain([stage(MIRROR), stage(REDIRECTOR, has_outdev=False), stage(MIRROR)], sink(), False)
    assert run(chain.injected(1, bytearray(FRAME), 0, len(FRAME)))
    assert outputs(chain) == [FRAME, FRAME]
    assert taken(chain.device) == FRAME
    assert chain.no_guest_bytes == len(FRAME)


def test_a_filter_that_is_off_is_passed_over():
    chain = Chain([stage(REDIRECTOR, is_on=False), stage(MIRROR)], sink(), False)
    assert run(chain.from_device(bytearray(FRAME), 0, len(FRAME)))
    assert outputs(chain) == [b"", FRAME]


def test_a_full_outdev_holds_the_batch_up_and_nothing_is_lost_or_mixed():
    first, second = stage(MIRROR), stage(MIRROR)
    chain = Chain([first, second], sink(), False)
    assert second.outdev is not None
    second.outdev.port.full = True  # type: ignore[attr-defined]
    ways = [chain.from_device(bytearray(framed(b"%d" % number)), 0, 5) for number in range(3)]
    arrived = [run(way) for way in ways]
    assert arrived == [False, False, False]
    second.outdev.port.full = False  # type: ignore[attr-defined]
    assert [run(way) for way in ways] == [True, True, True]
    assert second.outdev.batch.write_to(second.outdev.port)
    assert taken(second.outdev) == b"".join(framed(b"%d" % number) for number in range(3))


@given(st.lists(st.tuples(st.sampled_from([0, 10, 12]), st.binary(max_size=40)), max_size=6))
def test_the_device_gets_vnet_headers_of_its_own_length(frames: list[tuple[int, bytes]]):
    chain = Chain([stage(REDIRECTOR, (Direction.RX,), has_outdev=False)], sink(), True)
    header = bytes(range(1, 13))
    octets = b"".join(framed(header[:length] + payload, length) for length, payload in frames)
    assert run(chain.injected(0, bytearray(octets), 0, len(octets)))
    expected = [(header[: min(length, 10)].ljust(10, b"\0") + payload) for length, payload in frames]
    assert taken(chain.device) == b"".join(framed(one, 10) for one in expected)


def test_headers_that_make_a_batch_longer_than_a_sink_cost_no_frame():
    chain = Chain([stage(REDIRECTOR, (Direction.RX,), has_outdev=False)], sink(), True)
    count = 40_000
    octets = framed(b"", 0) * count
    assert run(chain.injected(0, bytearray(octets), 0, len(octets)))
    assert taken(chain.device) == framed(bytes(10), 10) * count


def test_a_dump_has_the_frames_without_vnet_headers(tmp_path: Path):
    path = tmp_path / "dump"
    dump = DumpFile(os.fspath(path), 4, "d")
    octets = framed(bytes(10) + b"abcdef", 10) + framed(bytes(12) + b"xy", 12)
    dump.write(bytearray(octets), 0, len(octets), True)
    dump.close()
    dump.write(bytearray(octets), 0, len(octets), True)
    found = path.read_bytes()
    assert struct.unpack_from("=IHH", found) == (0xA1B23C4D, 2, 4)
    assert struct.unpack_from("=II", found, 24 + 8) == (4, 6)
    assert found[40:44] == b"abcd"
    assert struct.unpack_from("=II", found, 44 + 8) == (2, 2)
    assert found[60:] == b"xy"


def test_a_dump_that_cannot_be_written(tmp_path: Path):
    with pytest.raises(ConnectError, match="d: cannot write"):
        DumpFile(os.fspath(tmp_path / "none" / "dump"), 4, "d")
