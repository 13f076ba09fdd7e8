cimport cython
from pycolo.wire.packet cimport Packet

@cython.final
cdef class SeqOffsets:
    cdef int[::1] state
    cdef int[::1] flags
    cdef unsigned int[::1] seq_offset
    cdef unsigned int[::1] ts_offset
    cdef unsigned int[::1] _secondary_isn
    cdef unsigned int[::1] _secondary_value
    cdef unsigned int[::1] _client_isn
    cdef unsigned int[::1] _echoed
    cdef unsigned int[::1] _sent_value

    cdef int open_row(self, int row, int state) except -1 nogil
    cdef int client_syn(self, int row, Packet packet) except -1 nogil
    cdef bint follows_syn(self, int row, Packet packet) except -1 nogil
    cdef bint guest_syn(self, int row, unsigned char[::1] buf, Packet packet) except -1 nogil
    cdef int learn(self, int row, unsigned char[::1] buf, Packet packet) except -1 nogil
    cdef int committed(self, int row) except -1 nogil
    cdef int to_secondary(self, int row, unsigned char[::1] buf, Packet packet) except -1 nogil
    cdef int _note_echo(self, int row, long long echo) except -1 nogil
    cdef int from_secondary(self, int row, unsigned char[::1] buf, Packet packet) except -1 nogil
    cdef int catch_up(self, int row) except -1 nogil
    cdef int lift(self, int row, unsigned char[::1] buf, Packet packet) except -1 nogil
