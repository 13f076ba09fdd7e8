"""The shape of a difference: examples of each, and laws for whatever bytes a guest sends."""

from ipaddress import IPv4Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pycolo import limits
from pycolo.compare.difference import Difference
from pycolo.compare.kinds import DifferenceKind
from pycolo.conntrack.key import ConnectionKey
from pycolo.costs.shapes import WINDOW_BYTES, Shape, ShapeKind, shape_of, shape_of_bytes

KEPT = limits.DIFFERENCE_CONTEXT_BYTES
KEY = ConnectionKey(6, IPv4Address(1), IPv4Address(2), 80, 40000)


def kept(ours: bytes, theirs: bytes) -> Shape:
    """As the comparator keeps it: so many bytes on either side of the first difference."""
    at = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), len(ours))
    assert ours[:at] == theirs[:at]
    begin = max(0, at - KEPT)
    return shape_of_bytes(ours[begin : at + KEPT], at - begin, theirs[begin : at + KEPT], at - begin)


HTTP = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sun, 29 Nov 2026 16:45:%02d GMT\r\nContent-Length: 5\r\n\r\nhello"
RANDOM_A = bytes.fromhex("8f3a01c97be24d1066f0a5980b7cd3e2415966aa03ff72c8d91e40b75c8d2fe1")
RANDOM_B = bytes.fromhex("21d4907e5508bb3fc6124ef97d60e38a15ac9b0248f7d6033ce8719ad5b44097")
HELLO = b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03"
KEXINIT = b"\x00\x00\x04\x1c\x09\x14"

EXAMPLES = {
    "the seconds of HTTP's date": (HTTP % 49, HTTP % 50, "http_date"),
    "its minutes": (HTTP.replace(b"45", b"44") % 1, HTTP % 1, "http_date"),
    "another header": (b"\r\nX-Request-Id: 8f3a01c9\r\n", b"\r\nX-Request-Id: 21d4907e\r\n", "header:x-request-id"),
    "a cookie": (b"\r\nSet-Cookie: s=aaaa;\r\n", b"\r\nSet-Cookie: s=bbbb;\r\n", "header:set-cookie"),
    "TLS: ServerHello": (HELLO + RANDOM_A, HELLO + RANDOM_B, "tls_handshake"),
    "TLS: its length": (b"\x16\x03\x03\x00\x7a\x02", b"\x16\x03\x03\x00\x7b\x02", "tls_handshake"),
    "TLS: data": (b"\x17\x03\x03\x01\x00" + RANDOM_A, b"\x17\x03\x03\x01\x00" + RANDOM_B, "tls_data"),
    "SSH: the cookie": (KEXINIT + RANDOM_A[:16], KEXINIT + RANDOM_B[:16], "ssh_handshake"),
    "MariaDB: the salt": (
        b"5.5.5-10.11.18-MariaDB-0+deb12u1\0T\0\0\0y.u)dAXs\0\xfe\xf7-",
        b"5.5.5-10.11.18-MariaDB-0+deb12u1\0T\0\0\0>#2o\\^F~\0\xfe\xf7-",
        "mysql_handshake",
    ),
    "MySQL: the salt, from its third byte on": (
        b"J\0\0\0\n8.0.36\0\n\0\0\0ab.u)dAXs\0\xff",
        b"J\0\0\0\n8.0.36\0\n\0\0\0ab#2o\\^F~\0\xff",
        "mysql_handshake",
    ),
    "another length of an answer": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n999",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n1000",
        "body_length",
    ),
    "a counter of redis": (b":1041\r\n", b":1042\r\n", "number"),
    "a counter with a digit more": (b":99\r\n", b":100\r\n", "number"),
    "a time in JSON": (b'{"at": "2026-11-29T16:45:49"}', b'{"at": "2026-11-29T16:46:01"}', "time"),
    "seconds since 1970": (b'{"at": 1795970349, "n": 1}', b'{"at": 1795970350, "n": 1}', "time"),
    "now() of PostgreSQL": (b"\0\x1d2026-11-30 02:54:10.109276+00\0", b"\0\x1d2026-11-30 02:54:10.472441+00\0", "time"),
    "its last digits": (b"\x1d2026-11-30 02:54:10.472276+00\0", b"\x1d2026-11-30 02:54:10.472441+00\0", "time"),
    "now() in a row, with a digit less": (
        b"D\0\0\0d\0\3\0\0\0\x1c2026-11-30 02:54:25.5748+00\0\0\0\x12",
        b"D\0\0\0e\0\3\0\0\0\x1d2026-11-30 02:54:25.48971+00\0\0\0\x12",
        "time",
    ),
    "now() in a short row, with a digit less": (
        b"D\0\0\0\x1c\0\1\0\0\0\x1c2026-11-30 02:54:25.5748+00C\0",
        b"D\0\0\0\x1d\0\1\0\0\0\x1d2026-11-30 02:54:25.48971+00C\0",
        "time",
    ),
    "a column before it": (
        b"D\0\0\0\x1c\0\2\0\0\0\2" + b"12\0\0\0\x0f02:54:25.5748+00C\0",
        b"D\0\0\0\x1d\0\2\0\0\0\2" + b"12\0\0\0\x1002:54:25.48971+00C\0",
        "time",
    ),
    "a time with a comma": (b"[02:54:10,109] ready", b"[02:54:10,472] ready", "time"),
    "seconds with a fraction": (b"t=1795970349.109276;", b"t=1795970349.472441;", "time"),
    "microseconds since 1970": (b"t=1795970349109276;", b"t=1795970349472441;", "time"),
    "random() of PostgreSQL": (b"\0\x120.6213719727973785\0", b"\0\x120.6213719761200417\0", "fraction"),
    "random() with a digit less": (
        b"D\0\0\0\x1c\0\1\0\0\0\x120.6213719727973785C\0",
        b"D\0\0\0\x1b\0\1\0\0\0\x110.926361913864602C\0",
        "fraction",
    ),
    "a price": (b"total 12.50 EUR", b"total 13.10 EUR", "number"),
    "a sequence behind a length": (
        b"D\0\0\0\x0d\0\1\0\0\0\x0399C\0\0\0\rSELECT 1\0",
        b"D\0\0\0\x0e\0\1\0\0\0\x04100C\0\0\0\rSELECT 1\0",
        "number",
    ),
    "a counter in a long row": (
        b"D\0\0\0d\0\2\0\0\0\x0299\0\0\0\x50" + b"name" * 20,
        b"D\0\0\0e\0\2\0\0\0\x03100\0\0\0\x50" + b"name" * 20,
        "number",
    ),
    "a row of PostgreSQL": (
        b"D\0\0\0\x0e\0\1\0\0\0\4-123C\0\0\0\rSELECT 1\0",
        b"D\0\0\0\x0f\0\1\0\0\0\5-1234C\0\0\0\rSELECT 1\0",
        "number",
    ),
    "a counter with another sign": (b"n: [-7]", b"n: [12]", "number"),
    "an identifier": (b'{"id": "8f3a01c97be24d10"}', b'{"id": "21d4907e5508bb3f"}', "identifier"),
    "rows in another order": (b"alice 10\nbob 20\nend", b"bob 20\nalice 10\nend", "order"),
    "lines more": (b"begin the list of names\n", b"and begin the list of names\n", "length"),
    "one side has ended": (b"all", b"all and more", "length"),
    "random bytes": (RANDOM_A, RANDOM_B, "random"),
    "a stream cipher": (RANDOM_A + b"E" + RANDOM_B[:9] + RANDOM_A[4:9], RANDOM_A + b"D" + RANDOM_B, "random"),
    "other words": (b"OK done", b"ERROR", "bytes"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name):
    ours, theirs, expected = EXAMPLES[name]
    assert str(kept(ours, theirs)) == expected


