"""A port on a guest's own tap: what the guest was given and what it sent are counted exactly.

::

    node ─ packet socket ─ the guest's tap, in no bridge ─ QEMU

tx_packets of a TAP device counts what QEMU has read from it, rx_packets what QEMU has written to it. So the node knows
that the guest has read all that was sent (`is_input_read`), and that all that it sent has been read
(`is_output_read`). A stopped QEMU still reads one frame and discards it: input is to be read *before* the guest stops.

What the ring still holds can be thrown away (`purge`); then the counts begin anew, as they do when others have sent
frames on this tap, or QEMU has read more than was sent (`strayed`).

The same port serves any other interface that a guest lives behind; what it was sent counts as read as soon as its
device has it.
"""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from pycolo.core import FrameFd, TapFd
from pycolo.errors import ConnectError
from pycolo.transport.ports import bypass_queue, check_there, opening, packet_socket, vnet_len_of
from pycolo.transport.portspec import PortSpec
from pycolo.transport.tapinterface import TapInterface
from pycolo.wire.buffers import Buffer

T = TypeVar("T")

_QUIET_S: Final = 0.0005
_QUIET_ATTEMPTS: Final = 40
"""The kernel counts a frame after it was delivered: a count is right where nothing has moved before it. With a guest
that never pauses for half a millisecond it may be wrong by one: then its output is never found read, and is counted
anew once the guest stands still."""


class GuestTap:
    """See `pycolo.transport.ports.Port`. Everything else is for the data path's thread, and never blocks."""

    def __init__(
        self, name: str, sock: socket.socket, vnet_len: int, interface: TapInterface, *, may_go: bool = False
    ) -> None:
        """`sock` and `interface` are closed with the port.

        `may_go`: the tap goes with its QEMU, whose end others notice. Then nothing comes from it, and what is written
        to it is dropped; else that is a `ConnectError`.
        """
        self.name = name
        self._may_go = may_go
        self.vnet_len = vnet_len
        self._sock = sock
        self._interface = interface
        self.frames = FrameFd(sock.fileno(), vnet_len, is_socket=True)
        """The socket, for compiled code that reads."""
        self.tap = TapFd(self.frames, interface.tx_fd, interface.queue_fd)
        """The same with the tap's counts, for compiled code that writes."""
        self._fd = sock.fileno()
        self._purged = 0
        self._foreign_before = 0
        if interface.is_tap:
            with suppress(ConnectError):  # without CAP_NET_ADMIN it stays as it is, until a purge asks for more
                interface.empty_queue()
        self._count_input()
        self.recount_output()

    # ── a port ────────────────────────────────────────────────────────────────────────────────────────────────

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._fd

    def read_batch(self, buf: Buffer, pos: int) -> int:
        """Read waiting frames; see `Port`."""
        end = self.frames.read_batch(buf, pos)
        if end == pos and self.frames.failed_errno:
            self._unless_gone(self._check_there, None)
        return end

    def _check_there(self) -> None:
        check_there(self.name, self.frames, self._sock)

    def write_batch(self, buf: Buffer, pos: int, end: int) -> int:
        """See `Port`. A frame that the tap refuses is dropped and counted."""
        return self.tap.write_batch(buf, pos, end)

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
            "cut": self.tap.cut,
            "foreign": self.frames.foreign,
            "purged": self._purged,
        }

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
        self._interface.close()
        self._fd = -1

    # ── what the guest has had, and what it has said ──────────────────────────────────────────────────────────

    @property
    def sent(self) -> int:
        """Frames that the tap has taken since the counts began; each segment of a frame that was cut is one."""
        return self.tap.sent

    @property
    def got(self) -> int:
        """Frames that were read from the tap since the port was opened."""
        return self.frames.frames_in + self.frames.too_large

    def is_input_read(self) -> bool:
        """Whether the guest has read all that was sent. Raises `ConnectError`."""
        return self._unless_gone(self._read_by_guest, self.tap.sent) == self.tap.sent

    def is_output_read(self) -> bool:
        """Whether all that the guest has sent was read, as far as the socket had room for it. Raises `ConnectError`."""

        def is_read() -> bool:
            _, drops = self._interface.socket_counts()
            return self._interface.rx_packets() - self._rx_before == self.got + drops

        return self._is_gone or self._unless_gone(is_read, True)

    @property
    def strayed(self) -> str | None:
        """Why the counts of the input cannot be trusted until the next `purge`. Raises `ConnectError`."""
        read = self._unless_gone(self._read_by_guest, -1)
        if read < 0:
            return None
        if foreign := self.frames.foreign - self._foreign_before:
            return f"{self.name}: {foreign} frames of others were sent on it"
        if (more := read - self.tap.sent) > 0:
            return f"{self.name}: {more} frames more were read from it than this node has sent"
        return None

    @property
    def _is_gone(self) -> bool:
        """A packet socket loses its interface when that is deleted."""
        return self._may_go and not self._sock.getsockname()[0]

    def _unless_gone(self, question: Callable[[], T], otherwise: T) -> T:
        """A QEMU may end in the midst of each: `otherwise`, when its tap has gone with it."""
        try:
            return question()
        except ConnectError:
            if self._is_gone:
                return otherwise
            raise

    def _read_by_guest(self) -> int:
        count = self.tap.read_by_guest
        if count < 0:
            raise ConnectError(f"{self.name}: the interface is gone")
        return count

    def purge(self) -> int:
        """Throw away what the guest has not read, and count anew. Returns how many frames. Raises `ConnectError`.

        From the first one on, frames of others are noticed. Takes a millisecond.
        """
        return self._unless_gone(self._empty, 0)

    def _empty(self) -> int:
        self.tap.forget_begun()
        sent = self.tap.sent
        if self._interface.is_tap:
            self._interface.empty_queue()
        unread = max(0, sent - self._count_input())
        self._purged += unread
        self._interface.show_outgoing()
        self.frames.sees_outgoing = True
        return unread

    def _count_input(self) -> int:
        """Begin to count anew: the ring is empty. Returns what the guest had read until now."""
        _quiet(self._read_by_guest)
        read = self._read_by_guest()
        self._foreign_before = self.frames.foreign
        self.tap.begin_count()
        return read

    def recount_output(self) -> None:
        """Count the guest's output anew: what the socket has of it is all that there is. Raises `ConnectError`.

        Takes a millisecond if the guest sends nothing meanwhile.
        """

        def counts() -> tuple[int, int]:
            return self._interface.rx_packets(), self._interface.socket_counts()[0]

        def recount() -> None:
            _quiet(counts)
            counted, seen = counts()
            self._rx_before = counted - (seen - self.frames.foreign)

        self._unless_gone(recount, None)

    def forget_begun(self) -> None:
        """A frame of which the tap took some segments is not offered any further: the guest's state was replaced."""
        self.tap.forget_begun()


def _quiet(counts: Callable[[], object]) -> None:
    """Wait until `counts` do not change."""
    before = counts()
    for _ in range(_QUIET_ATTEMPTS):
        time.sleep(_QUIET_S)
        if before == (before := counts()):
            return


def open_guest(spec: PortSpec, option: str, *, may_go: bool = False) -> GuestTap:
    """A port on the interface behind which a guest lives. `may_go`: see `GuestTap`. Raises `ConnectError`."""
    with opening(spec, option):
        sock = packet_socket(spec)
        try:
            bypass_queue(sock)
            interface = TapInterface(spec.target, sock)
            return GuestTap(f"{option} {spec.target}", sock, vnet_len_of(sock), interface, may_go=may_go)
        except BaseException:
            sock.close()
            raise
