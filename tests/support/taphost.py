"""A host's network in a namespace of its own: a bridge, a guest's tap in it that this process has open, a client."""

import ctypes
import fcntl
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from pycolo.config import CardOptions
from pycolo.hostnet import looking
from pycolo.hostnet.facts import Link, Place
from pycolo.hostnet.netlink import Netlink
from pycolo.hostnet.survey import find_place
from pycolo.hostnet.wire import Wire
from support import netns

_CLONE_NEWNET = 0x40000000
GUEST_MAC = bytes.fromhex("525400000001")
CLIENT_MAC = bytes.fromhex("520000000009")
TAP_MAC = "fe:54:00:00:00:01"  # such as libvirt gives: never the bridge's
BROADCAST = b"\xff" * 6
ECHO = 0x88B5  # an EtherType for local experiments: no stack knows it


@contextmanager
def inside(path: str) -> Iterator[None]:
    """This thread in another network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as own, open(path) as other:
        assert libc.setns(other.fileno(), _CLONE_NEWNET) == 0
        try:
            yield
        finally:
            assert libc.setns(own.fileno(), _CLONE_NEWNET) == 0


class TapHost:
    """The namespace; the thread that uses it is in it."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.namespace = netns.made()
        self.taps: dict[str, int] = {}

    def sh(self, *lines: str) -> None:
        """Commands in the namespace, one per line."""
        self.namespace.run("sh", "-ec", "\n".join(lines))

    def build(self) -> None:
        """br0 with the client's card `lan`, whose other end is `client`, and with tap0."""
        self.sh(
            "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad",
            "ip -batch - <<END",
            "link add br0 type bridge forward_delay 0 mcast_snooping 0",
            "link set br0 up",
            "addr add 10.77.0.254/24 dev br0",
            "addr add fd77::fe/64 dev br0 nodad",
            "link add lan type veth peer name client",
            f"link set client address {CLIENT_MAC.hex(':')}",
            "END",
            "for name in client lan; do echo 1 >/proc/sys/net/ipv6/conf/$name/disable_ipv6; done",
            "ip -batch - <<END",
            "link set client up",
            "link set lan master br0 up",
            "END",
        )
        self.add_tap("tap0", "br0")

    def add_tap(self, name: str, bridge: str | None = None) -> None:
        """A guest's tap, open in this process."""
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x0002 | 0x1000 | 0x4000))
        fcntl.ioctl(fd, 0x400454D0, 0x01 | 0x02 | 0x04 | 0x08)
        self.taps[name] = fd
        where = f"master {bridge}" if bridge else "nomaster"
        self.sh(f"ip link set {name} address {TAP_MAC} up {where}")

    def close_tap(self, name: str) -> None:
        """The guest's QEMU has ended."""
        os.close(self.taps.pop(name))

    def close(self) -> None:
        """End it."""
        for name in list(self.taps):
            self.close_tap(name)
        self.namespace.close()

    def wire(self, number: int = 0, private: str | None = None, **card: object) -> Wire:
        """A wire for tap0."""
        options = CardOptions(netdev=f"hn{number}", **card)  # type: ignore[arg-type]
        return Wire("vm1", number, options, self.state, private)

    def link(self, name: str) -> Link | None:
        """What the kernel says of an interface."""
        with Netlink() as netlink:
            return looking.find_link(netlink, name)

    def place(self, name: str) -> Place | None:
        """Where an interface is."""
        with Netlink() as netlink:
            link = looking.find_link(netlink, name)
            return find_place(netlink, link) if link else None

    def facts(self) -> tuple[object, ...]:
        """All that a restore must bring back: the tap, its place, the bridge, and which interfaces there are."""
        with Netlink() as netlink:
            tap = looking.find_link(netlink, "tap0")
            bridge = looking.find_bridge(netlink, "br0")
            assert tap is not None
            place = find_place(netlink, tap)
        names = tuple(sorted(name for _, name in socket.if_nameindex()))
        return tap, place and msgspec.to_builtins(place), bridge, names

    # ── traffic ──

    def guest_says(self, frame: bytes, name: str = "tap0") -> None:
        """A frame by the guest."""
        os.write(self.taps[name], bytes(10) + frame)

    def guest_hears(self, name: str = "tap0") -> list[bytes]:
        """What is in the guest's tap."""
        return drained(self.taps[name], 10)

    @contextmanager
    def client(self) -> Iterator[socket.socket]:
        """A packet socket at the client's card."""
        with packet_socket("client") as sock:
            yield sock


@contextmanager
def packet_socket(name: str, *, bypass: bool = False) -> Iterator[socket.socket]:
    """A packet socket that does not wait; `bypass` as the node's port, or as anything else's."""
    with open_packet_socket(name, bypass=bypass) as sock:
        yield sock


def open_packet_socket(name: str, *, bypass: bool = False) -> socket.socket:
    """The same, to be closed by the caller."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    sock.setsockopt(263, 20, bypass)
    sock.setsockopt(263, 23, 1)
    sock.bind((name, 3))
    return sock


def drained(fd: int, header: int) -> list[bytes]:
    """The frames that are there now."""
    found = []
    with suppress(BlockingIOError):
        while True:
            found.append(os.read(fd, 70_000)[header:])
    return found


def awaited(sock: socket.socket, frame: bytes, deadline_s: float = 20) -> bool:
    """Whether the frame comes."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        select.select([sock], [], [], 0.2)
        with suppress(BlockingIOError):
            while True:
                if sock.recv(70_000) == frame:
                    return True
    return False


def echo(to: bytes, of: bytes, number: int) -> bytes:
    """A frame that no stack knows."""
    return to + of + ECHO.to_bytes(2, "big") + number.to_bytes(4, "big") + bytes(46)


@contextmanager
def tap_host(state: Path) -> Iterator[TapHost]:
    """A host that is built; the calling thread is in its network namespace."""
    made = TapHost(state)
    try:
        with inside(made.namespace.path):
            made.build()
            yield made
    finally:
        made.close()
