"""The network of a fake QEMU (`support.fakeqemu`): one tap, with vnet headers, as QEMU opens it by default."""

import asyncio
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

NAME = "tap0"
HEADER = bytes(10)
"""virtio_net_hdr of a frame that is whole, with its checksums."""

_TUNSETIFF = 0x400454CA
_TAP, _NO_PI, _VNET_HDR = 0x0002, 0x1000, 0x4000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCBRADDIF = 0x8913, 0x8914, 0x89A2
_UP = 1


class Tap:
    """`on_frame(octets)`: what comes for the guest, while `is_reading`. Gone with the process."""

    on_frame: Callable[[bytes], None]

    def __init__(self) -> None:
        self._fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(self._fd, _TUNSETIFF, struct.pack("16sH22x", NAME.encode(), _TAP | _NO_PI | _VNET_HDR))
        self.is_reading = False

    def put(self, bridge: str) -> None:
        """What a script of the tap does: up, and into its bridge."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            asked = struct.pack("16sH22x", NAME.encode(), 0)
            (flags,) = struct.unpack_from("H", fcntl.ioctl(sock, _SIOCGIFFLAGS, asked), 16)
            fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH22x", NAME.encode(), flags | _UP))
            index = socket.if_nametoindex(NAME)
            fcntl.ioctl(sock, _SIOCBRADDIF, struct.pack("16si20x", bridge.encode(), index))

    def read(self, *, is_on: bool) -> None:
        """Only a guest that runs reads: what comes meanwhile waits in the tap."""
        if is_on is self.is_reading:
            return
        self.is_reading = is_on
        if is_on:
            asyncio.get_running_loop().add_reader(self._fd, self._take)
        else:
            asyncio.get_running_loop().remove_reader(self._fd)

    def _take(self) -> None:
        with suppress(BlockingIOError):
            while self.is_reading:
                self.on_frame(os.read(self._fd, 70_000)[len(HEADER) :])

    def send(self, octets: bytes) -> None:
        """The guest says something."""
        with suppress(OSError):
            os.write(self._fd, HEADER + octets)
