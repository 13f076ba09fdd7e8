"""The migration stream's reverse direction, from the secondary's QEMU to the primary's, as messages.

::

    u16 type  u16 length  payload     a return-path message, before COLO begins (QEMU 11.1: PONG, then SHUT)
    …
    u32 0                             COLO's READY: its first u16 is a type that no return-path message has
    u32 2, 5 or 6                     REPLY, RECEIVED, LOADED: once for each checkpoint

All numbers are big-endian. QEMU 7.2 and 10.0 send no return-path message under COLO: their first word is READY.

Pure: octets in, whole messages out. The octets of the messages, one after another, are the octets that came in.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from pycolo.errors import PeerError


class ColoMessage(IntEnum):
    """The values of QEMU's COLOMessage that the secondary sends to the primary."""

    READY = 0
    """The secondary has loaded the primary's first state and runs."""
    REPLY = 2
    """The secondary has stopped for a checkpoint."""
    RECEIVED = 5
    """The secondary has received the primary's whole state."""
    LOADED = 6
    """The secondary has loaded that state and runs."""


RETURN_PATH_LENGTHS: Final[Mapping[int, int]] = {1: 4, 2: 4, 6: 4, 7: 0}
"""Type → length of the payload: SHUT, PONG, RESUME_ACK, SWITCHOVER_ACK.

The others (REQ_PAGES_ID, REQ_PAGES, RECV_BITMAP) belong to postcopy, which excludes COLO.
"""

_HEADER: Final = Struct(">HH")
_WORD: Final = Struct(">I")

PARTIAL_BYTES_MAX: Final = _HEADER.size + max(RETURN_PATH_LENGTHS.values()) - 1
"""The most that waits for the rest of a message."""


@dataclass(frozen=True, slots=True)
class BackMessage:
    """One message. `word` is None for one of the return path."""

    octets: bytes
    word: ColoMessage | None = None


class BackStream:
    """One stream, read in pieces of any size."""

    def __init__(self) -> None:
        self._partial = b""
        self._offset = 0
        self._is_colo = False

    def feed(self, octets: bytes) -> Iterator[BackMessage]:
        """The messages that `octets` complete, to be read to the end.

        Raises `PeerError` at what QEMU does not send under COLO, after the messages before it.
        """
        self._partial += octets
        while (message := self._next()) is not None:
            self._partial = self._partial[len(message.octets) :]
            self._offset += len(message.octets)
            yield message

    def _next(self) -> BackMessage | None:
        if len(self._partial) < _WORD.size:
            return None
        kind, length = _HEADER.unpack_from(self._partial)
        if self._is_colo or kind == 0:
            return self._colo(self._partial[: _WORD.size])
        if RETURN_PATH_LENGTHS.get(kind) != length:
            raise PeerError(self._refusal(f"return-path message {kind:#06x} of {length} bytes"))
        end = _HEADER.size + length
        return BackMessage(self._partial[:end]) if end <= len(self._partial) else None

    def _colo(self, octets: bytes) -> BackMessage:
        (value,) = _WORD.unpack(octets)
        try:
            word = ColoMessage(value)
        except ValueError:
            raise PeerError(self._refusal(f"COLO message {value:#010x}")) from None
        if (word is ColoMessage.READY) is self._is_colo:
            raise PeerError(self._refusal(f"COLO message {word.name}, READY comes first and once"))
        self._is_colo = True
        return BackMessage(octets, word)

    def _refusal(self, what: str) -> str:
        return f"the secondary's QEMU sends an unexpected {what} at byte {self._offset} of the stream"