@pytest.mark.parametrize("kind", DifferenceKind)
def test_every_kind_of_difference_has_a_shape(kind):
    shape = shape_of(Difference(kind, KEY, 1, 0, b"aaaa", 0, b"bbbb", 0))
    in_bytes = {DifferenceKind.PAYLOAD, DifferenceKind.DATAGRAM}
    assert (shape.kind is ShapeKind.BYTES) == (kind in in_bytes)


@st.composite
def sides(draw):
    """Bytes that look like something, with any positions."""
    pieces = st.one_of(
        st.binary(max_size=40),
        st.sampled_from([HELLO, KEXINIT, b"\r\nDate: ", b"\nA:", b"16:45:49", b"12", b"\x17\x03\x03\x00\x10"]),
    )
    common = b"".join(draw(st.lists(pieces, max_size=4)))
    ours, theirs = (common + b"".join(draw(st.lists(pieces, max_size=4))) for _ in range(2))
    if draw(st.booleans()):
        return ours, len(common), theirs, len(common)
    return ours, draw(st.integers(-5, 400)), theirs, draw(st.integers(-5, 400))


@given(sides())
@example((b"", 0, b"", 0))
@example((b"a", 7, b"", -7))
def test_any_bytes_have_a_shape_whichever_side_they_are_of(given):
    ours, at, theirs, other_at = given
    shape = shape_of_bytes(*given)
    assert shape == shape_of_bytes(theirs, other_at, ours, at)
    assert len(str(shape)) <= 64
    assert str(shape).isascii()
    assert str(shape).isprintable()


@given(sides(), st.binary(max_size=8))
def test_bytes_outside_of_the_window_are_not_looked_at(given, noise):
    """So no guest can make it take long."""
    ours, at, theirs, _ = given
    at = min(max(at, 0), len(ours), len(theirs))
    theirs = ours[:at] + theirs[at:]

    def cut(octets):
        return octets[max(0, at - WINDOW_BYTES) : at + WINDOW_BYTES]

    index = min(at, WINDOW_BYTES)
    near = shape_of_bytes(cut(ours), index, cut(theirs), index)
    if at >= WINDOW_BYTES and min(len(ours), len(theirs)) - at >= WINDOW_BYTES:
        far = 1000 * noise
        assert shape_of_bytes(far + ours + far, len(far) + at, far + theirs + far, len(far) + at) == near
    assert shape_of_bytes(ours, at, theirs, at) == near


@pytest.mark.parametrize("unit", [b"\nA", b"\nA:", b"1:", b"0", b"a0", b"\x16\x03\x03", b"\0\0\0\x7f\x04\x14", b" \t"])
def test_patterns_that_repeat_without_end_are_cut(unit):
    ours, theirs = unit * 300_000, unit * 299_999 + b"#"
    at = len(theirs) - 1
    assert isinstance(shape_of_bytes(ours, at, theirs, at), Shape)
    assert isinstance(shape_of_bytes(ours, 0, b"#" + theirs, 0), Shape)
