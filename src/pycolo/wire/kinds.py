"""Names of the parser's results. `kinds.pxd` holds the same numbers for compiled code; a test compares the two."""

from enum import IntEnum, IntFlag


class PacketKind(IntEnum):
    """How to treat a frame."""

    REFUSED = 0
    """Not a packet: see `Refusal`."""
    PASS = 1
    """ARP, IPv6 neighbour discovery, multicast membership, non-IP: passes at once, never compared."""
    TCP = 2
    UDP = 3
    ICMP = 4
    OTHER = 5
    """Any other IP protocol: its payload is compared as a datagram."""
    FRAGMENT = 6
    """A fragment of an IP datagram."""


class Refusal(IntEnum):
    """Why a frame is not a packet."""

    NONE = 0
    SHORT = 1
    """Shorter than an Ethernet header, or than its own vnet header."""
    IP_HEADER = 2
    """The IP header or one of its extension headers is truncated or invalid."""
    IP_LENGTH = 3
    """The IP total length exceeds the frame."""
    TRANSPORT_HEADER = 4
    """The transport header is truncated or invalid."""


class TcpFlag(IntFlag):
    """RFC 9293 section 3.1."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80


class VnetFlag(IntFlag):
    """virtio 1.2 section 5.1.6: virtio_net_hdr.flags."""

    NEEDS_CSUM = 0x01
    """The checksum covers the pseudo-header only."""
    DATA_VALID = 0x02
    """The checksum has been verified."""


class IpProto(IntEnum):
    """IANA protocol numbers that the parser or the connection key treats by name."""

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
