"""Mutual waits (rule C5): one connection waits for the secondary, another for the primary, and nothing moves.

Two guests that grant a lock in different orders answer different clients, and each client's next request depends on an
answer that is held. Only a checkpoint ends that, so it is requested long before compare_timeout.

A busy pair costs a comparison of counters; connections are looked at only when nothing has moved for `wait_us`.
"""


@cython.final
cdef class MutualWait:
    """`wait_us`: how long nothing must have moved; 0: mutual waits are left to compare_timeout."""

    cdef Held held
    cdef Ages ages
    cdef public long long wait_us
    cdef long long _moved
    cdef long long _still_since_us

    def __init__(self, held, ages, wait_us):
        self.held = held
        self.ages = ages
        self.wait_us = wait_us
        self._moved = -1
        self._still_since_us = 0

    cdef inline long long due_us(self) noexcept nogil:
        """When to look next, while packets wait."""
        return self._still_since_us + self.wait_us if self.wait_us else _NEVER

    cdef int look(self, long long now_us) noexcept nogil:
        """Report a mutual wait: by the connection whose primary packet waits."""
        cdef long long moved = self.held.stats.released + self.held.stats.discarded + self.held.stats.compared_bytes
        cdef long long bound_us
        cdef int row
        cdef int for_secondary = _NONE
        cdef int for_primary = _NONE
        if not self.wait_us or now_us - self._still_since_us < self.wait_us:
            return 0
        bound_us = now_us - self.wait_us
        self._still_since_us = now_us
        if moved != self._moved:
            self._moved = moved
            return 0
        if self.held.checkpoint_wanted or self.held.policy != DivergencePolicy.CHECKPOINT:
            return 0  # nothing but a checkpoint ends it
        row = self.held.active_head
        while row != _NONE and (for_secondary == _NONE or for_primary == _NONE):
            if self.ages.waits_since_us(row, False, now_us) <= bound_us:
                for_secondary = row
            elif self.ages.waits_since_us(row, True, now_us) <= bound_us:
                for_primary = row
            row = self.held.next_active(row)
        if for_secondary == _NONE or for_primary == _NONE:
            return 0
        return self.held.report(
            DifferenceKind.MUTUAL_WAIT,
            for_secondary,
            self.held.rows[for_secondary].compared_seq,
            now_us - self.ages.waits_since_us(for_secondary, False, now_us),
        )
