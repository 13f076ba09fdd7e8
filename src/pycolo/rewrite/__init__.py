"""filter-rewriter as a pure core: the secondary continues the connection that the client has with the primary.

It may import `pycolo.wire`, `pycolo.conntrack`, `pycolo.storage`. Client frames go in one direction, guest frames in
the other, both as batches; output is written to the caller's buffer.

    kinds       states of a connection's offset
    rows        the state of a connection
    offsets     seq_offset and ts_offset of each connection: how they are learned, where they are added
    progress    how far each end of a connection is: which client segments are believable, when it has ended
    quotes      TCP headers in ICMP errors and in first fragments
    waiting     client frames that wait for the guest's part of the handshake
    copies      the secondary's unacknowledged frames, to be sent again at takeover
    neighbours  the guest's addresses, to announce on the LAN at takeover
    tables      the offsets as a table for another node
    translator  the rules, frame by frame
    straight    the common case of translator, tried first for each frame
    rewriter    the batch loop and the facts: the class that a shell drives

`kinds` and the value `Neighbour` are Python; the rest is compiled as parts of `pycolo.core`.
"""
