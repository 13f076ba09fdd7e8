# C declarations of jhash.py, for it and for the compiled modules that cimport it. The documentation is in jhash.py.

cpdef long long jhash(const unsigned char[::1] key, long long initval) except? -1 nogil
cpdef long long jhash2(const unsigned int[::1] words, long long initval) except? -1 nogil
cpdef long long jhash2_words(
    const unsigned int[::1] words, Py_ssize_t start, Py_ssize_t count, long long initval
) except? -1 nogil
cpdef long long jhash_1word(long long a, long long initval) noexcept nogil
cpdef long long jhash_2words(long long a, long long b, long long initval) noexcept nogil
cpdef long long jhash_3words(long long a, long long b, long long c, long long initval) noexcept nogil
cpdef long long connection_hash(
    long long source,
    long long destination,
    long long source_port,
    long long destination_port,
    long long ip_proto,
    long long initval=*,
) noexcept nogil

cdef long long _word(const unsigned char[::1] key, Py_ssize_t at, Py_ssize_t count) except? -1 nogil
cdef long long _rotated_left(long long value, int shift) noexcept nogil
cdef (long long, long long, long long) _mix(long long a, long long b, long long c) noexcept nogil
cdef long long _final(long long a, long long b, long long c) noexcept nogil
cdef long long _nwords(long long a, long long b, long long c, long long initval) noexcept nogil
