"""The state of a connection and of a waiting packet, and the counters."""

# Released frames are written here; when it is full they wait as records.
cdef enum:
    _OUTBOX_BYTES = 1 << 18
# Bits of `pool.marks`: further users of a record.
cdef enum:
    _READY = 1  # it waits to be written
    _RETAINED = 2  # it is kept for retransmissions
    _IN_PLACE = 4  # its payload was compared with a frame of the secondary's that was not stored
    _INDEXED = 8  # a datagram indexed by payload: see `payloads`
    _FOLLOWED = 16  # a leader with followers: see `segments`
    _TRACED = 32  # its fate has been recorded: see `masks`


cdef struct Row:
    # The state of a connection: see `ByteStreams`, `Promises`, `History`, `Segments`; trees are -1 if there is none
    # (`kept_tree`: 0). State that a connection has only for a time is an `Aside`.
    int flags
    uint32_t compared_seq
    Queue primary
    Queue secondary
    uint32_t primary_end
    int cursor
    uint32_t primary_ack
    uint32_t secondary_ack
    int primary_space
    int secondary_space
    long long advanced_us
    Queue kept
    int kept_bytes
    Queue leads
    int loose_head
    int loose_tail
    int primary_tree
    int secondary_tree
    int kept_newer
    int kept_older
    int active_next
    int active_previous
    int aside
    uint8_t scale
    uint8_t block_count
    uint16_t kept_tree
    uint32_t primary_isn
    uint32_t secondary_isn
    uint32_t stepped_ack
    uint32_t client_ack
    uint32_t client_end


@cython.final
cdef class CompareStats:
    """Counters since start. Names and meanings are those of the metrics."""

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


    def __init__(self):
        self.primary_frames = self.secondary_frames = self.primary_bytes = self.secondary_bytes = 0
        self.refused = self.passed = self.let_through = self.compared = self.compared_bytes = 0
        self.released = self.discarded = self.clamped = self.acks_made = self.acks_owed = self.splits = (
            self.resets_made
        ) = 0
        self.differences = self.timeouts = self.superseded = self.refused_marked = 0
        self.reassembled = self.incomplete_datagrams = self.dropped = self.gave_way = self.overruns = 0
        self.reports_lost = 0
