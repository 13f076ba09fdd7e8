"""A port to QEMU's chardevs never waits for QEMU: what does not fit is kept, above that whole frames are dropped."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycolo.transport.portspec import parse_port
from pycolo.vm import qemuport
from pycolo.vm.qemuport import QemuPort


class Pair:
    """A port, and the QEMU at the other end."""

    def __init__(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(1)
            self.port = QemuPort(parse_port(f"unix:{path},reconnect-ms=1", "test"), "test")
            self.port.service(0)
            self.qemu = listener.accept()[0]
        path.unlink()
        self.qemu.setblocking(False)

    def read(self) -> bytes:
        octets = b""
        try:
            while piece := self.qemu.recv(1 << 20):
                octets += piece
        except BlockingIOError:
            return octets
        return octets

    def read_all(self) -> bytes:
        octets = self.read()
        while self.port.service(0) is not None:
            octets += self.read()
        return octets + self.read()

    def close(self) -> None:
        self.port.close()
        self.qemu.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path / "s")
    yield made
    made.close()


def frame(number: int, length: int) -> bytes:
    return struct.pack(">II", length + 4, number) + bytes(length)


def frames(octets: bytes) -> list[int]:
    """Numbers of the frames in a stream, which must end with a whole one."""
    found, pos = [], 0
    while pos < len(octets):
        length, number = struct.unpack_from(">II", octets, pos)
        found.append(number)
        pos += 4 + length
    assert pos == len(octets)
    return found


def write(port: QemuPort, octets: bytes) -> None:
    assert port.write_batch(bytearray(octets), 0, len(octets)) == len(octets)


def test_what_qemu_does_not_read_does_not_hold_the_path_up(pair: Pair) -> None:
    sent = [frame(number, 1500) for number in range(1000)]
    for one in sent:
        write(pair.port, one)
    assert pair.port.service(0) == qemuport.LOOK_AGAIN_US, "there is something left"
    assert pair.read_all() == b"".join(sent)
    assert pair.port.service(0) is None


def test_above_its_room_whole_frames_are_dropped_and_counted(pair: Pair) -> None:
    count = 2 * qemuport.SPILL_BYTES_MAX // 1508
    for number in range(count):
        write(pair.port, frame(number, 1500))
    got = frames(pair.read_all())
    assert got == list(range(len(got))), "the oldest are kept, in order"
    assert len(got) * 1508 >= qemuport.SPILL_BYTES_MAX - 1508
    assert pair.port.counters()["dropped_bytes"] == (count - len(got)) * 1508
    write(pair.port, frame(count, 1500))
    assert frames(pair.read_all()) == [count]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_qemu_reads_whole_frames_in_order_whatever_it_leaves_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    monkeypatch.setattr(qemuport, "SPILL_BYTES_MAX", 100_000)
    pair = Pair(tmp_path / "s")
    try:
        got, number = b"", 0
        for size, batch, reads in data.draw(
            st.lists(st.tuples(st.integers(0, 60_000), st.integers(1, 5), st.booleans()), max_size=30)
        ):
            write(pair.port, b"".join(frame(number + i, size) for i in range(batch)))
            number += batch
            if reads:
                got += pair.read()
        numbers = frames(got + pair.read_all())
        assert numbers == sorted(set(numbers))
        assert set(numbers) <= set(range(number))
    finally:
        pair.close()


def test_a_connection_that_ends_takes_what_waited_with_it(pair: Pair) -> None:
    for number in range(1000):
        write(pair.port, frame(number, 1500))
    pair.qemu.close()
    pair.port.service(0)
    assert not pair.port.is_connected
    assert pair.port.counters()["spilt_bytes"] == 0
    assert pair.port.write_batch(bytearray(frame(1, 10)), 0, 18) == 0, "not connected: it waits at its source"
