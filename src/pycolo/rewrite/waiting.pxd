cimport cython
from pycolo.storage.pool cimport Pool, Queues
from pycolo.wire.packet cimport Packet

@cython.final
cdef class HandshakeFrames:
    cdef readonly Pool pool
    cdef readonly Queues queues
    cdef readonly long long count
    cdef readonly long long used_bytes
    cdef readonly long long bytes_max

    cdef bint hold(self, int row, unsigned char[::1] buf, Packet packet, long long now_us) except -1 nogil
    cdef int take(self, int row) except? -1 nogil
    cdef int put_back(self, int row, int record) except -1 nogil
    cdef int age(self, int row, long long now_us) except -1 nogil
    cdef int forget(self, int row) except -1 nogil
