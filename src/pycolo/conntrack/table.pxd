cimport cython
from pycolo.wire.packet cimport Packet

@cython.final
cdef class ConnectionTable:
    cdef readonly int rows_max
    cdef readonly int rows
    cdef readonly long long seed
    cdef readonly int used
    cdef readonly long long evicted_idle
    cdef readonly long long evicted_closed
    cdef readonly long long evicted_half_open
    cdef readonly long long evicted_lru
    cdef readonly long long refused_full
    cdef int[::1] pins
    cdef long long[::1] last_seen_us
    cdef unsigned int[::1] _key
    cdef unsigned int[::1] _hash
    cdef int[::1] _chain
    cdef int[::1] _list
    cdef int[::1] _newer
    cdef int[::1] _older
    cdef int[::1] _oldest
    cdef int[::1] _newest
    cdef unsigned int[::1] _wanted
    cdef unsigned int _wanted_hash
    cdef int _untouched
    cdef int[::1] _buckets
    cdef Py_ssize_t _mask
    cdef long long _half_open_us

    cdef int copy_key(self, int row, unsigned int[::1] target, Py_ssize_t pos) except -1 nogil
    cpdef bint in_use(self, int row) except -1 nogil
    cpdef bint is_tcp(self, int row) except -1 nogil
    cpdef bint wants_growth(self) noexcept nogil
    cpdef int find(self, Packet packet, bint is_reversed) except? -1 nogil
    cpdef Py_ssize_t wanted_hash(self) noexcept nogil
    cdef bint _matches(self, int row) except -1 nogil
    cpdef int insert(self, long long now_us) except? -1 nogil
    cpdef int touch(self, int row, long long now_us) except -1 nogil
    cpdef int close(self, int row, long long now_us) except -1 nogil
    cpdef bint is_closed(self, int row) except -1 nogil
    cpdef int ending(self, int row, long long now_us) except -1 nogil
    cpdef int resume(self, int row, long long now_us) except -1 nogil
    cpdef int reopen(self, int row, long long now_us) except -1 nogil
    cpdef int confirm(self, int row, long long now_us) except -1 nogil
    cpdef int assure(self, int row, long long now_us) except -1 nogil
    cpdef int heard(self, int row, Packet packet, long long now_us) except -1 nogil
    cpdef int expired(self, long long now_us) except? -1 nogil
    cpdef int evict(self, long long now_us) except? -1 nogil
    cdef int _aged(self, int kind, long long age_us, long long now_us) except? -1 nogil
    cdef int _unpinned(self, int kind, long long now_us) except? -1 nogil
    cpdef int remove(self, int row) except -1 nogil
    cdef int _move(self, int row, int kind, long long now_us) except -1 nogil
    cdef int _link(self, int row, int kind) except -1 nogil
    cdef int _unlink(self, int row) except -1 nogil
