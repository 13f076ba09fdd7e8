"""The messages of a link's connection, as they come: `pycolo.link.codec` says what they are."""

from collections.abc import Iterator
from typing import NoReturn

from pycolo import limits
from pycolo.core import LinkInlet
from pycolo.errors import LinkError, StateError
from pycolo.link.codec import TLS_RECORD_BYTES_MAX, MessageType, parse_header, payload_lengths


class Decoder:
    """Cuts a stream into messages, in place.

    ``n = recv_into(decoder.writable()); decoder.received(n); for message_type, payload in
    decoder.messages(): …``

    A payload is a view into the decoder's buffer: it is good until the next `writable()`. The buffer never
    grows. `inlet` is where the bytes are, for code that is compiled.
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
        """Bytes received that no message has taken yet."""
        return self.inlet.end - self.inlet.start

    def writable(self) -> memoryview:
        """Where the next bytes go; ends the life of all payloads yielded. Raises the refusal, if any."""
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
        """What is left of the first message, if that is whole. Raises `LinkError` at a bad header, and ever after."""
        found = self.inlet.front()
        if found is None:
            if self.inlet.is_bad:
                self._refuse()
            return None
        return MessageType(found[0]), found[1]

    def messages(self) -> Iterator[tuple[MessageType, memoryview]]:
        """Every whole message so far, in order. Raises `LinkError` at a bad header, and ever after."""
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
