"""The frames of the benchmarks: the output of two guests, as a cycle that can be repeated without end.

A `Cycle` is a stream of frames in QEMU's framing on `flows` connections in turn. Sent again with every sequence number
advanced by what one cycle holds (`advance`), it continues each connection in order; nothing else of it changes, so
that a driver renews a frame with a few stores. Checksums are right. A connection's bytes are a function of their place
in the cycle alone: cut differently (1448, or 724 and 724), they are the same bytes.
"""

import random
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

IMIX: Final = (6, 536, 6, 6, 536, 6, 1460, 6, 536, 6, 6, 536)
"""TCP payloads of the simple IMIX: seven IP packets of 46 bytes, four of 576 and one of 1500."""

BARE_ACK: Final = 0
VNET_BYTES: Final = 12

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
TCP, UDP = 6, 17

_ACKED_PER_BARE_ACK: Final = 2896
_MASK: Final = 0xFFFFFFFF
_POOL_BYTES: Final = 64 << 10
_POOL: Final = random.Random(10).randbytes(3 * _POOL_BYTES)
_GUEST_MAC: Final = b"\x02\0\0\0\0\x01"
_CLIENT_MAC: Final = b"\x02\0\0\0\0\x02"
_GUEST_IP: Final = bytes([10, 0, 0, 1])
_FLOWS_PER_CLIENT: Final = 1 << 14
_WINDOW: Final = 65_535


@dataclass(frozen=True)
class Traffic:
    """What each connection carries: TCP payloads in turn (0: a bare ACK), or datagrams of `protocol` UDP.

    `secondary`: the same bytes as the other guest cuts them; None: alike.
    """

    name: str
    primary: Sequence[int]
    secondary: Sequence[int] | None = None
    protocol: int = TCP
    vnet: bool = False

    def of(self, side: str) -> Sequence[int]:
        """The payloads of the `primary` or the `secondary`."""
        return self.secondary if side == "secondary" and self.secondary is not None else self.primary


SMALL: Final = Traffic("64 B", (64,))
MIXED: Final = Traffic("IMIX", IMIX)
HALF_ACKS: Final = Traffic("half bare ACKs", (64, BARE_ACK))
DATAGRAMS: Final = Traffic("UDP", (64,), protocol=UDP)
LARGE: Final = Traffic("1448 B", (1448,))
CUT: Final = Traffic("1448 against 2x724", (1448,), (724, 724))
JOINED: Final = Traffic("2x724 against 1448", (724, 724), (1448,))
VNET: Final = Traffic("vnet_hdr 1448 B", (1448,), vnet=True)


@dataclass(frozen=True)
class Ends:
    """In which direction, from which sequence numbers on, and what is acknowledged from one cycle to the next."""

    from_client: bool = False
    seq: int = 1
    ack: int = 1
    ack_step: int = 0


@dataclass
class Cycle:
    """`octets`, and where its frames begin. `number_pos`: of the sequence number (UDP: of a counter in the payload),
    from a frame's length word on; a TCP frame has the acknowledgement behind it. `checksum_pos`: 0 for none."""

    flows: int
    octets: bytearray
    starts: "array[int]"
    flow_of: "array[int]"
    number_pos: int
    checksum_pos: int
    seq_step: int
    ack_step: int
    advanced: int = field(default=0)

    @property
    def frames(self) -> int:
        return len(self.starts)

    def advance(self) -> None:
        """Make it the next one."""
        word, half, octets = struct.Struct(">I"), struct.Struct(">H"), self.octets
        for start in self.starts:
            total = 0
            for pos, step in ((start + self.number_pos, self.seq_step), (start + self.number_pos + 4, self.ack_step)):
                if step:
                    before = word.unpack_from(octets, pos)[0]
                    after = (before + step) & _MASK
                    word.pack_into(octets, pos, after)
                    total += 0xFFFFFFFF - before + after
            if self.checksum_pos:
                pos = start + self.checksum_pos
                half.pack_into(octets, pos, 0xFFFF ^ _folded(total + (half.unpack_from(octets, pos)[0] ^ 0xFFFF)))
        self.advanced += 1

    def batches(self, octets_max: int) -> Iterator[bytes]:
        """The cycle as it is now, whole frames in pieces of at most `octets_max`."""
        begin = 0
        ends = [*self.starts[1:], len(self.octets)]
        for start, end in zip(self.starts, ends, strict=True):
            if end - begin > octets_max:
                yield bytes(self.octets[begin:start])
                begin = start
        yield bytes(self.octets[begin:])


