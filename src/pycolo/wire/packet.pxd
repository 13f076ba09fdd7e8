cimport cython
@cython.final
cdef class Packet:
    cdef public Py_ssize_t start
    cdef public Py_ssize_t frame_pos
    cdef public Py_ssize_t ip_pos
    cdef public Py_ssize_t l4_pos
    cdef public Py_ssize_t payload_pos
    cdef public Py_ssize_t ip_end
    cdef public Py_ssize_t end
    cdef public Py_ssize_t vnet_len
    cdef public Py_ssize_t timestamp_pos
    cdef public Py_ssize_t sack_pos
    cdef public Py_ssize_t sack_len
    cdef public Py_ssize_t payload_len
    cdef public int kind
    cdef public int refusal
    cdef public int vnet_flags
    cdef public int gso_type
    cdef public int gso_size
    cdef public int ip_version
    cdef public int ip_proto
    cdef public int flags
    cdef public int window
    cdef public int mss
    cdef public int window_scale
    cdef public int source_port
    cdef public int destination_port
    cdef public int fragment_offset
    cdef public unsigned int vlan
    cdef public unsigned int fragment_id
    cdef public unsigned int source0
    cdef public unsigned int source1
    cdef public unsigned int source2
    cdef public unsigned int source3
    cdef public unsigned int destination0
    cdef public unsigned int destination1
    cdef public unsigned int destination2
    cdef public unsigned int destination3
    cdef public unsigned int seq
    cdef public unsigned int ack
    cdef public bint more_fragments
    cdef public bint sack_permitted

cpdef int parse_frame(unsigned char[::1] buf, Py_ssize_t start, Py_ssize_t end, Py_ssize_t vnet_len,
                      Packet packet) except -1 nogil
cdef int _parse_ethernet(unsigned char[::1] buf, Packet packet) except -1 nogil
cdef int _refuse(Packet packet, int refusal) noexcept nogil
cdef int _parse_ipv4(unsigned char[::1] buf, Packet packet) except -1 nogil
cdef int _parse_ipv6(unsigned char[::1] buf, Packet packet) except -1 nogil
cdef int _parse_extensions(unsigned char[::1] buf, Packet packet) except -1 nogil
cdef int _fragment(Packet packet) noexcept nogil
cdef int _parse_transport(unsigned char[::1] buf, Packet packet) except -1 nogil
cdef int _classify_icmpv6(unsigned char[::1] buf, Packet packet) except -1 nogil
cdef int _parse_udp(unsigned char[::1] buf, Packet packet) except -1 nogil
cdef int _parse_tcp(unsigned char[::1] buf, Packet packet) except -1 nogil
cdef int _parse_tcp_options(unsigned char[::1] buf, Py_ssize_t pos, Py_ssize_t end, Packet packet) except -1 nogil
cdef bint is_intact(unsigned char[::1] buf, Packet packet) except -1 nogil
