# The numbers of kinds.py as compile-time constants.

cdef enum OffsetState:
    UNKNOWN = 0
    AWAITING_PRIMARY = 1
    KNOWN = 2

cdef enum ConnectionFlag:
    CLIENT_SYN = 0x01
    RESYN = 0x02
    GUEST_FIN = 0x04
    CLIENT_FIN = 0x08
    HAS_TIMESTAMP = 0x10
    ECHOED = 0x20
    SENT_VALUE = 0x40
    ENDED = 0x80
