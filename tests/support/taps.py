"""A guest's tap without a guest: the test reads and writes the TAP device as QEMU does."""

import fcntl
import os
import struct
import threading
from contextlib import ExitStack, suppress
from ctypes import CDLL, get_errno

from pycolo.transport.guesttap import GuestTap, open_guest
from pycolo.transport.portspec import parse_port
from support import netns

VNET_LEN = 10
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN = 1, 2, 4, 8
ALL_OFFLOADS = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN

_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_IFF_TAP, _IFF_MULTI_QUEUE, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x0100, 0x1000, 0x4000
_CLONE_NEWNET = 0x40000000
_READ_BYTES = 1 << 17


class Tap:
    """A TAP device in a namespace, with vnet headers, up; the kernel itself sends nothing there.

    `queues`: with more than one it is read by `read_queue`.
    """

    def __init__(
        self,
        namespace: netns.Namespace,
        name: str,
        queue: int = 1000,
        offloads: int = ALL_OFFLOADS,
        queues: int = 1,
    ) -> None:
        self._namespace = namespace
        self.name = name
        self._fds = [_made(namespace.path, name, _IFF_MULTI_QUEUE if queues > 1 else 0) for _ in range(queues)]
        self._fd = self._fds[0]
        namespace.run("sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{name}/disable_ipv6")
        self.offer(offloads)
        namespace.run("ip", "link", "set", name, "txqueuelen", str(queue), "up")

    def offer(self, offloads: int) -> None:
        """What the guest's driver takes."""
        fcntl.ioctl(self._fd, _TUNSETOFFLOAD, offloads)

    def port(self, *, may_go: bool = False) -> GuestTap:
        """The node's port on it."""
        spec = parse_port(f"packet:{self.name},netns={self._namespace.path}", "--guest")
        return open_guest(spec, "--guest", may_go=may_go)

    def read(self, count: int = 1 << 30) -> list[bytes]:
        """Up to so many frames, with their vnet headers."""
        return self.read_queue(0, count)

    def read_queue(self, number: int, count: int = 1 << 30) -> list[bytes]:
        """The same of one of the queues."""
        found: list[bytes] = []
        with suppress(BlockingIOError):
            while len(found) < count:
                found.append(os.read(self._fds[number], _READ_BYTES))
        return found

    def write(self, frames: list[bytes]) -> None:
        """Frames with their vnet headers, as the guest's."""
        for octets in frames:
            os.write(self._fd, octets)

    def close(self) -> None:
        """The device is gone."""
        for fd in self._fds:
            os.close(fd)


def _made(path: str, name: str, more: int) -> int:
    """The thread that enters the namespace ends with it."""
    found: list[int] = []

    def make() -> None:
        with ExitStack() as stack:
            place = os.open(path, os.O_RDONLY)
            stack.callback(os.close, place)
            libc = CDLL(None, use_errno=True)
            if libc.setns(place, _CLONE_NEWNET):
                raise OSError(get_errno(), "setns")
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | more
            fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
            found.append(fd)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return found[0]
