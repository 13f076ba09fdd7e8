cimport cython
from pycolo.storage.pool cimport Pool

@cython.final
cdef class Trace:
    cdef Pool pool
    cdef readonly bint is_on
    cdef readonly long long lost
    cdef unsigned char[::1] _buf
    cdef Py_ssize_t _end

    cdef int note(self, int record, int side, int fate, long long aux) except -1 nogil
    cdef int note_bytes(self, unsigned char[::1] buf, long long start, Py_ssize_t length, int vnet_len, int side, int fate,
                        long long arrived_us, long long aux) except -1 nogil
