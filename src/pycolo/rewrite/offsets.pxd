cimport cython
from pycolo.conntrack.table cimport ConnectionTable
from pycolo.wire.packet cimport Packet

@cython.final
cdef class SeqOffsets:
    cdef int[::1] state
    cdef int[::1] flags
    cdef unsigned int[::1] seq_offset
    cdef unsigned int[::1] ts_offset
    cdef unsigned int[::1] secondary_isn
    cdef unsigned int[::1] secondary_value
    cdef unsigned int[::1] due
    cdef unsigned int[::1] first
    cdef unsigned int[::1] _claim_isn
    cdef unsigned int[::1] _claim_end
    cdef long long[::1] _claim_us
    cdef unsigned int[::1] _answer_isn
    cdef unsigned int[::1] _other_isn
    cdef unsigned int[::1] _other_seq_offset
    cdef unsigned int[::1] _other_ts_offset

    cdef int open_row(self, int row, int state) except -1 nogil
    cdef int client_syn(self, int row, Packet packet, long long now_us) except -1 nogil
    cdef bint follows_claim(self, int row, Packet packet, long long now_us) except -1 nogil
    cdef int refused(self, int row, Packet packet) except -1 nogil
    cdef bint must_wait(self, int row, Packet packet, long long now_us) except -1 nogil
    cdef bint guest_syn(self, int row, unsigned char[::1] buf, Packet packet, bint is_serving) except -1 nogil
    cdef int _note_due(self, int row, long long due, bint is_new) except -1 nogil
    cdef bint completes(self, int row, Packet packet) except -1 nogil
    cdef bint answers(self, int row, Packet packet) except -1 nogil
    cdef int learn(self, int row, unsigned char[::1] buf, Packet packet, bint is_answer) except -1 nogil
    cdef int goes_on(self, int row, Packet packet) except -1 nogil
    cdef int committed(self, int row) except -1 nogil
    cdef int shift(self, int row, unsigned char[::1] buf, Packet packet, int sign) except -1 nogil
    cdef int shift_guest(self, int row, unsigned char[::1] buf, Packet packet, int sign) except -1 nogil
    cdef bint is_told(self, ConnectionTable table, int row) except -1 nogil
