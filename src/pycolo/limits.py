"""Every limit of the program with its source; the unit comes last in the name.

A limit without a reason fails under load: before you change one, read here what it protects.
"""

from typing import Final

# ── frames ────────────────────────────────────────────────────────────────────────────────────────────────────
FRAME_BYTES_MIN: Final = 14
"""An Ethernet header; the parser refuses shorter frames, which then pass uncompared."""

STREAM_LENGTH_BYTES_MAX: Final = 4096 + 65536
"""QEMU's NET_BUFSIZE: the largest length word that it sends or accepts."""

VNET_HEADER_BYTES: Final = (0, 10, 12)
"""virtio_net_hdr without and with num_buffers; 0 is none."""

IPV6_EXTENSION_HEADERS_MAX: Final = 8
"""RFC 8200 names seven kinds, each at most once (destination options twice)."""

VLAN_TAGS_MAX: Final = 2
"""802.1ad: one service tag and one customer tag."""

CAPTURE_BLOCK_BYTES_MAX: Final = 16 << 20
"""For reading captures: no frame is this long, so a larger length word is damage, and no memory is allocated for it."""

# ── connections ───────────────────────────────────────────────────────────────────────────────────────────────
CONNECTIONS_MAX: Final = 1 << 20
"""A million connections at once: some 220 MB of tables when all exist, none before."""

CONNECTION_BUCKETS: Final = 1 << 12
"""Initial size of the tables' indices, 16 KiB each; they grow with the number of connections."""

CONNECTION_IDLE_MS: Final = 7_440_000
"""2 h 4 min, RFC 5382 REQ-5: an established TCP connection may be silent for that long."""

DATAGRAM_IDLE_MS: Final = 300_000
"""5 min, RFC 4787 REQ-5's recommended mapping time for UDP."""

HALF_OPEN_MS: Final = 120_000
"""Linux' nf_conntrack_tcp_timeout_syn_sent: a guest's last SYN waits for its answer for 64 s, its last SYN|ACK 32 s."""

CLOSED_GRACE_MS: Final = 60_000
"""Linux' TIME_WAIT: segments of a closed connection may come back for that long."""

ENDING_SILENT_MS: Final = 300_000
"""An unacknowledged FIN is sent again, at most 120 s apart (Linux' TCP_RTO_MAX): after two such intervals of silence it
was acknowledged or abandoned. RFC 5382 REQ-5 asks for 4 min at least."""

# ── comparison ────────────────────────────────────────────────────────────────────────────────────────────────
COMPARE_TIMEOUT_MS: Final = 3_000
"""colo-compare's default compare_timeout."""

EXPIRED_SCAN_CYCLE_MS: Final = 1_000
"""colo-compare's default expired_scan_cycle."""

MASKS_MAX: Final = 16
"""As many tables `[[mask]]` as a file may have."""

MASK_POSITIONS_MAX: Final = 1_024
"""Of all masks together, and so the longest match: the bytes that are looked at on either side of a difference."""

MASK_BRANCHES_MAX: Final = 128
"""Of all masks together: each is looked at for each byte, so that a byte costs 2,000 operations on words at most."""

FLOWS_MAX: Final = 256
"""Read one after another for each new connection: a microsecond."""

AGE_PART: Final = 20
"""The nodes look at ages after this part of compare_timeout: it is then exceeded by a tenth at most, on a busy host."""

AGE_CYCLE_MIN_MS: Final = 4
"""But not more often: looking at ten thousand connections takes a tenth of a millisecond."""

MUTUAL_WAIT_MS: Final = 10
"""In the nodes: how long nothing has moved while one connection waits for the secondary and another for the primary. A
guest that shares its processors with the other one is away for less."""

QUEUE_PACKETS_MAX: Final = 1_024
"""colo-compare's default max_queue_size, per connection and side."""

NODE_QUEUE_PACKETS_MAX: Final = 16_384
"""The nodes' own default: one full TCP window (16 MiB) of 1 KB segments from one guest before the other's first."""

HELD_BYTES_MAX: Final = 256 << 20
"""Memory for held packets of one comparator (both sides); above it the node stops reading."""

HELD_PACKETS_MAX: Final = 1 << 18
"""Records for held packets of one comparator (about 100 B each): HELD_BYTES_MAX at 1 KB a frame."""

PROBE_BYTES_MAX: Final = 128
"""The nodes' own probe: a shortest frame (60 B) with its words and its vnet header."""

SPLIT_WAIT_MS: Final = 2
"""A held frame whose first part has been compared waits this long for the rest; then the part leaves alone."""

DATAGRAM_REORDER_MS: Final = 50
"""The two guests' datagrams may arrive in different orders for this long before they count as different."""

RETAINED_PACKETS_MAX: Final = 256
"""Packets of the secondary kept below the frontier, per connection: 373 KB of full Ethernet frames. For full segments
the bytes are the limit, for small ones the records (about 100 B each)."""

