"""What kind of difference it is: decided from the bytes around it, as far as they were kept.

Total and bounded: whatever bytes a guest sends, there is a shape, found in time that `WINDOW_BYTES` bounds. A shape is
a guess about what a person would see; nothing that the node does depends on it.
"""

import re
from collections import Counter
from enum import StrEnum
from typing import Final, NamedTuple

from pycolo.compare.difference import Difference
from pycolo.compare.kinds import DifferenceKind

WINDOW_BYTES: Final = 128
"""Bytes looked at on either side of the difference; the comparator keeps fewer."""

ALIKE_BYTES_MIN: Final = 6
"""Fewer bytes that are equal after a shift, or in another order, may be so by chance."""

RANDOM_BYTES_MIN: Final = 16
"""Fewer bytes do not show whether they are random."""

GROWN_BYTES_MAX: Final = 16
"""What one guest may say in more bytes than the other, so that lengths before it are still taken for such."""


class ShapeKind(StrEnum):
    """Each has a sentence in `pycolo.costs.words`."""

    TLS_HANDSHAKE = "tls_handshake"
    TLS_DATA = "tls_data"
    SSH_HANDSHAKE = "ssh_handshake"
    MYSQL_HANDSHAKE = "mysql_handshake"
    HTTP_DATE = "http_date"
    HEADER = "header"
    """The line `Name: value` of a protocol of text; with the name."""
    BODY_LENGTH = "body_length"
    """HTTP says of how many bytes the answer is."""
    TIME = "time"
    FRACTION = "fraction"
    """A number with so many digits behind the point that none counts with it."""
    NUMBER = "number"
    IDENTIFIER = "identifier"
    ORDER = "order"
    LENGTH = "length"
    RANDOM = "random"
    BYTES = "bytes"
    """None of the others."""
    UNSEEN = "unseen"
    """A difference of payload without bytes of both sides."""
    SYN = "syn"
    END = "end"
    NO_ANSWER = "no_answer"
    ONLY_SECONDARY = "only_secondary"
    MUTUAL_WAIT = "mutual_wait"
    FULL = "full"
    SIGNED = "signed"


class Shape(NamedTuple):
    """`name`: of a header, in lower case, only letters, digits and hyphens."""

    kind: ShapeKind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind.value


_OF_KIND: Final = {
    DifferenceKind.SYN_OPTIONS: ShapeKind.SYN,
    DifferenceKind.FIN: ShapeKind.END,
    DifferenceKind.RST: ShapeKind.END,
    DifferenceKind.TIMEOUT: ShapeKind.NO_ANSWER,
    DifferenceKind.SECONDARY_TIMEOUT: ShapeKind.ONLY_SECONDARY,
    DifferenceKind.MUTUAL_WAIT: ShapeKind.MUTUAL_WAIT,
    DifferenceKind.QUEUE_FULL: ShapeKind.FULL,
    DifferenceKind.MEMORY_FULL: ShapeKind.FULL,
    DifferenceKind.TABLE_FULL: ShapeKind.FULL,
    DifferenceKind.UNPROTECTED: ShapeKind.SIGNED,
}
"""The others differ in bytes."""


def shape_of(difference: Difference) -> Shape:
    """Of any difference."""
    kind = _OF_KIND.get(difference.kind)
    if kind is not None:
        return Shape(kind)
    return shape_of_bytes(
        difference.primary, difference.primary_index, difference.secondary, difference.secondary_index
    )


def shape_of_bytes(primary: bytes, primary_index: int, secondary: bytes, secondary_index: int) -> Shape:
    """`primary[primary_index]` and `secondary[secondary_index]` are the first bytes that differ; before them both are
    equal, as far as both were kept. The shape does not depend on which side is which.
    """
    one, other = sorted((_Side.cut(primary, primary_index), _Side.cut(secondary, secondary_index)))
    if one.after == other.after or not one.whole or not other.whole:
        return Shape(ShapeKind.UNSEEN)
    before = max(one.before, other.before, key=len)
    one, other = _Side(before, one.after), _Side(before, other.after)
    return (
        _tls(one, other)
        or _tls(other, one)
        or _ssh(before)
        or _mysql(before)
        or _line(one, other)
        or _order(one.after, other.after)
        or _text(one, other)
        or _behind_length(one, other)
        or _shifted(one.after, other.after)
        or _random(one, other)
        or Shape(ShapeKind.LENGTH if min(len(one.after), len(other.after)) == 0 else ShapeKind.BYTES)
    )


