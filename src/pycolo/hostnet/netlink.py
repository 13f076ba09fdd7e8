"""Route netlink: messages as bytes, a batch of them in one call, and dumps.

Only what this package needs: the constants stand where they are used. A batch is one `sendmsg`: the kernel carries out
its messages one after the other before the call returns, so that a process is killed before all of them or after.
"""

import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self

from pycolo.errors import ConnectError

# linux/netlink.h
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_REQUEST: Final = 0x01
_ACK: Final = 0x04
_DUMP: Final = 0x300
CREATE: Final = 0x400
REPLACE: Final = 0x100
EXCLUSIVE: Final = 0x200
NESTED: Final = 0x8000
_TYPE_MASK: Final = 0x3FFF
_INTERRUPTED: Final = 0x10

_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ERROR: Final = struct.Struct("=i")
_RECEIVE_BYTES: Final = 1 << 18
_ANSWER_S: Final = 10
_DUMP_TRIES: Final = 10

Attributes = dict[int, bytes]


class Message(NamedTuple):
    """One request. `tolerated`: errno values that mean "it is so already". `what`: what it does, for an error."""

    type: int
    flags: int
    body: bytes
    what: str
    tolerated: tuple[int, ...] = ()


class RefusalError(ConnectError):
    """The kernel refused a message of a batch; the others were carried out."""

    def __init__(self, what: str, number: int) -> None:
        hint = "; root or CAP_NET_ADMIN is needed" if number in (1, 13) else ""
        super().__init__(f"{what}: {os.strerror(number)}{hint}")
        self.number = number


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def nested(kind: int, parts: Iterable[bytes]) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | NESTED, b"".join(parts))


def text(kind: int, value: str) -> bytes:
    """A string with its zero."""
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    """A number of 32 bits, in this machine's order."""
    return attribute(kind, struct.pack("=I", value))


def each_attribute(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and value of each, in order; one kind may occur several times."""
    pos = 0
    while pos + _ATTRIBUTE.size <= len(octets):
        length, kind = _ATTRIBUTE.unpack_from(octets, pos)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, octets[pos + _ATTRIBUTE.size : pos + length]
        pos += length + -length % 4


def attributes(octets: bytes) -> Attributes:
    """Kind to value; the last of each kind."""
    return dict(each_attribute(octets))


def number(value: bytes) -> int:
    """An attribute's unsigned number, whatever its width."""
    return int.from_bytes(value, sys.byteorder)


class Netlink:
    """A socket to the kernel, in the network namespace of the thread that makes it."""

    def __init__(self) -> None:
        try:
            self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
            self._sock.settimeout(_ANSWER_S)
            self._sock.bind((0, 0))
        except OSError as error:
            raise ConnectError(f"netlink: {error.strerror or error}") from error
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _it: BaseException | None, _at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def carry_out(self, messages: Sequence[Message]) -> None:
        """All messages in one call. Raises `RefusalError` for the first that was refused, after all were tried."""
        if not messages:
            return
        first = self._sequence + 1
        batch = bytearray()
        for message in messages:
            self._sequence += 1
            batch += self._encode(message.type, message.flags | _REQUEST | _ACK, message.body)
        refused: RefusalError | None = None
        waiting = set(range(first, self._sequence + 1))
        try:
            self._sock.sendall(batch)
            while waiting:
                for kind, _, sequence, body in self._receive():
                    if kind != _NLMSG_ERROR or sequence not in waiting:
                        continue
                    waiting.discard(sequence)
                    found = -_ERROR.unpack_from(body)[0]
                    message = messages[sequence - first]
                    if found and found not in message.tolerated and refused is None:
                        refused = RefusalError(message.what, found)
        except OSError as error:
            raise ConnectError(f"netlink: {error.strerror or error}") from error
        if refused is not None:
            raise refused

    def ask(self, kind: int, body: bytes, tolerated: tuple[int, ...]) -> bytes | None:
        """The body of the one answer; None for an error that is tolerated."""
        self._sequence += 1
        try:
            self._sock.sendall(self._encode(kind, _REQUEST, body))
            while True:
                for answer, _, sequence, part in self._receive():
                    if sequence != self._sequence:
                        continue
                    if answer != _NLMSG_ERROR:
                        return part
                    error = -_ERROR.unpack_from(part)[0]
                    if error in tolerated:
                        return None
                    raise RefusalError("netlink: a question", error)
        except OSError as error:
            raise ConnectError(f"netlink: {error.strerror or error}") from error

    def dump(self, kind: int, body: bytes, tolerated: tuple[int, ...] = ()) -> list[bytes]:
        """The bodies of all answers to one dump request; none for an error that is tolerated."""
        try:
            for _ in range(_DUMP_TRIES):
                found = self._dump_once(kind, body, tolerated)
                if found is not None:
                    return found
        except OSError as error:
            raise ConnectError(f"netlink: {error.strerror or error}") from error
        raise ConnectError("netlink: the host's interfaces change all the time; try again")

    def _dump_once(self, kind: int, body: bytes, tolerated: tuple[int, ...]) -> list[bytes] | None:
        """None: something changed while the kernel listed it."""
        self._sequence += 1
        self._sock.sendall(self._encode(kind, _REQUEST | _DUMP, body))
        found: list[bytes] = []
        is_whole = True
        while True:
            for answer, flags, sequence, part in self._receive():
                if sequence != self._sequence:
                    continue
                is_whole &= not flags & _INTERRUPTED
                if answer == _NLMSG_DONE:
                    return found if is_whole else None
                if answer == _NLMSG_ERROR:
                    error = -_ERROR.unpack_from(part)[0]
                    if error in tolerated:
                        return []
                    raise RefusalError("netlink: a list", error)
                found.append(part)

    def _encode(self, kind: int, flags: int, body: bytes) -> bytes:
        length = _HEADER.size + len(body)
        return _HEADER.pack(length, kind, flags, self._sequence, 0) + body + bytes(-length % 4)

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Type, flags, sequence number and body of each message of one datagram."""
        octets = self._sock.recv(_RECEIVE_BYTES)
        pos = 0
        while pos + _HEADER.size <= len(octets):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(octets, pos)
            if length < _HEADER.size:
                return
            yield kind, flags, sequence, octets[pos + _HEADER.size : pos + length]
            pos += length + -length % 4
