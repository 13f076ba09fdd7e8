cpdef long long fold(long long total) noexcept nogil
cpdef long long ones_sum(unsigned char[::1] buf, Py_ssize_t pos, Py_ssize_t length, long long initial=*) except -1 nogil
cpdef long long pseudo_sum(unsigned char[::1] buf, Py_ssize_t address_pos, Py_ssize_t address_bytes, long long proto,
                           long long length) except -1 nogil
cpdef int replace16(unsigned char[::1] buf, Py_ssize_t checksum_pos, long long old, long long new) except -1 nogil
cpdef int replace32(unsigned char[::1] buf, Py_ssize_t checksum_pos, long long old, long long new,
                    bint is_odd) except -1 nogil
