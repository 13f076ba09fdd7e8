"""Captures: what scapy writes is read, what is written scapy reads; damage is a typed error and nothing else."""

import io
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.all import PcapNgReader, RawPcapReader, RawPcapWriter
from scapy.layers.l2 import Ether
from scapy.utils import wrpcapng

from pycolo import frames
from pycolo.errors import ConnectError, WireError
from pycolo.frames import CapturedFrame
from pycolo.wire.capture import captured_frames

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
FRAMES = st.lists(
    st.builds(
        CapturedFrame,
        octets=st.binary(max_size=90),
        at_us=st.integers(0, (1 << 32) * 1_000_000 - 1),
        interface=TEXT,
        comment=TEXT,
        missing_bytes=st.sampled_from([0, 0, 7]),
    ),
    max_size=6,
)


def read(octets: bytes) -> list[CapturedFrame]:
    return list(captured_frames(io.BytesIO(octets).read, "x"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("captures")


@given(given_frames=FRAMES)
def test_what_is_written_is_read_back(folder: Path, given_frames: list[CapturedFrame]) -> None:
    assert frames.write(folder / "x.pcapng", given_frames) == len(given_frames)
    assert list(frames.read(folder / "x.pcapng")) == given_frames
    assert frames.write(str(folder / "x.pcap"), given_frames) == len(given_frames)
    bare = [CapturedFrame(each.octets, each.at_us, missing_bytes=each.missing_bytes) for each in given_frames]
    assert list(frames.read(str(folder / "x.pcap"))) == bare


@given(given_frames=FRAMES.map(lambda found: [each for each in found if each.octets]).filter(len))
def test_scapy_reads_what_is_written(folder: Path, given_frames: list[CapturedFrame]) -> None:
    for name in ("s.pcapng", "s.pcap"):
        frames.write(folder / name, given_frames)
        with RawPcapReader(str(folder / name)) as reader:
            assert [octets for octets, _ in reader] == [each.octets for each in given_frames]
    with PcapNgReader(str(folder / "s.pcapng")) as reader:
        noted = [((packet.comment or b"").decode(), packet.sniffed_on or "") for packet in reader]
    assert noted == [(each.comment, each.interface) for each in given_frames]


@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_pcap_of_either_byte_order_and_resolution_is_read(tmp_path: Path, endianness: str, nano: bool) -> None:
    with RawPcapWriter(str(tmp_path / "x"), linktype=1, endianness=endianness, nano=nano) as writer:
        writer.write_header(None)
        writer.write_packet(b"abc", sec=7, usec=5000 if nano else 5)
    assert list(frames.read(tmp_path / "x")) == [CapturedFrame(b"abc", 7_000_005)]


def test_pcapng_of_scapy_is_read(tmp_path: Path) -> None:
    packet = Ether(bytes(range(60)))
    packet.time = 7.000005
    wrpcapng(str(tmp_path / "x"), [packet])
    assert [(each.octets, each.at_us) for each in frames.read(tmp_path / "x")] == [(bytes(range(60)), 7_000_005)]


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack(f"{order}II", kind, len(body) + 12) + body + struct.pack(f"{order}I", len(body) + 12)


def section(order: str, *blocks: bytes) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1)) + b"".join(blocks)


def interface(order: str, options: bytes = b"", link_type: int = 1, snap: int = 0) -> bytes:
    return block(order, 1, struct.pack(f"{order}HHI", link_type, 0, snap) + options)


def option(order: str, code: int, octets: bytes) -> bytes:
    return struct.pack(f"{order}HH", code, len(octets)) + octets + bytes(-len(octets) % 4)


@pytest.mark.parametrize("order", ["<", ">"])
def test_resolution_offset_and_every_kind_of_packet_block(order: str) -> None:
    """draft-ietf-opsawg-pcapng: if_tsresol in powers of ten and of two, if_tsoffset, simple and obsolete blocks."""
    stamp = struct.pack(f"{order}II", 0, 3 << 10)
    powers_of_two = option(order, 9, b"\x8a") + option(order, 14, struct.pack(f"{order}q", 100))
    octets = section(
        order,
        interface(order, option(order, 9, b"\3")),
        interface(order, powers_of_two),
        block(order, 0x77, b"of a kind that is not known"),
        block(order, 6, struct.pack(f"{order}I", 0) + stamp + struct.pack(f"{order}II", 3, 3) + b"abc"),
        block(order, 6, struct.pack(f"{order}I", 1) + stamp + struct.pack(f"{order}II", 3, 5) + b"abc"),
        block(order, 2, struct.pack(f"{order}HH", 1, 0) + stamp + struct.pack(f"{order}II", 3, 3) + b"def"),
        block(order, 3, struct.pack(f"{order}I", 3) + b"ghi"),
    )
    assert read(octets) == [
        CapturedFrame(b"abc", 3_072_000),
        CapturedFrame(b"abc", 103_000_000, missing_bytes=2),
        CapturedFrame(b"def", 103_000_000),
        CapturedFrame(b"ghi", 0),
    ]


