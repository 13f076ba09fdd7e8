cimport cython
from pycolo.storage.arena cimport Arena

@cython.final
cdef class Pool:
    cdef readonly Arena arena
    cdef readonly int records_max
    cdef readonly int used
    cdef int[::1] next
    cdef int[::1] row
    cdef long long[::1] pos
    cdef int[::1] length
    cdef int[::1] vnet_len
    cdef long long[::1] arrived_us
    cdef int[::1] flags
    cdef unsigned int[::1] seq
    cdef unsigned int[::1] ack
    cdef int[::1] window
    cdef int[::1] payload_pos
    cdef int[::1] payload_len
    cdef unsigned int[::1] digest
    cdef int[::1] chain
    cdef int _free
    cdef int _untouched

    cpdef int alloc(self, Py_ssize_t size) except? -1 nogil
    cpdef int store(self, unsigned char[::1] buf, Py_ssize_t start, Py_ssize_t size, int vnet_len) except? -1 nogil
    cpdef int free(self, int record) except -1 nogil

@cython.final
cdef class Queues:
    cdef readonly Pool pool
    cdef readonly int[::1] head
    cdef readonly int[::1] tail
    cdef readonly int[::1] count

    cpdef int push(self, int row, int record) except -1 nogil
    cpdef int pop(self, int row) except? -1 nogil
    cpdef int take_after(self, int row, int before) except? -1 nogil
    cpdef int insert_after(self, int row, int before, int record) except -1 nogil
    cpdef int free_all(self, int row) except -1 nogil
