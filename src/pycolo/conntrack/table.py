"""The connection table: bounded, seeded, evicted one by one.

A connection is a *row*: an index that stays the same while it lives. Cores keep their own columns beside the table's
and call `grow` when it says so. Rows are found through a chained hash over the packed key::

    word 0-3 source   4-7 destination   8 source_port | destination_port << 16   9 ip_proto | ip_version << 8   10 vlan

For IPv4 the hash is the seed's connection hash, for IPv6 jhash2 over all words; `seed` comes from outside and is
random, since a fixed one invites collision attacks. Rows stand in one of six lists, least recently seen first ::

    HALF_OPEN   a TCP connection begins here, and stays until `confirm`: nothing but a claim
    CLOSED      `close`: it has ended
    ENDING      `ending`: both ends have said their last word, as far as one of them tells
    DATAGRAM    anything but TCP
    OPEN        `confirm`: its handshake is complete
    ASSURED     `assure`: the guest has gone on with it

Each list has its time-out. A full table gives up in that order (DATAGRAM and OPEN are one, least recently seen
first), so that what costs a stranger one packet goes first and what two ends keep up goes last. A *pinned* row (one
that holds packets) is never given up: a search that comes upon it puts it at the back, as seen just now, and goes on.
A row moves to the back of its list at most ten times a second: order is exact to 100 ms and costs little.
"""

import cython

from pycolo import limits
from pycolo.conntrack.key import key_from_words
from pycolo.storage.pool import filled, grown

if cython.compiled:
    from cython.cimports.pycolo.conntrack.jhash import connection_hash, jhash2_words
    from cython.cimports.pycolo.wire.kinds import IpProto, PacketKind, TcpFlag
    from cython.cimports.pycolo.wire.packet import Packet
else:
    from pycolo.conntrack.jhash import connection_hash, jhash2_words
    from pycolo.wire.kinds import IpProto, PacketKind, TcpFlag
    from pycolo.wire.packet import Packet

_NONE = cython.declare(cython.int, -1)
_KEY_WORDS = cython.declare(cython.Py_ssize_t, 11)
_FREE = cython.declare(cython.int, 0)
_HALF_OPEN = cython.declare(cython.int, 1)
_CLOSED = cython.declare(cython.int, 2)
_DATAGRAM = cython.declare(cython.int, 3)
_OPEN = cython.declare(cython.int, 4)
_ASSURED = cython.declare(cython.int, 5)
_ENDING = cython.declare(cython.int, 6)
_LISTS = 7
_TOUCH_US = cython.declare(cython.longlong, 100_000)
_CLOSED_GRACE_US = cython.declare(cython.longlong, limits.CLOSED_GRACE_MS * 1000)
_ENDING_US = cython.declare(cython.longlong, limits.ENDING_SILENT_MS * 1000)
_IDLE_US = cython.declare(cython.longlong, limits.CONNECTION_IDLE_MS * 1000)
_DATAGRAM_IDLE_US = cython.declare(cython.longlong, limits.DATAGRAM_IDLE_MS * 1000)
_EVICT_STEPS = cython.declare(cython.int, 64)


