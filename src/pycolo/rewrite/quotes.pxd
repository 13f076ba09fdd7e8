from pycolo.wire.packet cimport Packet

cdef bint parse_first_fragment(unsigned char[::1] buf, Packet packet) except -1 nogil
cdef bint parse_quote(unsigned char[::1] buf, Packet packet, Packet quoted) except -1 nogil
cdef bint _quoted_ipv4(unsigned char[::1] buf, Packet quoted) except -1 nogil
cdef bint _quoted_ipv6(unsigned char[::1] buf, Packet quoted) except -1 nogil
cdef bint _quoted_tcp(unsigned char[::1] buf, Packet quoted) except -1 nogil
cdef long long header_sum(unsigned char[::1] buf, Packet quoted) except -1 nogil
cdef int seal(unsigned char[::1] buf, Packet packet, Packet quoted, long long before) except -1 nogil
