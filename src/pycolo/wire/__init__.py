"""Bytes <-> fields: the lowest layer.

It may import `pycolo.errors` and `pycolo.limits` only; it knows headers and their RFCs, nothing else of the program. It
does not judge content: a parsed `Packet` holds offsets and numbers of one frame in the caller's buffer.

    kinds       the names of packet kinds, refusals, TCP flags
    octets      copy, compare and load bytes at a pointer; the range check for buffers from Python
    seq         serial arithmetic (RFC 1982) for TCP sequence numbers: the only place that compares them
    checksum    RFC 1071 and, incrementally, RFC 1624
    framing     the length words around a frame on a stream (QEMU's)
    packet      the total parser: any bytes give a packet or a counted refusal
    patch       change fields in place; split a segment; turn a segment into a bare ACK
    views       these functions for Python, with range checks
    build       complete frames of our own: gratuitous ARP, unsolicited neighbour advertisement
    capture     pcap and pcapng

All but `kinds`, `buffers`, `build` and `capture` are parts of `pycolo.core`, the compiled packet path.
"""
