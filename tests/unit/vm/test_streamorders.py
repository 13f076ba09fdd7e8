"""What the nodes say to one another about the migration stream."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from pycolo.errors import PeerError, StateError
from pycolo.link.orders import JsonObject
from pycolo.vm.streamorders import READ, StreamOrders, ask_behind

DEADLINE_S = 20


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(DEADLINE_S):
            return await work

    return asyncio.run(limited())


class Side:
    def __init__(self, read_bytes: int | None) -> None:
        self.read_bytes = read_bytes

    async def open_relay(self) -> JsonObject:
        return {"is_open": True}


class Peer:
    """The other node, which may be older than these orders."""

    def __init__(self, side: Side | None, *, knows: bool = True) -> None:
        self._served = StreamOrders(lambda: side).served if knows else {}

    async def ask_peer(self, order: str, arguments: JsonObject | None = None) -> JsonObject:
        if order not in self._served:
            raise PeerError(f"unknown order {order}")
        return await self._served[order](arguments or {})


@pytest.mark.parametrize(
    ("peer", "behind"),
    [
        (Peer(Side(300)), 700),
        (Peer(Side(1_200)), 0),
        (Peer(Side(None)), None),
        (Peer(None), None),
        (Peer(Side(300), knows=False), None),
    ],
)
def test_what_the_other_qemu_has_not_read_is_known_or_not_known(peer: Peer, behind: int | None) -> None:
    assert run(ask_behind(peer, lambda: 1_000)) == behind


def test_the_stream_is_for_a_prepared_guest_only() -> None:
    assert run(Peer(Side(0)).ask_peer("open-relay")) == {"is_open": True}
    with pytest.raises(StateError, match="prepared"):
        run(Peer(None).ask_peer("open-relay"))
    assert READ in StreamOrders(lambda: None).served