def cycle(traffic: Traffic, side: str, flows: int, ends: Ends | None = None, repeat: int = 1) -> Cycle:
    """Of one side of `flows` connections: each sends all of its payloads `repeat` times."""
    ends = ends or Ends()
    steps = _steps(traffic, side) * repeat
    in_cycle = sum(traffic.primary) * repeat
    assert in_cycle < _POOL_BYTES, "a cycle's bytes would depend on how they are cut"
    octets, starts, flow_of = bytearray(), array("Q"), array("I")
    makers = [_Maker(flow, traffic, ends) for flow in range(flows)]
    for step in range(len(steps)):
        for flow, maker in enumerate(makers):
            for payload in steps[(step + flow) % len(steps)]:
                starts.append(len(octets))
                flow_of.append(flow)
                octets += maker.frame(payload)
    words = 8 + VNET_BYTES if traffic.vnet else 4
    if traffic.protocol == UDP:
        return Cycle(flows, octets, starts, flow_of, words + 14 + 20 + 8, 0, len(steps), 0)
    ack_step = ends.ack_step + _ACKED_PER_BARE_ACK * traffic.primary.count(BARE_ACK) * repeat
    return Cycle(flows, octets, starts, flow_of, words + 14 + 20 + 4, words + 14 + 20 + 16, in_cycle, ack_step)


def _steps(traffic: Traffic, side: str) -> list[Sequence[int]]:
    """The payloads that a connection sends in a row: the other side may send them as one."""
    payloads = traffic.of(side)
    return [[payload] for payload in payloads] if traffic.secondary is None else [payloads]


class _Maker:
    """Makes the frames of one connection."""

    def __init__(self, flow: int, traffic: Traffic, ends: Ends) -> None:
        self._is_udp = traffic.protocol == UDP
        self._vnet = traffic.vnet
        self._at = 0
        self._ends = ends
        self._acked = 0
        self._datagrams = 0
        self._pool_pos = flow * 131 % _POOL_BYTES
        client = struct.pack(">I", 0x0A010000 + flow // _FLOWS_PER_CLIENT)
        port = 1024 + flow % _FLOWS_PER_CLIENT
        self._macs = _CLIENT_MAC + _GUEST_MAC if not ends.from_client else _GUEST_MAC + _CLIENT_MAC
        self._addresses = client + _GUEST_IP if ends.from_client else _GUEST_IP + client
        self._ports = struct.pack(">HH", port, 80) if ends.from_client else struct.pack(">HH", 80, port)

    def frame(self, payload: int) -> bytes:
        """The next one."""
        pos = self._pool_pos + self._at
        content = _POOL[pos : pos + payload]
        if self._is_udp:
            content = struct.pack(">I", self._datagrams) + content[4:]
            self._datagrams += 1
            return self._framed(UDP, self._ports + struct.pack(">HH", 8 + payload, 0) + content)
        if payload == BARE_ACK:
            self._acked += _ACKED_PER_BARE_ACK
        seq = self._ends.seq + self._at
        self._at += payload
        return self.segment(seq, self._ends.ack + self._acked, ACK | (PSH if payload else 0), content)

    def segment(self, seq: int, ack: int, flags: int, content: bytes = b"") -> bytes:
        head = self._ports + struct.pack(">IIBBH", seq & _MASK, ack & _MASK, 0x50, flags, _WINDOW)
        pseudo = self._addresses + struct.pack(">HH", TCP, 20 + len(content))
        total = int.from_bytes(pseudo + head + content + b"\0" * (len(content) & 1))
        return self._framed(TCP, head + struct.pack(">HH", 0xFFFF ^ _folded(total), 0) + content)

    def _framed(self, protocol: int, packet: bytes) -> bytes:
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(packet), 0, 0x4000, 64, protocol, 0) + self._addresses
        head = head[:10] + struct.pack(">H", 0xFFFF ^ _folded(int.from_bytes(head))) + head[12:]
        frame = self._macs + b"\x08\0" + head + packet
        if self._vnet:
            return struct.pack(">II", VNET_BYTES + len(frame), VNET_BYTES) + bytes(VNET_BYTES) + frame
        return struct.pack(">I", len(frame)) + frame


def _folded(total: int) -> int:
    """The ones' complement sum of 16-bit words, from any number that has the words as its digits."""
    return total % 0xFFFF


def handshake(traffic: Traffic, flows: int | range, ends: Ends, flags: int) -> bytes:
    """One frame of the handshake of every connection: SYN and SYN|ACK stand right before `ends.seq`, an ACK at it."""
    every = flows if isinstance(flows, range) else range(flows)
    if traffic.protocol == UDP:
        return b""
    seq = ends.seq - 1 if flags & SYN else ends.seq
    ack = ends.ack if flags & ACK else 0
    return b"".join(_Maker(flow, traffic, ends).segment(seq, ack, flags) for flow in every)
