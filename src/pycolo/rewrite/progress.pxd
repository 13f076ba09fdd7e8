cimport cython
from pycolo.rewrite.offsets cimport SeqOffsets
from pycolo.wire.packet cimport Packet

cdef long long segment_end(Packet packet) noexcept nogil

@cython.final
cdef class Progress:
    cdef readonly SeqOffsets offsets
    cdef unsigned int[::1] acked
    cdef unsigned int[::1] guest_fin
    cdef unsigned int[::1] client_fin
    cdef unsigned int[::1] _sent
    cdef unsigned int[::1] _taken
    cdef unsigned int[::1] _received
    cdef unsigned int[::1] _edge
    cdef int[::1] _scale
    cdef unsigned int[::1] _echoed
    cdef unsigned int[::1] _sent_value

    cdef int open_row(self, int row) except -1 nogil
    cdef int guest_syn(self, int row, Packet packet, bint is_new) except -1 nogil
    cdef int learned(self, int row, Packet packet) except -1 nogil
    cdef int guest(self, int row, unsigned char[::1] buf, Packet packet) except -1 nogil
    cdef int _note_ack(self, int row, Packet packet, bint has_spoken) except -1 nogil
    cdef bint is_in_window(self, int row, long long seq) except -1 nogil
    cdef bint client(self, int row, unsigned char[::1] buf, Packet packet) except -1 nogil
    cdef int _client_reset(self, int row, unsigned char[::1] buf, Packet packet) except -1 nogil
    cdef bint _is_newer_echo(self, int row, unsigned char[::1] buf, Packet packet) except -1 nogil
    cdef Py_ssize_t _newest_value(self, int row) except -1 nogil
    cdef bint has_ended(self, int row) except -1 nogil
    cdef int catch_up(self, int row) except -1 nogil
    cdef int lift(self, int row, unsigned char[::1] buf, Packet packet) except -1 nogil
