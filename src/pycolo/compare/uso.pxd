from pycolo.storage.pool cimport Pool
from pycolo.wire.packet cimport Packet

cpdef int datagrams_in(Packet packet) except? -1 nogil
cdef int cut(Pool pool, int record, Packet packet, int count) except? -1 nogil
cdef int free_list(Pool pool, int record) except -1 nogil
cdef int _part(Pool pool, int record, Packet packet, Py_ssize_t at) except? -1 nogil
