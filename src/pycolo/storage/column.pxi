"""Columns: arrays of numbers, one per connection or record, allocated for the maximum count.

Unwritten places cost no memory: the kernel supplies pages when they are touched. So a column of a million places is
only address space, nothing moves when connections are added, and no preparation is needed.

A column begins at a cache line; the line before it says in which block it lies.
"""

cdef enum:
    _LINE_BYTES = 64


cdef void* column(void* old, Py_ssize_t count, Py_ssize_t size, int fill) except NULL:
    """Room for `count` numbers of `size` bytes, initialised to 0 or -1; it replaces `old` (NULL: none), which is freed.

    Raises MemoryError.
    """
    cdef Py_ssize_t octets = max(count, 1) * size
    cdef uint8_t* block = <uint8_t*>calloc(1, octets + 2 * _LINE_BYTES)
    cdef uint8_t* found
    if block == NULL:
        raise MemoryError
    release_column(old)
    found = block + 2 * _LINE_BYTES - (<size_t>block & (_LINE_BYTES - 1))
    (<uint8_t**>(found - _LINE_BYTES))[0] = block
    if fill != 0:
        memset(found, fill, octets)
    return found


cdef void release_column(void* old) noexcept:
    """Free a column (NULL: none)."""
    if old != NULL:
        free_memory((<uint8_t**>(<uint8_t*>old - _LINE_BYTES))[0])
