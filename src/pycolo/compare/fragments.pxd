cimport cython
from pycolo.compare.held cimport Held
from pycolo.storage.pool cimport Pool
from pycolo.wire.packet cimport Packet

@cython.final
cdef class Reassembly:
    cdef Held held
    cdef Pool pool
    cdef bint is_primary
    cdef long long timeout_us
    cdef public Reassembly other
    cdef long long stood_us
    cdef readonly int used
    cdef long long _fragments
    cdef long long _bytes
    cdef long long _fragments_max
    cdef long long _bytes_max
    cdef long long _next_full_us
    cdef Packet _packet
    cdef unsigned int[::1] _wanted
    cdef unsigned int[::1] _key
    cdef unsigned int[::1] _identification
    cdef int[::1] _state
    cdef int[::1] _told
    cdef int[::1] _head
    cdef int[::1] _tail
    cdef long long[::1] _since_us
    cdef int[::1] _count
    cdef int[::1] _received
    cdef int[::1] _total

    cdef int add(self, int record, Packet packet, long long now_us) except? -1 nogil
    cdef int _fits(self, int slot, int record) except? -1 nogil
    cdef bint _same_data(self, int a, int b, long long length) except -1 nogil
    cdef int _append(self, int slot, int record) except -1 nogil
    cdef int assemble(self, int slot, long long now_us) except? -1 nogil
    cdef int finish(self, int slot, int whole) except -1 nogil
    cdef int retract(self, int slot) except -1 nogil
    cdef bint _is_late(self, int slot, long long now_us) except -1 nogil
    cdef int give_up(self, int slot, long long now_us) except -1 nogil
    cdef int review(self, long long now_us) except -1 nogil
    cdef int flush(self, long long now_us) except -1 nogil
    cdef int _release(self, int record, long long now_us) except -1 nogil
    cdef int _drop(self, int record) except -1 nogil
    cdef int _tell(self, int slot, long long now_us) except -1 nogil
    cdef bint excuse(self, unsigned int[::1] key, Py_ssize_t pos) except -1 nogil
    cdef int _take(self, int slot) except? -1 nogil
    cdef int _find(self, Packet packet) except? -1 nogil
    cdef bint _has_key(self, int slot, unsigned int[::1] key, Py_ssize_t pos) except -1 nogil
    cdef int _open(self, Packet packet, long long now_us) except -1 nogil
    cdef int _forget(self, int slot, long long now_us) except -1 nogil
    cdef int _make_room(self, int slot, long long now_us) except -1 nogil
    cdef int _oldest(self, int state) except? -1 nogil
    cdef int _mend_headers(self, long long base, Py_ssize_t header_len, long long total) except -1 nogil