RETAINED_BYTES_MAX: Final = 256 << 10
"""The same in bytes: four GSO frames. Later retransmissions leave uncompared."""

RETAINED_ALL_PACKETS_MAX: Final = 16_384
"""The same for all connections together: their records and blocks should fit into the processor's caches."""

RETAINED_ALL_BYTES_MAX: Final = 512 << 10
"""The same in bytes: half of a processor's second-level cache. This memory is rewritten all the time; with 16 MiB each
packet went to memory outside every cache, and the path was half as fast."""

RETAINED_SHARE_PACKETS: Final = 8
"""Packets that a connection may keep even if all together exceed their limit: what a client may miss of one flight."""

CLIENT_WAIT_MS: Final = 300_000
"""A wait that only the client can end (its ACK) is not a difference for 5 min: TCP's own retransmissions of one segment
last less long for a silent client (RFC 9293 section 3.8.3: R2 at least 100 s)."""

SYN_DATA_BYTES_MAX: Final = 9_000
"""RFC 7413: a SYN has at most one segment of data, here up to a jumbo frame. Two SYN|ACKs whose acks are no farther
apart answer the same SYN; a client's next SYN is elsewhere in the 4 GiB (RFC 6528)."""

CLIENT_SYNS_MAX: Final = 1 << 14
"""Remembered SYNs of clients until the guest has answered, 16 B each. A guest answers within a millisecond; even at a
million SYNs a second, another SYN displaces one in sixteen meanwhile."""

RESET_SPAN_BYTES: Final = 1 << 24
"""A RST whose number is farther from the frontier than this belongs to another incarnation of the connection: 16 MiB is
one full window of a tuned host."""

WINDOW_BYTES_MAX: Final = 1 << 30
"""RFC 7323 section 2.3: the largest window. Payload farther than this from the frontier is outside any window and
useless to a client: it is dropped. Within this distance, the order of waiting numbers is unambiguous."""

DIFFERENCE_CONTEXT_BYTES: Final = 32
"""Bytes shown on either side of the first difference."""

FRAGMENTS_MAX: Final = 256
"""Fragments of one datagram: 64 KiB in cuts of 256 bytes."""

FRAGMENT_DATAGRAMS_MAX: Final = 256
"""Fragmented datagrams in reassembly at once, per side (Linux: ipfrag_high_thresh 4 MiB = 64 of 64 KiB)."""

FRAGMENT_FORGET_MS: Final = 60_000
"""RFC 8200 section 4.5 and RFC 1122 section 3.3.2: a client keeps fragments of a datagram for this long."""

SHARE_MAX: Final = 8
"""At most an eighth of records and bytes for fragments of one side, and for what differs under `hold`."""

USO_DATAGRAMS_MAX: Final = 128
"""Linux' UDP_MAX_SEGMENTS: every host refuses a frame to be cut into more."""

SEGMENTS_MAX: Final = 65_536 // 48
"""Of one TCP frame that is cut here: 64 KiB in segments of Linux' TCP_MIN_SND_MSS. Of shorter ones most is headers."""

DIVERGED_SILENT_MS: Final = 300_000
"""Under `hold`, a connection that differs loses its held packets after this much silence (RFC 4787 REQ-5)."""

# ── order ─────────────────────────────────────────────────────────────────────────────────────────────────────
ORDERED_PORTS_MAX: Final = 64
"""Ports of one guest whose requests are ordered: more than any machine's services that diverge."""

ORDERED_WIDTH_MAX: Final = 64
"""Requests of one round. Sixteen were enough for redis; more are given at once than a round can order."""

ORDERED_CONNECTIONS_MAX: Final = 1 << 16
"""Connections of ordered ports, some 200 B each when they exist; the oldest quiet ones are forgotten, which costs order
but no frame."""

ORDERED_BYTES_MAX: Final = 16 << 20
"""Memory for frames that wait for their turn or to be mirrored; from half of it on the LAN is not read."""

ORDERED_LANE_BYTES_MAX: Final = 64 << 10
"""Of one connection. A client sends no more before an answer, unless it sends a stream: that goes without order."""

ORDERED_REQUEST_BYTES_MAX: Final = 8 << 10
"""A longer request is mirrored at once: its client may need the guest's ACKs to go on. That has ten segments under way
by default (RFC 6928), 14 KB of full ones."""

ORDERED_REQUEST_SEGMENTS_MAX: Final = 6
"""The same in segments, for short ones."""

ORDERED_KIND_BYTES: Final = 64
"""Of a request's beginning, by which it is told from others of its port: a statement's verb and table."""

ORDERED_MIRROR_MS: Final = 3_000
"""A request without an answer is mirrored after so long. One that waits for a lock must not be mirrored before the one
that sets it free: after 300 ms the order of eight clients was lost, after this it was not."""

