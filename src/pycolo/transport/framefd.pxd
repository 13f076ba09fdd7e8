cimport cython
from pycolo.wire.framing cimport Span

@cython.final
cdef class FrameFd:
    cdef readonly int fd
    cdef readonly int vnet_len
    cdef readonly long long frames_in
    cdef readonly long long frames_out
    cdef readonly long long dropped
    cdef readonly int last_errno
    cdef readonly int failed_errno
    cdef Span _span

    cdef Py_ssize_t _read(self, unsigned char[::1] buf, Py_ssize_t pos) except -1 nogil
    cdef int _note_read_error(self, int number) except -1 nogil
    cdef Py_ssize_t _write(self, unsigned char[::1] buf, Py_ssize_t pos, Py_ssize_t end) except -1 nogil
