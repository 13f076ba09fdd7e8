"""Connections: which frames belong together, and which rows of memory they own.

    jhash    the kernel's hash family (lookup3); bit-exact, also with QEMU
    siphash  the keyed hash of the table
    key      the connection key as a value, for messages and tests
    table    the bounded table from a packet's key to a row number

It may import `pycolo.wire` (the fields of a packet), `pycolo.storage`, the errors and the limits. It knows nothing of
comparing or rewriting, which keep their own columns beside the table's. No clock and no randomness: the time and the
hash seed are arguments.

`key` is Python; the rest is compiled as parts of `pycolo.core`.
"""
