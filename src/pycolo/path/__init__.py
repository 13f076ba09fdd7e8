"""The loop that moves frames, and its two stages: what it reads and writes, and the cores that it asks.

The compiled files are part of `pycolo.core` and are read in this order: `streams` (what is read and written), `pump`
(the loop), `comparing` and `rewriting` (the stages). `cores` makes the cores that all shells use, and says what they
count. Nothing here knows a chardev, a device or a link.
"""
