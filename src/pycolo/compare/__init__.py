"""colo-compare as a pure core: the primary's packets leave only if the secondary gave the same.

It may import `pycolo.wire`, `pycolo.conntrack`, `pycolo.storage`. Facts come in as calls with the time (µs, monotonic)
as an argument, frames leave through `Comparator.drain`, everything else through `Comparator.commands`.

    kinds        names of differences, policies and row states
    difference   the output besides frames: `Difference`, and the commands
    rows         the state of a connection, and the counters
    held         packets that wait, and packets ready to leave
    trace        the fate of each packet, for `--pcap`
    stream       TCP's two byte streams: what both guests have sent, and how far it is equal
    history      equal payload, kept for retransmissions (C9)
    promises     acks, windows and SACK blocks (C3, C11), and what is owed
    onesided     what only one guest does, and waits that only the client can end (C8)
    tcp          rules C1, C2: which packets of a connection may leave
    datagram     rule C4: a multiset of payloads per connection
    fragments    IP datagrams reassembled from their fragments, for the two above
    clients      information from the client's frames, and which of them the secondary must not get (C8, R1)
    admission    what there is room for; ages: what has waited too long
    straight     the common case of datagram; steady: that of tcp, tried first for each frame
    comparator   the batch loop, time-outs, epochs: the class that a shell drives

`kinds`, `difference` and the values of a trace are Python; the rest is compiled as parts of `pycolo.core`.
"""
