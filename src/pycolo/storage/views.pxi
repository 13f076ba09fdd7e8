"""For tests: memory that only C sees. The program itself calls none of this; every position is checked."""


def arena_bytes(Arena arena, Py_ssize_t pos, Py_ssize_t size):
    """The bytes from `pos` of an arena."""
    check_range(arena.slab_count << _SLAB_SHIFT, pos, pos + size)
    return (<char*>arena.memory)[pos : pos + size]


def arena_write(Arena arena, Py_ssize_t pos, const uint8_t[::1] octets):
    """Write to an arena from `pos`."""
    check_range(arena.slab_count << _SLAB_SHIFT, pos, pos + len(octets))
    if len(octets):
        memcpy(arena.memory + pos, &octets[0], len(octets))


def store(Pool pool, uint8_t[::1] buf, Py_ssize_t start, Py_ssize_t size, int vnet_len):
    """A record that holds a copy of `size` bytes of `buf` from `start`, or NONE."""
    check_range(len(buf), start, start + size)
    return pool.store(&buf[0], start, size, vnet_len)


def stored(Pool pool, int record):
    """The bytes of a record, and the length of its vnet header."""
    check_range(pool._untouched, record, record + 1)
    return arena_bytes(pool.arena, pool.at[record].pos, pool.at[record].length), pool.at[record].vnet_len


def chain(Pool pool, int record, int chained):
    """Free `chained` together with `record`."""
    check_range(pool._untouched, record, record + 1)
    check_range(pool._untouched, chained, chained + 1)
    pool.at[record].chain = chained


def queued(Queues queues, int row):
    """The records of a list, in its order."""
    check_range(queues._rows, row, row + 1)
    cdef int record = queues.at[row].head
    found = []
    while record != _NONE:
        found.append(record)
        record = queues.pool.at[record].next
    assert (queues.at[row].count, queues.at[row].tail) == (len(found), found[len(found) - 1] if found else _NONE)
    return found


def pin(ConnectionTable table, int row, int pins):
    """Set the number of reasons not to evict a row."""
    check_range(table.rows, row, row + 1)
    table.at[row].pins = pins
