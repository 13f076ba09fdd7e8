"""What colo-compare does with pairs of packets: the table of `test_compare.py`, by protocol."""

from conformance.frames import Arp, Cut, Fragment, Frame, Icmp, Icmp6, Ip, Tcp, Udp, Vnet
from conformance.lockstep import Case, case, checkpoint, did, primary, secondary

WRAP = 2**32
DATA = bytes(range(64))

SYN_ACK = Tcp(100, flags="SA")
FIRST, SECOND, BOTH = Tcp(1, b"abcd"), Tcp(5, b"efgh"), Tcp(1, b"abcdefgh")
OTHER_FIRST, OTHER_SECOND = Tcp(1, b"abXd"), Tcp(5, b"efXh")


def ack(number: int, seq: int = 1) -> Tcp:
    """A pure ACK."""
    return Tcp(seq, ack=number)


# ── TCP: payload ────────────────────────────────────────────────────────────────────────────────────────────

TCP_PAYLOAD: list[Case] = [
    case("equal, the primary first", primary(FIRST), secondary(FIRST, releases=[FIRST])),
    case("equal, the secondary first", secondary(FIRST), primary(FIRST, releases=[FIRST])),
    case(
        "different",
        primary(FIRST),
        secondary(OTHER_FIRST, asks=1),
        checkpoint(releases=[FIRST]),
        primary(SECOND),
        secondary(SECOND, releases=[SECOND]),
    ),
    case(
        "different, and it goes on",
        primary(FIRST),
        secondary(OTHER_FIRST, asks=1),
        primary(SECOND, qemu=did(asks=1), colo=did()),
        secondary(SECOND, qemu=did(asks=1), colo=did()),
        checkpoint(releases=[FIRST, SECOND]),
        difference="one-request-per-epoch",
    ),
    case(
        "a checkpoint discards what the secondary sent before",
        primary(FIRST),
        secondary(OTHER_FIRST, asks=1),
        checkpoint(releases=[FIRST]),
        secondary(SECOND),
        primary(SECOND, releases=[SECOND]),
    ),
    case("a checkpoint releases what waits", primary(FIRST, SECOND), checkpoint(releases=[FIRST, SECOND])),
    case("the secondary's segments are larger", primary(FIRST, SECOND), secondary(BOTH, releases=[FIRST, SECOND])),
    case(
        "the secondary's segments are larger and first",
        secondary(BOTH),
        primary(FIRST, releases=[FIRST]),
        primary(SECOND, releases=[SECOND]),
    ),
    case("the secondary's segments are smaller", primary(BOTH), secondary(FIRST, SECOND, releases=[BOTH])),
    case("the secondary's segments are smaller and first", secondary(FIRST, SECOND), primary(BOTH, releases=[BOTH])),
    case(
        "neither's segments lie within the other's",
        primary(Tcp(1, b"abc"), Tcp(4, b"defgh")),
        secondary(Tcp(1, b"abcde"), Tcp(6, b"fgh"), releases=[Tcp(1, b"abc"), Tcp(4, b"defgh")]),
    ),
    case("smaller segments, the last one different", secondary(FIRST, OTHER_SECOND), primary(BOTH, asks=1)),
    case(
        "PSH is the stack's own affair",
        primary(Tcp(1, b"abcd", "PA")),
        secondary(FIRST, releases=[Tcp(1, b"abcd", "PA")]),
    ),
    case(
        "the secondary's segments out of order",
        secondary(SECOND, FIRST),
        primary(FIRST, releases=[FIRST]),
        primary(SECOND, releases=[SECOND]),
    ),
    case(
        "a part of a segment is compared, the rest stays away",
        primary(BOTH),
        secondary(FIRST, qemu=did(), colo=did(Tcp(1, b"abcd"))),
        secondary(SECOND, qemu=did(BOTH), colo=did(SECOND)),
        difference="split",
    ),
    case(
        "the secondary's later segment comes first",
        primary(FIRST),
        secondary(SECOND, qemu=did(asks=1), colo=did()),
        secondary(FIRST, releases=[FIRST]),
        primary(SECOND, releases=[SECOND]),
        difference="byte-stream",
    ),
    case(
        "the primary repeats a segment that has left",
        primary(FIRST),
        secondary(FIRST, releases=[FIRST]),
        primary(FIRST, qemu=did(), colo=did(FIRST)),
        secondary(SECOND, qemu=did(FIRST), colo=did()),
        primary(SECOND, releases=[SECOND]),
        difference="no-waiting-for-any-packet",
    ),
    case(
        "the primary repeats a part, and more",
        primary(FIRST),
        secondary(FIRST, releases=[FIRST]),
        primary(Tcp(3, b"cdef"), qemu=did(), colo=did(Tcp(3, b"cd"))),
        secondary(Tcp(5, b"ef"), qemu=did(asks=1), colo=did(Tcp(5, b"ef"))),
        difference="byte-stream",
    ),
    case(
        "the secondary repeats a part, and more",
        primary(FIRST),
        secondary(FIRST, releases=[FIRST]),
        primary(Tcp(5, b"ef")),
        secondary(Tcp(3, b"cdef"), qemu=did(asks=1), colo=did(Tcp(5, b"ef"))),
        difference="byte-stream",
    ),
]

