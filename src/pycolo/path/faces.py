"""What the loops need of a port and of the link between the nodes."""

from typing import TYPE_CHECKING, Protocol

from pycolo.wire.buffers import Buffer

if TYPE_CHECKING:
    from pycolo.core import LinkInlet, LinkOutlet


class FramePort(Protocol):
    """See `pycolo.transport.ports.Port`. One with `frames`, a `FrameFd`, is read and written without Python."""

    name: str
    vnet_len: int

    def fileno(self) -> int:
        """The descriptor to wait on."""

    def read_batch(self, buf: Buffer, pos: int) -> int:
        """Read what is there to `buf` from `pos`; the new end is returned."""

    def write_batch(self, buf: Buffer, pos: int, end: int) -> int:
        """Write frames; the frame boundary up to which they were taken is returned."""

    def take_reset(self) -> bool:
        """Whether the stream has ended since the last call."""


class MessageLink(Protocol):
    """See `pycolo.transport.linksocket.LinkSocket`."""

    @property
    def inlet(self) -> "LinkInlet":
        """Where messages that have come are."""

    @property
    def outlet(self) -> "LinkOutlet":
        """Where messages are put to be sent."""

    @property
    def has_pending(self) -> bool:
        """Whether `fill` is to be called although the descriptor may not be readable."""

    @property
    def has_failed(self) -> bool:
        """Whether nothing more will be sent or read."""

    @property
    def wants_write(self) -> bool:
        """Whether `flush` is to be called as soon as the descriptor is writable."""

    def fileno(self) -> int:
        """The descriptor."""

    def fill(self) -> None:
        """Read what has come."""

    def flush(self) -> None:
        """Send as much as the socket takes."""
