"""How each connection ended, and which were accepted: every SYN, FIN and RST at the client's network card.

The socket table shows that a connection is gone, never why. A filter in the kernel passes nothing else, so bulk data
costs nothing here.
"""

import ctypes
import socket
import struct
from typing import Final, Literal

import msgspec

ETH_P_ALL: Final = 0x0003
SO_ATTACH_FILTER: Final = 26
FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
ACK: Final = 0x10
RECEIVE_BUFFER_BYTES: Final = 4 << 20
FRAMES_MAX: Final = 4096
"""In one look; what is left waits for the next."""

HEADERS_BYTES: Final = 256
_FILTER: Final = (
    (0x28, 0, 0, 12),  # A = EtherType
    (0x15, 0, 5, 0x0800),  # IPv4, or on with IPv6
    (0x30, 0, 0, 23),  # A = protocol
    (0x15, 0, 9, 6),  # TCP, or refuse
    (0xB1, 0, 0, 14),  # X = length of the IPv4 header
    (0x50, 0, 0, 27),  # A = TCP flags
    (0x05, 0, 0, 4),
    (0x15, 0, 5, 0x86DD),  # IPv6, or refuse
    (0x30, 0, 0, 20),  # A = next header
    (0x15, 0, 3, 6),  # TCP, or refuse
    (0x30, 0, 0, 67),  # A = TCP flags
    (0x45, 0, 1, FIN | SYN | RST),
    (0x06, 0, 0, HEADERS_BYTES),
    (0x06, 0, 0, 0),
)
"""linux/filter.h: code, steps when true, steps when false, operand."""


class Farewell(msgspec.Struct, frozen=True):
    """The first word of an end."""

    how: Literal["fin", "rst"]
    by_guest: bool
    at_ns: int


class Farewells:
    """Those of the connections to `port`, by the client's own port. Listens on `interface` of this namespace."""

    def __init__(self, interface: str, port: int) -> None:
        self._port = port
        self.first: dict[int, Farewell] = {}
        self.accepted: dict[int, int] = {}
        """The client's port -> when the server's side accepted its latest connection."""
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        program = b"".join(struct.pack("=HBBI", *step) for step in _FILTER)
        steps = ctypes.create_string_buffer(program)
        self._socket.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(_FILTER), ctypes.addressof(steps))
        )
        self._socket.bind((interface, ETH_P_ALL))

    def look(self, now_ns: int) -> None:
        """Read the frames that have arrived."""
        for _ in range(FRAMES_MAX):
            try:
                frame = self._socket.recv(HEADERS_BYTES)
            except BlockingIOError:
                return
            self.noted(frame, now_ns)

    def noted(self, frame: bytes, now_ns: int) -> None:
        """One frame that has passed the filter."""
        start = 54 if frame[12:14] == b"\x86\xdd" else 14 + (frame[14] & 0x0F) * 4
        if len(frame) < start + 14:
            return
        source, destination = struct.unpack_from(">HH", frame, start)
        flags = frame[start + 13]
        by_guest = source == self._port
        if not by_guest and destination != self._port:
            return
        client_port = destination if by_guest else source
        if flags & SYN:
            if by_guest:
                self.accepted[client_port] = now_ns
            else:
                self.first.pop(client_port, None)  # the port is used again
        elif client_port not in self.first:
            self.first[client_port] = Farewell("rst" if flags & RST else "fin", by_guest, now_ns)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
