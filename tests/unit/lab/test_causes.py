"""What usually makes two guests' answers differ there."""

from typing import Any

import pytest

from pycolo.compare.kinds import DifferenceKind
from pycolo_lab.causes import common_cause


def divergence(
    before: bytes, ours: bytes = b"A\x01", theirs: bytes = b"B\x02", kind: str = "payload"
) -> dict[str, Any]:
    return {
        "kind": kind,
        "primary": (before + ours).hex(),
        "primary_index": len(before),
        "secondary": (before + theirs).hex(),
        "secondary_index": len(before),
    }


@pytest.mark.parametrize(
    ("before", "ours", "words"),
    [
        (b"\r\nDate: Sat, 28 Nov 2026 20:02:0", b"8 GMT", "Date header"),
        (b"\r\nLast-Modified: Sat, 28 Nov ", b"2026", "header with a time"),
        (b'\r\nETag: "65', b"ab", "ETag"),
        (b"\r\nSet-Cookie: session=", b"ab", "cookie"),
        (b"X-Request-ID: ", b"ab", "identifier"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\0\0\x04\x3c\x06\x14", b"\x07", "ssh key exchange"),
        (b"\0\0\x04\x3c\x06\x14", b"\x07", "ssh key exchange"),
        (b"\x16\x03\x03\0\x7a\x02\0\0\x76\x03\x03", b"\x07", "TLS server's hello"),
        (b"id=123e4567-e89b-12d3-a456-4266", b"14174000", "UUID"),
        (b"the time is 20:02:0", b"8", "time of day"),
        (b"started at 2026-11-28 2", b"0:01", "time of day"),
        (b"pid ", b"4711", "own: a time"),
        (b"\x01\x02", b"\x07", "do not share"),
    ],
)
def test_bytes_that_are_well_known(before: bytes, ours: bytes, words: str):
    assert words in common_cause(divergence(before, ours))


@pytest.mark.parametrize("kind", [kind.name.lower() for kind in DifferenceKind])
def test_every_kind_has_a_cause_whatever_its_bytes(kind: str):
    for before in (b"", b"\xff" * 32):
        assert common_cause(divergence(before, b"", b"", kind))
