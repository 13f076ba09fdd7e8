cimport cython
from pycolo.storage.pool cimport Pool, Queues
from pycolo.wire.packet cimport Packet

@cython.final
cdef class UnackedCopies:
    cdef readonly Pool pool
    cdef readonly Queues queues
    cdef int[::1] last_ack
    cdef readonly long long skipped
    cdef long long _bytes_max

    cdef int keep(self, int row, unsigned char[::1] buf, Packet packet, long long now_us) except -1 nogil
    cdef int acknowledged(self, int row, long long ack) except -1 nogil
    cdef int forget(self, int row) except -1 nogil
    cdef int take(self, int row) except? -1 nogil
    cdef int parse(self, int record, Packet packet) except -1 nogil
    cdef Py_ssize_t write(self, Queues frames, unsigned char[::1] out, Py_ssize_t pos, bint has_vnet) except -1 nogil
    cdef int age(self, int row, long long before_us) except -1 nogil
    cdef int _store(self, unsigned char[::1] buf, Packet packet, long long now_us) except? -1 nogil
