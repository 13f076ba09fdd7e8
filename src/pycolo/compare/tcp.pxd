cimport cython
from pycolo.compare.onesided cimport OneSide
from pycolo.wire.packet cimport Packet

@cython.final
cdef class TcpComparison(OneSide):
    cdef long long split_due_us

    cdef int close_row(self, int row) except -1 nogil
    cdef int primary(self, int row, int record, Packet packet, long long now_us) except -1 nogil
    cdef int _let_through(self, int row, int record, bint has_bytes, long long now_us) except -1 nogil
    cdef bint _contradicts(self, int row, int record, int before, long long now_us) except -1 nogil
    cdef int _check_options(self, int row, int record) except -1 nogil
    cdef int _leave_alone(self, int row) except -1 nogil
    cdef int secondary(self, int row, int record, Packet packet, long long now_us) except -1 nogil
    cdef int _secondary_early(self, int row, int record, Packet packet, bint is_early, long long now_us) except -1 nogil
    cdef int _compare(self, int row, long long now_us) except -1 nogil
    cdef int _keep_equal_part(self, int row) except -1 nogil
    cdef int flush(self, int row, long long now_us) except -1 nogil
    cdef int committed(self, int row, long long now_us) except -1 nogil
    cdef int mark_older(self, int row, long long now_us) except -1 nogil
    cdef int timed_out(self, int row, int kind, int record, long long now_us) except -1 nogil
    cdef int release_ready(self, int row, long long now_us) except -1 nogil
    cdef bint _pass_bare(self, int row, int record, long long now_us) except -1 nogil
    cdef int _drop_first(self, int row) except -1 nogil
    cdef int _let_out(self, int row, int record, bint is_clamped, long long now_us) except -1 nogil
    cdef Py_ssize_t _end_with_fin(self, int record) except -1 nogil
    cdef int _judge(self, int row, int record, long long now_us) except -1 nogil
    cdef int _wait_for_payload(self, int row, int record, long long now_us) except -1 nogil
    cdef int _judge_reset(self, int row, int record, long long now_us) except -1 nogil
    cdef int _judge_syn(self, int row, int record, long long now_us) except -1 nogil
    cdef int _judge_fin(self, int row, int record, long long now_us) except -1 nogil
    cdef int _release_repeated_ack(self, int row, long long now_us) except -1 nogil
    cdef Py_ssize_t _covered(self, int row, int record) except -1 nogil
    cdef int _note_split(self, int row, int record) except -1 nogil
    cdef Py_ssize_t _waits_since_us(self, int row, int record) except -1 nogil
    cdef int split_due(self, int row, long long now_us) except -1 nogil
