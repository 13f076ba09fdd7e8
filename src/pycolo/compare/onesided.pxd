from pycolo.compare.stream cimport ByteStreams
from pycolo.wire.packet cimport Packet

cdef class OneSide(ByteStreams):
    cdef int client(self, int row, unsigned char[::1] buf, Packet packet, long long now_us) except -1 nogil
    cdef int passes(self, int row, Packet packet, long long now_us) except -1 nogil
    cdef int _close_if_done(self, int row, long long now_us) except -1 nogil
    cdef bint _is_alone(self, int row) except -1 nogil
    cdef int _watch_alone(self, int row, bint is_alone) except -1 nogil
    cdef Py_ssize_t alone_since_us(self, int row) except -1 nogil
    cdef Py_ssize_t waits_from_us(self, int row, int record, long long since_us, long long now_us) except -1 nogil
