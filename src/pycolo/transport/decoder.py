"""Splits a link connection's stream into messages; `pycolo.link.codec` defines them."""

from collections.abc import Iterator
from typing import NoReturn

from pycolo import limits
from pycolo.core import LinkInlet
from pycolo.errors import LinkError, StateError
from pycolo.link.codec import TLS_RECORD_BYTES_MAX, MessageType, parse_header, payload_lengths


class Decoder:
    """Decodes messages in place.

    ``n = recv_into(decoder.writable()); decoder.received(n); for message_type, payload in
    decoder.messages(): …``

    A payload is a view into the decoder's buffer, valid until the next `writable()`. The buffer never grows. `inlet` is
    the buffer, for compiled code.
    """

    def __init__(self, stream: str, types: frozenset[MessageType], read_bytes: int = limits.BATCH_BYTES) -> None:
        """For `types`; once `messages()` was read to its end, `writable()` offers `read_bytes` or more."""
        assert read_bytes >= TLS_RECORD_BYTES_MAX
        self.stream = stream
        self.read_bytes = read_bytes
        self.inlet = LinkInlet(payload_lengths(types), read_bytes)
        self._types = types
        self._refusal: LinkError | None = None

    @property
    def buffered_bytes(self) -> int:
        """Bytes received that no message has consumed yet."""
        return self.inlet.end - self.inlet.start

    def writable(self) -> memoryview:
        """Where to write the next bytes; invalidates all payloads. Raises the refusal, if there is one."""
        if self._refusal is not None:
            raise self._refusal
        room = self.inlet.writable()
        if not len(room):
            raise StateError(f"{self.stream}: writable()", "full", "read to the end of messages()")
        return room

    def received(self, count: int) -> None:
        """`count` bytes have been written to the start of `writable()`."""
        self.inlet.received(count)

    def front(self) -> tuple[MessageType, memoryview] | None:
        """The first message if it is complete. Raises `LinkError` at a bad header, and at every later call."""
        found = self.inlet.front()
        if found is None:
            if self.inlet.is_bad:
                self._refuse()
            return None
        return MessageType(found[0]), found[1]

    def messages(self) -> Iterator[tuple[MessageType, memoryview]]:
        """Every complete message, in order. Raises `LinkError` at a bad header, and at every later call."""
        while (found := self.front()) is not None:
            self.inlet.advance()
            yield found

    def _refuse(self) -> NoReturn:
        try:
            parse_header(self.inlet.header(), 0, self._types, self.stream, self.inlet.offset)
        except LinkError as refusal:
            self._refusal = self._refusal or refusal
            raise self._refusal from None
        raise AssertionError("the inlet and parse_header() disagree about a header")