# ── TCP: ACK, SYN, FIN, RST ─────────────────────────────────────────────────────────────────────────────────

AHEAD = Tcp(1, b"abcd", ack=6000)
WIDE = Tcp(1, b"abcd", window=9000)

TCP_CONTROL: list[Case] = [
    case("pure ACK, the primary first", primary(ack(6000)), secondary(ack(6000), releases=[ack(6000)])),
    case("pure ACK, the secondary first", secondary(ack(6000)), primary(ack(6000), releases=[ack(6000)])),
    case(
        "ACKs out of order on both sides",
        primary(ack(6000), ack(5500)),
        secondary(ack(6000), ack(5500), qemu=did(ack(6000), ack(5500)), colo=did(ack(6000), ack(5500))),
    ),
    case(
        "one ACK of the secondary for two of the primary",
        primary(ack(5500), ack(6000)),
        secondary(ack(6000), qemu=did(ack(5500)), colo=did(ack(5500), ack(6000))),
        difference="no-waiting-for-any-packet",
    ),
    case(
        "a pure ACK that the secondary has sent already, with data",
        primary(FIRST),
        secondary(FIRST, releases=[FIRST]),
        primary(ack(5000, seq=5), qemu=did(), colo=did(ack(5000, seq=5))),
        difference="no-waiting-for-any-packet",
    ),
    case(
        "a pure ACK behind segments that were cut otherwise",
        primary(BOTH),
        secondary(FIRST, SECOND, releases=[BOTH]),
        primary(ack(6000, seq=9), qemu=did(ack(6000, seq=9)), colo=did()),
        secondary(ack(6000, seq=9), qemu=did(), colo=did(ack(6000, seq=9))),
        difference="no-waiting-for-any-packet",
    ),
    case(
        "the primary acknowledges more, without data",
        secondary(ack(5000)),
        primary(ack(6000), qemu=did(ack(6000)), colo=did()),
        secondary(ack(6000), qemu=did(), colo=did(ack(6000))),
        difference="commit-of-input",
    ),
    case(
        "the primary acknowledges more, with data",
        secondary(FIRST),
        primary(AHEAD, qemu=did(AHEAD), colo=did(FIRST)),
        secondary(ack(6000, seq=5), qemu=did(), colo=did(ack(6000, seq=5))),
        difference="commit-of-input",
    ),
    case(
        "the primary acknowledges more, in larger segments",
        secondary(FIRST, SECOND),
        primary(Tcp(1, b"abcdefgh", ack=6000), qemu=did(asks=1), colo=did(BOTH)),
        secondary(
            ack(6000, seq=9),
            qemu=did(Tcp(1, b"abcdefgh", ack=6000)),
            colo=did(ack(6000, seq=9)),
        ),
        difference="commit-of-input",
    ),
    case(
        "a pure ACK that runs ahead holds no payload up",
        secondary(ack(5000)),
        primary(ack(6000), AHEAD, qemu=did(ack(6000)), colo=did()),
        secondary(FIRST, qemu=did(AHEAD), colo=did(FIRST)),
        secondary(ack(6000, seq=5), qemu=did(), colo=did(ack(6000, seq=5))),
        difference="commit-of-input",
    ),
    case(
        "the primary offers more",
        primary(WIDE),
        secondary(FIRST, qemu=did(WIDE), colo=did(FIRST)),
        difference="commit-of-input",
    ),
    case(
        "handshake, data, end",
        primary(SYN_ACK),
        secondary(SYN_ACK, releases=[SYN_ACK]),
        primary(Tcp(101, b"ab")),
        secondary(Tcp(101, b"ab"), releases=[Tcp(101, b"ab")]),
        primary(Tcp(103, flags="FA")),
        secondary(Tcp(103, flags="FA"), releases=[Tcp(103, flags="FA")]),
    ),
    case(
        "SYN of a guest", primary(Tcp(100, flags="S")), secondary(Tcp(100, flags="S"), releases=[Tcp(100, flags="S")])
    ),
    case(
        "FIN with data",
        primary(Tcp(1, b"abcd", "FA")),
        secondary(Tcp(1, b"abcd", "FA"), releases=[Tcp(1, b"abcd", "FA")]),
    ),
    case("RST", primary(Tcp(1, flags="R")), secondary(Tcp(1, flags="R"), releases=[Tcp(1, flags="R")])),
    case(
        "FIN against RST",
        primary(Tcp(1, flags="FA")),
        secondary(Tcp(1, flags="RA"), qemu=did(Tcp(1, flags="FA")), colo=did(asks=1)),
        difference="tcp-flags",
    ),
    case(
        "FIN against more data",
        primary(FIRST),
        secondary(FIRST, releases=[FIRST]),
        primary(Tcp(5, flags="FA")),
        secondary(SECOND, qemu=did(Tcp(5, flags="FA")), colo=did(asks=1)),
        difference="tcp-flags",
    ),
    case(
        "data against FIN",
        primary(FIRST),
        secondary(FIRST, releases=[FIRST]),
        primary(SECOND),
        secondary(Tcp(5, flags="FA"), qemu=did(), colo=did(asks=1)),
        difference="tcp-flags",
    ),
    case(
        "RST against data",
        primary(SYN_ACK),
        secondary(SYN_ACK, releases=[SYN_ACK]),
        secondary(Tcp(101, flags="R")),
        primary(Tcp(101, b"abcd"), qemu=did(), colo=did(asks=1)),
        difference="tcp-flags",
    ),
    case(
        "RST against SYN|ACK",
        primary(Tcp(0, flags="RA")),
        secondary(SYN_ACK, qemu=did(Tcp(0, flags="RA")), colo=did(asks=1)),
        difference="tcp-flags",
    ),
    case(
        "the secondary's FIN comes later than its data",
        primary(Tcp(1, b"abcd", "FA")),
        secondary(FIRST, qemu=did(Tcp(1, b"abcd", "FA")), colo=did()),
        secondary(Tcp(5, flags="FA"), qemu=did(), colo=did(Tcp(1, b"abcd", "FA"))),
        difference="tcp-flags",
    ),
    *(
        case(
            f"SYN|ACK with another {name}",
            primary(Tcp(100, flags="SA", options=(mine,))),
            secondary(
                Tcp(100, flags="SA", options=(theirs,) if theirs else ()),
                qemu=did(Tcp(100, flags="SA", options=(mine,))),
                colo=did(asks=1),
            ),
            difference="syn-options",
        )
        for name, mine, theirs in [
            ("MSS", ("MSS", 1460), ("MSS", 1400)),
            ("window scale", ("WScale", 7), ("WScale", 3)),
            ("SACK-permitted", ("SAckOK", b""), None),
            ("timestamp option", ("Timestamp", (1, 2)), None),
        ]
    ),
    case(
        "SYN|ACKs with equal options and other timestamps",
        primary(Tcp(100, flags="SA", options=(("MSS", 1460), ("Timestamp", (1, 2))))),
        secondary(
            Tcp(100, flags="SA", options=(("MSS", 1460), ("Timestamp", (8, 2)))),
            releases=[Tcp(100, flags="SA", options=(("MSS", 1460), ("Timestamp", (1, 2))))],
        ),
    ),
]

