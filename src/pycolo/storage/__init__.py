"""Bounded memory for packets that wait.

It may import `pycolo.wire` and the limits. Nothing here grows without bound, and nothing is allocated per packet:

    arena   one block of memory, divided into slabs of equal blocks: a frame is contiguous
    column  arrays of numbers that grow
    pool    records, one per waiting packet, and first-in-first-out lists of them
    views   for tests: memory that only C sees

All of it is compiled as parts of `pycolo.core`.
"""
