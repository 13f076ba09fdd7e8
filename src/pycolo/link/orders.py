"""Questions between the two nodes of a VM on the control connection, and their answers: one JSON object each.

::

    {"id": 7, "order": "prepare", "arguments": {"epoch": 3}}        question
    {"id": 7, "answer": {"version": "7.2.22"}}                      it was done
    {"id": 7, "error": "vm1: qemu-system-x86_64: no such file"}     it failed; one line says why

Either node may ask. Each node numbers its own questions; an answer without a question is ignored.
"""

from typing import Any, Final

import msgspec

from pycolo import limits
from pycolo.errors import LinkError

JsonObject = dict[str, Any]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One message: a question when `order` is set, else an answer."""

    id: int
    order: str | None = None
    arguments: JsonObject = {}
    answer: JsonObject | None = None
    error: str | None = None


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Order)


def encode_order(order: Order) -> bytes:
    """Payload of ORDER. Raises `LinkError` if it is too long."""
    payload = _encoder.encode(order)
    if len(payload) > limits.ORDER_BYTES_MAX:
        raise LinkError(f"order {order.order or order.id}: {len(payload)} bytes, above {limits.ORDER_BYTES_MAX}")
    return payload


def decode_order(payload: bytes | memoryview) -> Order:
    """Raises `LinkError` unless it is an order."""
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise LinkError(f"control link: an order cannot be parsed: {error}") from error
