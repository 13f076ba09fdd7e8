cimport cython
from pycolo.conntrack.table cimport ConnectionTable
from pycolo.rewrite.copies cimport UnackedCopies
from pycolo.rewrite.neighbours cimport Neighbours
from pycolo.rewrite.offsets cimport SeqOffsets
from pycolo.rewrite.progress cimport Progress
from pycolo.rewrite.tables cimport OffsetTable
from pycolo.rewrite.translator cimport RewriteStats, Translator
from pycolo.rewrite.waiting cimport HandshakeFrames
from pycolo.storage.pool cimport Queues
from pycolo.wire.framing cimport Span
from pycolo.wire.packet cimport Packet

@cython.final
cdef class Rewriter:
    cdef readonly Translator translator
    cdef readonly ConnectionTable table
    cdef readonly SeqOffsets offsets
    cdef readonly Progress progress
    cdef readonly UnackedCopies copies
    cdef readonly Neighbours neighbours
    cdef readonly RewriteStats stats
    cdef readonly HandshakeFrames held
    cdef readonly OffsetTable traveling
    cdef readonly Queues to_guest
    cdef readonly Queues to_client
    cdef readonly Packet packet
    cdef readonly Span span
    cdef readonly bint has_vnet
    cdef readonly object client_name
    cdef readonly object guest_name
    cdef readonly Py_ssize_t out_end
    cdef int _outcome
    cdef long long _next_scan_us

    cdef Py_ssize_t _run(self, unsigned char[::1] buf, Py_ssize_t pos, Py_ssize_t end, bint is_client,
                         long long now_us, unsigned char[::1] out) except -1 nogil
    cdef int _commit(self) except -1 nogil
    cdef Py_ssize_t _adopt(self, unsigned char[::1] records, Py_ssize_t pos, long long now_us) except -1 nogil
    cdef int _release_all_held(self) except -1 nogil
    cdef int _shift_waiting(self, int sign) except -1 nogil
    cdef int _resend(self) except -1 nogil
    cdef int _expire(self, long long now_us) except -1 nogil
    cdef int _age(self, long long now_us) except -1 nogil
