"""Messages of the link: an eight-byte header, then the payload.

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    ├───────────────────────────────────────────────────────────────┤
    │                  payload length (big-endian)                  │
    ├───────────────┬───────────────┬───────────────────────────────┤
    │     type      │   flags = 0   │         reserved = 0          │
    ├───────────────┴───────────────┴───────────────────────────────┤
    │                            payload                            │

Frames travel as batches in QEMU's own stream framing, just as they were read: the data connection runs Python once per
message (up to `limits.LINK_MESSAGE_BYTES_MAX`), never once per frame.

After a bad header the next message cannot be found: the stream is refused, and stays refused.
"""

from collections.abc import Iterable, Iterator
from enum import Enum, IntEnum
from struct import Struct
from typing import Final, NamedTuple

from pycolo import limits
from pycolo.errors import LinkError

_HEADER: Final = Struct(">IBBH")
HEADER_BYTES: Final = _HEADER.size

TLS_RECORD_BYTES_MAX: Final = 1 << 14
"""RFC 8446 section 5.1. A read with this much room leaves no decrypted bytes in the TLS library."""

TEXT_BYTES_MAX: Final = 512
"""Enough for one and a half lines in the other node's log."""


class Channel(Enum):
    """The connection. MIGRATION carries QEMU's migration stream unchanged, after both hellos. DISK carries in the same
    way what the primary writes to one disk, as NBD.

    PATH carries orders only: a node in doubt asks what the other one does. Either role listens for it.
    """

    CONTROL = "control"
    DATA = "data"
    MIGRATION = "migration"
    DISK = "disk"
    PATH = "path"

    @property
    def is_raw(self) -> bool:
        """Whether it carries no messages of this protocol after the hellos."""
        return self in (Channel.MIGRATION, Channel.DISK)


class MessageType(IntEnum):
    """The type of a message; the numbers are the protocol's."""

    HELLO = 1
    WELCOME = 2
    REFUSED = 3
    CLIENT_FRAMES = 16
    GUEST_FRAMES = 17
    EPOCH_MARKER = 18
    OFFSETS = 19
    PROBE = 20
    ROUNDS = 21
    HEARTBEAT = 32
    TAKEOVER_NOTICE = 33
    GOODBYE = 34
    ORDER = 35


DATA_FROM_PRIMARY: Final = frozenset(
    {
        *(MessageType.CLIENT_FRAMES, MessageType.EPOCH_MARKER, MessageType.OFFSETS),
        *(MessageType.PROBE, MessageType.ROUNDS),
    }
)
DATA_FROM_SECONDARY: Final = frozenset({MessageType.GUEST_FRAMES, MessageType.EPOCH_MARKER})
CONTROL_TYPES: Final = frozenset(
    {MessageType.HEARTBEAT, MessageType.TAKEOVER_NOTICE, MessageType.GOODBYE, MessageType.ORDER}
)

_EPOCH: Final = Struct(">Q")
_OFFSETS: Final = Struct(">QII")
_ROUND: Final = Struct(">HHI")
_HEARTBEAT: Final = Struct(">QQQQQ")
_TAKEOVER: Final = Struct(">QQ")

_PAYLOAD_BYTES: Final = {
    MessageType.HELLO: (2, limits.HELLO_BYTES_MAX),
    MessageType.WELCOME: (2, limits.HELLO_BYTES_MAX),
    MessageType.REFUSED: (1, 1 + TEXT_BYTES_MAX),
    MessageType.CLIENT_FRAMES: (4, limits.LINK_MESSAGE_BYTES_MAX),
    MessageType.GUEST_FRAMES: (4, limits.LINK_MESSAGE_BYTES_MAX),
    MessageType.EPOCH_MARKER: (_EPOCH.size, _EPOCH.size),
    MessageType.OFFSETS: (_OFFSETS.size, _OFFSETS.size + limits.BATCH_BYTES),
    MessageType.PROBE: (4, limits.PROBE_BYTES_MAX),
    MessageType.ROUNDS: (_ROUND.size, limits.ORDERED_PORTS_MAX * _ROUND.size),
    MessageType.HEARTBEAT: (_HEARTBEAT.size, _HEARTBEAT.size),
    MessageType.TAKEOVER_NOTICE: (_TAKEOVER.size, _TAKEOVER.size),
    MessageType.GOODBYE: (1, 1 + TEXT_BYTES_MAX),
    MessageType.ORDER: (2, limits.ORDER_BYTES_MAX),
}
"""Shortest and longest payload of each type. Four bytes are the length word of one empty frame."""