NOPS = (("NOP", None),)
SACK = (*2 * NOPS, ("SAck", (6000, 7000)))
TWO_BLOCKS = (*2 * NOPS, ("SAck", (6000, 7000, 8000, 9000)))


def syn_ack(*options: tuple[str | int, object]) -> Tcp:
    """With options behind the MSS."""
    return Tcp(100, flags="SA", options=(("MSS", 1460), *options))


def signed_cases(name: str, kind: int, length: int) -> list[Case]:
    """A signature that covers the numbers: no change of them would be accepted."""
    mine, theirs = syn_ack((kind, bytes(length))), syn_ack((kind, b"\1" * length))
    data, other = Tcp(101, b"abcd"), Tcp(101, b"abXd")
    return [
        case(
            f"{name}: the connection cannot be protected",
            primary(mine, qemu=did(), colo=did(mine, asks=1)),
            secondary(theirs, qemu=did(mine), colo=did()),
            primary(data, qemu=did(), colo=did(data)),
            secondary(other, qemu=did(asks=1), colo=did()),
            difference="signed",
        )
    ]


TCP_OPTIONS: list[Case] = [
    case(
        "MPTCP is taken off both SYN|ACKs",
        primary(syn_ack((30, bytes(10)))),
        secondary(syn_ack((30, b"\1" * 10)), qemu=did(syn_ack((30, bytes(10)))), colo=did(syn_ack(*12 * NOPS))),
        difference="syn-options-taken-off",
    ),
    case(
        "MPTCP of one guest alone is no difference",
        primary(syn_ack((30, bytes(10)))),
        secondary(syn_ack(), qemu=did(syn_ack((30, bytes(10)))), colo=did(syn_ack(*12 * NOPS))),
        difference="syn-options-taken-off",
    ),
    case(
        "Fast Open is taken off both SYN|ACKs",
        primary(syn_ack(("TFO", (1, 2)), *2 * NOPS)),
        secondary(
            syn_ack(("TFO", (3, 4)), *2 * NOPS),
            qemu=did(syn_ack(("TFO", (1, 2)), *2 * NOPS)),
            colo=did(syn_ack(*12 * NOPS)),
        ),
        difference="syn-options-taken-off",
    ),
    *signed_cases("TCP-MD5", 19, 16),
    *signed_cases("TCP-AO", 29, 14),
    case(
        "a SACK block of the primary alone, with data",
        secondary(FIRST),
        primary(
            Tcp(1, b"abcd", options=SACK),
            qemu=did(Tcp(1, b"abcd", options=SACK)),
            colo=did(Tcp(1, b"abcd", options=12 * NOPS)),
        ),
        difference="sack-blocks",
    ),
    case(
        "two SACK blocks of the primary, one of which both have",
        secondary(Tcp(1, b"abcd", options=SACK)),
        primary(
            Tcp(1, b"abcd", options=TWO_BLOCKS),
            qemu=did(Tcp(1, b"abcd", options=TWO_BLOCKS)),
            colo=did(Tcp(1, b"abcd", options=(*SACK, *8 * NOPS))),
        ),
        difference="sack-blocks",
    ),
    case(
        "a SACK block that both have",
        secondary(Tcp(1, b"abcd", options=SACK)),
        primary(Tcp(1, b"abcd", options=SACK), releases=[Tcp(1, b"abcd", options=SACK)]),
    ),
    case(
        "the secondary repeats an ACK, the primary has got on",
        secondary(ack(5000)),
        primary(ack(5000), releases=[ack(5000)]),
        primary(ack(7000)),
        secondary(
            Tcp(1, ack=5000, window=1003, options=SACK),
            qemu=did(ack(7000)),
            colo=did(Tcp(1, ack=5000, options=SACK)),
        ),
        secondary(ack(7000), qemu=did(), colo=did(ack(7000))),
        difference="repeated-ack",
    ),
    case(
        "the secondary repeats an ACK before the primary gets on",
        secondary(ack(5000), Tcp(1, ack=5000, window=1003, options=SACK)),
        primary(ack(5000), releases=[ack(5000)]),
        primary(ack(7000), qemu=did(ack(7000)), colo=did(Tcp(1, ack=5000, options=SACK))),
        secondary(ack(7000), qemu=did(), colo=did(ack(7000))),
        difference="repeated-ack",
    ),
]

