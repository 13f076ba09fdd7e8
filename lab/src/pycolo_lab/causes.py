"""Usual reasons for a difference between two guests' answers: guesses from the bytes around it. Pure."""

import re
from typing import Any, Final

Fields = dict[str, Any]

NOT_PROTECTED: Final = (
    "A connection that has diverged is not protected: no state is copied here, so guest B continues its own answer, "
    "and the client may see parts of two answers. Protection that copies the guest's state is "
    "`colo node`'s, for virtual machines: it makes a checkpoint instead."
)

_OF_A_KIND: Final = {
    "syn_options": "the two guests' kernels are set up differently (tcp_* sysctls, MTU)",
    "fin": "one server ended the connection and the other did not: a time-out, a limit, or another decision",
    "rst": "one server reset the connection and the other did not",
    "timeout": "guest A sent data that guest B did not: guest B is slower, waits, or decided differently",
    "secondary_timeout": "guest B sent data that guest A did not: guest A is slower, waits, or decided differently",
    "mutual_wait": "the two guests did the same work in another order: a lock went to another client",
    "queue_full": "one guest is far ahead of the other one",
    "memory_full": "one guest is far ahead of the other one",
    "table_full": "more connections than the comparison has room for",
}

_IN_THE_TEXT: Final = (
    (
        rb"(?i)date: [^\r\n]*$",
        "a Date header: the clock ticks between the two answers",
    ),
    (rb"(?i)(last-modified|expires): [^\r\n]*$", "a header with a time: the two guests' files or clocks differ"),
    (rb"(?i)etag: [^\r\n]*$", "an ETag from a file's time or inode, which differ between two copies"),
    (rb"(?i)set-cookie: [^\r\n]*$", "a cookie with a random value"),
    (rb"(?i)(x-)?(request|trace|correlation|amzn)-?(id|trace-id)[^\r\n]*$", "a random identifier of each request"),
)

_RANDOM_ID: Final = re.compile(rb"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-")
_CLOCK: Final = re.compile(rb"\d{1,2}:\d\d(:\d?\d?)?$|\d{4}-\d\d-\d\d[T ]?[\d:.]*$|1[6-9]\d{5,}\.?\d*$")

SSH_KEXINIT: Final = 20
TLS_HANDSHAKE: Final = b"\x16\x03"
TLS_SERVER_HELLO: Final = 2


def common_cause(divergence: Fields) -> str:
    """One clause for the reader; the usual cause if the bytes show none."""
    kind = divergence["kind"]
    if kind in _OF_A_KIND:
        return _OF_A_KIND[kind]
    octets = bytes.fromhex(divergence["primary"])
    at = divergence["primary_index"]
    before = octets[:at]
    for pattern, cause in _IN_THE_TEXT:
        if re.search(pattern, before):
            return cause
    return _by_shape(before, octets[at:])


def _by_shape(before: bytes, after: bytes) -> str:
    if TLS_HANDSHAKE in before:
        hello = before[before.rindex(TLS_HANDSHAKE) :]
        if len(hello) > 5 and hello[5] == TLS_SERVER_HELLO:
            return "the random number of a TLS server's hello: each guest agrees on keys of its own with the client"
    if b"SSH-" in before or _is_kexinit(before):
        return "the random cookie of an ssh key exchange: each guest agrees on keys of its own with the client"
    if _RANDOM_ID.search(before[-36:] + after[:16]):
        return "a random identifier (UUID)"
    if _CLOCK.search(before[-24:] + _digits(after)):
        return "a time of day: the two guests do not read their clocks at the same moment"
    if before[-1:].isdigit() or after[:1].isdigit():
        return "a number of each guest's own: a time, a process id, a random number"
    return "data that the two guests do not share: a time, a random number, an order of threads"


def _digits(octets: bytes) -> bytes:
    found = re.match(rb"[\d:.]+", octets)
    return found[0] if found else b""


def _is_kexinit(before: bytes) -> bool:
    """Its packet: four bytes of length, one of padding length, then the message's number and the cookie."""
    return any(
        before[at + 5 : at + 6] == bytes([SSH_KEXINIT]) and before[at : at + 2] == b"\0\0"
        for at in range(max(0, len(before) - 22), len(before) - 5)
    )
