"""For how long packets wait (rules C5 and C8): what waits too long, or only one side has done, is a difference.

The time for which the other side was not read (see `admission`) does not count.
"""

import cython

if cython.compiled:
    from cython.cimports.pycolo.compare.kinds import DifferenceKind, RowFlag
else:
    from pycolo.compare.kinds import DifferenceKind, RowFlag

_NONE = cython.declare(cython.int, -1)
_NEVER = cython.declare(cython.longlong, 1 << 62)


class Ages:
    """`timeout_us`: compare_timeout."""

    def __init__(self, held, tcp, datagram, admission, timeout_us):
        self.held = held
        self.tcp = tcp
        self.datagram = datagram
        self.admission = admission
        self.timeout_us = timeout_us

    def time_out(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """Report what has waited for too long, and apply the policy."""
        if self.held.flags[row] & RowFlag.DIVERGED or self.held.checkpoint_wanted:
            return 0
        if not self.held.table.is_tcp(row):
            return self.datagram.timed_out(row, self._bound_us(True, now_us), self._bound_us(False, now_us), now_us)
        kind: cython.int = DifferenceKind.TIMEOUT
        record: cython.int = self._oldest(self.held.primary.head[row])
        since_us: cython.longlong = self._waits_since_us(self._arrived_us(record), False, now_us)
        theirs: cython.int = self._oldest(self.held.secondary.head[row])
        their_us: cython.longlong = self._waits_since_us(self._arrived_us(theirs), True, now_us)
        if their_us < since_us:
            kind = DifferenceKind.SECONDARY_TIMEOUT
            record = theirs
            since_us = their_us
        their_us = self._waits_since_us(self.tcp.alone_since_us(row), True, now_us)
        if their_us < since_us:
            kind = DifferenceKind.SECONDARY_TIMEOUT
            record = _NONE
            since_us = their_us
        since_us = self.tcp.waits_from_us(row, record, since_us, now_us)
        if now_us - since_us < self.timeout_us:
            return 0
        self.held.stats.timeouts += 1
        return self.tcp.timed_out(row, kind, record, now_us)

    def _oldest(self, record: cython.int) -> cython.int:
        """The packet of a queue that came first: what comes late, or again, goes in front of what begins behind it."""
        oldest: cython.int = record
        while record != _NONE:
            if self.held.pool.arrived_us[record] < self.held.pool.arrived_us[oldest]:
                oldest = record
            record = self.held.pool.next[record]
        return oldest

    def _arrived_us(self, record: cython.int) -> cython.Py_ssize_t:
        return _NEVER if record == _NONE else self.held.pool.arrived_us[record]

    def _waits_since_us(
        self, since_us: cython.longlong, for_primary: cython.bint, now_us: cython.longlong
    ) -> cython.Py_ssize_t:
        """Since when something that came at `since_us` waits in earnest for the primary, or the secondary."""
        return max(since_us, self.admission.stood_us(for_primary, now_us))

    def _bound_us(self, is_primary: cython.bint, now_us: cython.longlong) -> cython.Py_ssize_t:
        """A packet of that side that came by then waits for too long; -1: none does."""
        bound_us: cython.longlong = now_us - self.timeout_us
        return bound_us if self.admission.stood_us(not is_primary, now_us) <= bound_us else _NONE
