"""What `--pcap` says of each packet."""

from pathlib import Path

from scapy.all import PcapNgReader

from pycolo.compare.kinds import DivergencePolicy, PacketFate
from pycolo.compare.trace import TracedPacket
from pycolo.core import Comparator
from pycolo.proxy.capture import Capture, comment_on
from support.segments import Tcp, batch, frame, udp


def comments(path: Path) -> list[str]:
    with PcapNgReader(str(path)) as reader:
        return [packet.comment.decode() for packet in reader]


def test_every_packet_has_its_fate_as_a_comment(tmp_path: Path) -> None:
    comparator = Comparator(1, policy=DivergencePolicy.HOLD)
    comparator.held.trace.start(1 << 20)
    capture = Capture(tmp_path / "x.pcapng", ["c0"])
    equal, mine, theirs = udp(b"equal"), frame(Tcp(1, data=b"abcd")), frame(Tcp(1, data=b"abXd"))
    for at_us, give, frames in (
        (10, comparator.primary_frames, batch([equal])),
        (25, comparator.secondary_frames, batch([equal])),
        (30, comparator.primary_frames, batch([mine])),
        (40, comparator.secondary_frames, batch([theirs])),
    ):
        assert give(frames, 0, len(frames), at_us) == len(frames)
    assert capture.take("c0", comparator) == ""
    comparator.held.trace_held(100)
    capture.take("c0", comparator)
    capture.close()
    found = comments(tmp_path / "x.pcapng")
    assert sorted(found[:2]) == ["discarded", "released, held for 15 µs"]
    assert found[2:4] == ["differs at byte 2", "differs at byte 2"]
    assert found[4:] == ["still held at the end, for 70 µs so far", "still held at the end, for 60 µs so far"]


def test_a_trace_that_is_off_costs_and_gives_nothing() -> None:
    comparator = Comparator(1)
    frames = batch([udp(b"x")])
    comparator.primary_frames(frames, 0, len(frames), 0)
    comparator.secondary_frames(frames, 0, len(frames), 0)
    assert comparator.held.trace.take() == []


def test_every_fate_has_words() -> None:
    words = [comment_on(TracedPacket(0, fate, 0, 7, b"")) for fate in PacketFate]
    assert len(set(words)) == len(PacketFate)
