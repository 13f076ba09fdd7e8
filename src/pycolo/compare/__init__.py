"""colo-compare as a pure core: the primary's packets leave only when the secondary gave the same.

May know `pycolo.wire`, `pycolo.conntrack`, `pycolo.storage`. Facts come in as calls with the time (µs, monotonic) as
an argument, frames leave through `Comparator.drain`, everything else through `Comparator.commands`.

    kinds        names of differences, policies and row states
    difference   what is told to the outside: `Difference`, and the commands
    held         packets that wait, what is known of each connection, what is ready to leave
    trace        what became of each packet, for `--pcap`
    tcp          rules C1-C3: one byte stream per connection and side
    datagram     rule C4: a multiset of payloads per connection
    fragments    IP datagrams put together from their fragments, for the two above
    comparator   the batch loop, time-outs, epochs: the class that a shell drives
"""
