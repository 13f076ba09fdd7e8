cimport cython
from pycolo.conntrack.table cimport ConnectionTable
from pycolo.rewrite.copies cimport UnackedCopies
from pycolo.rewrite.neighbours cimport Neighbours
from pycolo.rewrite.offsets cimport SeqOffsets
from pycolo.rewrite.progress cimport Progress
from pycolo.rewrite.waiting cimport HandshakeFrames
from pycolo.storage.pool cimport Queues
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
cdef class Translator:
    cdef readonly ConnectionTable table
    cdef readonly SeqOffsets offsets
    cdef readonly Progress progress
    cdef readonly UnackedCopies copies
    cdef readonly HandshakeFrames held
    cdef readonly Queues to_guest
    cdef readonly Neighbours neighbours
    cdef readonly RewriteStats stats
    cdef readonly Packet packet
    cdef readonly Packet quoted
    cdef public bint is_passing
    cdef public bint is_serving
    cdef public bint keeps_copies

    cdef int row_for(self, int state, long long now_us) except? -1 nogil
    cdef int give_up(self, int row) except -1 nogil
    cdef int take_client(self, unsigned char[::1] buf, long long now_us) except -1 nogil
    cdef int _client_syn(self, int row, unsigned char[::1] buf, long long now_us) except -1 nogil
    cdef bint _must_wait(self, int row, long long now_us) except -1 nogil
    cdef int _hold(self, int row, unsigned char[::1] buf, long long now_us) except -1 nogil
    cdef int _translate_client(self, int row, unsigned char[::1] buf, long long now_us) except -1 nogil
    cdef bint _learn(self, int row, unsigned char[::1] buf, long long now_us) except -1 nogil
    cdef int _note_end(self, int row, long long now_us) except -1 nogil
    cdef int _translate_mention(self, unsigned char[::1] buf, bint is_client, int sign) except -1 nogil
    cdef int take_guest(self, unsigned char[::1] buf, long long now_us) except -1 nogil
    cdef int _translate_guest(self, int row, unsigned char[::1] buf, long long now_us) except -1 nogil
    cdef int _guest_syn(self, int row, unsigned char[::1] buf, long long now_us) except -1 nogil
    cdef int _note_address(self, int row, unsigned char[::1] buf) except -1 nogil
    cdef int release_held(self, int row, long long now_us) except -1 nogil
    cdef int shift(self, unsigned char[::1] buf, int sign) except -1 nogil