ORDERED_FROZEN_MS: Final = 200
"""Between the request for a checkpoint and its beginning nothing new is given, for so long at most."""

ORDERED_ASLEEP_MS: Final = 1
"""A guest whose processors sleep for so long, though it has requests, waits for another request. The kernel counts the
time that they run; a processor that waits for its turn on a busy host counts as running."""

ORDERED_LIMIT_MS: Final = 20
"""How long a round waits for an answer before it is learned. A request under load takes 2 to 4 ms; with limits that are
shorter than a request, rounds overlap and order is lost."""

ORDERED_COLD_MS: Final = 500
"""The same for a guest that has just loaded a state, until its first answer: 55 ms under software emulation, ten times
that on a busy host. A second request meanwhile would be a second one at once."""

ORDERED_LIMIT_MS_MAX: Final = 60
"""A learned limit is no longer than this: a client may have to wait for it."""

# ── rewriting ─────────────────────────────────────────────────────────────────────────────────────────────────
HANDSHAKE_HELD_PACKETS_MAX: Final = 64
"""Client frames that wait for the secondary's SYN|ACK, per connection: more than an initial window of ten."""

HANDSHAKE_HELD_MS: Final = 3_000
"""How long they wait, and how long a client's SYN may go unanswered. It is COMPARE_TIMEOUT_MS: after that, a guest
without an answer is a difference; the client sends dropped frames again."""

HANDSHAKE_WINDOW_BYTES: Final = 65_535
"""A client sends no more before its handshake is complete: until then windows are not scaled (RFC 7323 section 2.2)."""

UNACKED_MS: Final = 60_000
"""A copy that the client has not acknowledged by then is dropped: its guest has retransmitted the payload itself."""

UNACKED_BYTES_MAX: Final = 128 << 20
"""Copies of the secondary's unacknowledged frames, for the takeover; above it no more are made."""

UNACKED_PACKETS_MAX: Final = 1 << 17
"""Records for those copies."""

NEIGHBOURS_MAX: Final = 256
"""Addresses of the guest to announce on the LAN at takeover."""

# ── streams and the link ──────────────────────────────────────────────────────────────────────────────────────
BATCH_BYTES: Final = 256 << 10
"""One read of a stream: 180 full frames or four GSO frames, and half of a common L2 cache."""

LINK_MESSAGE_BYTES_MAX: Final = BATCH_BYTES + STREAM_LENGTH_BYTES_MAX + 16
"""One batch and one frame that just did not fit, with its words."""

OFFSETS_TABLE_BYTES_MAX: Final = 4 + 72 * CONNECTIONS_MAX
"""A table of offsets with a record for every possible connection; it is sent in pieces of BATCH_BYTES."""

HOLD_INPUT_BYTES_MAX: Final = 32 << 20
"""Client frames kept for a stopped guest: a quarter of a second at 1 Gbit/s, several times a checkpoint's length."""

DRAIN_BYTES_MAX: Final = 64 << 20
"""Maximum read from a stopped guest's socket: many times any socket's buffer. More means that it has not stopped."""

LINK_QUEUE_BYTES_MAX: Final = 8 << 20
"""Unsent bytes of one data connection before the node stops reading what would add to them."""

HELLO_BYTES_MAX: Final = 4_096
"""A hello is a dozen short fields."""

ORDER_BYTES_MAX: Final = 64 << 10
"""An order or its answer: a few names, or everything that one QEMU reports about itself, some 15 KB."""

HELLO_TIMEOUT_MS: Final = 3_000
"""A peer that connects and sends nothing is disconnected after this."""

HEARTBEAT_INTERVAL_MS: Final = 25
"""Twenty heartbeats within HEARTBEAT_TIMEOUT_MS: some lost wake-ups of either scheduler are not silence."""

HEARTBEAT_TIMEOUT_MS: Final = 500
"""Three times the longest silence that counted (161 ms) in 20 min on two overloaded cores; docs/failover.md has the
figures."""

OWN_STALL_MS: Final = 30
"""A longer gap in a node's own loop is its own delay: the rest does not count as silence of the other node."""

HEAD_START_MS: Final = 10_000
"""For the host that serves to fence the other one first: as long as a fencing command may take."""

HOOK_MS: Final = 5_000
"""`network.serve` and `network.retire`: what they do takes milliseconds, and clients wait for it."""

LINK_RETRY_MS: Final = 200
"""Pause between two attempts of the secondary to connect to the primary."""

assert BATCH_BYTES >= STREAM_LENGTH_BYTES_MAX + 8, "one batch holds at least one largest frame with its words"
assert HEARTBEAT_TIMEOUT_MS >= 3 * HEARTBEAT_INTERVAL_MS, "a single late heartbeat is not a silence"
assert HELD_PACKETS_MAX >= 2 * NODE_QUEUE_PACKETS_MAX, "one connection cannot take all records"
