cimport cython
from pycolo.compare.stream cimport ByteStreams
from pycolo.wire.packet cimport Packet

@cython.final
cdef class TcpComparison(ByteStreams):
    cdef public bint commits_input
    cdef long long split_due_us

    cdef int close_row(self, int row) except -1 nogil
    cdef int primary(self, int row, int record, Packet packet, long long now_us) except -1 nogil
    cdef int secondary(self, int row, int record, Packet packet, long long now_us) except -1 nogil
    cdef int _compare(self, int row, long long now_us) except -1 nogil
    cdef int committed(self, int row, long long now_us) except -1 nogil
    cdef int mark_older(self, int row, long long now_us) except -1 nogil
    cdef int timed_out(self, int row, int kind, int record, long long now_us) except -1 nogil
    cdef int release_ready(self, int row, long long now_us) except -1 nogil
    cdef int _let_out(self, int row, int record, bint is_clamped, long long now_us) except -1 nogil
    cdef int _judge(self, int row, int record, long long now_us) except -1 nogil
    cdef int _judge_reset(self, int row, int record, long long now_us) except -1 nogil
    cdef int _judge_syn(self, int row, int record, long long now_us) except -1 nogil
    cdef int _judge_fin(self, int row, int record, long long now_us) except -1 nogil
    cdef int _judge_ack(self, int row, int record) except -1 nogil
    cdef int _release_repeated_ack(self, int row, long long now_us) except -1 nogil
    cdef int _clamp(self, int row, int record) except -1 nogil
    cdef int _set_common_window(self, int row, int flags) except -1 nogil
    cdef int _pay_owed(self, int row, long long now_us) except -1 nogil
    cdef int _settle(self, int row, long long now_us) except -1 nogil
    cdef Py_ssize_t _covered(self, int row, int record) except -1 nogil
    cdef int _note_split(self, int row, int record) except -1 nogil
    cdef Py_ssize_t _waits_since_us(self, int row, int record) except -1 nogil
    cdef int split_due(self, int row, long long now_us) except -1 nogil
