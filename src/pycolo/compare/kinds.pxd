# The numbers of kinds.py as compile-time constants.

cdef enum DifferenceKind:
    PAYLOAD = 1
    SYN_OPTIONS = 2
    FIN = 3
    RST = 4
    TIMEOUT = 5
    SECONDARY_TIMEOUT = 6
    DATAGRAM = 7
    QUEUE_FULL = 8
    MEMORY_FULL = 9
    TABLE_FULL = 10
    UNPROTECTED = 11
    MUTUAL_WAIT = 12

cdef enum DivergencePolicy:
    CHECKPOINT = 0
    REPORT = 1
    HOLD = 2
    RESET = 3

cdef enum RowFlag:
    BASE_KNOWN = 0x001
    PRIMARY_SYN = 0x002
    SECONDARY_SYN = 0x004
    SYN_MATCHED = 0x008
    SECONDARY_ACK = 0x010
    SECONDARY_FIN = 0x020
    PRIMARY_ACK = 0x040
    CONTRADICTED = 0x080
    OWED = 0x100
    LET_THROUGH = 0x200
    DIVERGED = 0x400
    ACTIVE = 0x800
    OVERTAKEN = 0x1000
    RST_MATCHED = 0x2000
    ALONE = 0x4000
    CLIENT_SEEN = 0x8000
    FIN_MATCHED = 0x10000
    CLIENT_FIN = 0x20000
    PRIMARY_FIN = 0x40000
    ACK_STEPPED = 0x80000
    PRIMARY_RST = 0x100000
    CONFIRMED = 0x200000
    REPEATED = 0x400000
    PRIMARY_INDEXED = 0x800000
    SECONDARY_INDEXED = 0x1000000
    BEGAN_BEFORE = 0x2000000
    AUTHENTICATED = 0x4000000
    EXEMPT = 0x8000000

cdef enum Verdict:
    WAIT = 0
    RELEASE = 1
    CLAMP = 2
    DIFFERENT = 3

cdef enum PassReason:
    OLDER = 0
    DIFFERED = 1
    SIGNED = 2
    VNET_HEADER = 3
    WRAPPED = 4
    MALFORMED = 5
    UNPAIRED = 6
    BYPASSED = 7

cdef enum PacketFate:
    RELEASED = 1
    CLAMPED = 2
    MADE = 3
    DISCARDED = 4
    DIFFERS = 5
    HELD = 6