def test_each_section_has_its_own_byte_order_and_interfaces() -> None:
    packet = {order: block(order, 6, struct.pack(f"{order}IIIII", 0, 0, 9, 3, 3) + b"abc") for order in ("<", ">")}
    octets = b"".join(
        section(order, interface(order, option(order, 2, order.encode())), packet[order]) for order in ("<", ">")
    )
    assert [each.interface for each in read(octets)] == ["<", ">"]
    with pytest.raises(WireError, match="a packet of interface 0, which has no description block"):
        read(section("<", interface("<")) + section("<", packet["<"]))


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"", "x: truncated at byte 0"),
        (b"GIF89a", "x is neither pcap nor pcapng: unsupported at byte 0"),
        (struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 9, 113), "x: link type 113 is not Ethernet"),
        (struct.pack("<IHHiIIIIIII", 0xA1B2C3D4, 2, 4, 0, 0, 9, 1, 0, 0, 1 << 30, 0), "a frame of 1073741824 bytes"),
        (struct.pack("<IHHiIIIIIII", 0xA1B2C3D4, 2, 4, 0, 0, 9, 1, 0, 0, 8, 8) + b"half", "x: truncated at byte 44"),
        (section("<") + struct.pack("<II", 6, 1 << 30), "a block of 1073741824 bytes"),
        (section("<", interface("<"))[:-4] + bytes(4), "a block whose two lengths differ"),
        (section("<", block("<", 1, b"")), "a block without all of its fields"),
        (section("<", interface("<"), block("<", 6, bytes(12) + struct.pack("<II", 9, 9))), "longer than its block"),
        (section("<", interface("<", link_type=113), block("<", 3, bytes(4))), "interface 0 is not Ethernet"),
        (b"\x0a\x0d\x0d\x0a" + bytes(20), "a section without a byte order"),
    ],
)
def test_what_is_no_capture_is_one_line(octets: bytes, said: str) -> None:
    with pytest.raises(WireError) as error:
        read(octets)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


SOUND = (
    section(
        "<", interface("<", option("<", 2, b"vnet0")), block("<", 6, struct.pack("<IIIII", 0, 0, 9, 3, 3) + b"abc")
    ),
    struct.pack("<IHHiIIIIIII", 0xA1B2C3D4, 2, 4, 0, 0, 9, 1, 7, 7, 3, 3) + b"abc",
)


@given(sound=st.sampled_from(SOUND), where=st.integers(0, 150), what=st.binary(max_size=6), cut=st.integers(0, 160))
def test_damage_is_a_typed_error_and_nothing_else(sound: bytes, where: int, what: bytes, cut: int) -> None:
    try:
        read((sound[:where] + what + sound[where + len(what) :])[: cut or None])
    except WireError:
        pass


def test_what_comes_before_the_damage_is_read() -> None:
    found = captured_frames(io.BytesIO(SOUND[1] + b"half a head").read, "x")
    assert next(found).octets == b"abc"
    with pytest.raises(WireError, match="truncated"):
        next(found)


def test_a_file_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConnectError, match=r"missing\.pcap: No such file or directory"):
        list(frames.read(tmp_path / "missing.pcap"))
    with pytest.raises(ConnectError, match=r"/dev/full: No space left on device"):
        frames.write("/dev/full", [CapturedFrame(bytes(100), 0)] * 1000)


# ── what else `frames` does ─────────────────────────────────────────────────────────────────────────────────


@given(given_frames=st.lists(st.binary(max_size=40)), vnet=st.sampled_from([None, 0, 10, 12]))
def test_a_batch_is_its_frames(given_frames: list[bytes], vnet: int | None) -> None:
    headed = [bytes(vnet or 0) + each for each in given_frames]
    octets = frames.batch(headed, vnet_header_bytes=vnet)
    assert frames.unbatch(octets, has_vnet=vnet is not None) == headed


def test_what_is_no_batch_is_one_line() -> None:
    for octets, said in (
        (b"\0\0\0\x05abc", "truncated at byte 0"),
        (b"\0\0\0\1a" + b"\xff" * 4, "malformed at byte 5"),
    ):
        with pytest.raises(WireError, match=f"batch: {said}"):
            frames.unbatch(octets)
    with pytest.raises(WireError, match="a frame of 70000 bytes: unsupported"):
        frames.batch([bytes(70_000)])


def test_captures_are_merged_by_time() -> None:
    one, two = ([CapturedFrame(b"", at_us) for at_us in times] for times in ((1, 4, 9), (2, 4, 5)))
    found = [(name, frame.at_us) for name, frame in frames.in_order(one=iter(one), two=two)]
    assert found == [("one", 1), ("two", 2), ("one", 4), ("two", 4), ("two", 5), ("one", 9)]


def test_the_source_of_a_frame() -> None:
    assert frames.source(bytes(6) + b"\x02\0\0\0\0\x0a" + bytes(9)) == "02:00:00:00:00:0a"
    assert frames.source(b"short") == ""
