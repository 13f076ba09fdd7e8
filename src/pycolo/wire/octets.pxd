cpdef long long load16(unsigned char[::1] buf, Py_ssize_t pos) except -1 nogil
cpdef long long load32(unsigned char[::1] buf, Py_ssize_t pos) except -1 nogil
cpdef int store16(unsigned char[::1] buf, Py_ssize_t pos, long long value) except -1 nogil
cpdef int store32(unsigned char[::1] buf, Py_ssize_t pos, long long value) except -1 nogil
cdef int _outside() except -1 nogil
cdef int _check(Py_ssize_t size, Py_ssize_t pos, Py_ssize_t length) except -1 nogil
cpdef int copy(unsigned char[::1] target, Py_ssize_t target_pos, unsigned char[::1] source, Py_ssize_t source_pos,
               Py_ssize_t length) except -1 nogil
cpdef int move(unsigned char[::1] buf, Py_ssize_t target, Py_ssize_t source, Py_ssize_t length) except -1 nogil
cpdef Py_ssize_t first_difference(unsigned char[::1] a, Py_ssize_t a_pos, unsigned char[::1] b, Py_ssize_t b_pos,
                                  Py_ssize_t length) except -1 nogil
