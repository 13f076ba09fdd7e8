from pycolo.wire.packet cimport Packet

cdef int _put32(unsigned char[::1] buf, Packet packet, Py_ssize_t pos, long long old, long long new) except -1 nogil
cpdef int shift_seq(unsigned char[::1] buf, Packet packet, long long delta) except -1 nogil
cpdef int set_ack(unsigned char[::1] buf, Packet packet, long long ack) except -1 nogil
cpdef int set_window(unsigned char[::1] buf, Packet packet, int window) except -1 nogil
cpdef int shift_sack(unsigned char[::1] buf, Packet packet, long long delta) except -1 nogil
cpdef int shift_timestamps(unsigned char[::1] buf, Packet packet, long long value_delta,
                           long long echo_delta) except -1 nogil
cdef int _finish(unsigned char[::1] target, Py_ssize_t start, Packet packet, Py_ssize_t segment_len,
                 bint is_partial) except -1 nogil
cdef int _move_urgent(unsigned char[::1] target, Py_ssize_t l4_pos, Py_ssize_t count) except -1 nogil
cpdef Py_ssize_t make_part(unsigned char[::1] target, Py_ssize_t start, unsigned char[::1] source, Packet packet,
                           Py_ssize_t first, Py_ssize_t last) except -1 nogil
cpdef Py_ssize_t make_bare(unsigned char[::1] target, Py_ssize_t start, unsigned char[::1] source, Packet packet,
                           int flags, long long seq, long long ack, int window) except -1 nogil
cpdef int keep_sack_blocks(unsigned char[::1] buf, Packet packet, int kept) except -1 nogil
cpdef int strip_options(unsigned char[::1] buf, Packet packet) except -1 nogil
cpdef bint has_authentication(unsigned char[::1] buf, Packet packet) except -1 nogil
cdef Py_ssize_t _option_len(unsigned char[::1] buf, Py_ssize_t pos, Py_ssize_t end) except -1 nogil
cdef int _pad(unsigned char[::1] buf, Py_ssize_t pos, Py_ssize_t end) except -1 nogil
cdef int _options_changed(unsigned char[::1] buf, Packet packet, long long before) except -1 nogil
cpdef Py_ssize_t make_ack(unsigned char[::1] target, Py_ssize_t start, Packet packet, unsigned char[::1] header,
                          Py_ssize_t header_pos, Py_ssize_t header_len, long long seq, long long ack,
                          int window) except -1 nogil
cpdef Py_ssize_t add_timestamps(unsigned char[::1] target, Py_ssize_t start, Packet packet, Py_ssize_t segment_len,
                                long long value, long long echo) except -1 nogil
cpdef Py_ssize_t add_sack_blocks(unsigned char[::1] target, Py_ssize_t start, Packet packet, Py_ssize_t segment_len,
                                 unsigned int[::1] edges, Py_ssize_t first, int count) except -1 nogil
cdef Py_ssize_t _lengthened(unsigned char[::1] target, Py_ssize_t start, Packet packet,
                            Py_ssize_t segment_len) except -1 nogil
