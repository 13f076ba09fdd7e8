"""What filter-rewriter does: the table of `test_rewriter.py`.

The client's ISN is 500, the primary's 100, the secondary's 200: so the offset is 100. A step is what goes in and what
is to come out; `same`: as it went in.
"""

from dataclasses import dataclass, replace

from conformance.frames import Arp, Cut, Damaged, Frame, Icmp, Ip, Tcp, TooBig, Udp, Vnet
from conformance.peers import Program

PRIMARY_ISN, SECONDARY_ISN, CLIENT_ISN = 100, 200, 500
OFFSET = SECONDARY_ISN - PRIMARY_ISN


@dataclass(frozen=True)
class Out:
    """What came out towards the guest and towards the client."""

    guest: tuple[Frame, ...] = ()
    client: tuple[Frame, ...] = ()


@dataclass(frozen=True)
class Step:
    """Frames into "cin" (from the client) or "sin" (from the guest), or side "checkpoint"."""

    side: str
    frames: tuple[Frame, ...]
    qemu: Out
    colo: Out

    def by(self, program: Program) -> Out:
        return self.qemu if program is Program.QEMU else self.colo


@dataclass(frozen=True)
class Case:
    """`difference`: the name of the intended difference that the case shows; None: both do the same."""

    name: str
    steps: tuple[Step, ...]
    difference: str | None = None
    vnet_len: int | None = None

    def __post_init__(self) -> None:
        differs = any(step.qemu != step.colo for step in self.steps)
        assert differs == (self.difference is not None), f"{self.name}: a difference has a name, and only a difference"


def case(name: str, *steps: Step, difference: str | None = None, vnet_len: int | None = None) -> Case:
    return Case(name, steps, difference, vnet_len)


def from_client(frame: Frame, becomes: Frame | None = None) -> Step:
    """The client sends `frame`; the guest gets `becomes`, or the frame as it is."""
    out = Out(guest=(becomes or frame,))
    return Step("cin", (frame,), out, out)


def from_guest(frame: Frame, becomes: Frame | None = None) -> Step:
    """The secondary guest sends `frame`; towards the client goes `becomes`, or the frame as it is."""
    out = Out(client=(becomes or frame,))
    return Step("sin", (frame,), out, out)


def differing(step: Step, *, qemu: Out, colo: Out) -> Step:
    """The frame of `step`, with what each makes of it."""
    return replace(step, qemu=qemu, colo=colo)


CHECKPOINT = Step("checkpoint", (), Out(), Out())


def client(seq: int, data: bytes = b"", flags: str = "A", ack: int = 0, **fields: object) -> Tcp:
    return Tcp(seq, data, flags, ack=ack, from_client=True, **fields)


def guest(seq: int, data: bytes = b"", flags: str = "A", ack: int = 501, **fields: object) -> Tcp:
    return Tcp(seq, data, flags, ack=ack, **fields)


def acked(segment: Tcp) -> Step:
    """From the client, with an ack that gets the offset added."""
    return from_client(segment, replace(segment, ack=segment.ack + OFFSET))


def shifted(segment: Tcp) -> Step:
    """From the guest, with a sequence number that gets the offset taken off."""
    return from_guest(segment, replace(segment, seq=segment.seq - OFFSET))


SYN = client(CLIENT_ISN, flags="S")
SYN_ACK = guest(SECONDARY_ISN, flags="SA")
HANDSHAKE = (from_client(SYN), from_guest(SYN_ACK), acked(client(501, ack=101)))

# ── what both do ────────────────────────────────────────────────────────────────────────────────────────────

