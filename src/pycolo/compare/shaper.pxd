cimport cython
from pycolo.storage.pool cimport Pool
from pycolo.wire.packet cimport Packet

@cython.final
cdef class Shaper:
    cdef Pool pool
    cdef readonly Packet packet

    cdef int parse(self, int record) except -1 nogil
    cdef int bare_from(self, int record, int flags, long long seq) except? -1 nogil
    cdef int part(self, int record, long long first, long long last) except? -1 nogil
