"""Capture files as strangers make them: sound ones of every kind of traffic, and the same ones damaged.

`write_all(directory)` writes them, pcap and pcapng by turns; `frames_of(file)` reads any capture with scapy.
"""

import random
import struct
from collections.abc import Callable
from pathlib import Path

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, GRE, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet as Layer
from scapy.packet import Raw
from scapy.utils import RawPcapReader

from pycolo.frames import CapturedFrame, write

MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
GUEST, CLIENT = "10.0.0.2", "10.0.0.1"
GUEST6, CLIENT6 = "fd00::2", "fd00::1"
Frames = list[bytes]


def _ether(inner: Layer, tags: int = 0) -> bytes:
    layers: Layer = Ether(**MACS)
    if tags == 2:
        layers /= Dot1AD(vlan=7)
    if tags:
        layers /= Dot1Q(vlan=8)
    return bytes(layers / inner)


def _tcp(
    version: int = 4,
    tags: int = 0,
    isn: int = 1_000,
    client_isn: int = 9_000,
    port: int = 4_000,
    sizes: tuple[int, ...] = (10, 1_000, 1_400, 1, 700),
    options: list[tuple[str, object]] | None = None,
    extension: Layer | None = None,
) -> Frames:
    """A guest's side and a client's side of one session, from SYN to FIN."""
    options = options if options is not None else [("MSS", 1460), ("WScale", 7)]
    frames = []

    def segment(from_guest: bool, seq: int, ack: int, flags: str, data: bytes = b"", extra: object = None) -> None:
        if version == 4:
            ip: Layer = IP(src=GUEST, dst=CLIENT) if from_guest else IP(src=CLIENT, dst=GUEST)
        else:
            ip = IPv6(src=GUEST6, dst=CLIENT6) if from_guest else IPv6(src=CLIENT6, dst=GUEST6)
        if extension is not None:
            ip /= extension.copy()
        sport, dport = (80, port) if from_guest else (port, 80)
        words = {"seq": seq & 0xFFFFFFFF, "ack": ack & 0xFFFFFFFF}
        tcp = TCP(sport=sport, dport=dport, flags=flags, window=5_000, options=extra or [], **words)
        frames.append(_ether(ip / tcp / Raw(data) if data else ip / tcp, tags))

    segment(False, client_isn, 0, "S", extra=options)
    segment(True, isn, client_isn + 1, "SA", extra=options)
    segment(False, client_isn + 1, isn + 1, "A")
    seq, ack = isn + 1, client_isn + 1
    for i, size in enumerate(sizes):
        segment(False, ack, seq, "PA", b"q" * 20)
        ack += 20
        stamp = [("NOP", None), ("NOP", None), ("Timestamp", (1_000 + i, 5))] if i % 2 else []
        segment(True, seq, ack, "PA", bytes([65 + i]) * size, stamp)
        if i == 2:
            segment(False, ack, seq, "A", extra=[("NOP", None), ("NOP", None), ("SAck", (seq + 10, seq + 20))])
        seq += size
        segment(False, ack, seq, "A")
    segment(True, seq, ack, "FA")
    segment(False, ack, seq + 1, "FA")
    segment(True, seq + 1, ack + 1, "A")
    return frames


def _overlaps() -> Frames:
    """Retransmissions that begin before and end behind what was sent, and a guest that changes its mind."""
    stream = bytes(i & 0xFF for i in range(4_000))
    frames = _tcp(port=4_100, sizes=())[:3]
    for start, end in ((0, 500), (500, 900), (300, 1_200), (0, 2_000), (1_999, 3_000), (2_500, 4_000), (0, 10)):
        tcp = TCP(sport=80, dport=4_100, seq=1_001 + start, ack=9_001, flags="PA")
        frames.append(_ether(IP(src=GUEST, dst=CLIENT) / tcp / Raw(stream[start:end])))
    tcp = TCP(sport=80, dport=4_100, seq=1_001, ack=9_001, flags="PA")
    return [*frames, _ether(IP(src=GUEST, dst=CLIENT) / tcp / Raw(b"changed its mind"))]


def _port_reuse() -> Frames:
    first = _tcp(port=4_200, isn=5_000)
    reset = _ether(IP(src=GUEST, dst=CLIENT) / TCP(sport=80, dport=4_200, seq=9_999, flags="R"))
    return [*first, reset, *_tcp(port=4_200, isn=4_000_000_000), *_tcp(port=4_200, isn=6_000)]


