cimport cython
@cython.final
cdef class Arena:
    cdef public unsigned char[::1] memory
    cdef readonly int slab_count
    cdef readonly long long used_bytes
    cdef int[::1] _class
    cdef int[::1] _used
    cdef int[::1] _carved
    cdef int[::1] _free
    cdef int[::1] _next
    cdef int[::1] _previous
    cdef int[::1] _partial
    cdef int _untouched
    cdef int _empty

    cpdef Py_ssize_t alloc(self, Py_ssize_t size) except? -1 nogil
    cdef Py_ssize_t block_bytes(self, long long pos) except -1 nogil
    cpdef int free(self, long long pos) except -1 nogil
    cdef int _take_slab(self, int kind) except? -1 nogil
    cdef int _link(self, int slab, int kind) except -1 nogil
    cdef int _unlink(self, int slab, int kind) except -1 nogil
