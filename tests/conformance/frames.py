"""Frames as the cases write them: values that say what matters and take the addresses of their connection later.

Each case has a connection of its own (a client address that no other case uses), so one process serves many cases.
Checksums are scapy's.
"""

import struct
from dataclasses import dataclass, replace

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import ICMPv6EchoReply, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet as Layer
from scapy.packet import Raw

GUEST, GUEST6 = "10.0.0.2", "fd00::2"
GUEST_MAC, CLIENT_MAC = "02:00:00:00:00:02", "02:00:00:00:00:01"


@dataclass(frozen=True)
class Connection:
    """The addresses of one case: client number `n` of the guest 10.0.0.2."""

    n: int
    guest_port: int = 80

    @property
    def client(self) -> str:
        return f"10.{1 + (self.n >> 16)}.{self.n >> 8 & 255}.{self.n & 255}"

    @property
    def client_octets(self) -> bytes:
        return bytes(int(part) for part in self.client.split("."))

    @property
    def client6(self) -> str:
        return f"fd00::1:{self.n:x}"

    @property
    def client_port(self) -> int:
        return 1024 + self.n % 60000

    def ethernet(self, inner: Layer, *, from_client: bool = False) -> bytes:
        macs = (GUEST_MAC, CLIENT_MAC) if from_client else (CLIENT_MAC, GUEST_MAC)
        return (Ether(dst=macs[0], src=macs[1]) / inner).build()

    def ip(self, *, from_client: bool = False, **fields: object) -> IP:
        ends = (self.client, GUEST) if from_client else (GUEST, self.client)
        return IP(src=ends[0], dst=ends[1], **fields)

    def ip6(self, *, from_client: bool = False) -> IPv6:
        ends = (self.client6, GUEST6) if from_client else (GUEST6, self.client6)
        return IPv6(src=ends[0], dst=ends[1])

    def ports(self, *, from_client: bool) -> dict[str, int]:
        ends = (self.client_port, self.guest_port) if from_client else (self.guest_port, self.client_port)
        return {"sport": ends[0], "dport": ends[1]}


class Frame:
    """Anything that a case sends or expects; `on` gives its bytes for a connection."""

    def on(self, connection: Connection) -> bytes:
        raise NotImplementedError


@dataclass(frozen=True)
class Tcp(Frame):
    """A TCP segment of the guest, or with `from_client` of its client. `seq` and `ack` are taken modulo 2^32."""

    seq: int
    data: bytes = b""
    flags: str = "A"
    ack: int = 5000
    window: int = 1000
    options: tuple[tuple[str | int, object], ...] = ()
    from_client: bool = False
    identification: int = 1
    version: int = 4
    tag: int | None = None
    ip_options: bool = False

    def on(self, connection: Connection) -> bytes:
        segment = TCP(
            **connection.ports(from_client=self.from_client),
            seq=self.seq % 2**32,
            ack=self.ack % 2**32 if "A" in self.flags else 0,
            flags=self.flags,
            window=self.window,
            options=list(self.options),
        )
        if self.version == 6:
            inner = connection.ip6(from_client=self.from_client) / segment / self.data
        else:
            options = [IPOption_Router_Alert()] if self.ip_options else []
            fields = {"id": self.identification, "flags": "DF", "options": options}
            inner = connection.ip(from_client=self.from_client, **fields) / segment / self.data
        if self.tag is not None:
            inner = Dot1Q(vlan=self.tag) / inner
        return connection.ethernet(inner, from_client=self.from_client)


@dataclass(frozen=True)
class Udp(Frame):
    """A UDP datagram."""

    data: bytes
    from_client: bool = False
    identification: int = 1

    def on(self, connection: Connection) -> bytes:
        ip = connection.ip(from_client=self.from_client, id=self.identification)
        datagram = UDP(**connection.ports(from_client=self.from_client))
        return connection.ethernet(ip / datagram / self.data, from_client=self.from_client)


@dataclass(frozen=True)
class Icmp(Frame):
    """An ICMP echo reply."""

    data: bytes
    sequence: int = 1
    identification: int = 1
    from_client: bool = False

    def on(self, connection: Connection) -> bytes:
        echo = ICMP(type="echo-reply", id=7, seq=self.sequence)
        ip = connection.ip(from_client=self.from_client, id=self.identification)
        return connection.ethernet(ip / echo / self.data, from_client=self.from_client)


