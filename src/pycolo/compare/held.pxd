cimport cython
from pycolo.compare.trace cimport Trace
from pycolo.conntrack.table cimport ConnectionTable
from pycolo.storage.pool cimport Pool, Queues
from pycolo.wire.framing cimport Span

@cython.final
cdef class CompareStats:
    cdef public long long primary_frames
    cdef public long long secondary_frames
    cdef public long long primary_bytes
    cdef public long long secondary_bytes
    cdef public long long refused
    cdef public long long passed
    cdef public long long let_through
    cdef public long long compared
    cdef public long long compared_bytes
    cdef public long long released
    cdef public long long discarded
    cdef public long long clamped
    cdef public long long acks_made
    cdef public long long acks_owed
    cdef public long long splits
    cdef public long long resets_made
    cdef public long long differences
    cdef public long long timeouts
    cdef public long long superseded
    cdef public long long refused_marked
    cdef public long long reassembled
    cdef public long long incomplete_datagrams
    cdef public long long dropped
    cdef public long long gave_way
    cdef public long long overruns
    cdef public long long reports_lost

@cython.final
cdef class Held:
    cdef readonly ConnectionTable table
    cdef readonly Pool pool
    cdef readonly CompareStats stats
    cdef readonly Trace trace
    cdef readonly Queues primary
    cdef readonly Queues secondary
    cdef readonly Queues ready
    cdef public int policy
    cdef public int queue_packets_max
    cdef public bint has_vnet
    cdef public bint checkpoint_wanted
    cdef int[::1] flags
    cdef int active_head
    cdef int[::1] _active_next
    cdef int[::1] _active_previous
    cdef long long[::1] _hold_buckets
    cdef int _reports
    cdef int[::1] _report_kind
    cdef unsigned int[::1] _report_seq
    cdef long long[::1] _report_waited_us
    cdef int[::1] _report_has_key
    cdef unsigned int[::1] _report_key
    cdef int[::1] _report_index
    cdef int[::1] _report_length
    cdef unsigned char[::1] _report_bytes

    cdef int hold_primary(self, int row, int before, int record) except -1 nogil
    cdef int hold_secondary(self, int row, int before, int record) except -1 nogil
    cdef int take_primary(self, int row, int before) except? -1 nogil
    cdef int drop_secondary(self, int row, int before) except -1 nogil
    cdef int retire_secondary(self, int row) except? -1 nogil
    cdef int watch(self, int row) except -1 nogil
    cdef int unwatch(self, int row) except -1 nogil
    cdef int discard(self, int record) except -1 nogil
    cdef int drop(self, int record) except -1 nogil
    cdef int pass_on(self, int record, int kind, long long now_us) except -1 nogil
    cdef int _let_go(self, int record, long long now_us) except -1 nogil
    cdef int discard_unstored(self, unsigned char[::1] buf, Span span, long long now_us) except -1 nogil
    cdef int drop_all_secondary(self, int row) except -1 nogil
    cdef int drop_all_primary(self, int row) except -1 nogil
    cdef int replace_first(self, int row, int part, int rest) except -1 nogil
    cdef int release(self, int record, long long now_us) except -1 nogil
    cdef int release_all(self, int row, long long now_us) except -1 nogil
    cdef Py_ssize_t drain(self, unsigned char[::1] out, Py_ssize_t start) except -1 nogil
    cdef int next_active(self, int row) except? -1 nogil
    cdef int _pin(self, int row) except -1 nogil
    cdef int _unpin(self, int row, int count) except -1 nogil
    cdef int report(self, int kind, int row, long long seq, long long waited_us) except? -1 nogil
    cdef int report_key(self, int kind, unsigned int[::1] words, Py_ssize_t pos, long long waited_us) except? -1 nogil
    cdef int add_context(self, int index, int side, int record, long long at) except -1 nogil
    cdef int _count_hold(self, long long held_us) except -1 nogil
