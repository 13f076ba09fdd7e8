"""Segments made from held ones: parts of a frame, and segments without payload, each a new record."""


cdef enum:
    _SHAPER_BARE_BYTES_MAX = 512


@cython.final
cdef class Shaper:
    """`packet` is the last parsed record; positions count in the arena."""

    cdef Pool pool
    cdef readonly Packet packet


    def __init__(self, pool):
        self.pool = pool
        self.packet = Packet()

    cdef int parse(self, int record) noexcept nogil:
        """Parse a record's frame into `packet`; returns its kind."""
        pos: cython.longlong = self.pool.at[record].pos
        return parse_frame(
            self.pool.arena.memory,
            pos,
            pos + self.pool.at[record].length,
            self.pool.at[record].vnet_len,
            self.packet,
        )

    cdef int bare_from(self, int record, int flags, long long seq) noexcept nogil:
        """A new record with a segment without payload in the name of `record`'s sender; -1 if there is no room."""
        self.parse(record)
        if self.packet.payload_pos - self.packet.start > _SHAPER_BARE_BYTES_MAX:
            return _NONE  # endless IPv6 extension headers: no TCP stack sends them
        made: cython.int = self.pool.alloc(_SHAPER_BARE_BYTES_MAX)
        if made == _NONE:
            return _NONE
        self.pool.at[made].length = make_bare(
            self.pool.arena.memory,
            self.pool.at[made].pos,
            self.pool.arena.memory,
            self.packet,
            flags,
            seq,
            self.packet.ack,
            self.packet.window,
        )
        self.pool.at[made].vnet_len = self.pool.at[record].vnet_len
        self.pool.at[made].arrived_us = self.pool.at[record].arrived_us
        self.pool.at[made].flags = _MADE
        return made

    cdef int part(self, int record, long long first, long long last) noexcept nogil:
        """A new record with payload bytes `first` … `last` of `record`'s segment; -1 if there is no room."""
        made: cython.int = self.pool.alloc(self.pool.at[record].payload_pos + last - first)
        if made == _NONE:
            return _NONE
        self.parse(record)
        self.pool.at[made].length = make_part(
            self.pool.arena.memory, self.pool.at[made].pos, self.pool.arena.memory, self.packet, first, last
        )
        self.pool.at[made].vnet_len = self.pool.at[record].vnet_len
        self.pool.at[made].arrived_us = self.pool.at[record].arrived_us
        self.pool.at[made].seq = seq_add(self.pool.at[record].seq, first)
        self.pool.at[made].ack = self.pool.at[record].ack
        self.pool.at[made].window = self.pool.at[record].window
        self.pool.at[made].payload_pos = self.pool.at[record].payload_pos
        self.pool.at[made].payload_len = last - first
        self.pool.at[made].flags = self.pool.at[record].flags
        self.pool.at[made].marks = self.pool.at[record].marks & _IN_PLACE
        if last < self.pool.at[record].payload_len:
            self.pool.at[made].flags = self.pool.at[record].flags & ~(TcpFlag.FIN | TcpFlag.PSH)
        return made


cdef long long syn_options(Packet packet) noexcept nogil:
    """C2: the options on which both SYNs must agree, packed into one number."""
    packed: cython.longlong = packet.mss
    return (
        packed
        | ((packet.window_scale + 1) << 16)
        | ((1 if packet.sack_permitted else 0) << 24)
        | ((1 if packet.timestamp_pos else 0) << 25)
    )
