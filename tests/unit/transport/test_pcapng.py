"""Captures that other programs read."""

from pathlib import Path

import pytest
from scapy.all import PcapNgReader

from pycolo.errors import ConnectError
from pycolo.transport.pcapng import CaptureFile

FRAME = bytes.fromhex("020000000001020000000002080045") + bytes(30)


def test_what_is_written_is_read_back_with_time_and_comment(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    capture = CaptureFile(path, ["c0 primary_in", "c0 secondary_in"], epoch_offset_us=1_700_000_000_000_000)
    packets = [(0, 5, FRAME, "released, held for 3 µs"), (1, 1_000_007, FRAME[:-3], "discarded"), (0, 9, FRAME, "")]
    for packet in packets:
        capture.packet(*packet)
    capture.close()
    with PcapNgReader(str(path)) as reader:
        read = list(reader)
    assert [bytes(packet) for packet in read] == [frame for _, _, frame, _ in packets]
    assert [int(packet.time * 1_000_000) for packet in read] == [1_700_000_000_000_000 + at for _, at, _, _ in packets]
    assert [(packet.comment or b"").decode() for packet in read] == [comment for _, _, _, comment in packets]
    assert [packet.sniffed_on for packet in read] == ["c0 primary_in", "c0 secondary_in", "c0 primary_in"]


def test_a_full_disk_ends_the_capture_and_says_so() -> None:
    capture = CaptureFile(Path("/dev/full"), ["c0 primary_in"], 0)
    for _ in range(1000):
        capture.packet(0, 0, FRAME, "released")
    capture.flush()
    assert capture.failure.startswith("--pcap /dev/full: No space left on device")
    capture.packet(0, 0, FRAME, "released")
    capture.close()


def test_a_path_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConnectError, match=r"--pcap .*missing/x\.pcapng: No such file or directory"):
        CaptureFile(tmp_path / "missing" / "x.pcapng", [], 0)
