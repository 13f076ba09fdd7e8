from pycolo.compare.held cimport Held
from pycolo.compare.history cimport History
from pycolo.compare.promises cimport Promises
from pycolo.compare.shaper cimport Shaper
from pycolo.storage.pool cimport Pool
from pycolo.wire.packet cimport Packet

cdef class ByteStreams:
    cdef readonly Held held
    cdef readonly Pool pool
    cdef readonly Shaper shaper
    cdef readonly Promises promises
    cdef readonly History history
    cdef public bint needs_handshake
    cdef bint sees_client
    cdef unsigned int[::1] _compared_seq
    cdef unsigned int[::1] _primary_isn
    cdef unsigned int[::1] _primary_end
    cdef unsigned int[::1] _secondary_isn
    cdef long long[::1] _secondary_options
    cdef unsigned int[::1] _secondary_fin
    cdef int[::1] _resets
    cdef int[::1] _next_resets
    cdef unsigned int[::1] _reset_ack
    cdef unsigned long long[::1] _matched_acks
    cdef long long[::1] _syn_us
    cdef long long[::1] _reset_us
    cdef long long[::1] _fin_us
    cdef unsigned int[::1] _client_ack
    cdef unsigned int[::1] _client_end
    cdef long long[::1] _client_moved_us
    cdef int[::1] _cursor
    cdef long long[::1] _advanced_us
    cdef unsigned int[::1] _newest_value
    cdef int _mine
    cdef int _theirs

    cdef int open_row(self, int row, bint has_syn) except -1 nogil
    cdef int _primary_syn(self, int row, Packet packet, long long now_us) except -1 nogil
    cdef int _begin_with_secondary(self, int row, long long primary_isn, bint is_first_life) except -1 nogil
    cdef bint _secondary_syn(self, int row, Packet packet, long long now_us) except -1 nogil
    cdef bint _note_primary_payload(self, int row, int record, Packet packet) except -1 nogil
    cdef int _place_again(self, int row, int record) except? -1 nogil
    cdef int _lift(self, int row, int record) except -1 nogil
    cdef int release_all(self, int row, long long now_us) except -1 nogil
    cdef int _queue_secondary(self, int row, int record) except -1 nogil
    cdef Py_ssize_t _end(self, int record) except -1 nogil
    cdef int _advance(self, int row) except -1 nogil
    cdef Py_ssize_t _equal_bytes(self, int row, int mine, int theirs, long long count) except -1 nogil
    cdef Py_ssize_t _byte_pos(self, int record, long long seq) except? -1 nogil
    cdef int _secondary_at_frontier(self, int row) except? -1 nogil
    cdef int _primary_at_frontier(self, int row) except? -1 nogil
    cdef int _differ(self, int row, int kind, int mine, int theirs, long long now_us) except -1 nogil
    cdef int _differ_at(self, int row, int kind, int mine, int theirs, long long seq, long long now_us) except -1 nogil
    cdef Py_ssize_t _differs_again(self, int row, int record) except? -1 nogil
    cdef int _add_context(self, int index, int side, int record, long long seq) except -1 nogil
    cdef int apply_policy(self, int row, long long now_us) except -1 nogil
    cdef int _reset_client(self, int row, long long now_us) except -1 nogil

cdef long long syn_options(Packet packet) noexcept nogil
