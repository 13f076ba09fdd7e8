"""What the primary's node asks of the other node about the migration stream."""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from pycolo.errors import PeerError, StateError
from pycolo.link.orders import JsonObject

READ: Final = "stream-read"
"""The order: how much of the stream has been read there?"""


class Asks(Protocol):
    """See `GuestHost`."""

    async def ask_peer(self, order: str, arguments: JsonObject | None = None) -> JsonObject:
        """The other node's answer. Raises `PeerError`."""


class Side(Protocol):
    """See `SecondaryGuest`."""

    @property
    def read_bytes(self) -> int | None:
        """Bytes of the stream that its QEMU has read, at least; None: there is no stream."""

    async def open_relay(self) -> JsonObject:
        """Connect the primary's node with its QEMU. Raises `PycoloError`."""


class StreamOrders:
    """Answers at the secondary's node. `side()`: its guest; None without one."""

    def __init__(self, side: Callable[[], Side | None]) -> None:
        self._side = side

    @property
    def served(self) -> dict[str, Callable[[JsonObject], Awaitable[JsonObject]]]:
        """By the order's name."""
        return {"open-relay": self.open_relay, READ: self.tell_read}

    async def open_relay(self, arguments: JsonObject) -> JsonObject:
        """Open the migration connection for the primary. Raises `PycoloError`."""
        side = self._side()
        if side is None:
            raise StateError("open-relay", "nothing prepared", "prepared")
        return await side.open_relay()

    async def tell_read(self, arguments: JsonObject) -> JsonObject:
        """How much of the stream this host's QEMU has read."""
        side = self._side()
        return {"bytes": None if side is None else side.read_bytes}


async def ask_behind(host: Asks, sent: Callable[[], int]) -> int | None:
    """Bytes that this node has `sent()` and the other host's QEMU has not read; None: it is not told."""
    before = sent()
    try:
        read = (await host.ask_peer(READ)).get("bytes")
    except PeerError:  # an older node knows no such order; one that is gone shows elsewhere
        return None
    return max(0, before - read) if type(read) is int else None