IMMEDIATE: list[Case] = [
    case(
        "ack_policy=immediate: the primary acknowledges more, with data",
        secondary(FIRST),
        primary(AHEAD, releases=[AHEAD]),
    ),
    case(
        "ack_policy=immediate: the primary offers more",
        primary(WIDE),
        secondary(FIRST, releases=[WIDE]),
    ),
]

# ── TCP: serial arithmetic ──────────────────────────────────────────────────────────────────────────────────

TCP_SERIAL: list[Case] = [
    case(
        "sequence numbers wrap between segments",
        primary(Tcp(-4, b"abcd"), Tcp(0, b"efgh"), Tcp(4, b"ijkl")),
        secondary(
            Tcp(-4, b"abcd"),
            Tcp(0, b"efgh"),
            Tcp(4, b"ijkl"),
            releases=[Tcp(-4, b"abcd"), Tcp(0, b"efgh"), Tcp(4, b"ijkl")],
        ),
    ),
    case(
        "sequence numbers wrap within a segment",
        primary(Tcp(-2, b"abcd")),
        secondary(Tcp(-2, b"ab"), Tcp(0, b"cd"), releases=[Tcp(-2, b"abcd")]),
        primary(Tcp(2, b"efgh")),
        secondary(Tcp(2, b"efgh"), releases=[Tcp(2, b"efgh")]),
    ),
    case(
        "0 is a sequence number",
        primary(Tcp(-4, b"abcd")),
        secondary(Tcp(-4, b"abcd"), releases=[Tcp(-4, b"abcd")]),
        primary(Tcp(-4, b"abcd"), qemu=did(), colo=did(Tcp(-4, b"abcd"))),
        secondary(Tcp(0, b"efgh"), qemu=did(asks=1), colo=did()),
        difference="serial-arithmetic",
    ),
    case(
        "the primary's ack wraps before the secondary's",
        secondary(Tcp(1, b"abcdefgh", ack=-16)),
        primary(
            Tcp(1, b"abcd", ack=16), qemu=did(Tcp(1, b"abcd", ack=16)), colo=did(Tcp(1, b"abcd", ack=-16, window=1000))
        ),
        difference="serial-arithmetic",
    ),
    case(
        "an older ack of the secondary does not lower what it has acknowledged",
        secondary(Tcp(1, b"abcdefgh", ack=6000), Tcp(9, ack=5000)),
        primary(Tcp(1, b"abcd", ack=5500), qemu=did(asks=1), colo=did(Tcp(1, b"abcd", ack=5500))),
        difference="serial-arithmetic",
    ),
]

