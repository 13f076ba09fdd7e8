"""notify_dev: the protocol with which Xen's toolstack and colo-compare notify each other of checkpoints.

::

    peer ── COLO_USERSPACE_PROXY_INIT ─► us       us ── COLO_COMPARE_GET_XEN_INIT ─► peer
    us ── DO_CHECKPOINT ─► peer                   peer ── COLO_CHECKPOINT ─► us: it is committed

Each message is a length word and a string without a terminator. With vnet_hdr_support the peer sends a vnet word after
its length word, as in every stream; we send none, as QEMU sends none.
"""

import struct
from enum import Enum
from typing import Final

from pycolo import limits
from pycolo.core import COMPLETE, IMPOSSIBLE, Span, frame_at
from pycolo.errors import FramingError
from pycolo.proxy.chardev import ChardevPort

INIT: Final = b"COLO_USERSPACE_PROXY_INIT"
INIT_ANSWER: Final = b"COLO_COMPARE_GET_XEN_INIT"
DO_CHECKPOINT: Final = b"DO_CHECKPOINT"
CHECKPOINT_DONE: Final = b"COLO_CHECKPOINT"

_UNSENT_BYTES_MAX: Final = 4_096
"""A peer that leaves this many messages unread is treated as not reading."""


class Message(Enum):
    """What the peer sent."""

    INIT = INIT
    CHECKPOINT_DONE = CHECKPOINT_DONE


class NotifyDev:
    """One notify_dev. `port` is opened without vnet words, as we send none; `has_vnet`: the peer sends them."""

    def __init__(self, port: ChardevPort, has_vnet: bool) -> None:  # noqa: FBT001 - one fact of the stream
        self.port = port
        self.messages_in = 0
        self.messages_out = 0
        self.unknown = 0
        self._has_vnet = has_vnet
        self._buf = bytearray(limits.STREAM_LENGTH_BYTES_MAX + 8)
        self._end = 0
        self._unsent = bytearray()
        self._span = Span()
        self._seen_connections = 0

    def take_new_connection(self) -> bool:
        """Whether a peer has connected since the last call: requests must then be sent again."""
        is_new = self.port.connections != self._seen_connections and self.port.is_connected
        if is_new:
            self._seen_connections = self.port.connections
            self._unsent.clear()
        return is_new

    def read(self) -> list[Message | bytes]:
        """Received messages; an unknown one is returned as bytes. Raises `FramingError`."""
        self._end = self.port.read_batch(self._buf, self._end)
        found: list[Message | bytes] = []
        pos = 0
        while (status := frame_at(self._buf, pos, self._end, self._has_vnet, self._span)) == COMPLETE:
            found.append(self._message(bytes(self._buf[self._span.start : self._span.end])))
            pos = self._span.end
        if status == IMPOSSIBLE:
            self.forget()
            raise FramingError(self.port.name, pos, self._span.word, limits.STREAM_LENGTH_BYTES_MAX)
        self._buf[: self._end - pos] = self._buf[pos : self._end]
        self._end -= pos
        if self.port.take_reset():
            self.forget()
        return found

    def _message(self, octets: bytes) -> Message | bytes:
        self.messages_in += 1
        try:
            return Message(octets)
        except ValueError:
            self.unknown += 1
            return octets

    def forget(self) -> None:
        """The connection is lost: drop partial messages, in and out."""
        self._end = 0
        self._unsent.clear()

    def send(self, text: bytes) -> bool:
        """Send to the peer; False when it is not connected."""
        if not self.port.is_connected or len(self._unsent) > _UNSENT_BYTES_MAX:
            return False
        self.messages_out += 1
        self._unsent += struct.pack("!I", len(text)) + text
        self.flush()
        return True

    @property
    def has_unsent(self) -> bool:
        """Whether to call `flush` when the port is writable again."""
        return bool(self._unsent)

    def flush(self) -> None:
        """Send what waits, as far as the peer accepts it."""
        if self._unsent:
            del self._unsent[: self.port.write_batch(self._unsent, 0, len(self._unsent))]
        if not self.port.is_connected:
            self._unsent.clear()
