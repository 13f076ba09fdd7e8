cimport cython
from pycolo.compare.held cimport Held
from pycolo.compare.shaper cimport Shaper
from pycolo.storage.pool cimport Pool
from pycolo.wire.packet cimport Packet

@cython.final
cdef class Promises:
    cdef readonly Held held
    cdef readonly Pool pool
    cdef readonly Shaper shaper
    cdef public bint commits_input
    cdef unsigned int[::1] primary_ack
    cdef long long[::1] primary_space
    cdef unsigned int[::1] secondary_ack
    cdef long long[::1] secondary_space
    cdef unsigned int[::1] stepped_ack
    cdef int[::1] scale
    cdef unsigned int[::1] _next_ack
    cdef long long[::1] _next_space
    cdef int[::1] _block_count
    cdef unsigned int[::1] _blocks
    cdef unsigned int[::1] _told_ack
    cdef int[::1] _told_window
    cdef int[::1] _layout
    cdef unsigned char[::1] _header
    cdef unsigned int[::1] _seq
    cdef unsigned int[::1] _value
    cdef unsigned int[::1] _echo
    cdef int[::1] _has_time
    cdef Packet _packet

    cdef int open_row(self, int row) except -1 nogil
    cdef int forget(self, int row) except -1 nogil
    cdef int note_primary(self, int row, Packet packet) except -1 nogil
    cdef bint note_secondary(self, int row, int record, Packet packet) except -1 nogil
    cdef int _note_step(self, int row, long long ack, long long ahead) except -1 nogil
    cdef bint has_taken_fin(self, int row) except -1 nogil
    cdef int note_early(self, int row, Packet packet) except -1 nogil
    cdef bint answers(self, int row, long long ack) except -1 nogil
    cdef int take_early(self, int row, bint has_ack) except -1 nogil
    cdef bint misses(self, int row) except -1 nogil
    cdef int _note_blocks(self, int row, int record, Packet packet) except -1 nogil
    cdef Py_ssize_t _space(self, int row, long long window, int flags) except -1 nogil
    cdef int _bound_scale(self, int row, long long ahead, long long space, long long window) except -1 nogil
    cdef int equalise(self, int row) except -1 nogil
    cdef int judge(self, int row, int record) except -1 nogil
    cdef bint is_bare(self, int record) except -1 nogil
    cdef int leaves(self, int row, int record, bint is_clamped, long long end) except -1 nogil
    cdef int _clamp(self, int row, int record, long long end) except -1 nogil
    cdef int owe(self, int row, int record) except -1 nogil
    cdef int _note_told(self, int row, long long ack, int window) except -1 nogil
    cdef int _note_header(self, int row, int record, long long seq) except -1 nogil
    cdef int _common_window(self, int row, long long ack, int flags) except -1 nogil
    cdef int _limit_blocks(self, int row, int record) except -1 nogil
    cdef int _keep_common_blocks(self, int row, Packet packet) except -1 nogil
    cdef bint _has_block(self, int row, long long left, long long right) except -1 nogil
    cdef int pay(self, int row, long long now_us) except -1 nogil
    cdef int repeat(self, int row, int record, long long now_us) except -1 nogil
    cdef int settle(self, int row, long long now_us) except -1 nogil
    cdef bint _say(self, int row, long long ack, int window, bint with_blocks, long long now_us) except -1 nogil
