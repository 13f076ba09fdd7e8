"""Interfaces that the loops require of a port and of the link between the nodes."""

from typing import TYPE_CHECKING, Protocol

from pycolo.wire.buffers import Buffer

if TYPE_CHECKING:
    from pycolo.core import LinkInlet, LinkOutlet


class FramePort(Protocol):
    """See `pycolo.transport.ports.Port`. A port with `frames`, a `FrameFd`, is read and written without Python."""

    name: str
    vnet_len: int

    def fileno(self) -> int:
        """The descriptor to wait on."""

    def read_batch(self, buf: Buffer, pos: int) -> int:
        """Read into `buf` from `pos`; returns the new end."""

    def write_batch(self, buf: Buffer, pos: int, end: int) -> int:
        """Write frames; returns the frame boundary up to which they were accepted."""

    def take_reset(self) -> bool:
        """Whether the stream has ended since the last call."""


class MessageLink(Protocol):
    """See `pycolo.transport.linksocket.LinkSocket`."""

    @property
    def inlet(self) -> "LinkInlet":
        """The buffer of received messages."""

    @property
    def outlet(self) -> "LinkOutlet":
        """The buffer of messages to send."""

    @property
    def has_pending(self) -> bool:
        """Whether to call `fill` although the descriptor may not be readable."""

    @property
    def has_failed(self) -> bool:
        """Whether the connection is over."""

    @property
    def wants_write(self) -> bool:
        """Whether to call `flush` as soon as the descriptor is writable."""

    def fileno(self) -> int:
        """The descriptor."""

    def fill(self) -> None:
        """Read available data."""

    def flush(self) -> None:
        """Send as much as the socket accepts."""