class ConnectionTable:
    """`rows` places now (doubled by `grow` up to `rows_max`), `used` of them taken.

    `pins[row]` counts reasons not to evict the row; the core that owns the table sets it. `half_open_ms`: how long a
    row may stay half-open.
    """

    def __init__(self, rows_max, seed, rows_start=limits.CONNECTIONS_START, half_open_ms=limits.HALF_OPEN_MS):
        self.rows_max = rows_max
        self.rows = min(rows_start, rows_max)
        self.seed = seed & 0xFFFFFFFF
        self.used = 0
        self.evicted_idle = self.evicted_closed = self.evicted_half_open = self.evicted_lru = self.refused_full = 0
        self.pins = filled(self.rows, "i", 0)
        self.last_seen_us = filled(self.rows, "q", 0)
        self._key = filled(self.rows * 11, "I", 0)
        self._hash = filled(self.rows, "I", 0)
        self._chain = filled(self.rows, "i", -1)
        self._list = filled(self.rows, "i", 0)
        self._newer = filled(self.rows, "i", -1)
        self._older = filled(self.rows, "i", -1)
        self._oldest = filled(_LISTS, "i", -1)
        self._newest = filled(_LISTS, "i", -1)
        self._half_open_us = half_open_ms * 1000
        self._wanted = filled(11, "I", 0)
        self._wanted_hash = 0
        self._untouched = 0
        self._build_buckets()

    def _build_buckets(self):
        self._mask = 1
        while self._mask < self.rows:
            self._mask *= 2
        self._buckets = filled(self._mask, "i", -1)
        self._mask -= 1
        for row in range(self._untouched):
            if self._list[row] != _FREE:
                bucket = self._hash[row] & self._mask
                self._chain[row] = self._buckets[bucket]
                self._buckets[bucket] = row

    def grow(self):
        """Double the rows, up to `rows_max`; the new number of rows is returned."""
        self.rows = min(self.rows * 2, self.rows_max)
        self.pins = grown(self.pins, self.rows, "i", 0)
        self.last_seen_us = grown(self.last_seen_us, self.rows, "q", 0)
        self._key = grown(self._key, self.rows * 11, "I", 0)
        self._hash = grown(self._hash, self.rows, "I", 0)
        self._chain = grown(self._chain, self.rows, "i", -1)
        self._list = grown(self._list, self.rows, "i", 0)
        self._newer = grown(self._newer, self.rows, "i", -1)
        self._older = grown(self._older, self.rows, "i", -1)
        self._build_buckets()
        return self.rows

    def key(self, row):
        """The `ConnectionKey` of a row in use."""
        return key_from_words([self._key[row * 11 + i] for i in range(11)])

    def copy_key(self, row: cython.int, target: cython.uint[::1], pos: cython.Py_ssize_t) -> cython.int:
        """Write the eleven words of the row's key to `target` from `pos`."""
        base: cython.Py_ssize_t = row * _KEY_WORDS
        i: cython.Py_ssize_t = 0
        while i < _KEY_WORDS:
            target[pos + i] = self._key[base + i]
            i += 1
        return 0

    def in_use(self, row: cython.int) -> cython.bint:
        """Whether the row is a connection now."""
        return 0 <= row < self._untouched and self._list[row] != _FREE

    def is_tcp(self, row: cython.int) -> cython.bint:
        """Whether the row's protocol is TCP."""
        return self._key[row * _KEY_WORDS + 9] & 0xFF == IpProto.PROTO_TCP

    def wants_growth(self) -> cython.bint:
        """Whether the next insertion needs `grow` first."""
        return self.used == self.rows and self.rows < self.rows_max

    def find(self, packet: Packet, is_reversed: cython.bint) -> cython.int:
        """The row of the packet's connection, or -1. `is_reversed`: look for the opposite direction's key."""
        ports: cython.uint
        i: cython.Py_ssize_t = 4 if is_reversed else 0
        self._wanted[i] = packet.source0
        self._wanted[i + 1] = packet.source1
        self._wanted[i + 2] = packet.source2
        self._wanted[i + 3] = packet.source3
        i = 4 - i
        self._wanted[i] = packet.destination0
        self._wanted[i + 1] = packet.destination1
        self._wanted[i + 2] = packet.destination2
        self._wanted[i + 3] = packet.destination3
        if is_reversed:
            ports = packet.destination_port
            self._wanted[8] = ports | (packet.source_port << 16)
        else:
            ports = packet.source_port
            self._wanted[8] = ports | (packet.destination_port << 16)
        self._wanted[9] = packet.ip_proto | (packet.ip_version << 8)
        self._wanted[10] = packet.vlan
        if packet.ip_version == 4:
            self._wanted_hash = connection_hash(
                self._wanted[0],
                self._wanted[4],
                self._wanted[8] & 0xFFFF,
                self._wanted[8] >> 16,
                packet.ip_proto,
                self.seed,
            )
        else:
            self._wanted_hash = jhash2_words(self._wanted, 0, _KEY_WORDS, self.seed)
        row: cython.int = self._buckets[self._wanted_hash & self._mask]
        while row != _NONE:
            if self._hash[row] == self._wanted_hash and self._matches(row):
                return row
            row = self._chain[row]
        return _NONE

    def wanted_hash(self) -> cython.Py_ssize_t:
        """The hash of the key that was looked for last."""
        return self._wanted_hash

    def _matches(self, row: cython.int) -> cython.bint:
        base: cython.Py_ssize_t = row * _KEY_WORDS
        i: cython.Py_ssize_t = 0
        while i < _KEY_WORDS:
            if self._key[base + i] != self._wanted[i]:
                return False
            i += 1
        return True

    def insert(self, now_us: cython.longlong) -> cython.int:
        """Make a row for the key that `find` just missed; -1 if there is no place (see `wants_growth`, `evict`)."""
        row: cython.int = self._oldest[_FREE]
        if row != _NONE:
            self._unlink(row)
        elif self._untouched < self.rows:
            row = self._untouched
            self._untouched += 1
        else:
            return _NONE
        base: cython.Py_ssize_t = row * _KEY_WORDS
        i: cython.Py_ssize_t = 0
        while i < _KEY_WORDS:
            self._key[base + i] = self._wanted[i]
            i += 1
        self._hash[row] = self._wanted_hash
        bucket: cython.Py_ssize_t = self._wanted_hash & self._mask
        self._chain[row] = self._buckets[bucket]
        self._buckets[bucket] = row
        self.pins[row] = 0
        self.last_seen_us[row] = now_us
        self._link(row, _HALF_OPEN if self._wanted[9] & 0xFF == IpProto.PROTO_TCP else _DATAGRAM)
        self.used += 1
        return row

    def touch(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """The connection was seen."""
        if now_us - self.last_seen_us[row] >= _TOUCH_US:
            self._move(row, self._list[row], now_us)
        return 0

    def close(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """The connection has ended; it stays for CLOSED_GRACE_MS, or until its place is needed."""
        if self._list[row] != _CLOSED:
            self._move(row, _CLOSED, now_us)
        return 0

    def is_closed(self, row: cython.int) -> cython.bint:
        """Whether it has ended, and no new one has taken the key."""
        return self._list[row] == _CLOSED

    def ending(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """It seems to have ended: so it has if nothing more is said for ENDING_SILENT_MS."""
        kind: cython.int = self._list[row]
        if kind != _CLOSED and kind != _DATAGRAM and kind != _ENDING:
            self._move(row, _ENDING, now_us)
        return 0

    def resume(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """What seemed to have ended has not."""
        if self._list[row] == _ENDING:
            self._move(row, _ASSURED, now_us)
        return 0

    def reopen(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """A new TCP connection has taken the key."""
        if self._list[row] != _HALF_OPEN and self._list[row] != _DATAGRAM:
            self._move(row, _HALF_OPEN, now_us)
        return 0

    def confirm(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """Its handshake is complete."""
        if self._list[row] == _HALF_OPEN:
            self._move(row, _OPEN, now_us)
        return 0

    def assure(self, row: cython.int, now_us: cython.longlong) -> cython.int:
        """The guest has gone on with it."""
        if self._list[row] == _HALF_OPEN or self._list[row] == _OPEN:
            self._move(row, _ASSURED, now_us)
        return 0

    def heard(self, row: cython.int, packet: Packet, now_us: cython.longlong) -> cython.int:
        """A further packet of the guest: a segment that is neither SYN nor RST is behind the handshake."""
        if packet.kind == PacketKind.TCP and not packet.flags & (TcpFlag.SYN | TcpFlag.RST):
            self.assure(row, now_us)
        return self.touch(row, now_us)

    def expired(self, now_us: cython.longlong) -> cython.int:
        """An unpinned row whose time-out has passed, or -1. The caller removes it."""
        row: cython.int = self._aged(_HALF_OPEN, self._half_open_us, now_us)
        if row != _NONE:
            self.evicted_half_open += 1
            return row
        row = self._aged(_CLOSED, _CLOSED_GRACE_US, now_us)
        if row == _NONE:
            row = self._aged(_ENDING, _ENDING_US, now_us)
        if row != _NONE:
            self.evicted_closed += 1
            return row
        row = self._aged(_DATAGRAM, _DATAGRAM_IDLE_US, now_us)
        if row == _NONE:
            row = self._aged(_OPEN, _IDLE_US, now_us)
        if row == _NONE:
            row = self._aged(_ASSURED, _IDLE_US, now_us)
        if row != _NONE:
            self.evicted_idle += 1
        return row

    def evict(self, now_us: cython.longlong) -> cython.int:
        """The row to give up when the table is full: expired, else the first in the order of the lists; or -1."""
        row: cython.int = self.expired(now_us)
        if row != _NONE:
            return row
        row = self._unpinned(_HALF_OPEN, now_us)
        if row != _NONE:
            self.evicted_half_open += 1
            return row
        row = self._unpinned(_CLOSED, now_us)
        if row == _NONE:
            row = self._unpinned(_ENDING, now_us)
        if row != _NONE:
            self.evicted_closed += 1
            return row
        row = self._unpinned(_DATAGRAM, now_us)
        tcp: cython.int = self._unpinned(_OPEN, now_us)
        if row == _NONE or (tcp != _NONE and self.last_seen_us[tcp] < self.last_seen_us[row]):
            row = tcp
        if row == _NONE:
            row = self._unpinned(_ASSURED, now_us)
        if row == _NONE:
            self.refused_full += 1
        else:
            self.evicted_lru += 1
        return row

    def _aged(self, kind: cython.int, age_us: cython.longlong, now_us: cython.longlong) -> cython.int:
        """The first of a list if it is as old as that. What is pinned is seen: each is met once in `age_us`."""
        row: cython.int = self._oldest[kind]
        while row != _NONE and now_us - self.last_seen_us[row] >= age_us:
            if not self.pins[row]:
                return row
            self._move(row, kind, now_us)
            row = self._oldest[kind]
        return _NONE

    def _unpinned(self, kind: cython.int, now_us: cython.longlong) -> cython.int:
        """The first of a list that is not pinned, looked for among so many; the next search goes on from there."""
        steps: cython.int = 0
        row: cython.int = self._oldest[kind]
        while row != _NONE and self.pins[row] and steps < _EVICT_STEPS:
            self._move(row, kind, now_us)
            row = self._oldest[kind]
            steps += 1
        return _NONE if row == _NONE or self.pins[row] else row

    def remove(self, row: cython.int) -> cython.int:
        """Forget a row."""
        bucket: cython.Py_ssize_t = self._hash[row] & self._mask
        other: cython.int = self._buckets[bucket]
        if other == row:
            self._buckets[bucket] = self._chain[row]
        else:
            while self._chain[other] != row:
                other = self._chain[other]
            self._chain[other] = self._chain[row]
        self._unlink(row)
        self._link(row, _FREE)
        self.used -= 1
        return 0

    def _move(self, row: cython.int, kind: cython.int, now_us: cython.longlong) -> cython.int:
        self._unlink(row)
        self.last_seen_us[row] = now_us
        return self._link(row, kind)

    def _link(self, row: cython.int, kind: cython.int) -> cython.int:
        last: cython.int = self._newest[kind]
        self._list[row] = kind
        self._older[row] = last
        self._newer[row] = _NONE
        if last == _NONE:
            self._oldest[kind] = row
        else:
            self._newer[last] = row
        self._newest[kind] = row
        return 0

    def _unlink(self, row: cython.int) -> cython.int:
        kind: cython.int = self._list[row]
        before: cython.int = self._older[row]
        after: cython.int = self._newer[row]
        if before == _NONE:
            self._oldest[kind] = after
        else:
            self._newer[before] = after
        if after == _NONE:
            self._newest[kind] = before
        else:
            self._older[after] = before
        return 0