class _Side(NamedTuple):
    """One side's bytes before the difference, and from it on."""

    before: bytes
    after: bytes

    @classmethod
    def cut(cls, octets: bytes, index: int) -> "_Side":
        index = min(max(index, 0), len(octets))
        return cls(octets[max(0, index - WINDOW_BYTES) : index], octets[index : index + WINDOW_BYTES])

    @property
    def whole(self) -> bytes:
        return self.before + self.after


# ── encrypted ───────────────────────────────────────────────────────────────────────────────────────────────

_TLS_RECORD: Final = re.compile(rb"([\x14-\x17])\x03[\x00-\x04]([\x00-\x41].)", re.DOTALL)
"""RFC 8446 section 5.1: type, version, length of at most 2^14 + 256."""

_TLS_HANDSHAKE: Final = 22
_SSH_KEXINIT: Final = 20
"""RFC 4253 section 7.1: the message that begins a key exchange with a random cookie."""

_SSH_COOKIE_BYTES: Final = 16

_MYSQL_GREETING: Final = re.compile(rb"[0-9]\.[0-9A-Za-z.+~_-]{3,}\x00.{4}[^\x00]{0,7}\Z", re.DOTALL)
"""Of MySQL and MariaDB: the server's version, the number of the connection, and eight random bytes."""


def _tls(one: _Side, other: _Side) -> Shape | None:
    """A record of TLS that the difference lies in: in its length, or behind that."""
    at, whole = len(one.before), one.whole
    for found in _TLS_RECORD.finditer(whole):
        begins = found.start()
        is_of_both = whole[begins : begins + 3] == other.whole[begins : begins + 3]
        if is_of_both and begins + 3 <= at < found.end() + int.from_bytes(found[2], "big"):
            is_handshake = found[1][0] == _TLS_HANDSHAKE
            return Shape(ShapeKind.TLS_HANDSHAKE if is_handshake else ShapeKind.TLS_DATA)
    return None


def _ssh(before: bytes) -> Shape | None:
    """The random cookie of a key exchange: right behind the packet's length, its padding's and its type."""
    for cookie in range(max(6, len(before) - _SSH_COOKIE_BYTES + 1), len(before) + 1):
        length = int.from_bytes(before[cookie - 6 : cookie - 2], "big")
        if before[cookie - 1] == _SSH_KEXINIT and 4 <= before[cookie - 2] < length <= 35_000:
            return Shape(ShapeKind.SSH_HANDSHAKE)
    return None


def _mysql(before: bytes) -> Shape | None:
    return Shape(ShapeKind.MYSQL_HANDSHAKE) if _MYSQL_GREETING.search(before) else None


# ── text ────────────────────────────────────────────────────────────────────────────────────────────────────

_HEADER: Final = re.compile(rb"\n([A-Za-z][A-Za-z0-9-]{0,31}):[ \t]?([^\r\n]*)\Z")
_HEADERS: Final = {"date": ShapeKind.HTTP_DATE, "content-length": ShapeKind.BODY_LENGTH}
_WORD_START: Final = re.compile(rb"[A-Za-z0-9_+/=.:-]*\Z")
_WORD: Final = re.compile(rb"[A-Za-z0-9_+/=.:-]*")
_CLOCK: Final = re.compile(
    rb"\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?|(?:19|20)\d\d-\d\d-\d\d|\d\d? [A-Z][a-z][a-z] (?:19|20)\d\d"
    rb"|(?<!\d)1[6-9]\d{8}(?:\d{3}|\d{6}|\d{9}|\.\d{1,9})?(?!\d)"  # since 1970: seconds, or thousandths, and so on
)
_CLOCK_BYTES_MAX: Final = 20
"""The longest that is found: seconds since 1970 with nine digits more."""

_FRACTION: Final = re.compile(rb"[0-9]\.[0-9]{8,}")
_SIGNED: Final = re.compile(rb"[\x00-\x1f]{0,16}-?([0-9]+)(?:\.[0-9]+)?")
_DIGITS: Final = re.compile(rb"[0-9]+")
_NAME: Final = re.compile(rb"(?=.*[0-9])[0-9A-Za-z_+/=-]{8,}", re.DOTALL)


def _line(one: _Side, other: _Side) -> Shape | None:
    """A line `Name: value` that has begun before the difference."""
    found = _HEADER.search(one.before)
    if found is None or not _is_text(one.after) or not _is_text(other.after):
        return None
    name = found[1].decode("ascii").lower()
    special = _HEADERS.get(name)
    return Shape(ShapeKind.HEADER, name) if special is None else Shape(special)


def _is_text(octets: bytes) -> bool:
    """Up to the end of its line."""
    line = octets.partition(b"\n")[0]
    return all(0x20 <= octet < 0x7F or octet in b"\t\r" for octet in line)


