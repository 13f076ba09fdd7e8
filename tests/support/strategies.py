"""Hypothesis strategies for frames. All are built by scapy, which computes lengths and checksums."""

from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)

from support.frames import GSO_TCPV4, GSO_TCPV6, NEEDS_CSUM, ethernet, segment, vnet_header, with_partial_checksum

U8 = st.integers(0, 2**8 - 1)
U16 = st.integers(0, 2**16 - 1)
U32 = st.integers(0, 2**32 - 1)
DELTA = st.integers(-(2**32) + 1, 2**32 - 1)
"""What may be added to a sequence number."""

SEQ = U32 | st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1])

TAG = st.builds(lambda priority, vlan: priority << 13 | vlan, st.integers(0, 7), st.integers(0, 4095))
TAGS = st.lists(TAG, max_size=2).map(tuple)

PAYLOAD = st.binary(max_size=300)
IPV4_ADDRESS = st.ip_addresses(v=4).map(str)
IPV6_ADDRESS = st.ip_addresses(v=6).map(str)

# ── TCP ─────────────────────────────────────────────────────────────────────────────────────────────────────

OPTION_BYTES_MAX = 40

_SACK_EDGES = st.integers(1, 4).flatmap(lambda blocks: st.tuples(*[SEQ] * (2 * blocks)))

TCP_OPTION = st.one_of(
    st.just(("NOP", None)),
    st.tuples(st.just("MSS"), U16),
    st.tuples(st.just("WScale"), U8),
    st.just(("SAckOK", b"")),
    st.tuples(st.just("SAck"), _SACK_EDGES),
    st.tuples(st.just("Timestamp"), st.tuples(SEQ, SEQ)),
    st.tuples(st.integers(64, 250), st.binary(max_size=5)),  # nothing that scapy or the parser knows
)


def option_len(option) -> int:
    name, value = option
    sizes = {"NOP": 1, "MSS": 4, "WScale": 3, "SAckOK": 2, "Timestamp": 10}
    if name in sizes:
        return sizes[name]
    return 2 + (4 * len(value) if name == "SAck" else len(value))


def _that_fit(options):
    """At most one of each kind, and no more than a TCP header has room for."""
    fitting, kinds, size = [], set(), 0
    for option in options:
        name = option[0]
        if size + option_len(option) <= OPTION_BYTES_MAX and name not in kinds:
            fitting.append(option)
            size += option_len(option)
            kinds |= {name} - {"NOP"}
    return fitting


TCP_OPTIONS = st.lists(TCP_OPTION, max_size=8).map(_that_fit)

TCP_FLAGS = st.integers(0, 0xFF)

TCP_LAYER = st.builds(
    TCP,
    sport=U16,
    dport=U16,
    seq=SEQ,
    ack=SEQ,
    flags=TCP_FLAGS,
    window=U16,
    urgptr=U16,
    options=TCP_OPTIONS,
)

UDP_LAYER = st.builds(UDP, sport=U16, dport=U16)

# ── IP ──────────────────────────────────────────────────────────────────────────────────────────────────────

# NOPs put the other options at any position; scapy pads the header to words.
_IPV4_OPTIONS = st.lists(st.sampled_from([IPOption_NOP(), IPOption_Router_Alert()]), max_size=10)

IPV4_LAYER = st.builds(
    IP, src=IPV4_ADDRESS, dst=IPV4_ADDRESS, id=U16, tos=U8, ttl=U8, flags=st.sampled_from([0, 2]), options=_IPV4_OPTIONS
)

IPV6_BASE = st.builds(IPv6, src=IPV6_ADDRESS, dst=IPV6_ADDRESS, tc=U8, fl=st.integers(0, 2**20 - 1), hlim=U8)

_PADDING = st.binary(max_size=20).map(lambda octets: [PadN(optdata=octets)])

_EXTENSION = st.one_of(
    st.builds(IPv6ExtHdrHopByHop, options=_PADDING),
    st.builds(IPv6ExtHdrDestOpt, options=_PADDING),
    # No segments left: the destination is the final one, which is in the pseudo-header (RFC 8200 section 8.1).
    st.builds(IPv6ExtHdrRouting, addresses=st.lists(IPV6_ADDRESS, max_size=3), segleft=st.just(0)),
    # Offset 0 and nothing more to come: an atomic fragment (RFC 6946).
    st.builds(IPv6ExtHdrFragment, id=U32, offset=st.just(0), m=st.just(0)),
)


def _chained(base, extensions):
    for extension in extensions:
        base /= extension.copy()
    return base


IPV6_LAYER = st.builds(_chained, IPV6_BASE, st.lists(_EXTENSION, max_size=4))
IP_LAYER = IPV4_LAYER | IPV6_LAYER

# ── frames ──────────────────────────────────────────────────────────────────────────────────────────────────


def _on_ethernet(ip, transport, payload, tags, trailer):
    # A copy: `/` would write into the strategy's own layers.
    return ethernet(ip.copy() / transport.copy() / payload, tags) + trailer


TRAILER = st.binary(max_size=8)
"""What Ethernet appends to short frames."""

TCP_FRAMES = st.builds(_on_ethernet, IP_LAYER, TCP_LAYER, PAYLOAD, TAGS, TRAILER)
UDP_FRAMES = st.builds(_on_ethernet, IP_LAYER, UDP_LAYER, PAYLOAD, TAGS, TRAILER)
ICMP_FRAMES = st.one_of(
    st.builds(_on_ethernet, IPV4_LAYER, st.builds(ICMP, id=U16, seq=U16), PAYLOAD, TAGS, TRAILER),
    st.builds(_on_ethernet, IPV6_LAYER, st.builds(ICMPv6EchoRequest, id=U16, seq=U16), PAYLOAD, TAGS, TRAILER),
)
IPV4_FRAGMENTS = st.builds(
    lambda ip, number, octets: ethernet(IP(src=ip.src, dst=ip.dst, id=number, flags=1, proto=17) / octets),
    IPV4_LAYER,
    U16,
    PAYLOAD,
)
FRAMES = TCP_FRAMES | UDP_FRAMES | ICMP_FRAMES

VNET_LEN = st.sampled_from([0, 10, 12])


@st.composite
def tcp_frames_with_vnet(draw):
    """(vnet header and frame, vnet_len): with a full or a partial checksum, as a GSO frame or not."""
    frame = draw(TCP_FRAMES)
    vnet_len = draw(VNET_LEN)
    if vnet_len == 0:
        return frame, 0
    found = segment(frame)
    flags = draw(st.sampled_from([0, NEEDS_CSUM]))
    gso_type = draw(st.sampled_from([0, GSO_TCPV4 if found.ip.version == 4 else GSO_TCPV6]))
    gso_size = draw(st.integers(1, 200)) if gso_type else 0
    if flags:
        frame = with_partial_checksum(frame)
    header_len = found.tcp_pos + found.tcp.dataofs * 4
    return vnet_header(vnet_len, flags, gso_type, gso_size, found.tcp_pos, header_len) + frame, vnet_len


@st.composite
def damaged(draw, frames=FRAMES):
    """A valid frame with a few bytes overwritten, cut off or repeated: nearer to the parser's corners than noise."""
    octets = bytearray(draw(frames))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, min(len(octets), 120) - 1)))
        octets[at : at + 1] = bytes([draw(U8 | st.sampled_from([0, 0xFF]))])
    if draw(st.booleans()):
        del octets[draw(st.integers(0, len(octets))) :]
    return bytes(octets)