# ── UDP, ICMP, other protocols of IPv4 ──────────────────────────────────────────────────────────────────────

ONE, TWO = Udp(b"one"), Udp(b"two")


def protocol_cases(name: str, number: int) -> list[Case]:
    # The first four bytes stay the same: QEMU takes them for ports where it knows the protocol.
    packet, different = Ip(number, b"portsabcdef"), Ip(number, b"portsabcdeX")
    return [
        case(f"{name}: equal", primary(packet), secondary(packet, releases=[packet])),
        case(f"{name}: different", primary(packet), secondary(different, asks=1), checkpoint(releases=[packet])),
        case(
            f"{name}: another IP identification",
            primary(packet),
            secondary(Ip(number, packet.body, identification=9), qemu=did(asks=1), colo=did(packet)),
            difference="ip-header",
        ),
    ]


DATAGRAMS: list[Case] = [
    case("UDP: equal, the primary first", primary(ONE), secondary(ONE, releases=[ONE])),
    case("UDP: equal, the secondary first", secondary(ONE), primary(ONE, releases=[ONE])),
    case("UDP: different", primary(ONE), secondary(TWO, asks=1), checkpoint(releases=[ONE])),
    case("UDP: different, the secondary first", secondary(TWO), primary(ONE, asks=1), checkpoint(releases=[ONE])),
    case(
        "UDP: one after the other",
        primary(ONE),
        secondary(ONE, releases=[ONE]),
        primary(TWO),
        secondary(TWO, releases=[TWO]),
    ),
    case("UDP: another IP identification", primary(ONE), secondary(Udp(b"one", identification=9), releases=[ONE])),
    case(
        "UDP: two at once, in order",
        primary(ONE, TWO),
        secondary(ONE, TWO, qemu=did(TWO, ONE, asks=1), colo=did(ONE, TWO)),
        difference="datagram-order",
    ),
    case(
        "UDP: two at once, the secondary's in another order",
        primary(ONE, TWO),
        secondary(TWO, ONE, qemu=did(TWO, ONE), colo=did(ONE, TWO)),
        difference="datagram-order",
    ),
    case(
        "UDP: one that only the secondary sent, then a pair, all within a moment",
        secondary(Udp(b"x"), ONE),
        primary(ONE, qemu=did(ONE), colo=did(ONE)),
    ),
    case("ICMP: equal", primary(Icmp(b"one")), secondary(Icmp(b"one", identification=2), releases=[Icmp(b"one")])),
    case(
        "ICMP: different", primary(Icmp(b"one")), secondary(Icmp(b"two"), asks=1), checkpoint(releases=[Icmp(b"one")])
    ),
    case(
        "IGMP passes",
        primary(Ip(2, b"report"), qemu=did(), colo=did(Ip(2, b"report"))),
        secondary(Ip(2, b"report"), qemu=did(Ip(2, b"report")), colo=did()),
        difference="igmp",
    ),
    *protocol_cases("DCCP", 33),
    *protocol_cases("GRE", 47),
    *protocol_cases("ESP", 50),
    *protocol_cases("AH", 51),
    *protocol_cases("SCTP", 132),
    *protocol_cases("UDP-Lite", 136),
]

