"""The state of a connection: a row beside that of the connection table. `offsets` and `progress` have the rules that
change it, and say what each number means.
"""

cdef struct RewriteRow:
    # Fields that each segment needs come first: one cache line, or two.
    int state
    int flags
    uint32_t seq_offset
    uint32_t ts_offset
    uint32_t sent
    uint32_t acked
    uint32_t taken
    uint32_t received
    uint32_t edge
    int scale
    uint32_t sent_value
    uint32_t echoed
    # The handshake.
    uint32_t secondary_isn
    uint32_t secondary_value
    uint32_t due
    uint32_t first
    uint32_t claim_isn
    uint32_t claim_end
    long long claim_us
    uint32_t answer_isn
    uint32_t other_isn
    uint32_t other_seq_offset
    uint32_t other_ts_offset
    # The end.
    uint32_t guest_fin
    uint32_t client_fin
