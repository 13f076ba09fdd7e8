"""An installed pycolo compares two packets in memory: equal ones are released, different ones are reported.

For installations that are to be checked: needs nothing but the package, neither root nor a network. Reads nothing
of the repository, so it can be given to the interpreter on standard input.
"""

import struct
import sys

from pycolo.compare.difference import ReportDifference
from pycolo.compare.kinds import DifferenceKind, DivergencePolicy
from pycolo.core import Comparator

MACS = bytes.fromhex("020000000002020000000001")
ADDRESSES = bytes([10, 0, 0, 2, 10, 0, 0, 1])


def checksum(octets: bytes) -> bytes:
    """RFC 1071, of an even number of bytes."""
    return struct.pack(">H", 0xFFFF - (sum(struct.unpack(f">{len(octets) // 2}H", octets)) % 0xFFFF or 0xFFFF))


def framed(seq: int, payload: bytes) -> bytearray:
    """A TCP segment of a server in an Ethernet frame, with QEMU's length word in front of it."""
    tcp = struct.pack(">HHIIBBHHH", 80, 5000, seq, 1, 5 << 4, 0x18, 1000, 0, 0) + payload
    tcp = tcp[:16] + checksum(ADDRESSES + struct.pack(">HH", 6, len(tcp)) + tcp) + tcp[18:]
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0) + ADDRESSES
    ip = ip[:10] + checksum(ip) + ip[12:]
    frame = MACS + b"\x08\x00" + ip + tcp
    return bytearray(struct.pack(">I", len(frame)) + frame)


def released(core: Comparator, primary: bytearray, secondary: bytearray) -> bytes:
    """Give a frame of each guest, and take what goes to the client."""
    out = bytearray(1 << 16)
    assert core.primary_frames(primary, 0, len(primary), 0) == len(primary)
    assert core.drain(out, 0) == 0, "released before the secondary has answered"
    assert core.secondary_frames(secondary, 0, len(secondary), 0) == len(secondary)
    return bytes(out[: core.drain(out, 0)])


def main() -> None:
    """Fails with a traceback if the package does not work."""
    core = Comparator(1, policy=DivergencePolicy.HOLD)
    same = framed(1000, b"same")
    assert released(core, same, bytearray(same)) == bytes(same)
    assert core.commands() == []
    assert released(core, framed(1004, b"this"), framed(1004, b"that")) == b""
    (command,) = core.commands()
    assert isinstance(command, ReportDifference)
    assert command.difference.kind is DifferenceKind.PAYLOAD
    print(f"equal payload is released, a difference is reported (Python {sys.version.split()[0]})")


if __name__ == "__main__":
    main()
