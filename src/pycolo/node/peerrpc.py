"""Questions and words between the two nodes of a pair, on one control connection (`pycolo.link.orders`).

`ask` does not wait: an answer goes to the callback of its question, and if the connection ends there is none.
`request` waits for its answer, and fails with the connection.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from pycolo.errors import LinkError, PeerError, PycoloError
from pycolo.link.orders import JsonObject, Order, decode_order, encode_order

NO_ANSWER: Final = 0
"""The number of an order that wants no answer."""

OPEN_MAX: Final = 16
"""Maximum of unanswered questions, in each direction; the oldest is forgotten."""

ANSWER_TIMEOUT_S: Final = 10.0
"""Time limit for an answer, where no other is given; the slowest answer stops a QEMU."""

log = structlog.get_logger("colo")

OnAnswer = Callable[[Order], None]


class PeerRpc:
    """`send(payload)` raises `PycoloError` when the connection takes no more. All in asyncio's thread."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._next = 1
        self._open: dict[int, OnAnswer] = {}
        self._owed: dict[int, None] = {}
        self._requests: set[asyncio.Future[Order]] = set()

    def say(self, order: str, arguments: JsonObject) -> None:
        """Tell the other node something."""
        self._put(Order(id=NO_ANSWER, order=order, arguments=arguments))

    def ask(self, order: str, arguments: JsonObject, on_answer: OnAnswer) -> int:
        """`on_answer` gets the other node's answer, with `error` set if it refuses. Returns the question's number."""
        number, self._next = self._next, self._next + 1
        if len(self._open) >= OPEN_MAX:
            del self._open[next(iter(self._open))]
        self._open[number] = on_answer
        self._put(Order(id=number, order=order, arguments=arguments))
        return number

    async def request(self, order: str, arguments: JsonObject, timeout_s: float = ANSWER_TIMEOUT_S) -> JsonObject:
        """The other node's answer. Raises `PeerError` when it refuses, is silent or gone."""
        future: asyncio.Future[Order] = asyncio.get_running_loop().create_future()

        def on_answer(reply: Order) -> None:
            if not future.done():
                future.set_result(reply)

        number = self.ask(order, arguments, on_answer)
        self._requests.add(future)
        try:
            async with asyncio.timeout(timeout_s):
                reply = await future
        except TimeoutError as error:
            raise PeerError(f"the other node has not answered '{order}' within {timeout_s:g} s") from error
        finally:
            self._open.pop(number, None)
            self._requests.discard(future)
        if reply.error is not None:
            raise PeerError(f"the other node: {reply.error}")
        return reply.answer or {}

    def answer(self, number: int, answer: JsonObject) -> None:
        """The order of that number was carried out. Only its first answer is sent."""
        if self._pays(number):
            self._put(Order(id=number, answer=answer))

    def refuse(self, number: int, why: str) -> None:
        """The order of that number was not carried out. Only its first answer is sent."""
        if self._pays(number):
            self._put(Order(id=number, error=why))

    def heard(self, payload: bytes) -> Order | None:
        """An ORDER has come: the other node's question, or None for an answer, or for what cannot be read."""
        try:
            order = decode_order(payload)
        except LinkError as error:
            log.warning(str(error))
            return None
        if order.order is not None:
            if order.id != NO_ANSWER:
                if len(self._owed) >= OPEN_MAX:
                    del self._owed[next(iter(self._owed))]
                self._owed[order.id] = None
            return order
        on_answer = self._open.pop(order.id, None)
        if on_answer is not None:
            on_answer(order)
        return None

    def lost(self, why: str) -> None:
        """The connection has ended: every `request` fails."""
        for future in self._requests:
            if not future.done():
                future.set_exception(PeerError(f"the other node is gone: {why}"))

    def _pays(self, number: int) -> bool:
        is_owed = number in self._owed
        self._owed.pop(number, None)
        return is_owed

    def _put(self, order: Order) -> None:
        try:
            self._send(encode_order(order))
        except PycoloError as error:
            log.warning(f"the other node is not told {order.order or 'the answer'!r}: {error}")
