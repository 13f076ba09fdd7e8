cimport cython
from pycolo.compare.datagram cimport DatagramComparison
from pycolo.compare.held cimport Held
from pycolo.compare.tcp cimport TcpComparison
from pycolo.wire.framing cimport Span
from pycolo.wire.packet cimport Packet

@cython.final
cdef class Admission:
    cdef Held held
    cdef TcpComparison tcp
    cdef DatagramComparison datagram
    cdef long long scan_cycle_us
    cdef long long _next_full_report_us
    cdef int _was_full
    cdef int[::1] _full_row
    cdef int[::1] _full_needed
    cdef long long[::1] _full_since_us
    cdef long long[::1] _full_due_us
    cdef long long[::1] _stood_us
    cdef long long _share_packets
    cdef long long _share_bytes
    cdef long long _packets_max
    cdef long long _bytes_max

    cdef bint begin(self, bint is_primary, long long now_us) except -1 nogil
    cdef int _resume(self, bint is_primary, long long now_us) except -1 nogil
    cdef Py_ssize_t stood_us(self, bint is_primary, long long now_us) except? -1 nogil
    cdef Py_ssize_t last_stood_us(self, long long now_us) except? -1 nogil
    cdef bint settle(self, long long now_us) except -1 nogil
    cdef int timer(self, long long now_us) except -1 nogil
    cdef int store(self, unsigned char[::1] buf, Span span, long long now_us) except? -1 nogil
    cdef int no_room(self, int record, long long now_us) except -1 nogil
    cdef int admit(self, int row, Packet packet, bint is_primary, long long now_us) except -1 nogil
    cdef bint _proves_nothing(self, int row, Packet packet) except -1 nogil
    cdef int _stop(self, int row, int needed, bint is_primary, long long now_us) except -1 nogil
    cdef bint _stands_still(self, bint is_primary) except -1 nogil
    cdef int _give_way(self, int row, bint is_primary, long long now_us) except -1 nogil
    cdef int report_full(self, int kind, int row, long long now_us) except -1 nogil
    cdef int _admit_to_share(self, Packet packet, int needed, bint is_full) except -1 nogil
    cdef bint _relieve(self, long long now_us) except -1 nogil
    cdef int _largest(self) except? -1 nogil
    cdef Py_ssize_t _size(self, int record) except? -1 nogil
    cdef int review(self, long long now_us) except -1 nogil
    cdef int _review_row(self, int row, long long now_us) except -1 nogil
