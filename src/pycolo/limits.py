"""Every bound of the program, its source, unit last.

A bound without a reason is a bug waiting for load: who changes one finds here what it protects.
"""

from typing import Final

# ── frames ────────────────────────────────────────────────────────────────────────────────────────────────────
FRAME_BYTES_MIN: Final = 14
"""An Ethernet header; anything shorter is refused by the parser and passed on uncompared."""

STREAM_LENGTH_BYTES_MAX: Final = 4096 + 65536
"""QEMU's NET_BUFSIZE: the largest length word that it sends or takes."""

VNET_HEADER_BYTES: Final = (0, 10, 12)
"""virtio_net_hdr without and with num_buffers; 0 is none."""

IPV6_EXTENSION_HEADERS_MAX: Final = 8
"""RFC 8200 names seven kinds, each at most once (destination options twice)."""

VLAN_TAGS_MAX: Final = 2
"""802.1ad: one service tag and one customer tag."""

CAPTURE_BLOCK_BYTES_MAX: Final = 16 << 20
"""Of a capture that is read: no frame is as long, so a length word above it is damage, and takes no memory."""

# ── connections ───────────────────────────────────────────────────────────────────────────────────────────────
CONNECTIONS_MAX: Final = 1 << 20
"""A million connections at once: some 220 MB of tables when all are there, nothing before."""

CONNECTION_BUCKETS: Final = 1 << 12
"""First size of the tables' indices, 16 KiB each; they grow with the connections, one by one."""

CONNECTION_IDLE_MS: Final = 7_440_000
"""2 h 4 min, RFC 5382 REQ-5: an established TCP connection may be silent for that long."""

DATAGRAM_IDLE_MS: Final = 300_000
"""5 min, RFC 4787 REQ-5's recommended mapping time for UDP."""

HALF_OPEN_MS: Final = 120_000
"""Linux' nf_conntrack_tcp_timeout_syn_sent: a guest's last SYN waits for its answer for 64 s, its last SYN|ACK 32 s."""

CLOSED_GRACE_MS: Final = 60_000
"""Linux' TIME_WAIT: segments of a closed connection may come back for that long."""

ENDING_SILENT_MS: Final = 300_000
"""A FIN that is not acknowledged is sent again, at most 120 s apart (Linux' TCP_RTO_MAX): what is silent for longer
than two of these has been acknowledged or given up. RFC 5382 REQ-5 asks for 4 min at least."""

# ── comparison ────────────────────────────────────────────────────────────────────────────────────────────────
COMPARE_TIMEOUT_MS: Final = 3_000
"""colo-compare's default compare_timeout."""

EXPIRED_SCAN_CYCLE_MS: Final = 1_000
"""colo-compare's default expired_scan_cycle."""

QUEUE_PACKETS_MAX: Final = 1_024
"""colo-compare's default max_queue_size, per connection and side."""

NODE_QUEUE_PACKETS_MAX: Final = 16_384
"""The nodes' own default: one full TCP window (16 MiB) of 1 KB segments from one guest before the other's first."""

HELD_BYTES_MAX: Final = 256 << 20
"""Memory for held packets of one comparator (both sides); above it the node stops reading."""

HELD_PACKETS_MAX: Final = 1 << 18
"""Records for held packets of one comparator (about 100 B each): HELD_BYTES_MAX at 1 KB a frame."""

SPLIT_WAIT_MS: Final = 2
"""A held frame whose first part has been compared waits this long for the rest, then the part leaves alone."""

DATAGRAM_REORDER_MS: Final = 50
"""Datagrams of the two guests may overtake one another for this long before they count as different."""

RETAINED_PACKETS_MAX: Final = 256
"""Packets of the secondary kept below the frontier, per connection: 373 KB of full Ethernet frames. So where segments
are full the bytes are the bound, and where they are small the records (about 100 B each)."""

RETAINED_BYTES_MAX: Final = 256 << 10
"""The same in bytes: four GSO frames. What is sent again later than that leaves uncompared."""

RETAINED_ALL_PACKETS_MAX: Final = 16_384
"""The same of all connections together: with their records and blocks, what the processor's caches may have."""

RETAINED_ALL_BYTES_MAX: Final = 512 << 10
"""The same in bytes: half of a processor's second cache. What is kept is written over and over; with 16 MiB each packet
was written to memory that no cache had any more, and the path was half as fast."""

RETAINED_SHARE_PACKETS: Final = 8
"""Packets that a connection keeps though all together have too much: what a client may miss of one flight."""

CLIENT_WAIT_MS: Final = 300_000
"""A wait that only the client can end (its ACK) is no difference for 5 min: longer than TCP's own retransmissions of
one segment keep a client that has gone silent (RFC 9293 section 3.8.3: R2 at least 100 s)."""

SYN_DATA_BYTES_MAX: Final = 9_000
"""RFC 7413: a SYN has at most one segment of data, here a jumbo frame's. Two SYN|ACKs whose acks are no farther apart
answer the same SYN; a client's next one is at another place of 4 GiB (RFC 6528)."""

CLIENT_SYNS_MAX: Final = 1 << 14
"""SYNs of clients that are remembered until the guest has answered, in 16 B each. A guest answers within a millisecond,
in which at a million SYNs a second one in sixteen is displaced."""

