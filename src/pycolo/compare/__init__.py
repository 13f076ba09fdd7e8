"""colo-compare as a pure core: the primary's packets leave only when the secondary gave the same.

May know `pycolo.wire`, `pycolo.conntrack`, `pycolo.storage`. Facts come in as calls with the time (µs, monotonic) as
an argument, frames leave through `Comparator.drain`, everything else through `Comparator.commands`.

    kinds        names of differences, policies and row states
    difference   what is told to the outside: `Difference`, and the commands
    rows         what is known of a connection, what is counted
    held         packets that wait, what is ready to leave
    trace        what became of each packet, for `--pcap`
    stream       TCP's two byte streams: what both guests have said, how far it is equal
    history      what was equal, for payload that is sent again (C9)
    promises     acks, windows and SACK blocks (C3, C11), and what is owed
    onesided     what one guest alone does, and what only the client can end (C8)
    tcp          rules C1, C2: what of a connection may leave
    datagram     rule C4: a multiset of payloads per connection
    fragments    IP datagrams put together from their fragments, for the two above
    clients      what the client's frames tell, and which the secondary is not to get (C8, R1)
    admission    what there is room for; ages: what waits for too long
    straight     the common case of datagram; steady: that of tcp, tried first for each frame
    comparator   the batch loop, time-outs, epochs: the class that a shell drives

`kinds`, `difference` and what makes values of a trace are Python; the rest is compiled as parts of `pycolo.core`.
"""
