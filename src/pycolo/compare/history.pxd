cimport cython
from pycolo.storage.pool cimport Pool, Queues

@cython.final
cdef class History:
    cdef readonly Pool pool
    cdef readonly Queues kept
    cdef readonly int used
    cdef readonly long long used_bytes
    cdef int theirs
    cdef long long[::1] _bytes
    cdef int[::1] _newer
    cdef int[::1] _older
    cdef int _oldest
    cdef int _newest

    cdef int keep(self, int row, int record) except -1 nogil
    cdef int _drop_first(self, int row) except -1 nogil
    cdef int forget(self, int row) except -1 nogil
    cdef int acknowledged(self, int row, long long seq) except -1 nogil
    cdef bint make_room(self) except -1 nogil
    cdef Py_ssize_t differs(self, int row, int record, long long end) except? -1 nogil
    cdef Py_ssize_t _end(self, int record) except -1 nogil
    cdef Py_ssize_t _byte_pos(self, int record, long long seq) except? -1 nogil
    cdef int _link(self, int row) except -1 nogil
    cdef int _unlink(self, int row) except -1 nogil