RESET_SPAN_BYTES: Final = 1 << 24
"""A RST whose number is farther from the frontier than this belongs to another life of the connection: 16 MiB is one
full window of a tuned host."""

WINDOW_BYTES_MAX: Final = 1 << 30
"""RFC 7323 section 2.3: the largest window. Payload farther than this from the frontier is of no window, and of no use
to a client: it is dropped. Nearer than this, numbers that wait are in one order."""

DIFFERENCE_CONTEXT_BYTES: Final = 32
"""Bytes shown on either side of the first difference."""

FRAGMENTS_MAX: Final = 256
"""Fragments of one datagram: 64 KiB in cuts of 256 bytes."""

FRAGMENT_DATAGRAMS_MAX: Final = 256
"""Fragmented datagrams in reassembly at once, per side (Linux: ipfrag_high_thresh 4 MiB = 64 of 64 KiB)."""

FRAGMENT_FORGET_MS: Final = 60_000
"""RFC 8200 section 4.5 and RFC 1122 section 3.3.2: for so long a client keeps fragments of a datagram."""

SHARE_MAX: Final = 8
"""An eighth of records and bytes at most for fragments of one side, and for what differs under `hold`."""

USO_DATAGRAMS_MAX: Final = 128
"""Linux' UDP_MAX_SEGMENTS: a frame that is to be cut into more is refused by every host."""

DIVERGED_SILENT_MS: Final = 300_000
"""Under `hold` a connection that differs and says nothing for so long loses what it holds (RFC 4787 REQ-5)."""

# ── rewriting ─────────────────────────────────────────────────────────────────────────────────────────────────
HANDSHAKE_HELD_PACKETS_MAX: Final = 64
"""Client frames that wait for the secondary's SYN|ACK, per connection: an initial window of ten, and some."""

HANDSHAKE_HELD_MS: Final = 3_000
"""For so long they wait, and a client's SYN may go unanswered. It is COMPARE_TIMEOUT_MS: by then a guest that has not
answered is a difference; what is dropped then the client sends again."""

HANDSHAKE_WINDOW_BYTES: Final = 65_535
"""A client sends no more before its handshake is complete: until then no window is scaled (RFC 7323 section 2.2)."""

UNACKED_MS: Final = 60_000
"""A copy that the client has not acknowledged for so long goes: its guest has sent the payload again by itself."""

UNACKED_BYTES_MAX: Final = 128 << 20
"""Copies of the secondary's unacknowledged frames, for the takeover; above it nothing more is copied."""

UNACKED_PACKETS_MAX: Final = 1 << 17
"""Records for those copies."""

NEIGHBOURS_MAX: Final = 256
"""Addresses of the guest that are announced on the LAN at takeover."""

# ── streams and the link ──────────────────────────────────────────────────────────────────────────────────────
BATCH_BYTES: Final = 256 << 10
"""One read of a stream: 180 full frames or four GSO frames, and half of a common L2 cache."""

LINK_MESSAGE_BYTES_MAX: Final = BATCH_BYTES + STREAM_LENGTH_BYTES_MAX + 16
"""One batch and one frame that just did not fit, with its words."""

OFFSETS_TABLE_BYTES_MAX: Final = 4 + 72 * CONNECTIONS_MAX
"""A table of offsets with a record for every connection there may be; it travels in pieces of BATCH_BYTES."""

HOLD_INPUT_BYTES_MAX: Final = 32 << 20
"""Clients' frames kept for a stopped guest: a quarter of a second at 1 Gbit/s, several times a checkpoint's length."""

DRAIN_BYTES_MAX: Final = 64 << 20
"""Taken from a stopped guest's socket at most: many times any socket's buffer. More means that it is not stopped."""

LINK_QUEUE_BYTES_MAX: Final = 8 << 20
"""Unsent bytes of one data connection before the node stops reading what would add to them."""

HELLO_BYTES_MAX: Final = 4_096
"""A hello is a dozen short fields."""

ORDER_BYTES_MAX: Final = 64 << 10
"""An order or its answer: a few names, or all that one QEMU says of itself, some 15 KB."""

HELLO_TIMEOUT_MS: Final = 3_000
"""A peer that connects and says nothing is closed after this."""

HEARTBEAT_INTERVAL_MS: Final = 25
"""Six heartbeats within HEARTBEAT_TIMEOUT_MS: one lost wake-up of either scheduler is no silence."""

HEARTBEAT_TIMEOUT_MS: Final = 150
"""No false takeover in 55 runs on a busy two-core machine; at 100 ms there were two."""

OWN_STALL_MS: Final = 30
"""A gap of our own loop above this is ours: it is not counted as the other node's silence."""

LINK_RETRY_MS: Final = 200
"""Pause between two attempts of the secondary to reach the primary."""

assert BATCH_BYTES >= STREAM_LENGTH_BYTES_MAX + 8, "one batch holds at least one largest frame with its words"
assert HEARTBEAT_TIMEOUT_MS >= 3 * HEARTBEAT_INTERVAL_MS, "a single late heartbeat is not a silence"
assert HELD_PACKETS_MAX >= 2 * NODE_QUEUE_PACKETS_MAX, "one connection cannot take all records"
