"""Frames through a descriptor that gives and takes one per call (TAP, AF_PACKET), as batches.

Compiled, the loop over read(2) and write(2) runs with the GIL released; uncompiled it is the same loop over `os`.
"""

import errno as errors
import os

import cython

from pycolo import limits

if cython.compiled:
    from cython.cimports.libc.errno import errno
    from cython.cimports.posix.unistd import read, write
    from cython.cimports.pycolo.wire.framing import Span, frame_at
    from cython.cimports.pycolo.wire.octets import store32
else:
    from pycolo.wire.framing import Span, frame_at
    from pycolo.wire.octets import store32

_FRAME_MAX = cython.declare(cython.Py_ssize_t, limits.STREAM_LENGTH_BYTES_MAX)
_EAGAIN = cython.declare(cython.int, errors.EAGAIN)
_EINTR = cython.declare(cython.int, errors.EINTR)
_ENOBUFS = cython.declare(cython.int, errors.ENOBUFS)


class FrameFd:
    """One non-blocking descriptor. `vnet_len`: bytes of vnet header that it puts before each frame, 0 for none.

    `dropped` counts frames that the device refused (`last_errno` says why); `failed_errno` is set when reading fails
    for good.
    """

    def __init__(self, fd: int, vnet_len: int) -> None:
        self.fd = fd
        self.vnet_len = vnet_len
        self.frames_in = self.frames_out = self.dropped = 0
        self.last_errno = self.failed_errno = 0
        self._span = Span()

    def read_batch(self, buf: cython.uchar[::1], pos: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Read frames into `buf` from `pos` until there are none, or no room for another; the new end is returned."""
        with cython.nogil:
            pos = self._read(buf, pos)
        return pos

    def write_batch(self, buf: cython.uchar[::1], pos: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Write the frames of a batch; the position up to which they were taken is returned.

        It is less than `end` when the device has no room now. A frame that the device refuses is dropped and counted.
        """
        with cython.nogil:
            pos = self._write(buf, pos, end)
        return pos

    def _read(self, buf: cython.uchar[::1], pos: cython.Py_ssize_t) -> cython.Py_ssize_t:
        words: cython.Py_ssize_t = 8 if self.vnet_len else 4
        count: cython.Py_ssize_t
        while len(buf) - pos >= _FRAME_MAX + words:
            if cython.compiled:
                count = read(self.fd, cython.address(buf[pos + words]), _FRAME_MAX)
                if count < 0:
                    self._note_read_error(errno)
                    return pos
            else:
                try:
                    count = os.readv(self.fd, [memoryview(buf)[pos + words : pos + words + _FRAME_MAX]])
                except OSError as error:
                    self._note_read_error(error.errno)
                    return pos
            if count == 0:
                return pos
            store32(buf, pos, count)
            if self.vnet_len:
                store32(buf, pos + 4, self.vnet_len)
            self.frames_in += 1
            pos += words + count
        return pos

    def _note_read_error(self, number: cython.int) -> cython.int:
        if number != _EAGAIN and number != _EINTR:
            self.failed_errno = number
        return 0

    def _write(self, buf: cython.uchar[::1], pos: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
        count: cython.Py_ssize_t = 0
        number: cython.int = 0
        while frame_at(buf, pos, end, self.vnet_len != 0, self._span) == 1:
            if self._span.end > self._span.start:
                if cython.compiled:
                    count = write(self.fd, cython.address(buf[self._span.start]), self._span.end - self._span.start)
                    number = errno if count < 0 else 0
                else:
                    try:
                        os.write(self.fd, memoryview(buf)[self._span.start : self._span.end])
                        number = 0
                    except OSError as error:
                        number = error.errno
                if number == _EAGAIN or number == _ENOBUFS:  # noqa: SIM109 - no tuples without the GIL
                    return pos
                if number == 0:
                    self.frames_out += 1
                elif number != _EINTR:
                    self.dropped += 1
                    self.last_errno = number
            if number != _EINTR:
                pos = self._span.end
        return pos
