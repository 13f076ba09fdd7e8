"""The TCP connections of this thread's network namespace, with the bytes moved on each (sock_diag(7)).

The table is read many times a second with some hundred connections: pyroute2 takes a quarter of a millisecond for each,
since it decodes all sixty fields of `tcp_info`. This module reads three.
"""

import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Final

import msgspec

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
NLM_F_REQUEST_DUMP: Final = 0x301
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
INET_DIAG_INFO: Final = 2
LISTEN: Final = 10
ESTABLISHED: Final = 1

_HEADER: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBBxI")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ID_BYTES: Final = 48
"""struct inet_diag_sockid: both ports, both addresses, interface, cookie."""
_MESSAGE_BYTES: Final = 72
"""struct inet_diag_msg; the inode is its last word."""
_BYTES_ACKED: Final = 120  # linux/tcp.h, struct tcp_info: two __u64, what went out and what came in
_BYTES_RECEIVED: Final = 128
_UNACKED: Final = 24

READ_BYTES: Final = 1 << 18


class Socket(msgspec.Struct, frozen=True):
    """One connection as it stands. `moved`: bytes acknowledged by the other side, and received from it."""

    local_port: int
    state: int
    inode: int
    moved: int
    unacked: int


class SocketTable:
    """Asks the kernel about the namespace in which it was made. Connections to `host`:`port` only."""

    def __init__(self, host: str, port: int) -> None:
        self._host = ip_address(host)
        self._port = port
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
        self._netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_BYTES * 4)
        # An IPv4 connection may be an IPv6 socket's.
        self._families = (socket.AF_INET, socket.AF_INET6)

    def read(self) -> list[Socket]:
        """Every connection to the server; raises OSError where the kernel does not answer such questions."""
        return [each for family in self._families for each in self._of(family)]

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def _of(self, family: int) -> Iterator[Socket]:
        request = _REQUEST.pack(family, socket.IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), ~(1 << LISTEN) & 0xFFF)
        request += struct.pack(">HH", 0, self._port).ljust(_ID_BYTES, b"\0")
        length = _HEADER.size + len(request)
        self._netlink.send(_HEADER.pack(length, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, 1, 0) + request)
        while True:
            answer = self._netlink.recv(READ_BYTES)
            at = 0
            while at + _HEADER.size <= len(answer):
                length, kind = _HEADER.unpack_from(answer, at)[:2]
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    number = -int(struct.unpack_from("=i", answer, at + _HEADER.size)[0])
                    raise OSError(number, os.strerror(number))
                found = self._socket(answer[at + _HEADER.size : at + length], family)
                if found is not None:
                    yield found
                at += length + 3 & ~3

    def _socket(self, message: bytes, family: int) -> Socket | None:
        local_port, remote_port = struct.unpack_from(">HH", message, 4)
        octets = message[24:28] if family == socket.AF_INET else message[24:40]
        remote = ip_address(octets)
        if isinstance(remote, IPv6Address) and remote.ipv4_mapped:
            remote = remote.ipv4_mapped
        if remote != self._host or remote_port != self._port:
            return None
        inode = struct.unpack_from("=I", message, _MESSAGE_BYTES - 4)[0]
        moved, unacked = _progress(message)
        return Socket(local_port, message[1], inode, moved, unacked)


class DatagramTable:
    """The UDP sockets of the network namespace in which it was made. What moves is not counted."""

    def __init__(self) -> None:
        # These files stay those of the namespace in which they were opened.
        paths = [Path("/proc/thread-self/net", name) for name in ("udp", "udp6")]
        self._files = [path.open() for path in paths if path.exists()]

    def read(self) -> list[Socket]:
        """All of them."""
        found = []
        for file in self._files:
            file.seek(0)
            for line in file.read().splitlines()[1:]:
                words = line.split()
                local_port = int(words[1].rpartition(":")[2], 16)
                found.append(Socket(local_port, ESTABLISHED, int(words[9]), 0, 0))
        return found

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()


def _progress(message: bytes) -> tuple[int, int]:
    at = _MESSAGE_BYTES
    while at + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        if kind == INET_DIAG_INFO and length >= _ATTRIBUTE.size + _BYTES_RECEIVED + 8:
            start = at + _ATTRIBUTE.size
            acked, received = struct.unpack_from("=QQ", message, start + _BYTES_ACKED)
            return acked + received, struct.unpack_from("=I", message, start + _UNACKED)[0]
        at += max(length + 3 & ~3, 4)
    return 0, 0
