"""Sources and destinations of frames, with one interface: batches in QEMU's framing.

A device (TAP, AF_PACKET) reads and writes whole frames. A stream (unix or TCP socket, as QEMU's chardevs) carries
bytes: its batches may end in the middle of a frame, and it may disconnect and reconnect. Neither ever blocks.
"""

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes import CDLL, get_errno
from typing import Final, Protocol

from pycolo.core import FrameFd
from pycolo.errors import ConnectError
from pycolo.transport.portspec import PortKind, PortSpec
from pycolo.wire.buffers import Buffer

VNET_LEN: Final = 10
"""virtio_net_hdr without num_buffers: what AF_PACKET has, and TAP devices by default."""

TUN_DEVICE: Final = "/dev/net/tun"

# linux/if_tun.h
_TUNSETIFF: Final = 0x400454CA
_TUNSETOFFLOAD: Final = 0x400454D0
_TUNSETVNETHDRSZ: Final = 0x400454D8
_TUNGETIFF: Final = 0x800454D2
_TUNGETVNETHDRSZ: Final = 0x800454D7
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_TUN_F_CSUM_TSO4_TSO6_ECN: Final = 0x01 | 0x02 | 0x04 | 0x08
# linux/if_packet.h
_SOL_PACKET: Final = 263
_PACKET_ADD_MEMBERSHIP: Final = 1
_PACKET_AUXDATA: Final = 8
_PACKET_VNET_HDR: Final = 15
_PACKET_QDISC_BYPASS: Final = 20
_PACKET_IGNORE_OUTGOING: Final = 23
_PACKET_MR_PROMISC: Final = 1
_ETH_P_ALL: Final = 3
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_CLONE_NEWNET: Final = 0x40000000

PACKET_BUFFER_BYTES: Final = 64 << 20
"""Socket buffers of AF_PACKET: some 10 ms at line rate; smaller ones cause retransmissions."""


class Port(Protocol):
    """What the data path requires of a port.

    `vnet_len`: bytes of vnet header before each frame, 0 for none. `fileno()` is -1 while there is nothing to wait for;
    it may change after `service`.
    """

    name: str
    vnet_len: int

    def fileno(self) -> int:
        """The descriptor to wait on for reading."""

    def read_batch(self, buf: Buffer, pos: int) -> int:
        """Read into `buf` from `pos`; returns the new end. Raises `ConnectError` if the device is gone."""

    def write_batch(self, buf: Buffer, pos: int, end: int) -> int:
        """Write frames; returns the frame boundary up to which they were accepted.

        The next call must first offer the rest: a part of a frame may have been sent.
        """

    def service(self, now_us: int) -> int | None:
        """Accept, connect or detect the end of a stream. Returns the latest time for the next call, or None."""

    def take_reset(self) -> bool:
        """Whether the stream has ended since the last call: a partial frame from it is void."""

    def counters(self) -> dict[str, int]:
        """Frames (or bytes) in and out, and frames that the device refused."""

    def close(self) -> None:
        """Close the descriptor."""


class DevicePort:
    """A TAP device or an AF_PACKET socket."""

    def __init__(self, name: str, fd: int, vnet_len: int, holder: socket.socket | None = None) -> None:
        """`holder` is the socket that owns `fd`, if there is one."""
        self.name = name
        self.vnet_len = vnet_len
        self._fd = fd
        self._holder = holder
        self.frames = FrameFd(fd, vnet_len, is_socket=holder is not None)
        """The device itself, for compiled code."""

    def fileno(self) -> int:
        """The device's descriptor."""
        return self._fd

    def read_batch(self, buf: Buffer, pos: int) -> int:
        """Read waiting frames; see `Port`."""
        end = self.frames.read_batch(buf, pos)
        if end == pos:
            check_there(self.name, self.frames, self._holder)
        return end

    def write_batch(self, buf: Buffer, pos: int, end: int) -> int:
        """See `Port`."""
        return self.frames.write_batch(buf, pos, end)

    def service(self, now_us: int) -> int | None:
        """Nothing to do: a device does not disconnect."""
        return None

    def take_reset(self) -> bool:
        """Never: a device delivers whole frames."""
        return False

    def counters(self) -> dict[str, int]:
        """See `Port`."""
        return {
            "frames_in": self.frames.frames_in,
            "frames_out": self.frames.frames_out,
            "dropped": self.frames.dropped,
        }

    def close(self) -> None:
        """Close; the interface of a TAP device vanishes with it, unless it is persistent."""
        if self._holder is not None:
            self._holder.close()
        elif self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def check_there(name: str, frames: FrameFd, holder: socket.socket | None) -> None:
    """Raise `ConnectError` if reading has failed because the device is gone.

    An interface that is down may come up again; a packet socket loses its interface when that is deleted.
    """
    number = frames.failed_errno
    if number and (number != errno.ENETDOWN or (holder is not None and not holder.getsockname()[0])):
        raise ConnectError(f"{name}: the device is gone ({os.strerror(number)})")


