"""The messages of the data connection between the nodes, where they are read and where they are put to be sent.

What a message is, and what is said of a bad one, stands in `pycolo.link.codec`; the bytes are moved by
`pycolo.transport.linksocket`.
"""

cdef enum:
    _MESSAGE_HEADER = 8
    # What stands at the front of an inlet, where it is no message's type.
    _NO_MESSAGE = 0
    _BAD_MESSAGE = -1


@cython.final
cdef class LinkInlet:
    """Cuts a stream into messages, in place. `accepted`: number of a type → (shortest, longest payload).

    `pos`: so much of the payload in front was taken already. `offset`: bytes of the stream before the message in front.
    The buffer holds a longest message, and behind it as much as is read at once; it never grows.
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
        """Where the next bytes go, `read_bytes` or more where no message is left; ends the life of all payloads."""
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
        """(type, what is left of the payload) of the first message; None: it is not whole yet, or `is_bad`.

        The payload is a view, which is good until the next `writable()`.
        """
        cdef int kind = self.peek()
        if kind <= 0:
            return None
        return kind, self._view[self.payload_at() + self.pos : self.payload_at() + self._length]

    @property
    def is_bad(self):
        """Whether no message can begin with the header in front: the stream cannot be read on."""
        return self.peek() == _BAD_MESSAGE

    def header(self):
        """The bytes of the header in front."""
        return bytes(self._view[self.start : self.start + _MESSAGE_HEADER])

    def advance(self):
        """The message in front is done with."""
        self.drop()

    cdef int peek(self) noexcept nogil:
        """The type of the message in front, _NO_MESSAGE or _BAD_MESSAGE."""
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
        """Where in the buffer the payload in front begins; `peek` has found it."""
        return self.start + _MESSAGE_HEADER

    cdef bint holds_frames(self, bint has_vnet) noexcept nogil:
        """Whether the payload in front ends with a frame's end: what followed would never be taken."""
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
    """Bytes `head` … `tail` of `view` are to be sent. `queue_bytes_max`: above that `can_queue` is False.

    `view` has twice the room for that and one longest message: moving what is unsent to the front is then paid for by
    as many bytes that were sent before.
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
        """Copy one message behind what waits already; its payload is all `buffers` in a row. False: no room."""
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
        """Where a payload of `length` bytes may be written, for `put`; NULL where there is no room for it."""
        cdef Py_ssize_t unsent = self.tail - self.head
        if unsent + _MESSAGE_HEADER + length > self._size // 2:
            return NULL
        if self.tail + _MESSAGE_HEADER + length > self._size:
            memcpy(self._buf, self._buf + self.head, unsent)
            self.head, self.tail = 0, unsent
        return self._buf + self.tail + _MESSAGE_HEADER

    cdef int put(self, int kind, Py_ssize_t length) noexcept nogil:
        """The payload that was written to what `reserve` gave, or the beginning of that, is a message's."""
        store32(self._buf, self.tail, length)
        self._buf[self.tail + 4] = kind
        self._buf[self.tail + 5] = self._buf[self.tail + 6] = self._buf[self.tail + 7] = 0
        self.tail += _MESSAGE_HEADER + length
        return 0
