"""Bounded memory for packets that wait.

May know `pycolo.wire` and the limits. Nothing here grows without bound, and nothing is allocated per packet:

    arena   one block of memory, cut into slabs of equal blocks: a frame lies in one piece
    pool    records (one per waiting packet) in columns, and first-in-first-out lists of them
"""