# ── what has no IPv4 packet in it, or a strange one ─────────────────────────────────────────────────────────

SIX, TAGGED = Tcp(1, b"abcd", version=6), Tcp(1, b"abcd", tag=5)
WITH_OPTIONS = Tcp(1, b"abcd", ip_options=True)
HALVES = (Fragment(DATA, 0, 32), Fragment(DATA, 32))
OVERLAPPING = (Fragment(DATA, 0, 40), Fragment(DATA, 32))
OTHERWISE_CUT = (Fragment(DATA, 0, 40), Fragment(DATA, 40))


def cut(length: int) -> Cut:
    return Cut(FIRST, length)


LINK: list[Case] = [
    case("ARP passes", secondary(Arp()), primary(Arp(), releases=[Arp()])),
    case("ARP passes, and is not compared", primary(Arp(), releases=[Arp()]), secondary(Arp("02:00:00:00:00:09"))),
    *(
        case(f"a frame of {length} bytes passes", primary(cut(length), releases=[cut(length)]), secondary(cut(length)))
        for length in (1, 13, 14, 20, 33)
    ),
    *(
        case(
            f"an IP header and {length - 34} bytes pass",
            primary(cut(length), qemu=did(), colo=did(cut(length))),
            difference="truncated",
        )
        for length in (34, 40, 53)
    ),
    case(
        "IPv6 is compared: equal",
        primary(SIX, qemu=did(SIX), colo=did()),
        secondary(SIX, qemu=did(), colo=did(SIX)),
        difference="ipv6",
    ),
    case(
        "IPv6 is compared: different",
        primary(Icmp6(b"one"), qemu=did(Icmp6(b"one")), colo=did()),
        secondary(Icmp6(b"two"), qemu=did(), colo=did(asks=1)),
        difference="ipv6",
    ),
    case(
        "802.1Q is compared: equal",
        primary(TAGGED, qemu=did(TAGGED), colo=did()),
        secondary(TAGGED, qemu=did(), colo=did(TAGGED)),
        difference="vlan",
    ),
    case(
        "802.1Q is compared: different",
        primary(TAGGED, qemu=did(TAGGED), colo=did()),
        secondary(Tcp(1, b"abXd", tag=5), qemu=did(), colo=did(asks=1)),
        difference="vlan",
    ),
    case("IP options: equal", primary(WITH_OPTIONS), secondary(WITH_OPTIONS, releases=[WITH_OPTIONS])),
    case("IP options on one side", primary(WITH_OPTIONS), secondary(FIRST, releases=[WITH_OPTIONS])),
    case("IP options: different", primary(WITH_OPTIONS), secondary(Tcp(1, b"abXd", ip_options=True), asks=1)),
    case("fragments: cut alike", primary(*HALVES), secondary(*HALVES, releases=HALVES)),
    case(
        "fragments: cut otherwise",
        primary(*HALVES),
        secondary(*OTHERWISE_CUT, qemu=did(asks=1), colo=did(*HALVES)),
        difference="fragments",
    ),
    case(
        "fragments: overlap",
        primary(*OVERLAPPING),
        secondary(*OVERLAPPING, qemu=did(*OVERLAPPING), colo=did()),
        difference="fragments",
    ),
    case(
        "fragments: the rest stays away",
        primary(HALVES[0]),
        secondary(HALVES[0], qemu=did(HALVES[0]), colo=did()),
        checkpoint(qemu=did(), colo=did(HALVES[0])),
        difference="fragments",
    ),
]

