"""The primary's held segments by content: payload in sequence order, and other segments attached to it.

::

    queue   ack  LEAD  ack  copy  RST  LEAD  ack  LEAD  ack  ack
    leads         ●──────────────────►●─────────►●
    followers     └────────►●───►●

A connection's queue has them in the order in which they leave. Segments with payload *lead*, except those that a single
leader contains: both beginnings and ends of the leaders increase from one to the next, so one search finds a byte. Any
other segment that is not a bare ACK *follows* the leader before it: copies; SYN, FIN or RST without payload. When a
leader has left, its followers are *loose*: they are the first in the queue, apart from bare ACKs.
"""

cdef enum:
    _FOLLOWERS_IN_FRONT_MAX = 64


@cython.final
cdef class Segments:
    """The lists are the row's: `leads`, `loose_head`, `loose_tail`; linked by `kept_next`.

    A leader with this mark has its last follower in `extra`, from which a ring leads to the first.
    """

    cdef Pool pool
    cdef Trees trees

    def __init__(self, pool: Pool, trees: Trees):
        self.pool = pool
        self.trees = trees

    cdef inline int first(self, Row* r) noexcept nogil:
        """The first in the queue that is not a bare ACK, or -1."""
        return r.leads.head if r.loose_head == _NONE else r.loose_head

    cdef inline int append_leader(self, Row* r, int record) noexcept nogil:
        """Append payload above all earlier payload of the primary to the queue."""
        self.pool.at[record].kept_next = _NONE
        if r.leads.tail == _NONE:
            r.leads.head = record
        else:
            self.pool.at[r.leads.tail].kept_next = record
        r.leads.tail = record
        r.leads.count += 1
        if r.primary_tree != _NONE:
            self.trees.append(r.primary_tree, record)
        elif r.leads.count >= _TREE_FROM:
            self._grow_tree(r)
        return 0

    cdef int _grow_tree(self, Row* r) noexcept nogil:
        cdef int record = r.leads.head
        r.primary_tree = self.trees.make()
        while record != _NONE:
            self.trees.append(r.primary_tree, record)
            record = self.pool.at[record].kept_next
        return 0

    cdef int append_follower(self, Row* r, int record) noexcept nogil:
        """Append a SYN, FIN or RST without payload to the queue."""
        return self.follow(r, r.leads.tail, record, record)

    cdef int follow(self, Row* r, int leader, int first, int last) noexcept nogil:
        """Put the segments linked from `first` to `last` after the followers of a leader (-1: among the loose ones)."""
        cdef Record* rec
        if leader == _NONE:
            self.pool.at[last].kept_next = _NONE
            if r.loose_head == _NONE:
                r.loose_head = first
            else:
                self.pool.at[r.loose_tail].kept_next = first
            r.loose_tail = last
            return 0
        rec = &self.pool.at[leader]
        if rec.marks & _FOLLOWED:
            self.pool.at[last].kept_next = self.pool.at[rec.extra].kept_next
            self.pool.at[rec.extra].kept_next = first
        else:
            rec.marks |= _FOLLOWED
            self.pool.at[last].kept_next = first
        rec.extra = last
        return 0

    cdef inline int take_first(self, Row* r, int record) noexcept nogil:
        """The first packet of the queue is about to leave it."""
        cdef Record* rec = &self.pool.at[record]
        if record == r.leads.head:
            r.leads.head = rec.kept_next
            if r.leads.head == _NONE:
                r.leads.tail = _NONE
            r.leads.count -= 1
            if r.cursor == record:
                r.cursor = r.leads.head
            if rec.marks & _FOLLOWED:
                self._loosen(r, record)
            if r.primary_tree != _NONE:
                self.trees.take_first(r.primary_tree, record)
                if r.leads.count < _TREE_UNTIL:
                    r.primary_tree = self.trees.give_back(r.primary_tree)
        elif record == r.loose_head:
            r.loose_head = rec.kept_next
            if r.loose_head == _NONE:
                r.loose_tail = _NONE
        return 0

    cdef int _loosen(self, Row* r, int record) noexcept nogil:
        cdef Record* rec = &self.pool.at[record]
        rec.marks &= ~_FOLLOWED
        return self.follow(r, _NONE, self.pool.at[rec.extra].kept_next, rec.extra)

    cdef int put_first(self, Row* r, int record) noexcept nogil:
        """Insert a leader before all others; loose segments follow it."""
        self.pool.at[record].kept_next = r.leads.head
        r.leads.head = record
        if r.leads.tail == _NONE:
            r.leads.tail = record
        r.leads.count += 1
        if r.primary_tree != _NONE:
            self.trees.put_first(r.primary_tree, record)
        return self._gather_loose(r, record)

    cdef int _gather_loose(self, Row* r, int record) noexcept nogil:
        cdef int first = r.loose_head
        r.loose_head = _NONE
        return 0 if first == _NONE else self.follow(r, record, first, r.loose_tail)

    cdef int forget(self, Row* r) noexcept nogil:
        """The queue will be emptied."""
        r.leads.head = r.leads.tail = r.loose_head = r.loose_tail = r.cursor = _NONE
        r.leads.count = 0
        r.primary_tree = self.trees.give_back(r.primary_tree)
        return 0

    cdef lists(self, Row* r):
        """For tests: the loose segments, (leader, followers, number, end) of each leader, and the contents of its tree.

        The number is the frontier's if that is higher: the rest of a split frame begins there.
        """
        cdef int record = r.loose_head
        cdef int follower
        loose = []
        leads = []
        while record != _NONE:
            loose.append(record)
            record = self.pool.at[record].kept_next
        record = r.leads.head
        while record != _NONE:
            followers = []
            if self.pool.at[record].marks & _FOLLOWED:
                follower = self.pool.at[record].extra
                while not followers or follower != <int>self.pool.at[record].extra:
                    follower = self.pool.at[follower].kept_next
                    followers.append(follower)
            leads.append((record, followers, seq_max(self.pool.at[record].seq, r.compared_seq), self.end(record)))
            record = self.pool.at[record].kept_next
        return loose, leads, self.trees.listed(r.primary_tree)

    # ── retransmitted payload ─────────────────────────────────────────────────────────────────────────────────

    cdef inline uint32_t end(self, int record) noexcept nogil:
        """The number after a segment's payload."""
        return self.pool.at[record].seq + self.pool.at[record].payload_len

    cdef int leader_for(self, Row* r, uint32_t seq) noexcept nogil:
        """The last leader that begins at `seq` or before it, or -1."""
        return self.trees.find(r.primary_tree, r.leads.head, seq, False)

    cdef int behind_which(self, int leader, int record) noexcept nogil:
        """The packet of the queue (-1: none) after which a retransmitted segment belongs: see `insert`.

        After the leader's followers, but not after a FIN or RST among them that begins after it, unless there are many
        of them: those are last.
        """
        cdef int before = leader
        cdef int other, last
        cdef int steps = 0
        if leader == _NONE or not self.pool.at[leader].marks & _FOLLOWED:
            return leader
        last = self.pool.at[leader].extra
        if not self._begins_behind(last, record):
            return last
        other = self.pool.at[last].kept_next
        while not self._begins_behind(other, record):
            steps += 1
            if steps == _FOLLOWERS_IN_FRONT_MAX:
                return last
            before = other
            other = self.pool.at[other].kept_next
        self.pool.walked += steps
        return before

    cdef inline bint _begins_behind(self, int follower, int record) noexcept nogil:
        """Whether a follower is a FIN or RST without payload, with a number above a segment's."""
        cdef Record* rec = &self.pool.at[follower]
        return rec.payload_len == 0 and seq_diff(rec.seq, self.pool.at[record].seq) > 0

    cdef int _follow_behind(self, Row* r, int leader, int before, int record) noexcept nogil:
        """Insert a copy among the followers of `leader`."""
        cdef Record* rec = &self.pool.at[leader]
        if not rec.marks & _FOLLOWED or before == <int>rec.extra:
            return self.follow(r, leader, record, record)
        if before == leader:
            before = rec.extra  # a ring: the first stands behind the last
        self.pool.at[record].kept_next = self.pool.at[before].kept_next
        self.pool.at[before].kept_next = record
        return 0

    cdef int _hand_over(self, Row* r, int leader, int before, int record) noexcept nogil:
        """Followers of `leader` after `before` follow `record` from now on."""
        cdef Record* rec = &self.pool.at[leader]
        cdef int last = rec.extra
        cdef int first = self.pool.at[last].kept_next
        cdef int moved
        if before == last:
            return 0
        if before == leader:
            rec.marks &= ~_FOLLOWED
            return self.follow(r, record, first, last)
        moved = self.pool.at[before].kept_next
        self.pool.at[before].kept_next = first
        rec.extra = before
        return self.follow(r, record, moved, last)

    cdef int insert(self, Row* r, int leader, int before, int record) noexcept nogil:
        """Insert retransmitted payload after `leader`, which was just found (-1: none), or as its follower.

        In the queue its place is after `before`, which `behind_which` has found.
        """
        cdef Record* rec = &self.pool.at[record]
        cdef int after
        if leader != _NONE and seq_diff(self.end(leader), self.end(record)) >= 0:
            return self._follow_behind(r, leader, before, record)
        if leader == _NONE:
            self._gather_loose(r, record)
        elif self.pool.at[leader].marks & _FOLLOWED:
            self._hand_over(r, leader, before, record)
        after = r.leads.head if leader == _NONE else self.pool.at[leader].kept_next
        while after != _NONE and seq_diff(self.end(after), self.end(record)) <= 0:
            after = self._take_in(r, record, after)
        rec.kept_next = after
        if leader == _NONE:
            r.leads.head = record
        else:
            self.pool.at[leader].kept_next = record
        if after == _NONE:
            r.leads.tail = record
        r.leads.count += 1
        if r.primary_tree != _NONE:
            self.trees.insert(r.primary_tree, record)
        if r.cursor != _NONE and seq_diff(rec.seq, self.pool.at[r.cursor].seq) < 0 and (
            seq_diff(self.end(record), r.compared_seq) > 0
        ):
            r.cursor = record
        return 0

    cdef int _take_in(self, Row* r, int record, int contained) noexcept nogil:
        """The next leader after `record`'s place follows it from now on; the leader after that is next."""
        cdef Record* rec = &self.pool.at[contained]
        cdef int after = rec.kept_next
        if r.primary_tree != _NONE:
            self.trees.take_out(r.primary_tree, contained)
        r.leads.count -= 1
        if r.cursor == contained:
            r.cursor = record
        self.follow(r, record, contained, contained)
        if rec.marks & _FOLLOWED:
            rec.marks &= ~_FOLLOWED
            self.follow(r, record, self.pool.at[rec.extra].kept_next, rec.extra)
        return after
