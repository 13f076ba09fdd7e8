"""filter-rewriter as a pure core: the secondary keeps the connection that the client has with the primary.

May know `pycolo.wire`, `pycolo.conntrack`, `pycolo.storage`. Client frames go in one way, guest frames the other, both
as batches; what is to be sent is written to the caller's buffer.

    kinds       states of a connection's offset
    offsets     seq_offset and ts_offset of each connection: how they are learned, where they are added
    copies      the secondary's unacknowledged frames, to be sent again at takeover
    neighbours  the guest's addresses, to be announced on the LAN at takeover
    rewriter    the batch loop and the facts: the class that a shell drives
"""