def _fragments(overlapping: bool = False, version: int = 4) -> Frames:
    frames = []
    for number in range(3):
        body = bytes(UDP(sport=53, dport=5_300 + number) / Raw(bytes([number]) * 2_992))
        cuts = [(0, 1_480), (1_480, 2_960), (2_960, 3_000)]
        if overlapping:
            cuts = [(0, 1_480), (1_000, 2_000), (8, 16), (1_976, 3_000), (0, 3_000), (2_992, 3_000)]
        if number == 1:
            cuts.reverse()
        for start, end in cuts[: 2 if number == 2 else None]:
            more = end < 3_000
            if version == 4:
                ip = IP(src=GUEST, dst=CLIENT, id=70 + number, proto=17, frag=start // 8, flags="MF" if more else 0)
            else:
                fragment = IPv6ExtHdrFragment(nh=17, offset=start // 8, m=int(more), id=70 + number)
                ip = IPv6(src=GUEST6, dst=CLIENT6) / fragment
            frames.append(_ether(ip / Raw(body[start:end])))
    return frames


def _datagrams() -> Frames:
    frames = [_ether(IP(src=GUEST, dst=CLIENT) / UDP(sport=53, dport=5_000) / Raw(bytes([i]) * i)) for i in range(9)]
    frames += [_ether(IP(src=GUEST, dst=CLIENT) / ICMP(type=0, id=i) / Raw(b"ping")) for i in range(3)]
    frames += [_ether(IP(src=GUEST, dst=CLIENT, proto=proto) / Raw(b"x" * 40)) for proto in (33, 50, 51, 132, 136, 255)]
    frames.append(_ether(IP(src=GUEST, dst=CLIENT) / GRE() / IP(src=GUEST, dst=CLIENT) / TCP()))
    error = ICMP(type=3, code=4) / IP(src=CLIENT, dst=GUEST) / TCP(sport=4_000, dport=80)
    return [*frames, _ether(IP(src=GUEST, dst=CLIENT) / error)]


def _neighbours() -> Frames:
    arp = [bytes(Ether(**MACS) / ARP(op=op, psrc=GUEST, pdst=CLIENT)) for op in (1, 2, 9)]
    ndp = [_ether(IPv6(src=GUEST6, dst="ff02::1") / ICMPv6ND_NS(tgt=CLIENT6))]
    return [*arp, *ndp, _ether(IPv6(src=GUEST6, dst=CLIENT6) / ICMPv6EchoRequest(data=b"x" * 50))]


def _gso() -> Frames:
    """Frames of 64 KiB as an offloading card gives them; one with a total length of 0, as it is in captures."""
    data = bytes(i & 0xFF for i in range(65_000))
    frames = _tcp(port=4_300, sizes=())[:3]
    tcp = TCP(sport=80, dport=4_300, seq=1_001, ack=9_001, flags="PA")
    whole = bytearray(_ether(IP(src=GUEST, dst=CLIENT) / tcp / Raw(data)))
    unknown = bytearray(whole)
    unknown[16:18] = b"\0\0"
    return [*frames, bytes(whole), bytes(unknown)]


def _impossible() -> Frames:
    """What no stack sends: lengths that lie, headers that end early, options that never end."""
    sound = bytearray(_tcp()[4])
    frames = []
    for position, octets in (
        (14, b"\x4f"),  # an IP header of 60 bytes
        (14, b"\x40"),  # of 0
        (14, b"\x65"),  # version 6 under 0x0800
        (16, b"\xff\xff"),  # a total length beyond the frame
        (16, b"\x00\x14"),  # … that ends with the IP header
        (16, b"\x00\x1c"),  # … in the middle of the TCP header
        (46, b"\x00"),  # a TCP header of 0 bytes
        (46, b"\xf0"),  # of 60
        (46, b"\x10"),  # of 4
        (47, b"\xff"),  # every flag
        (47, b"\x00"),  # no flag
        (47, b"\x07"),  # SYN, FIN and RST
        (12, b"\x81\x00"),  # a VLAN tag over an IP header
        (12, b"\x05\xdc"),  # an 802.3 length
        (20, b"\x3f\xff"),  # the last fragment of all
    ):
        frames.append(bytes(sound[:position] + octets + sound[position + len(octets) :]))
    for options in (
        b"\x02\x00",
        b"\x05\xff\0\0",
        b"\x08\x0a\0\0",
        b"\x08\x02\x08\x02",
        b"\x03\x01\x03\x01",
        b"\x05\x22" + bytes(34),
    ):
        padded = options + bytes(-len(options) % 4)
        header = struct.pack(">HHIIBBHHH", 80, 4_000, 2_000, 9_001, (20 + len(padded)) << 2, 16, 500, 0, 0)
        frames.append(_ether(IP(src=GUEST, dst=CLIENT, proto=6) / Raw(header + padded)))
    chain = IPv6(src=GUEST6, dst=CLIENT6)
    for _ in range(12):
        chain /= IPv6ExtHdrDestOpt()
    return [*frames, _ether(chain / TCP()), b"", b"\0", bytes(13), bytes(14), bytes(60)]


def _random(seed: int) -> Frames:
    chance = random.Random(seed)
    return [chance.randbytes(chance.choice((0, 1, 13, 14, 15, 33, 34, 60, 200, 1_514, 9_000))) for _ in range(60)]


def _random_ip(seed: int) -> Frames:
    """Random bytes behind headers that a parser goes into."""
    chance = random.Random(seed)
    heads = (
        b"\x08\x00\x45\x00",
        b"\x86\xdd\x60\x00",
        b"\x81\x00\x00\x07\x08\x00\x46",
        b"\x88\xa8\x00\x07\x81\x00\x00\x08\x86\xdd\x60",
    )
    return [bytes(12) + chance.choice(heads) + chance.randbytes(chance.randrange(120)) for _ in range(80)]


SOUND: dict[str, Callable[[], Frames]] = {
    "tcp": _tcp,
    "tcp6": lambda: _tcp(version=6),
    "vlan": lambda: _tcp(tags=1),
    "qinq6": lambda: _tcp(version=6, tags=2),
    "wrap": lambda: _tcp(isn=0xFFFFFFFF - 1_200, client_isn=0xFFFFFFF0),
    "zero-isn": lambda: _tcp(isn=0, client_isn=0xFFFFFFFF),
    "hop-by-hop": lambda: _tcp(version=6, extension=IPv6ExtHdrHopByHop()),
    "routing": lambda: _tcp(version=6, extension=IPv6ExtHdrRouting(addresses=[])),
    "options": lambda: _tcp(options=[("MSS", 9_000), ("SAckOK", b""), ("Timestamp", (0xFFFFFFFE, 0)), ("WScale", 14)]),
    "overlaps": _overlaps,
    "port-reuse": _port_reuse,
    "fragments": _fragments,
    "fragments6": lambda: _fragments(version=6),
    "overlapping-fragments": lambda: _fragments(overlapping=True),
    "datagrams": _datagrams,
    "neighbours": _neighbours,
    "gso": _gso,
    "impossible": _impossible,
    "random": lambda: _random(1),
    "random-ip": lambda: _random_ip(2),
}


def _cut(frames: Frames, chance: random.Random) -> Frames:
    return [octets[: chance.randrange(len(octets) + 1)] if chance.random() < 0.4 else octets for octets in frames]


def _flipped(frames: Frames, chance: random.Random) -> Frames:
    found = []
    for octets in frames:
        changed = bytearray(octets)
        for _ in range(chance.randrange(4) if octets else 0):
            changed[chance.randrange(min(len(changed), 80))] ^= 1 << chance.randrange(8)
        found.append(bytes(changed))
    return found


def _shuffled(frames: Frames, chance: random.Random) -> Frames:
    return chance.sample(frames, len(frames))


def _repeated(frames: Frames, chance: random.Random) -> Frames:
    return [octets for octets in frames for _ in range(chance.choice((1, 1, 2, 3)))]


DAMAGE: dict[str, Callable[[Frames, random.Random], Frames]] = {
    "sound": lambda frames, _: frames,
    "cut": _cut,
    "flipped": _flipped,
    "shuffled": _shuffled,
    "repeated": _repeated,
}

NAMES = [f"{kind}-{damage}" for kind in SOUND for damage in DAMAGE]


def write_all(directory: Path) -> dict[str, Path]:
    """One capture file per name."""
    files = {}
    for kind, make in SOUND.items():
        frames = make()
        for damage, apply in DAMAGE.items():
            name = f"{kind}-{damage}"
            form = ("pcap", "pcapng")[len(files) % 2]
            files[name] = directory / f"{name}.{form}"
            found = apply(frames, random.Random(name))
            write(files[name], [CapturedFrame(octets, number) for number, octets in enumerate(found)])
    return files


def frames_of(file: Path) -> Frames:
    """The frames of a pcap or pcapng file."""
    with RawPcapReader(str(file)) as reader:
        return [octets for octets, _ in reader]