ALIKE: list[Case] = [
    case("the handshake teaches the offset", *HANDSHAKE),
    case(
        "both directions",
        *HANDSHAKE,
        acked(client(501, b"hello", ack=101)),
        shifted(guest(201, b"world", ack=506)),
        acked(client(506, ack=106)),
        shifted(guest(206, b"!", "PA", ack=506)),
    ),
    case(
        "data in the last segment of the handshake",
        *HANDSHAKE[:2],
        acked(client(501, b"hello", ack=101)),
        shifted(guest(201)),
    ),
    case("the handshake repeated", HANDSHAKE[0], *HANDSHAKE[:2], HANDSHAKE[1], HANDSHAKE[2], shifted(guest(201))),
    case(
        "the guest ends it",
        *HANDSHAKE,
        shifted(guest(201, flags="FA")),
        acked(client(501, ack=102)),
        acked(client(501, flags="FA", ack=102)),
        shifted(guest(202, ack=502)),
        shifted(guest(202, ack=502)),
    ),
    case(
        "the client ends it",
        *HANDSHAKE,
        acked(client(501, flags="FA", ack=101)),
        shifted(guest(201, flags="FA", ack=502)),
        acked(client(502, ack=102)),
        acked(client(502, ack=102)),
    ),
    case(
        "both end it at once",
        *HANDSHAKE,
        acked(client(501, flags="FA", ack=101)),
        shifted(guest(201, flags="FA")),
        shifted(guest(202, ack=502)),
        acked(client(502, ack=102)),
        acked(client(502, ack=102)),
        shifted(guest(202, ack=502)),
    ),
    case("RST|ACK of the guest", *HANDSHAKE, shifted(guest(201, flags="RA"))),
    case("RST of the client has no ack", *HANDSHAKE, from_client(client(501, flags="R"))),
    case("RST|ACK of the client", *HANDSHAKE, acked(client(501, flags="RA", ack=101))),
    case(
        "the port is used again",
        *HANDSHAKE,
        shifted(guest(201, flags="FA")),
        acked(client(501, flags="FA", ack=102)),
        shifted(guest(202, ack=502)),
        from_client(client(900, flags="S")),
        from_guest(guest(700, flags="SA", ack=901)),
        from_client(client(901, ack=301), client(901, ack=701)),
        from_guest(guest(701, b"again", ack=901), guest(301, b"again", ack=901)),
    ),
    case(
        "a checkpoint resets the offset",
        *HANDSHAKE,
        CHECKPOINT,
        from_client(client(501, b"hello", ack=101)),
        from_guest(guest(101, b"world", ack=506)),
    ),
    case(
        "numbers wrap: the primary's ISN is beyond the secondary's",
        from_client(SYN),
        from_guest(guest(5, flags="SA")),
        from_client(client(501, ack=-9), client(501, ack=6)),
        from_guest(guest(6, b"world"), guest(-9, b"world")),
        from_guest(guest(11 + 2**31, b"far"), guest(2**31 - 4, b"far")),
    ),
    case(
        "0 is the secondary's ISN",
        from_client(SYN),
        from_guest(guest(0, flags="SA")),
        from_client(client(501, ack=101), client(501, ack=1)),
        from_guest(guest(1, b"world"), guest(101, b"world")),
    ),
    case(
        "equal ISNs",
        from_client(SYN),
        from_guest(guest(100, flags="SA")),
        from_client(client(501, ack=101)),
        from_guest(guest(101, b"world")),
    ),
    case("an older connection passes", from_client(client(501, ack=101)), from_guest(guest(201))),
    case(
        "what is not TCP passes",
        from_client(Udp(b"x", from_client=True)),
        from_guest(Udp(b"x")),
        from_client(Icmp(b"x", from_client=True)),
        from_guest(Icmp(b"x")),
        from_guest(Ip(132, b"0123456789ab")),
        from_guest(Arp()),
    ),
    case("truncated frames pass", from_client(Cut(SYN, 50)), from_guest(Cut(SYN_ACK, 30)), from_guest(Cut(SYN_ACK, 5))),
]

# ── intended differences ────────────────────────────────────────────────────────────────────────────────────


def timestamp(value: int, echo: int) -> tuple[tuple[str, object], ...]:
    return (("NOP", None), ("NOP", None), ("Timestamp", (value, echo)))


def sack(*edges: int) -> tuple[tuple[str, object], ...]:
    return (("NOP", None), ("NOP", None), ("SAck", edges))


