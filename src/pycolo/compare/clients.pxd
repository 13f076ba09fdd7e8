cimport cython
from pycolo.compare.tcp cimport TcpComparison
from pycolo.conntrack.table cimport ConnectionTable
from pycolo.wire.framing cimport Span
from pycolo.wire.packet cimport Packet

@cython.final
cdef class Clients:
    cdef readonly ConnectionTable table
    cdef readonly TcpComparison tcp
    cdef Py_ssize_t behind
    cdef unsigned int[::1] _hash
    cdef unsigned int[::1] _isn
    cdef long long[::1] _us

    cdef Py_ssize_t take(self, unsigned char[::1] buf, Py_ssize_t pos, Py_ssize_t end, Span span, Packet packet,
                         long long now_us) except -1 nogil
    cdef bint _is_withheld(self, unsigned char[::1] buf, Packet packet, long long now_us) except -1 nogil
    cdef int _note_syn(self, Packet packet, long long now_us) except -1 nogil
    cdef bint _is_early(self, Packet packet, long long now_us) except -1 nogil
