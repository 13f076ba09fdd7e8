"""Frames through a descriptor that gives and takes one per call (TAP, AF_PACKET), as batches.

The loop over read(2) and write(2) runs with the GIL released.
"""


cdef Py_ssize_t _FRAME_MAX = limits.STREAM_LENGTH_BYTES_MAX
cdef int _EAGAIN = errors.EAGAIN
cdef int _EINTR = errors.EINTR
cdef int _ENOBUFS = errors.ENOBUFS


@cython.final
cdef class FrameFd:
    """One non-blocking descriptor. `vnet_len`: bytes of vnet header that it puts before each frame, 0 for none.

    `dropped` counts frames that the device refused (`last_errno` says why); `failed_errno` is set when reading fails
    for good.
    """

    cdef readonly int fd
    cdef readonly int vnet_len
    cdef readonly long long frames_in
    cdef readonly long long frames_out
    cdef readonly long long dropped
    cdef readonly int last_errno
    cdef readonly int failed_errno
    cdef Span _span

    def __init__(self, fd: int, vnet_len: int) -> None:
        self.fd = fd
        self.vnet_len = vnet_len
        self.frames_in = self.frames_out = self.dropped = 0
        self.last_errno = self.failed_errno = 0
        self._span = Span()

    def read_batch(self, buf: cython.uchar[::1], pos: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Read frames into `buf` from `pos` until there are none, or no room for another; the new end is returned."""
        check_range(len(buf), pos, len(buf))
        cdef uint8_t* base = &buf[0]
        room: cython.Py_ssize_t = len(buf)
        with nogil:
            pos = self._read(base, pos, room)
        return pos

    def write_batch(self, buf: cython.uchar[::1], pos: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Write the frames of a batch; the position up to which they were taken is returned.

        It is less than `end` when the device has no room now. A frame that the device refuses is dropped and counted.
        """
        check_range(len(buf), pos, end)
        cdef uint8_t* base = &buf[0]
        with nogil:
            pos = self._write(base, pos, end)
        return pos

    cdef Py_ssize_t _read(self, uint8_t* buf, Py_ssize_t pos, Py_ssize_t room) noexcept nogil:
        words: cython.Py_ssize_t = 8 if self.vnet_len else 4
        count: cython.Py_ssize_t
        while room - pos >= _FRAME_MAX + words:
            count = read(self.fd, buf + pos + words, _FRAME_MAX)
            if count < 0:
                self._note_read_error(errno)
                return pos
            if count == 0:
                return pos
            store32(buf, pos, count)
            if self.vnet_len:
                store32(buf, pos + 4, self.vnet_len)
            self.frames_in += 1
            pos += words + count
        return pos

    cdef int _note_read_error(self, int number) noexcept nogil:
        if number != _EAGAIN and number != _EINTR:
            self.failed_errno = number
        return 0

    cdef Py_ssize_t _write(self, uint8_t* buf, Py_ssize_t pos, Py_ssize_t end) noexcept nogil:
        count: cython.Py_ssize_t = 0
        number: cython.int = 0
        while frame_at(buf, pos, end, self.vnet_len != 0, self._span) == 1:
            if self._span.end > self._span.start:
                count = write(self.fd, buf + self._span.start, self._span.end - self._span.start)
                number = errno if count < 0 else 0
                if number == _EAGAIN or number == _ENOBUFS:
                    return pos
                if number == 0:
                    self.frames_out += 1
                elif number != _EINTR:
                    self.dropped += 1
                    self.last_errno = number
            if number != _EINTR:
                pos = self._span.end
        return pos
