cimport cython
from pycolo.compare.held cimport Held
from pycolo.storage.pool cimport Pool
from pycolo.wire.packet cimport Packet

@cython.final
cdef class DatagramComparison:
    cdef Held held
    cdef Pool pool
    cdef long long reorder_due_us

    cdef int open_row(self, int row) except -1 nogil
    cdef bint primary(self, int row, int record, Packet packet, long long now_us) except -1 nogil
    cdef int _add_primary(self, int row, int record, int flags) except -1 nogil
    cdef bint secondary(self, int row, int record, Packet packet, long long now_us) except -1 nogil
    cdef int _add_secondary(self, int row, int record) except -1 nogil
    cdef int committed(self, int row) except -1 nogil
    cdef int reorder_due(self, int row, long long stood_us, long long now_us) except -1 nogil
    cdef int timed_out(self, int row, long long primary_since_us, long long secondary_since_us,
                       long long now_us) except -1 nogil
    cdef int give_way(self, int row, bint is_primary, long long now_us) except -1 nogil
    cdef int apply_policy(self, int row, long long now_us) except -1 nogil
    cdef int _stand_still(self, int row) except -1 nogil
    cdef int _differ(self, int row, int kind, bint is_told, long long now_us) except -1 nogil
    cdef int _report(self, int row, int kind, bint is_mine, bint is_theirs, long long waited_us) except -1 nogil
    cdef int _place(self, int record, Packet packet) except -1 nogil
    cdef int _digest(self, int record) except -1 nogil
    cdef bint _equal(self, int a, int b) except -1 nogil
    cdef Py_ssize_t _equal_until(self, int a, int b) except -1 nogil
    cdef int _match(self, int record) except -1 nogil
    cdef int _release_matched(self, int row, long long now_us) except -1 nogil
    cdef int _note_unmatched(self, int row) except -1 nogil
    cdef int _add_context(self, int index, int side, int record, int other) except -1 nogil