def _text(one: _Side, other: _Side) -> Shape | None:
    """A time, a number or an identifier on both sides, by the words that the difference lies in."""
    began = _WORD_START.search(one.before)
    start = began[0] if began is not None else b""
    ours, theirs = start + _word(one.after), start + _word(other.after)
    if not ours or not theirs:
        return None
    if _has_clock(one) and _has_clock(other):
        return Shape(ShapeKind.TIME)
    if _number_at(ours, len(start)) and _number_at(theirs, len(start)):
        if _FRACTION.search(ours) and _FRACTION.search(theirs):
            return Shape(ShapeKind.FRACTION)
        is_hex = any(_NAME.fullmatch(word) and not _DIGITS.fullmatch(word) for word in (ours, theirs))
        return Shape(ShapeKind.IDENTIFIER if is_hex else ShapeKind.NUMBER)
    if _NAME.fullmatch(ours) and _NAME.fullmatch(theirs):
        return Shape(ShapeKind.IDENTIFIER)
    return None


def _word(octets: bytes) -> bytes:
    found = _WORD.match(octets)
    return found[0] if found is not None else b""


def _has_clock(side: _Side) -> bool:
    """Whether the difference lies in a date or a time of day."""
    at, whole = len(side.before), side.whole
    begin = max(0, at - _CLOCK_BYTES_MAX)
    near = whole[begin : at + _CLOCK_BYTES_MAX]
    return any(found.start() + begin <= at < found.end() + begin for found in _CLOCK.finditer(near))


def _behind_length(one: _Side, other: _Side) -> Shape | None:
    """Text of different lengths, where a protocol sends the length before it, as those of databases do.

    That of a row, and then that of a column: both differ by the same number. What they are of differs behind them.
    """
    if not one.after or not other.after:
        return None
    grown = other.after[0] - one.after[0]
    pairs = enumerate(zip(one.after, other.after, strict=False))
    at = next((at for at, (ours, theirs) in pairs if theirs - ours not in (0, grown)), 0)
    is_binary = any(octet < 0x20 for octet in one.after[:at])
    found = None
    if is_binary and abs(grown) <= GROWN_BYTES_MAX:
        found = _text(*(_Side(side.before + side.after[:at], side.after[at:]) for side in (one, other)))
    if found is None or found.kind is ShapeKind.IDENTIFIER:  # what follows a number at once may be of its word
        return Shape(ShapeKind.NUMBER) if _SIGNED.match(one.after) and _SIGNED.match(other.after) else found
    return found


def _number_at(word: bytes, at: int) -> bool:
    """Whether a decimal number lies there, or ends right before; a sign, points and colons belong to none."""
    return any(found.start() <= at <= found.end() for found in _DIGITS.finditer(word))


# ── any bytes ───────────────────────────────────────────────────────────────────────────────────────────────


def _order(ours: bytes, theirs: bytes) -> Shape | None:
    """The same bytes in another order, up to where each byte has had its partner."""
    without_partner: Counter[int] = Counter()
    alone = 0
    for at, pair in enumerate(zip(ours, theirs, strict=False)):
        for octet, step in zip(pair, (1, -1), strict=True):
            was = without_partner[octet]
            without_partner[octet] = was + step
            alone += abs(was + step) - abs(was)
        if alone == 0:
            return Shape(ShapeKind.ORDER) if at + 1 >= ALIKE_BYTES_MIN else None
    return None


def _shifted(ours: bytes, theirs: bytes) -> Shape | None:
    """One side has bytes more; after them both agree."""
    for longer, shorter in ((ours, theirs), (theirs, ours)):
        for skipped in range(1, len(longer)):
            alike = min(len(longer) - skipped, len(shorter))
            if alike < ALIKE_BYTES_MIN:
                break
            if longer[skipped : skipped + alike] == shorter[:alike] and len(set(shorter[:alike])) > 2:
                return Shape(ShapeKind.LENGTH)
    return None


def _random(one: _Side, other: _Side) -> Shape | None:
    """Neither text nor repetition on both sides: encrypted, compressed or drawn at random.

    A stream cipher leaves bytes that are equal before it equal, so both sides may have much in common.
    """
    return Shape(ShapeKind.RANDOM) if _is_without_pattern(one.whole) and _is_without_pattern(other.whole) else None


def _is_without_pattern(octets: bytes) -> bool:
    """Of 64 random bytes 57 differ; of text, or of numbers in binary, fewer than 40 do."""
    printable = sum(0x20 <= octet < 0x7F for octet in octets)
    length = len(octets)
    return length >= RANDOM_BYTES_MIN and len(set(octets)) * 4 > length * 3 and printable * 8 < length * 7
