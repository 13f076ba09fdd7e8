"""The buffers of the data connection's messages between the nodes, received and to send.

`pycolo.link.codec` defines the messages and the errors for invalid ones; `pycolo.transport.linksocket` moves the bytes.
"""

cdef enum:
    _MESSAGE_HEADER = 8
    # Values of the first message's type that are no type.
    _NO_MESSAGE = 0
    _BAD_MESSAGE = -1


@cython.final
cdef class LinkInlet:
    """Splits a stream into messages, in place. `accepted`: number of a type → (shortest, longest payload).

    `pos`: how much of the first payload was consumed. `offset`: bytes of the stream before the first message. The
    buffer holds the longest message and one more read; it never grows.
    """

    cdef readonly Py_ssize_t read_bytes
    cdef readonly Py_ssize_t start
    cdef readonly Py_ssize_t end
    cdef readonly long long offset
    cdef public Py_ssize_t pos
    cdef object _view
    cdef uint8_t* _buf
    cdef Py_ssize_t _size
    cdef Py_ssize_t _length
    cdef bint _is_sound
    cdef int32_t[256] _shortest
    cdef int32_t[256] _longest

    def __init__(self, accepted, Py_ssize_t read_bytes):
        cdef uint8_t[::1] whole
        for number in range(256):
            self._shortest[number], self._longest[number] = accepted.get(number, (1, 0))
        longest = max(longest for _, longest in accepted.values())
        self.read_bytes = read_bytes
        self._view = whole = memoryview(bytearray(_MESSAGE_HEADER + longest + read_bytes))
        self._buf = &whole[0]
        self._size = len(whole)
        self.start = self.end = self.pos = self._length = 0
        self.offset = 0
        self._is_sound = False

    def writable(self):
        """Where to write the next bytes, at least `read_bytes` if no message is left; invalidates all payloads."""
        cdef Py_ssize_t used = self.end - self.start
        if used == 0:
            self.start = self.end = 0
        elif self.start and self._size - self.end < self.read_bytes:
            memmove(self._buf, self._buf + self.start, used)
            self.start, self.end = 0, used
        return self._view[self.end :]

    def received(self, Py_ssize_t count):
        """`count` bytes have been written to the start of `writable()`."""
        assert 0 <= count <= self._size - self.end
        self.end += count

    def front(self):
        """(type, rest of the payload) of the first message; None: it is incomplete, or `is_bad`.

        The payload is a view, valid until the next `writable()`.
        """
        cdef int kind = self.peek()
        if kind <= 0:
            return None
        return kind, self._view[self.payload_at() + self.pos : self.payload_at() + self._length]

    @property
    def is_bad(self):
        """Whether the first header is invalid: the stream cannot be read any further."""
        return self.peek() == _BAD_MESSAGE

    def header(self):
        """The bytes of the first header."""
        return bytes(self._view[self.start : self.start + _MESSAGE_HEADER])

    def advance(self):
        """Remove the first message."""
        self.drop()

    cdef int peek(self) noexcept nogil:
        """The type of the first message, _NO_MESSAGE or _BAD_MESSAGE."""
        cdef const uint8_t* at = self._buf + self.start
        cdef int kind
        cdef long long length
        if self.end - self.start < _MESSAGE_HEADER:
            return _NO_MESSAGE
        length = load32(at, 0)
        kind = at[4]
        if at[5] or at[6] or at[7] or not self._shortest[kind] <= length <= self._longest[kind]:
            return _BAD_MESSAGE
        self._length = length
        return kind if self.end - self.start - _MESSAGE_HEADER >= length else _NO_MESSAGE

    cdef inline Py_ssize_t payload_at(self) noexcept nogil:
        """Position of the first payload in the buffer; `peek` has found it."""
        return self.start + _MESSAGE_HEADER

    cdef bint holds_frames(self, bint has_vnet) noexcept nogil:
        """Whether the first payload ends at a frame boundary: the rest of a partial frame would never come."""
        cdef Py_ssize_t at = self.payload_at()
        if not self._is_sound:
            self._is_sound = frame_boundary(self._buf, at, at + self._length, has_vnet) == at + self._length
        return self._is_sound

    cdef int drop(self) noexcept nogil:
        self.start += _MESSAGE_HEADER + self._length
        self.offset += _MESSAGE_HEADER + self._length
        self.pos = 0
        self._is_sound = False
        return 0


@cython.final
cdef class LinkOutlet:
    """Bytes `head` … `tail` of `view` are to be sent. `queue_bytes_max`: above it `can_queue` is False.

    `view` has twice the room for that and one longest message: before unsent bytes are moved to the front, at least as
    many bytes have been sent.
    """

    cdef readonly object view
    cdef public Py_ssize_t head
    cdef public Py_ssize_t tail
    cdef readonly Py_ssize_t queue_bytes_max
    cdef uint8_t* _buf
    cdef Py_ssize_t _size

    def __init__(self, view, Py_ssize_t queue_bytes_max):
        cdef uint8_t[::1] whole = view
        self.view = view
        self.head = self.tail = 0
        self.queue_bytes_max = queue_bytes_max
        self._buf = &whole[0]
        self._size = len(whole)

    @property
    def can_queue(self):
        """False while the peer is too slow: do not read what would be queued here."""
        return self.has_room()

    def queue(self, int kind, *buffers):
        """Append one message to the queue; its payload is the concatenation of `buffers`. False: no room."""
        cdef const uint8_t[::1] octets
        cdef Py_ssize_t length = sum(map(len, buffers))
        cdef uint8_t* target = self.reserve(length)
        if target == NULL:
            return False
        for buffer in buffers:
            if len(buffer):
                octets = buffer
                memcpy(target, &octets[0], len(octets))
                target += len(octets)
        self.put(kind, length)
        return True

    cdef inline bint has_room(self) noexcept nogil:
        return self.tail - self.head < self.queue_bytes_max

    cdef uint8_t* reserve(self, Py_ssize_t length) noexcept nogil:
        """Where to write a payload of `length` bytes, for `put`; NULL if there is no room."""
        cdef Py_ssize_t unsent = self.tail - self.head
        if unsent + _MESSAGE_HEADER + length > self._size // 2:
            return NULL
        if self.tail + _MESSAGE_HEADER + length > self._size:
            memcpy(self._buf, self._buf + self.head, unsent)
            self.head, self.tail = 0, unsent
        return self._buf + self.tail + _MESSAGE_HEADER

    cdef int put(self, int kind, Py_ssize_t length) noexcept nogil:
        """Make a message of the payload that was written to `reserve`'s result; `length` may be less than reserved."""
        store32(self._buf, self.tail, length)
        self._buf[self.tail + 4] = kind
        self._buf[self.tail + 5] = self._buf[self.tail + 6] = self._buf[self.tail + 7] = 0
        self.tail += _MESSAGE_HEADER + length
        return 0
