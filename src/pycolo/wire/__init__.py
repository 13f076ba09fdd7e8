"""Bytes <-> fields: the lowest layer.

May know: headers, their RFCs, and nothing else of the program (only `pycolo.errors` and `pycolo.limits`).
Makes no judgement about content: a parsed `Packet` is offsets and numbers of one frame in somebody else's buffer.

    kinds       the names of packet kinds, refusals, TCP flags
    octets      copy, compare and load bytes at a pointer; the check of a range that Python hands over
    seq         serial arithmetic (RFC 1982) for TCP sequence numbers: the only place that compares them
    checksum    RFC 1071 and, incrementally, RFC 1624
    framing     the length words around a frame on a stream (QEMU's)
    packet      the total parser: any bytes give a packet or a counted refusal
    patch       change fields in place; split a segment; turn a segment into a bare ACK
    views       what Python may call of these, with each range checked
    build       whole frames of our own: gratuitous ARP, unsolicited neighbour advertisement
    capture     pcap and pcapng

All but `kinds`, `buffers`, `build` and `capture` are parts of `pycolo.core`, the compiled packet path.
"""
