"""Names inside the comparator. `kinds.pxd` holds the same numbers for compiled code; a test compares the two."""

from enum import IntEnum, IntFlag


class DifferenceKind(IntEnum):
    """What differed, or why the comparison cannot go on."""

    PAYLOAD = 1
    """A byte of the two TCP streams."""
    SYN_OPTIONS = 2
    """MSS, window scale, SACK-permitted or timestamps of the two SYNs."""
    FIN = 3
    """One side's stream ends but the other's continues."""
    RST = 4
    """One side resets but the other does not."""
    TIMEOUT = 5
    """A primary packet waited longer than compare_timeout."""
    SECONDARY_TIMEOUT = 6
    """A secondary packet waited longer than compare_timeout: the primary did not send it."""
    DATAGRAM = 7
    """Datagrams of both sides wait, and none equals another."""
    QUEUE_FULL = 8
    """A connection holds max_queue_size packets of one side."""
    MEMORY_FULL = 9
    """The memory for held packets is used up."""
    TABLE_FULL = 10
    """Every row of the connection table holds packets."""
    UNPROTECTED = 11
    """TCP-MD5 or TCP-AO signs the numbers that would have to be translated: the connection passes uncompared."""
    MUTUAL_WAIT = 12
    """One connection waits for the secondary, another for the primary, and nothing moves."""


class DivergencePolicy(IntEnum):
    """What happens to a connection that differs."""

    CHECKPOINT = 0
    """Hold all its packets until the requested checkpoint is committed."""
    REPORT = 1
    """Mark it and let it through."""
    HOLD = 2
    """Mark it and hold its packets; packets above max_queue_size are refused."""
    RESET = 3
    """Mark it, discard its packets and send the client a RST."""


class RowFlag(IntFlag):
    """The state of a TCP connection."""

    BASE_KNOWN = 0x001
    """`compared_seq` is valid."""
    PRIMARY_SYN = 0x002
    """The primary's SYN was seen: `primary_isn` is valid."""
    SECONDARY_SYN = 0x004
    """A SYN of the secondary waits for the primary's."""
    SYN_MATCHED = 0x008
    """Both SYNs of this incarnation agreed."""
    SECONDARY_ACK = 0x010
    """`secondary_ack` and `secondary_space` are valid."""
    SECONDARY_FIN = 0x020
    """The secondary's stream ends at `secondary_fin`."""
    PRIMARY_ACK = 0x040
    """`primary_ack` and `primary_space` are valid."""
    CONTRADICTED = 0x080
    """Held primary packets contradict each other, first at `contradicted_seq`."""
    OWED = 0x100
    """An ack or window was lowered on its way out; the rest is owed to the client."""
    LET_THROUGH = 0x200
    """Not, or no longer, compared: see DivergencePolicy.REPORT; or older than the pair."""
    DIVERGED = 0x400
    """A difference was found; nothing leaves."""
    ACTIVE = 0x800
    """In the list of connections that hold packets."""
    OVERTAKEN = 0x1000
    """Retransmitted payload has overtaken held packets: `newest_value` is valid."""
    RST_MATCHED = 0x2000
    """Both have sent a RST in this life of the connection: further ones pass."""
    ALONE = 0x4000
    """The secondary alone has sent a SYN, FIN or RST: it ages like a held packet (rule C8)."""
    CLIENT_SEEN = 0x8000
    """The client's segments are seen: `client_ack` is valid."""
    FIN_MATCHED = 0x10000
    """The frontier has passed both FINs."""
    CLIENT_FIN = 0x20000
    """The client has sent a FIN, which ends at `client_end`."""
    PRIMARY_FIN = 0x40000
    """The primary's stream ends at `primary_end`."""
    ACK_STEPPED = 0x80000
    """A guest's ack has risen by one, as a client's FIN makes it: to `stepped_ack`."""
    PRIMARY_RST = 0x100000
    """The primary has sent a RST in this incarnation: a copy of it has reset the connection too."""
    CONFIRMED = 0x200000
    """The client has acknowledged the primary's SYN."""
    REPEATED = 0x400000
    """The secondary has repeated an ACK because a segment is missing, and no ACK of the primary waited to carry it."""
    PRIMARY_INDEXED = 0x800000
    """The primary's datagrams without a partner are indexed by payload (see `payloads`)."""
    SECONDARY_INDEXED = 0x1000000
    """The same of the secondary's."""
    BEGAN_BEFORE = 0x2000000
    """LET_THROUGH: it is older than the pair."""
    AUTHENTICATED = 0x4000000
    """LET_THROUGH: TCP-MD5 or TCP-AO signs its numbers."""
    EXEMPT = 0x8000000
    """Never compared, by a rule of the user's (C7); nothing else is known of it."""
    MASKABLE = 0x10000000
    """Some mask of the user's is for it (C7)."""
    MASK_STATE = 0x20000000
    """Bytes were masked: see `Masks`."""


class Verdict(IntEnum):
    """What to do with the first held packet of a connection."""

    WAIT = 0
    RELEASE = 1
    CLAMP = 2
    """Release with ack and window lowered to the secondary's."""
    DIFFERENT = 3
    """A difference was reported; the policy has been applied."""


class PassReason(IntEnum):
    """Why payload left that was compared with nothing."""

    OLDER = 0
    """Its connection is older than the pair, and no state is copied."""
    DIFFERED = 1
    """Its connection has differed, and the policy is to report that: or a datagram has."""
    SIGNED = 2
    """TCP-MD5 or TCP-AO forbids that its connection is translated."""
    VNET_HEADER = 3
    """A vnet header of another length than expected hides the packet."""
    WRAPPED = 4
    """MPLS, PPPoE, MACsec or a third VLAN tag hides the packet."""
    MALFORMED = 5
    """The frame is not a packet: see `pycolo.wire.kinds.Refusal`."""
    UNPAIRED = 6
    """There is no secondary, or comparing is switched off."""
    BYPASSED = 7
    """A rule of the user's lets its connection pass (C7)."""


class PacketFate(IntEnum):
    """The fate of a packet; `aux` is the number that goes with it (see `pycolo.compare.trace`)."""

    RELEASED = 1
    """aux: hold time in µs."""
    CLAMPED = 2
    """Released with a lowered ack or window; aux: hold time in µs."""
    MADE = 3
    """An ACK or RST of our own making, released."""
    DISCARDED = 4
    DIFFERS = 5
    """aux: index of the first different byte in its payload. It is held, or the policy decides."""
    HELD = 6
    """Still held at the end; aux: µs so far."""
    MASKED = 7
    """The secondary's, with bytes that may differ (C7), as it came; aux: index of the first of them in its payload."""
