cimport cython
@cython.final
cdef class Span:
    cdef public Py_ssize_t start
    cdef public Py_ssize_t end
    cdef public Py_ssize_t vnet_len
    cdef public long long word

cpdef int frame_at(unsigned char[::1] buf, Py_ssize_t pos, Py_ssize_t end, bint has_vnet, Span span) except -1 nogil
cpdef Py_ssize_t frame_boundary(unsigned char[::1] buf, Py_ssize_t pos, Py_ssize_t limit, bint has_vnet) except -1 nogil