# ── vnet headers ────────────────────────────────────────────────────────────────────────────────────────────


def vnet_cases(length: int) -> list[Case]:
    def behind(frame: Frame, flags: int = 0) -> Vnet:
        return Vnet(frame, length, flags)

    first, arp = behind(FIRST), behind(Arp())
    return [
        case(f"vnet {length}: equal", primary(first), secondary(first, releases=[first]), vnet_len=length),
        case(
            f"vnet {length}: different",
            primary(first),
            secondary(behind(OTHER_FIRST), asks=1),
            checkpoint(releases=[first]),
            vnet_len=length,
        ),
        case(
            f"vnet {length}: the header itself is not compared",
            primary(behind(FIRST, flags=1)),
            secondary(first, releases=[behind(FIRST, flags=1)]),
            vnet_len=length,
        ),
        case(f"vnet {length}: UDP", primary(behind(ONE)), secondary(behind(TWO), asks=1), vnet_len=length),
        case(
            f"vnet {length}: a frame that the host cuts, against its datagrams",
            primary(Vnet(Udp(b"onetwo"), length, cut=3)),
            secondary(behind(Udp(b"one")), qemu=did(asks=1), colo=did()),
            secondary(behind(Udp(b"two")), qemu=did(asks=1), colo=did(Vnet(Udp(b"onetwo"), length, cut=3))),
            checkpoint(qemu=did(Vnet(Udp(b"onetwo"), length, cut=3)), colo=did()),
            vnet_len=length,
            difference="uso",
        ),
        case(f"vnet {length}: ARP", primary(arp, releases=[arp]), vnet_len=length),
    ]


CASES = TCP_PAYLOAD + TCP_CONTROL + TCP_OPTIONS + TCP_SERIAL + DATAGRAMS + LINK + vnet_cases(10) + vnet_cases(12)