def open_device(spec: PortSpec, option: str) -> DevicePort:
    """Open a TAP device or an AF_PACKET socket. Raises `ConnectError`."""
    with opening(spec, option):
        if spec.kind is PortKind.TAP:
            return _open_tap(spec, option)
        return _open_packet(spec, option)


@contextmanager
def opening(spec: PortSpec, option: str) -> Iterator[None]:
    """Within the `with` block the thread is in the port's network namespace. Raises `ConnectError` for an `OSError`."""
    try:
        with _network_namespace(spec.netns):
            yield
    except OSError as error:
        hint = ""
        if isinstance(error, PermissionError):
            hint = "; root or CAP_NET_ADMIN (TAP) or CAP_NET_RAW (packet) is needed"
        where = f" in {spec.netns}" if spec.netns else ""
        raise ConnectError(f"{option} {spec.text}: {error.strerror or error}{where}{hint}") from error


def _open_tap(spec: PortSpec, option: str) -> DevicePort:
    try:
        fd = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        cure = "load the kernel's module (modprobe tun), or give the container this device"
        if isinstance(error, PermissionError):
            cure = "give this user access to it"
        raise ConnectError(f"{option} {spec.text}: {TUN_DEVICE}: {error.strerror}; {cure}") from error
    try:
        flags = _IFF_TAP | _IFF_NO_PI | (_IFF_VNET_HDR if spec.vnet_hdr else 0)
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", spec.target.encode(), flags))
        if spec.vnet_hdr:
            fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("i", VNET_LEN))
            fcntl.ioctl(fd, _TUNSETOFFLOAD, _TUN_F_CSUM_TSO4_TSO6_ECN)
        vnet_len = _tap_vnet_len(fd)
    except OSError:
        os.close(fd)
        raise
    if vnet_len != (VNET_LEN if spec.vnet_hdr else 0):
        os.close(fd)
        raise ConnectError(_other_header(spec, option, vnet_len))
    return DevicePort(f"{option} {spec.target}", fd, vnet_len)


def _tap_vnet_len(fd: int) -> int:
    """Bytes of vnet header before each frame, as the device itself says."""
    _, flags = struct.unpack_from("16sH", fcntl.ioctl(fd, _TUNGETIFF, bytes(40)))
    if not flags & _IFF_VNET_HDR:
        return 0
    return int(struct.unpack("i", fcntl.ioctl(fd, _TUNGETVNETHDRSZ, bytes(4)))[0])


def _other_header(spec: PortSpec, option: str, vnet_len: int) -> str:
    found = f"vnet headers of {vnet_len} bytes" if vnet_len else "no vnet headers"
    wanted = "off" if spec.vnet_hdr else "on"
    return f"{option} {spec.text}: the device has {found}: another program has set it up; say vnet_hdr={wanted}"


def _open_packet(spec: PortSpec, option: str) -> DevicePort:
    sock = packet_socket(spec)
    return DevicePort(f"{option} {spec.target}", sock.fileno(), vnet_len_of(sock), sock)


def bypass_queue(sock: socket.socket) -> None:
    """Let a packet socket send past its interface's queue discipline. Raises OSError."""
    sock.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)


def packet_socket(spec: PortSpec) -> socket.socket:
    """An AF_PACKET socket on the interface of `spec`, in the thread's network namespace. Raises `OSError`."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    try:
        for buffer_option in (_SO_RCVBUFFORCE, _SO_SNDBUFFORCE):
            with suppress(OSError):  # the default size remains without CAP_NET_ADMIN
                sock.setsockopt(socket.SOL_SOCKET, buffer_option, PACKET_BUFFER_BYTES)
        if spec.vnet_hdr:
            sock.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        sock.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)  # or VLAN tags would be lost
        sock.bind((spec.target, _ETH_P_ALL))
        # The guest's address is not the interface's own: a real card would otherwise drop its frames.
        request = struct.pack("iHH8s", socket.if_nametoindex(spec.target), _PACKET_MR_PROMISC, 0, b"")
        with suppress(OSError):
            sock.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)
    except OSError:
        sock.close()
        raise
    return sock


def vnet_len_of(sock: socket.socket) -> int:
    """Bytes of vnet header before each frame of a packet socket."""
    return VNET_LEN if sock.getsockopt(_SOL_PACKET, _PACKET_VNET_HDR) else 0


@contextmanager
def _network_namespace(path: str | None) -> Iterator[None]:
    """Run the calling thread in the network namespace at `path` within the `with` block."""
    if path is None:
        yield
        return
    libc = CDLL(None, use_errno=True)
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        other = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(libc, other, path)
        finally:
            os.close(other)
        try:
            yield
        finally:
            _setns(libc, own, "this node's own")
    finally:
        os.close(own)


def _setns(libc: CDLL, fd: int, what: str) -> None:
    if libc.setns(fd, _CLONE_NEWNET):
        number = get_errno()
        raise OSError(number, f"cannot enter the network namespace {what}: {os.strerror(number)}")
