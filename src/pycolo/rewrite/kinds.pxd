# The numbers of kinds.py as compile-time constants.

cdef enum OffsetState:
    UNKNOWN = 0
    AWAITING_PRIMARY = 1
    KNOWN = 2

cdef enum ConnectionFlag:
    OPENS = 0x0001
    DUE = 0x0002
    HAS_TIMESTAMP = 0x0004
    GUEST_FIN = 0x0008
    GUEST_FIN_ACKED = 0x0010
    CLIENT_FIN = 0x0020
    RESET = 0x0040
    ENDED = 0x0080
    HAS_ISN = 0x0100
    OWN = 0x0200
    CLAIM = 0x0400
    TENTATIVE = 0x0800
    ALTERNATIVE = 0x1000
    SPOKEN = 0x2000
    ECHOED = 0x4000
    SENT_VALUE = 0x8000
    HEARD = 0x10000
    NOTED = 0x20000
