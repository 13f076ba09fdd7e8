# The numbers of kinds.py as compile-time constants.

cdef enum PacketKind:
    REFUSED = 0
    PASS = 1
    TCP = 2
    UDP = 3
    ICMP = 4
    OTHER = 5
    FRAGMENT = 6

cdef enum Refusal:
    NONE = 0
    SHORT = 1
    IP_HEADER = 2
    IP_LENGTH = 3
    TRANSPORT_HEADER = 4

cdef enum TcpFlag:
    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80

cdef enum VnetFlag:
    NEEDS_CSUM = 0x01
    DATA_VALID = 0x02

cdef enum IpProto:
    PROTO_HOP_BY_HOP = 0
    PROTO_ICMP = 1
    PROTO_IGMP = 2
    PROTO_TCP = 6
    PROTO_UDP = 17
    PROTO_DCCP = 33
    PROTO_ROUTING = 43
    PROTO_FRAGMENT = 44
    PROTO_ESP = 50
    PROTO_AH = 51
    PROTO_ICMPV6 = 58
    PROTO_NO_NEXT = 59
    PROTO_DESTINATION = 60
    PROTO_SCTP = 132
    PROTO_UDPLITE = 136
