from pycolo.compare.stream cimport ByteStreams
from pycolo.wire.packet cimport Packet

cdef class OneSide(ByteStreams):
    cdef int client(self, int row, unsigned char[::1] buf, Packet packet, long long now_us) except -1 nogil
    cdef int _close_if_done(self, int row, long long now_us) except -1 nogil
    cdef int alone(self, int row, Packet packet, long long now_us) except -1 nogil
    cdef int _note_end(self, int row, long long end) except -1 nogil
    cdef bint turns_down(self, int row, Packet packet) except -1 nogil
    cdef bint may_take(self, int row, Packet packet) except -1 nogil
    cdef bint answers_a_lie(self, int row, Packet packet) except -1 nogil
    cdef bint _is_alone(self, int row) except -1 nogil
    cdef int _watch_alone(self, int row, bint is_alone) except -1 nogil
    cdef int _secondary_reset(self, int row, Packet packet, long long now_us) except -1 nogil
    cdef bint _is_refused(self, int row, long long ack) except -1 nogil
    cdef Py_ssize_t alone_since_us(self, int row) except -1 nogil
    cdef Py_ssize_t waits_from_us(self, int row, int record, long long since_us, long long now_us) except -1 nogil
