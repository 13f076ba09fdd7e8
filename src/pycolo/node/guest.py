"""What a node needs of its guest, with or without a QEMU of its own."""

from collections.abc import Callable
from typing import Any, Protocol

from pycolo.failover.pairstates import Fact
from pycolo.link.orders import JsonObject
from pycolo.node.datalinks import DataLinks

Answer = Callable[[Fact, str], None]
"""How a command ended, and one line about it. In asyncio's thread, at once or later, and once."""

Ready = Callable[[JsonObject], None]
"""The guest waits for the first copy; what the primary's node is told of it."""


class Guest(Protocol):
    """This host's guest, and the data path that carries its frames: the pair table's commands for them.

    Nothing but `halt` waits here. The commands with an `answer` end with one of the facts that they name; the table
    gives one of them at a time, and throws away answers to what it has given up since.
    """

    def start(self) -> None:
        """Begin to move frames."""

    async def stop(self) -> None:
        """End; ports and connections are closed."""

    def halt(self) -> None:
        """Move nothing more, for good: when this returns, no frame of this guest follows."""

    def release(self) -> None:
        """Serve alone: what is held leaves, and nothing is compared any more."""

    def protect(self, link: int, data: DataLinks, answer: Answer) -> None:
        """Have the other node prepare its guest, and copy this one to it: SYNCHRONISED, PROTECT_FAILED.

        What follows the copy waits for `committed`. A protection that was cancelled has failed.
        """

    def committed(self) -> None:
        """The copy counts: that is on disk, and the other node is told."""

    def cancel_protect(self, why: str) -> None:
        """Give that up; the guest serves on by itself."""

    def prepare(self, link: int, data: DataLinks, ready: Ready, answer: Answer) -> None:
        """Be ready for the first copy, then call `ready`; or PREPARE_FAILED."""

    def discard(self) -> None:
        """Throw the secondary's guest away."""

    def unlinked(self) -> None:
        """The link is closed, and the data connection with it."""

    def switch(self, answer: Answer) -> None:
        """Put the guest on the network: SERVED, SERVE_FAILED."""

    def retire(self, answer: Answer) -> None:
        """End the guest, and leave the network: RETIRED, RETIRE_FAILED."""

    async def settled(self) -> None:
        """Until nothing that was begun here is still under way."""

    async def snapshot(self) -> dict[str, Any]:
        """Its counters, for the status."""