@dataclass(frozen=True)
class TooBig(Frame):
    """ICMP says that a segment was too big (RFC 792, RFC 1191), and quotes the eight bytes of it that it must."""

    about: Tcp

    def on(self, connection: Connection) -> bytes:
        quoted = self.about.on(connection)[14:][:28]
        ip = connection.ip(from_client=not self.about.from_client)
        error = ICMP(type="dest-unreach", code="fragmentation-needed", nexthopmtu=1280)
        return connection.ethernet(ip / error / Raw(quoted), from_client=not self.about.from_client)


@dataclass(frozen=True)
class Ip(Frame):
    """An IPv4 packet of any protocol."""

    protocol: int
    body: bytes
    identification: int = 1
    from_client: bool = False

    def on(self, connection: Connection) -> bytes:
        ip = connection.ip(from_client=self.from_client, id=self.identification, proto=self.protocol)
        return connection.ethernet(ip / Raw(self.body), from_client=self.from_client)


@dataclass(frozen=True)
class Fragment(Frame):
    """One fragment of a UDP datagram with payload `data`: the bytes from `start` to `end` of its IP payload."""

    data: bytes
    start: int
    end: int | None = None
    identification: int = 1

    def on(self, connection: Connection) -> bytes:
        ip = connection.ip(id=self.identification)
        # Built in an unfragmented packet, for the checksum over the pseudo-header.
        whole = (ip / UDP(**connection.ports(from_client=False)) / self.data).build()[20:]
        end = len(whole) if self.end is None else self.end
        more = "MF" if end < len(whole) else 0
        part = connection.ip(id=self.identification, flags=more, frag=self.start // 8, proto=17)
        return connection.ethernet(part / Raw(whole[self.start : end]))


@dataclass(frozen=True)
class Arp(Frame):
    """Who has the client's address? `mac` makes two of them differ."""

    mac: str = GUEST_MAC

    def on(self, connection: Connection) -> bytes:
        return connection.ethernet(ARP(hwsrc=self.mac, psrc=GUEST, pdst=connection.client))


@dataclass(frozen=True)
class Icmp6(Frame):
    """An ICMPv6 echo reply."""

    data: bytes

    def on(self, connection: Connection) -> bytes:
        return connection.ethernet(connection.ip6() / ICMPv6EchoReply(id=7, data=self.data))


@dataclass(frozen=True)
class Cut(Frame):
    """The first `length` bytes of another frame."""

    whole: Frame
    length: int

    def on(self, connection: Connection) -> bytes:
        return self.whole.on(connection)[: self.length]


@dataclass(frozen=True)
class Damaged(Frame):
    """A TCP segment over IPv4 without options, whose checksum is wrong: by so much, whatever is translated in it."""

    segment: Tcp

    def on(self, connection: Connection) -> bytes:
        octets = bytearray(self.segment.on(connection))
        checksum = slice(14 + 20 + 16, 14 + 20 + 18)
        wrong = int.from_bytes(octets[checksum], "big") + 0x5500
        octets[checksum] = ((wrong & 0xFFFF) + (wrong >> 16)).to_bytes(2, "big")
        return bytes(octets)


@dataclass(frozen=True)
class Vnet(Frame):
    """A frame behind a virtio_net_hdr of 10 or 12 bytes (virtio 1.2 section 5.1.6), with `flags` in its first byte.

    `cut`: the host is to make UDP datagrams of so many bytes of it (VIRTIO_NET_HDR_GSO_UDP_L4).
    """

    inner: Frame
    length: int
    flags: int = 0
    cut: int = 0

    def on(self, connection: Connection) -> bytes:
        header = struct.pack("<BBHHHHH", self.flags, 5 if self.cut else 0, 42, self.cut, 34, 16, 0)
        return header[: self.length] + self.inner.on(connection)


def later(segment: Tcp, seq_shift: int) -> Tcp:
    """The same segment elsewhere in sequence space."""
    return replace(segment, seq=segment.seq + seq_shift)
