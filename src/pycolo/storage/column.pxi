"""Columns: arrays of numbers, one per connection or record, that grow and never shrink.

A column begins behind a word that says how many bytes it has, so that it can be lengthened and freed by its address
alone. What was never written costs no memory: the kernel gives pages when they are touched.
"""

cdef enum:
    _COLUMN_HEADER = 64


cdef void* column(void* old, Py_ssize_t count, Py_ssize_t size, int fill) except NULL:
    """Room for `count` numbers of `size` bytes; what `old` (NULL: nothing yet) held stays, the rest is 0, or -1.

    Raises MemoryError.
    """
    cdef Py_ssize_t wanted = max(count, 1) * size
    cdef Py_ssize_t had = 0
    cdef uint8_t* block = NULL
    if old == NULL:
        block = <uint8_t*>calloc(1, _COLUMN_HEADER + wanted)
    else:
        block = <uint8_t*>old - _COLUMN_HEADER
        had = (<Py_ssize_t*>block)[0]
        block = <uint8_t*>realloc(block, _COLUMN_HEADER + wanted)
    if block == NULL:
        raise MemoryError
    if fill != 0 or old != NULL:
        memset(block + _COLUMN_HEADER + had, fill, wanted - had)
    (<Py_ssize_t*>block)[0] = wanted
    return block + _COLUMN_HEADER


cdef void release_column(void* old) noexcept:
    """Free a column (NULL: none)."""
    if old != NULL:
        free_memory(<uint8_t*>old - _COLUMN_HEADER)
