"""An interface seen from outside: its counters, and the length of its queue.

The counters are read from sysfs, whose files are opened once: a read takes microseconds and no lock of the kernel's
configuration. sysfs shows the network namespace in which it was mounted, so it is mounted anew, in no place, where the
process may do that; otherwise /sys is used if it shows the same interface.
"""

import errno
import fcntl
import os
import socket
import struct
from contextlib import suppress
from ctypes import CDLL, c_char_p, get_errno
from pathlib import Path
from typing import Final

from pycolo.errors import ConnectError

QUEUE_LENGTH: Final = 1000
"""Of an interface that was left with an empty queue: what Linux and libvirt give one."""

# Numbers that all architectures share.
_SYS_FSOPEN: Final = 430
_SYS_FSCONFIG: Final = 431
_SYS_FSMOUNT: Final = 432
_FSOPEN_CLOEXEC: Final = 1
_FSMOUNT_CLOEXEC: Final = 1
_FSCONFIG_CMD_CREATE: Final = 6
_SIOCSIFTXQLEN: Final = 0x8943
_SOL_PACKET: Final = 263
_PACKET_STATISTICS: Final = 6
_PACKET_IGNORE_OUTGOING: Final = 23


class TapInterface:
    """The interface of a bound packet socket; `is_tap`: it is a TAP device, whose queue can be emptied.

    `tx_fd`, `queue_fd`: open files with tx_packets and txqueuelen, for compiled code.
    """

    def __init__(self, name: str, sock: socket.socket) -> None:
        """To be called in the interface's network namespace. Raises `OSError`."""
        self.name = name
        self._sock = sock
        self._seen = 0
        self._drops = 0
        self._files: list[int] = []
        try:
            self.tx_fd, self._rx_fd, self.queue_fd, self.is_tap = self._open()
            if self.is_tap and self.queue_length() == 0:
                self._set_queue_length(QUEUE_LENGTH)
        except OSError:
            self.close()
            raise

    def _open(self) -> tuple[int, int, int, bool]:
        directory = _sysfs_of(self.name)
        try:
            for file in ("statistics/tx_packets", "statistics/rx_packets", "tx_queue_len"):
                self._files.append(os.open(file, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory))
            is_tap = True
            try:
                os.stat("tun_flags", dir_fd=directory)
            except FileNotFoundError:
                is_tap = False
        finally:
            os.close(directory)
        tx_fd, rx_fd, queue_fd = self._files
        return tx_fd, rx_fd, queue_fd, is_tap

    def rx_packets(self) -> int:
        """Frames that came from the interface, since it was made. Raises `ConnectError`."""
        return self._number(self._rx_fd)

    def queue_length(self) -> int:
        """How many frames the interface's queue takes. Raises `ConnectError`."""
        return self._number(self.queue_fd)

    def _number(self, fd: int) -> int:
        try:
            return int(os.pread(fd, 32, 0))
        except OSError as error:
            raise ConnectError(f"{self.name}: the interface is gone ({error.strerror})") from error

    def socket_counts(self) -> tuple[int, int]:
        """Frames that came for the socket since it was opened, and how many of them the kernel had no room for."""
        octets = self._sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)  # and it counts from 0 again
        seen, dropped = struct.unpack("II", octets)
        self._seen += seen
        self._drops += dropped
        return self._seen, self._drops

    def show_outgoing(self) -> None:
        """Let the socket have what others send on its interface."""
        self._sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 0)

    def empty_queue(self) -> None:
        """Discard what the TAP device's queue holds. Raises `ConnectError`."""
        length = self.queue_length() or QUEUE_LENGTH
        try:
            try:
                self._set_queue_length(0)
            finally:
                self._set_queue_length(length)
        except OSError as error:
            cure = "; CAP_NET_ADMIN is needed" if error.errno in (errno.EPERM, errno.EACCES) else ""
            raise ConnectError(f"{self.name}: its queue cannot be emptied ({error.strerror}){cure}") from error

    def _set_queue_length(self, length: int) -> None:
        fcntl.ioctl(self._sock, _SIOCSIFTXQLEN, struct.pack("16si20x", self.name.encode(), length))

    def close(self) -> None:
        """Close the files; the socket stays open."""
        while self._files:
            os.close(self._files.pop())


def _sysfs_of(name: str) -> int:
    """The interface's directory, in the calling thread's network namespace. Raises `OSError`."""
    with suppress(OSError):
        mounted = _mounted_sysfs()
        try:
            return os.open(f"class/net/{name}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mounted)
        finally:
            os.close(mounted)
    directory = Path("/sys/class/net", name)
    if int((directory / "ifindex").read_text(encoding="ascii")) != socket.if_nametoindex(name):
        raise OSError(errno.ENXIO, "/sys shows another network namespace")
    return os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _mounted_sysfs() -> int:
    """sysfs of the calling thread's network namespace, mounted in no place: it goes with the descriptor."""
    libc = CDLL(None, use_errno=True)
    context = _checked(libc.syscall(_SYS_FSOPEN, c_char_p(b"sysfs"), _FSOPEN_CLOEXEC))
    try:
        _checked(libc.syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0))
        return _checked(libc.syscall(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0))
    finally:
        os.close(context)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(get_errno(), "sysfs cannot be mounted")
    return result
