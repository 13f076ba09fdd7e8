"""Names inside the rewriter. `kinds.pxd` holds the same numbers for compiled code; a test compares the two."""

from enum import IntEnum, IntFlag


class OffsetState(IntEnum):
    """The state of a connection's seq_offset. ::

    client's SYN ──► UNKNOWN ──secondary's SYN|ACK──► AWAITING_PRIMARY ──the ACK that completes it──► KNOWN
                          guest's SYN ───────────────►        │       ◄── outside's SYN|ACK
                          guest's other segment ──► KNOWN, 0  ▼
                                        checkpoint committed: KNOWN, 0
    """

    UNKNOWN = 0
    """The client has sent a SYN; the secondary has not answered."""
    AWAITING_PRIMARY = 1
    """`secondary_isn` is known; the outside's answer will show the primary's."""
    KNOWN = 2


class ConnectionFlag(IntFlag):
    """Further facts about a connection. Those below OWN are included in a table of offsets."""

    OPENS = 0x0001
    """The guest opened it: its SYN acknowledged nothing."""
    DUE = 0x0002
    """`due` is valid: the client's first sequence number after its SYN, as the guest expects it."""
    HAS_TIMESTAMP = 0x0004
    """`secondary_value` (TSval of the secondary's SYN) is valid."""
    GUEST_FIN = 0x0008
    GUEST_FIN_ACKED = 0x0010
    CLIENT_FIN = 0x0020
    RESET = 0x0040
    """A RST counted, and the guest has sent nothing since."""
    ENDED = 0x0080
    """Both FINs are acknowledged, or RESET."""
    HAS_ISN = 0x0100
    """`secondary_isn` is valid."""
    OWN = 0x0200
    """It began after the takeover: the client knows the guest's own numbers."""
    CLAIM = 0x0400
    """`claim_isn` is valid: a client's SYN that the guest has not answered."""
    TENTATIVE = 0x0800
    """Learned from an outside's SYN|ACK that the guest has not acknowledged yet."""
    ALTERNATIVE = 0x1000
    """An earlier such SYN|ACK exists: the guest may mean that one."""
    SPOKEN = 0x2000
    """What the guest has sent and received in its current state is known."""
    ECHOED = 0x4000
    """`echoed` (the latest TSecr from the client) is valid."""
    SENT_VALUE = 0x8000
    """`sent_value` (the latest TSval towards the client) is valid."""
    HEARD = 0x10000
    """A packet has come from outside."""
    NOTED = 0x20000
    """The guest has answered, and its address is recorded."""
