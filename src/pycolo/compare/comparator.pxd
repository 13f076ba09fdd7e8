cimport cython
from pycolo.compare.admission cimport Admission
from pycolo.compare.ages cimport Ages
from pycolo.compare.datagram cimport DatagramComparison
from pycolo.compare.fragments cimport Reassembly
from pycolo.compare.held cimport CompareStats, Held
from pycolo.compare.history cimport History
from pycolo.compare.tcp cimport TcpComparison
from pycolo.conntrack.table cimport ConnectionTable
from pycolo.storage.pool cimport Pool
from pycolo.wire.framing cimport Span
from pycolo.wire.packet cimport Packet

@cython.final
cdef class Comparator:
    cdef readonly ConnectionTable table
    cdef readonly Pool pool
    cdef readonly Held held
    cdef readonly CompareStats stats
    cdef readonly TcpComparison tcp
    cdef readonly History history
    cdef readonly DatagramComparison datagram
    cdef readonly Admission admission
    cdef readonly Ages ages
    cdef readonly Reassembly primary_fragments
    cdef readonly Reassembly secondary_fragments
    cdef readonly Packet packet
    cdef readonly Span span
    cdef public long long scan_cycle_us
    cdef readonly object primary_name
    cdef readonly object secondary_name
    cdef readonly bint is_passing
    cdef readonly bint awaits_marker
    cdef readonly long long epoch
    cdef long long _next_scan_us
    cdef int _outcome
    cdef bint _is_requested

    cdef Py_ssize_t _run(self, unsigned char[::1] buf, Py_ssize_t pos, Py_ssize_t end, bint is_primary,
                         long long now_us) except -1 nogil
    cdef int _take(self, unsigned char[::1] buf, bint is_primary, long long now_us) except -1 nogil
    cdef bint _compare(self, int row, int record, bint is_primary, int kind, long long now_us) except -1 nogil
    cdef int _take_fragment(self, Reassembly fragments, unsigned char[::1] buf, bint is_primary,
                            long long now_us) except -1 nogil
    cdef int _take_whole(self, Reassembly fragments, int slot, bint is_primary, long long now_us) except -1 nogil
    cdef int _row_for(self, long long now_us) except? -1 nogil
    cdef int _give_up(self, int row) except -1 nogil
    cdef int _timer(self, long long now_us) except -1 nogil
    cdef int _note_client(self, unsigned char[::1] buf, long long now_us) except -1 nogil
    cdef int _note_passing(self, long long now_us) except -1 nogil
    cdef int _expire(self, long long now_us) except -1 nogil
    cdef int _flush(self, long long now_us) except -1 nogil
    cdef int _restart_rows(self, bint is_commit, long long now_us) except -1 nogil
