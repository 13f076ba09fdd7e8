"""Names inside the rewriter. `kinds.pxd` holds the same numbers for compiled code; a test compares the two."""

from enum import IntEnum, IntFlag


class OffsetState(IntEnum):
    """What is known of a connection's seq_offset. ::

    client's SYN ──► UNKNOWN ──secondary's SYN|ACK──► AWAITING_PRIMARY ──client's ACK──► KNOWN
                          guest's SYN ───────────────►        │       ◄── outside's SYN|ACK
                                                              ▼
                                        checkpoint committed: KNOWN, 0
    """

    UNKNOWN = 0
    """The client has sent a SYN, the secondary has not answered: what follows from the client is held."""
    AWAITING_PRIMARY = 1
    """`secondary_isn` is known; the first ack from outside will tell the primary's."""
    KNOWN = 2


class ConnectionFlag(IntFlag):
    """What else is remembered of a connection."""

    CLIENT_SYN = 0x01
    """`client_isn` is valid."""
    RESYN = 0x02
    """The client began anew with the same key; the secondary has not said yet whether it follows."""
    GUEST_FIN = 0x04
    CLIENT_FIN = 0x08
    HAS_TIMESTAMP = 0x10
    """`secondary_value` (TSval of the secondary's SYN) is valid."""
    ECHOED = 0x20
    """`echoed` (the latest TSecr from the client) is valid."""
    SENT_VALUE = 0x40
    """`sent_value` (the latest TSval towards the client) is valid."""
    ENDED = 0x80
    """Both FINs were seen, or a RST."""
