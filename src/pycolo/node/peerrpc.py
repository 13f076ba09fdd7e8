"""Questions and words between the two nodes of a pair, on one control connection (`pycolo.link.orders`).

Nothing here waits: an answer is handed to the callback of its question. A connection that ends takes its open questions
with it, and the numbers of another connection are others.
"""

from collections.abc import Callable
from typing import Final

import structlog

from pycolo.errors import LinkError, PycoloError
from pycolo.link.orders import JsonObject, Order, decode_order, encode_order

NO_ANSWER: Final = 0
"""The number of an order that wants no answer."""

OPEN_MAX: Final = 16
"""Questions that wait for an answer: what is asked again and again is about the last one."""

log = structlog.get_logger("colo")

OnAnswer = Callable[[Order], None]


class PeerRpc:
    """`send(payload)` raises `PycoloError` when the connection takes no more. All in asyncio's thread."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._next = 1
        self._open: dict[int, OnAnswer] = {}

    def say(self, order: str, arguments: JsonObject) -> None:
        """Tell the other node something."""
        self._put(Order(id=NO_ANSWER, order=order, arguments=arguments))

    def ask(self, order: str, arguments: JsonObject, on_answer: OnAnswer) -> None:
        """`on_answer` gets what the other node answers; with `error` set it has refused. Perhaps it never comes."""
        number, self._next = self._next, self._next + 1
        if len(self._open) >= OPEN_MAX:
            del self._open[next(iter(self._open))]
        self._open[number] = on_answer
        self._put(Order(id=number, order=order, arguments=arguments))

    def answer(self, number: int, answer: JsonObject) -> None:
        """It was done."""
        self._put(Order(id=number, answer=answer))

    def refuse(self, number: int, why: str) -> None:
        """It was not done."""
        self._put(Order(id=number, error=why))

    def heard(self, payload: bytes) -> Order | None:
        """An ORDER has come: the other node's question, or None for an answer, or for what cannot be read."""
        try:
            order = decode_order(payload)
        except LinkError as error:
            log.warning(str(error))
            return None
        if order.order is not None:
            return order
        on_answer = self._open.pop(order.id, None)
        if on_answer is not None:
            on_answer(order)
        return None

    def _put(self, order: Order) -> None:
        try:
            self._send(encode_order(order))
        except PycoloError as error:
            log.warning(f"the other node is not told {order.order or 'the answer'!r}: {error}")