def either(step: Step, *, qemu: Frame, colo: Frame) -> Step:
    """What each makes of the step's frame."""
    if step.side == "cin":
        return differing(step, qemu=Out(guest=(qemu,)), colo=Out(guest=(colo,)))
    return differing(step, qemu=Out(client=(qemu,)), colo=Out(client=(colo,)))


EARLY = client(501, ack=101)
DATA = client(501, b"hello", ack=101)
STALE = client(400_000, b"old", ack=77)
SACKED = client(501, ack=101, options=sack(105, 109))
ECHOING = client(501, ack=101, options=timestamp(8, 1000))
STAMPED = guest(201, b"world", options=timestamp(9001, 8))
BARE_RST = guest(201, flags="R", ack=0)


def behind_other_headers(**fields: object) -> tuple[Step, ...]:
    """A handshake and data behind headers that QEMU does not look behind."""
    last, data = client(501, ack=101, **fields), guest(201, b"world", **fields)
    return (
        from_client(replace(SYN, **fields)),
        from_guest(replace(SYN_ACK, **fields)),
        either(from_client(last), qemu=last, colo=replace(last, ack=201)),
        either(from_guest(data), qemu=data, colo=replace(data, seq=101)),
    )


DIFFERENT: list[Case] = [
    case(
        "SACK blocks are the secondary's numbers too",
        *HANDSHAKE,
        either(
            from_client(SACKED),
            qemu=replace(SACKED, ack=201),
            colo=replace(SACKED, ack=201, options=sack(205, 209)),
        ),
        difference="rewriter-sack",
    ),
    case(
        "timestamps are the secondary's too",
        from_client(replace(SYN, options=timestamp(7, 0))),
        from_guest(replace(SYN_ACK, options=timestamp(9000, 7))),
        either(
            from_client(ECHOING),
            qemu=replace(ECHOING, ack=201),
            colo=replace(ECHOING, ack=201, options=timestamp(8, 9000)),
        ),
        either(
            from_guest(STAMPED),
            qemu=replace(STAMPED, seq=101),
            colo=replace(STAMPED, seq=101, options=timestamp(1001, 8)),
        ),
        difference="rewriter-timestamps",
    ),
    case(
        "a RST without ACK has a sequence number too",
        *HANDSHAKE,
        either(from_guest(BARE_RST), qemu=BARE_RST, colo=replace(BARE_RST, seq=101)),
        difference="rewriter-rst",
    ),
    case(
        "a repeated SYN|ACK has a sequence number too",
        *HANDSHAKE,
        either(from_guest(SYN_ACK), qemu=SYN_ACK, colo=replace(SYN_ACK, seq=100)),
        difference="rewriter-syn",
    ),
    case(
        "the guest begins the connection",
        from_guest(guest(200, flags="S", ack=0)),
        either(
            from_client(client(500, flags="SA", ack=101)),
            qemu=client(500, flags="SA", ack=101),
            colo=client(500, flags="SA", ack=201),
        ),
        either(from_guest(guest(201, b"hello")), qemu=guest(201, b"hello"), colo=guest(101, b"hello")),
        either(
            from_client(client(501, b"world", ack=106)),
            qemu=client(501, b"world", ack=106),
            colo=client(501, b"world", ack=206),
        ),
        difference="rewriter-guest-initiated",
    ),
    case(
        "the client's ACK comes before the secondary's SYN|ACK",
        from_client(SYN),
        differing(from_client(EARLY), qemu=Out(guest=(replace(EARLY, ack=1),)), colo=Out()),
        differing(
            from_guest(SYN_ACK),
            qemu=Out(client=(SYN_ACK,)),
            colo=Out(client=(SYN_ACK,), guest=(replace(EARLY, ack=201),)),
        ),
        either(from_guest(guest(201, b"hello")), qemu=guest(301, b"hello"), colo=guest(101, b"hello")),
        difference="rewriter-early-ack",
    ),
    case(
        "a checkpoint within the handshake",
        *HANDSHAKE[:2],
        CHECKPOINT,
        either(from_client(EARLY), qemu=replace(EARLY, ack=1), colo=EARLY),
        either(from_guest(guest(101, b"hello")), qemu=guest(201, b"hello"), colo=guest(101, b"hello")),
        difference="rewriter-checkpoint-in-handshake",
    ),
    case(
        "a stale segment within the handshake",
        *HANDSHAKE[:2],
        either(from_client(STALE), qemu=replace(STALE, ack=201), colo=STALE),
        either(from_client(EARLY), qemu=replace(EARLY, ack=225), colo=replace(EARLY, ack=201)),
        either(from_guest(guest(201, b"hello")), qemu=guest(77, b"hello"), colo=guest(101, b"hello")),
        difference="rewriter-exact-ack",
    ),
    case(
        "a damaged segment within the handshake",
        *HANDSHAKE[:2],
        either(from_client(Damaged(client(501, ack=77))), qemu=client(501, ack=201), colo=Damaged(client(501, ack=77))),
        either(from_client(EARLY), qemu=replace(EARLY, ack=225), colo=replace(EARLY, ack=201)),
        either(from_guest(guest(201, b"hello")), qemu=guest(77, b"hello"), colo=guest(101, b"hello")),
        difference="rewriter-exact-ack",
    ),
    case(
        "a damaged segment stays damaged",
        *HANDSHAKE,
        either(
            from_client(Damaged(client(501, b"hello", ack=101))),
            qemu=client(501, b"hello", ack=201),
            colo=Damaged(client(501, b"hello", ack=201)),
        ),
        either(
            from_guest(Damaged(guest(201, b"world"))), qemu=guest(101, b"world"), colo=Damaged(guest(101, b"world"))
        ),
        difference="rewriter-checksum",
    ),
    *(
        case(
            f"a SYN that no client has sent, {where}",
            *HANDSHAKE,
            from_client(client(seq, flags="S")),
            either(from_client(DATA), qemu=DATA, colo=replace(DATA, ack=201)),
            either(from_guest(guest(201, b"world")), qemu=guest(201, b"world"), colo=guest(101, b"world")),
            difference="rewriter-forged-syn",
        )
        for where, seq in [("far away", 7_000_000), ("near", 600)]
    ),
    case(
        "a SYN that no client has sent, and the guest says so",
        *HANDSHAKE,
        from_client(client(77_777, flags="S")),
        shifted(guest(201)),
        either(from_client(DATA), qemu=DATA, colo=replace(DATA, ack=201)),
        either(from_guest(guest(201, b"world")), qemu=guest(201, b"world"), colo=guest(101, b"world")),
        difference="rewriter-forged-syn",
    ),
    case(
        "ICMP errors quote the secondary's numbers",
        *HANDSHAKE,
        either(
            from_client(TooBig(guest(101, b"large"))),
            qemu=TooBig(guest(101, b"large")),
            colo=TooBig(guest(201, b"large")),
        ),
        difference="rewriter-icmp",
    ),
    case("IPv6 is translated too", *behind_other_headers(version=6), difference="ipv6"),
    case("802.1Q is translated too", *behind_other_headers(tag=5), difference="vlan"),
]


def behind(length: int, frame: Frame) -> Vnet:
    return Vnet(frame, length)


def vnet_case(length: int) -> Case:
    last, data = client(501, ack=101), guest(201, b"world")
    return case(
        f"behind a vnet header of {length} bytes",
        from_client(behind(length, SYN)),
        from_guest(behind(length, SYN_ACK)),
        either(
            from_client(behind(length, last)),
            qemu=behind(length, last),
            colo=behind(length, replace(last, ack=201)),
        ),
        either(
            from_guest(behind(length, data)),
            qemu=behind(length, data),
            colo=behind(length, replace(data, seq=101)),
        ),
        difference="rewriter-vnet",
        vnet_len=length,
    )


CASES = ALIKE + DIFFERENT + [vnet_case(10), vnet_case(12)]
