"""Questions between the two nodes of a pair, each with its answer or a time-out (`pycolo.link.orders`)."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from pycolo.errors import LinkError, PeerError, PycoloError
from pycolo.link.orders import JsonObject, Order, decode_order, encode_order

ANSWER_TIMEOUT_S: Final = 10.0
"""For questions that say nothing else; the slowest of those stops a QEMU."""

log = structlog.get_logger("colo")

Handler = Callable[[str, JsonObject], Awaitable[JsonObject]]
Send = Callable[[bytes], None]


class Questions:
    """Asks and answers. All in asyncio's thread.

    `send(payload)` raises `PycoloError` when there is no control connection; `handler(order, arguments)` answers the
    other node's.
    """

    def __init__(self, send: Send, handler: Handler) -> None:
        self._send = send
        self._handler = handler
        self._next = secrets.randbits(48)  # an answer to an earlier life of this node is nobody's
        self._waiting: dict[int, asyncio.Future[JsonObject]] = {}
        self._answering: set[asyncio.Task[None]] = set()

    async def ask(
        self, order: str, arguments: JsonObject | None = None, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> JsonObject:
        """The other node's answer. Raises `PeerError` when it refuses, is silent or gone."""
        number, self._next = self._next, self._next + 1
        future: asyncio.Future[JsonObject] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._send(encode_order(Order(id=number, order=order, arguments=arguments or {})))
            return await asyncio.wait_for(future, timeout_s)
        except TimeoutError as error:
            raise PeerError(f"the other node has not answered '{order}' within {timeout_s:g} s") from error
        finally:
            self._waiting.pop(number, None)

    def heard(self, payload: bytes) -> None:
        """An ORDER has come."""
        try:
            order = decode_order(payload)
        except LinkError as error:
            log.warning(str(error))
            return
        if order.order is not None:
            task = asyncio.get_running_loop().create_task(self._answer(order.id, order.order, order.arguments))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
            return
        future = self._waiting.get(order.id)
        if future is not None and not future.done():
            if order.error is not None:
                future.set_exception(PeerError(f"the other node: {order.error}"))
            else:
                future.set_result(order.answer or {})

    def link_lost(self, why: str) -> None:
        """Nobody will answer any more."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(PeerError(f"the other node is gone: {why}"))

    async def close(self) -> None:
        """Give up what is being answered."""
        for task in list(self._answering):
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    async def _answer(self, number: int, order: str, arguments: JsonObject) -> None:
        try:
            reply = Order(id=number, answer=await self._handler(order, arguments))
        except PycoloError as error:
            reply = Order(id=number, error=str(error))
        try:
            self._send(encode_order(reply))
        except PycoloError as error:
            log.info(f"an answer to the other node finds nobody: {error}")
