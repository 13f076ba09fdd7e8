cimport cython
from pycolo.compare.held cimport Held
from pycolo.storage.pool cimport Pool
from pycolo.wire.packet cimport Packet

@cython.final
cdef class Reassembly:
    cdef Held held
    cdef Pool pool
    cdef bint is_primary
    cdef readonly int used
    cdef Packet _packet
    cdef int[::1] _row
    cdef unsigned int[::1] _identification
    cdef int[::1] _head
    cdef int[::1] _tail
    cdef long long[::1] _since_us
    cdef int[::1] _count

    cdef int add(self, int row, int record, Packet packet, long long now_us) except? -1 nogil
    cdef int expire(self, long long before_us, long long now_us) except -1 nogil
    cdef int _give_up(self, int slot, long long now_us) except -1 nogil
    cdef int _take(self, int slot) except? -1 nogil
    cdef int _find(self, int row, unsigned int identification) except? -1 nogil
    cdef int _open(self, int row, unsigned int identification, long long now_us) except -1 nogil
    cdef int _oldest(self) except? -1 nogil
    cdef Py_ssize_t _complete_length(self, int slot) except? -1 nogil
    cdef int _assemble(self, int slot, long long total) except? -1 nogil
    cdef int _copy_payload(self, int slot, long long target, long long total) except -1 nogil
    cdef int _mend_headers(self, long long base, Py_ssize_t header_len, long long total) except -1 nogil
