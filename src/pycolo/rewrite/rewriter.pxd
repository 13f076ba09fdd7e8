cimport cython
from pycolo.conntrack.table cimport ConnectionTable
from pycolo.rewrite.copies cimport UnackedCopies
from pycolo.rewrite.neighbours cimport Neighbours
from pycolo.rewrite.offsets cimport SeqOffsets
from pycolo.storage.pool cimport Queues
from pycolo.wire.framing cimport Span
from pycolo.wire.packet cimport Packet

@cython.final
cdef class RewriteStats:
    cdef public long long client_frames
    cdef public long long guest_frames
    cdef public long long client_bytes
    cdef public long long guest_bytes
    cdef public long long rewritten
    cdef public long long untouched
    cdef public long long refused
    cdef public long long learned
    cdef public long long handshake_held
    cdef public long long handshake_dropped
    cdef public long long resets_seen
    cdef public long long resent
    cdef public long long table_full

@cython.final
cdef class Rewriter:
    cdef readonly ConnectionTable table
    cdef readonly SeqOffsets offsets
    cdef readonly UnackedCopies copies
    cdef readonly Neighbours neighbours
    cdef readonly RewriteStats stats
    cdef readonly Queues held
    cdef readonly Queues to_guest
    cdef readonly Queues to_client
    cdef readonly Packet packet
    cdef readonly Span span
    cdef readonly bint has_vnet
    cdef readonly object client_name
    cdef readonly object guest_name
    cdef public bint is_passing
    cdef public bint keeps_copies
    cdef readonly bint is_serving
    cdef readonly Py_ssize_t out_end
    cdef int _outcome
    cdef long long _next_scan_us

    cdef Py_ssize_t _run(self, unsigned char[::1] buf, Py_ssize_t pos, Py_ssize_t end, bint is_client,
                         long long now_us, unsigned char[::1] out) except -1 nogil
    cdef int _row_for(self, int state, long long now_us) except? -1 nogil
    cdef int _give_up(self, int row) except -1 nogil
    cdef int _take_client(self, unsigned char[::1] buf, long long now_us) except -1 nogil
    cdef int _hold(self, int row, unsigned char[::1] buf) except -1 nogil
    cdef int _translate_client(self, int row, unsigned char[::1] buf, long long now_us) except -1 nogil
    cdef int _note_end(self, int row, int flag, long long now_us) except -1 nogil
    cdef int _take_guest(self, unsigned char[::1] buf, long long now_us) except -1 nogil
    cdef int _translate_guest(self, int row, unsigned char[::1] buf, long long now_us) except -1 nogil
    cdef int _release_held(self, int row, long long now_us) except -1 nogil
    cdef int _close(self, int row, long long now_us) except -1 nogil
    cdef int _commit(self) except -1 nogil
    cdef Py_ssize_t _adopt(self, unsigned char[::1] records, Py_ssize_t pos, long long now_us) except -1 nogil
    cdef int _release_all_held(self) except -1 nogil
    cdef int _shift_waiting(self, int sign) except -1 nogil
    cdef int _shift(self, unsigned char[::1] buf, int sign) except -1 nogil
    cdef int _resend(self) except -1 nogil
    cdef int _expire(self, long long now_us) except -1 nogil
