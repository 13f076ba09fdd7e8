"""What a data path requires of the guest's tap, where the node stands beside QEMU: counts that make the border exact.

`pycolo.transport.guesttap` has it. Used in the data path's thread only; nothing in it waits.
"""

from typing import Final, Protocol

OUTPUT_US_MAX: Final = 1_000_000
"""The kernel counts a frame before the packet socket has it, by microseconds; after this time the count is wrong."""


class GuestWire(Protocol):
    """The guest's tap. QEMU reads what the node sends, and the node what QEMU sends."""

    @property
    def strayed(self) -> str | None:
        """Why the counts cannot be trusted; `purge` begins them anew."""

    def is_input_read(self) -> bool:
        """Whether QEMU has read everything that was sent."""

    def is_output_read(self) -> bool:
        """Whether the node has read everything that QEMU has sent."""

    def purge(self) -> int:
        """Throw away what QEMU has not read. Returns how many frames."""

    def recount_output(self) -> None:
        """Count the output anew; the guest stands still."""

    def forget_begun(self) -> None:
        """The frame of which only a part was sent is given up."""
