"""Bounded memory for packets that wait.

May know `pycolo.wire` and the limits. Nothing here grows without bound, and nothing is allocated per packet:

    arena   one block of memory, cut into slabs of equal blocks: a frame lies in one piece
    column  arrays of numbers that grow
    pool    records, one per waiting packet, and first-in-first-out lists of them
    views   for tests: what lies in memory that only C sees

All of it is compiled as parts of `pycolo.core`.
"""