def header(message_type: MessageType, length: int) -> bytes:
    """The header of a message with a payload of `length` bytes."""
    return _HEADER.pack(length, message_type, 0, 0)


def message(message_type: MessageType, payload: bytes) -> bytes:
    """A whole message with header, for short ones."""
    return header(message_type, len(payload)) + payload


def payload_bytes_max(types: Iterable[MessageType]) -> int:
    """The longest payload of any of `types`."""
    return max(_PAYLOAD_BYTES[message_type][1] for message_type in types)


def payload_lengths(types: Iterable[MessageType]) -> dict[int, tuple[int, int]]:
    """Shortest and longest payload of each of `types`, by number."""
    return {int(message_type): _PAYLOAD_BYTES[message_type] for message_type in types}


def parse_header(
    octets: bytes | bytearray | memoryview,
    position: int,
    types: frozenset[MessageType],
    stream: str,
    offset: int,
) -> tuple[MessageType, int]:
    """Type and payload length of the header at `position`.

    `types` are those allowed now; `stream` and `offset` (bytes before this header) are for the error message. Raises
    `LinkError` for anything that is not a header of one of `types`.
    """
    length, number, flags, reserved = _HEADER.unpack_from(octets, position)
    where = f"{stream}: message at byte {offset}"
    try:
        message_type = MessageType(number)
    except ValueError:
        raise LinkError(
            f"{where} has unknown type {number}; link closed (is the peer a node of the same version?)"
        ) from None
    if message_type not in types:
        raise LinkError(f"{where} is {message_type.name}, which is not allowed here; link closed")
    if flags or reserved:
        raise LinkError(f"{where} has flags {flags:#x} and reserved bits {reserved:#x}, must be 0; link closed")
    shortest, longest = _PAYLOAD_BYTES[message_type]
    if not shortest <= length <= longest:
        raise LinkError(
            f"{where} ({message_type.name}) has {length} bytes, must be {shortest} to {longest}; link closed"
        )
    return message_type, length


# ── payloads ────────────────────────────────────────────────────────────────────────────────────────────────


def pack_epoch(epoch: int) -> bytes:
    """Payload of EPOCH_MARKER: everything after it in this direction belongs to `epoch`."""
    return _EPOCH.pack(epoch)


def unpack_epoch(payload: bytes | memoryview) -> int:
    """The epoch that an EPOCH_MARKER begins."""
    (epoch,) = _EPOCH.unpack(payload)
    assert isinstance(epoch, int)
    return epoch


def offsets_payloads(epoch: int, table: bytes) -> Iterator[bytes]:
    """The payloads of the OFFSETS messages with the primary's table of offsets of `epoch`, at least one."""
    for start in range(0, max(1, len(table)), limits.BATCH_BYTES):
        yield _OFFSETS.pack(epoch, len(table), start) + table[start : start + limits.BATCH_BYTES]


class OffsetsAssembly:
    """Assembles the pieces of OFFSETS messages. They arrive in order; a first piece drops an unfinished table."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._epoch = 0
        self._table = bytearray()

    def add(self, payload: bytes | memoryview) -> tuple[int, bytes] | None:
        """(epoch, table) when the table is complete. Raises `LinkError` for a piece that does not fit."""
        epoch, size, start = _OFFSETS.unpack_from(payload)
        piece = payload[_OFFSETS.size :]
        if start == 0:
            self._epoch = epoch
            self._table.clear()
        end = start + len(piece)
        fits = epoch == self._epoch and start == len(self._table) and end <= size <= limits.OFFSETS_TABLE_BYTES_MAX
        if not fits or (not piece and size):
            raise LinkError(
                f"{self._stream}: OFFSETS of epoch {epoch}: bytes {start} to {end} of {size} do not fit; link closed"
            )
        self._table += piece
        if end < size:
            return None
        table = bytes(self._table)
        self._table.clear()
        return epoch, table


class Rounds(NamedTuple):
    """How the secondary's node gives requests of one port: `width` at once (0: as they come), `limit_us` per round."""

    port: int
    width: int
    limit_us: int


def pack_rounds(rounds: Iterable[Rounds]) -> bytes:
    """Payload of ROUNDS: of each port that has changed."""
    return b"".join(_ROUND.pack(*one) for one in rounds)


def unpack_rounds(payload: bytes | memoryview, stream: str) -> list[Rounds]:
    """The ports of a ROUNDS message. Raises `LinkError` for one that no node sends."""
    if len(payload) % _ROUND.size:
        raise LinkError(f"{stream}: ROUNDS has {len(payload)} bytes, no multiple of {_ROUND.size}; link closed")
    found = [Rounds._make(words) for words in _ROUND.iter_unpack(payload)]
    for one in found:
        if one.width > limits.ORDERED_WIDTH_MAX:
            raise LinkError(f"{stream}: ROUNDS gives {one.width} requests of port {one.port} at once; link closed")
    return found


class Heartbeat(NamedTuple):
    """A sign of life. `sender_ns` is the sender's own monotonic clock, comparable only with itself.

    `heard_ns` is the `sender_ns` of the last heartbeat that the sender received, 0 for none: it tells the other node
    until when it was certainly heard.
    """

    sequence: int
    sender_ns: int
    term: int
    epoch: int
    heard_ns: int = 0

    def pack(self) -> bytes:
        """The payload."""
        return _HEARTBEAT.pack(*self)

    @classmethod
    def unpack(cls, payload: bytes | memoryview) -> "Heartbeat":
        """Parse a payload; the decoder has checked its length."""
        return cls._make(_HEARTBEAT.unpack(payload))


class TakeoverNotice(NamedTuple):
    """The sender serves alone from now on, under `term`; a primary that receives this must stop releasing."""

    term: int
    epoch: int

    def pack(self) -> bytes:
        """The payload."""
        return _TAKEOVER.pack(*self)

    @classmethod
    def unpack(cls, payload: bytes | memoryview) -> "TakeoverNotice":
        """Parse a payload; the decoder has checked its length."""
        return cls._make(_TAKEOVER.unpack(payload))


class GoodbyeReason(IntEnum):
    """Why a node leaves on purpose."""

    OTHER = 0
    SHUTDOWN = 1
    PROTOCOL = 2
    REPLACED = 3
    RESIGNED = 4
    """The sender's guest is gone and the sender will not serve: the other node may, without an arbiter decision."""

    @classmethod
    def _missing_(cls, value: object) -> "GoodbyeReason":
        return cls.OTHER  # an unknown reason of a later version is still a goodbye


class Goodbye(NamedTuple):
    """The sender leaves on purpose: its silence from here on is not a failure."""

    reason: GoodbyeReason
    text: str

    def pack(self) -> bytes:
        """The payload."""
        return bytes([self.reason]) + pack_text(self.text)

    @classmethod
    def unpack(cls, payload: bytes | memoryview) -> "Goodbye":
        """Parse a payload; the decoder has checked its length."""
        return cls(GoodbyeReason(payload[0]), unpack_text(payload[1:]))


def pack_text(text: str) -> bytes:
    """`text` as UTF-8, truncated to `TEXT_BYTES_MAX` at a character boundary."""
    return text.encode("utf-8", "replace")[:TEXT_BYTES_MAX].decode("utf-8", "ignore").encode()


def unpack_text(payload: bytes | memoryview) -> str:
    """One printable line: text from the other node must not bring newlines or terminal sequences into our log."""
    decoded = bytes(payload).decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "?" for character in decoded)
