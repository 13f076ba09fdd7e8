"""Masks are proposed from what has differed in one shape at one place over several connections; they would hide it."""

import re
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.compare.difference import Difference
from pycolo.compare.kinds import DifferenceKind
from pycolo.compare.patterns import compile_pattern
from pycolo.conntrack.key import ConnectionKey
from pycolo.costs.suggestions import COUNTED, PLACES_MAX, SEEN_MIN, SENT_BACK, Suggestions
from pycolo.limits import DIFFERENCE_CONTEXT_BYTES


def key(number, port=80, proto=6):
    return ConnectionKey(proto, ip_address("10.0.0.2"), ip_address("10.0.0.1"), port, 50_000 + number)


def difference(mine, theirs, connection, kind=DifferenceKind.PAYLOAD):
    """As the comparator makes one of two whole answers."""
    at = next(place for place, (one, other) in enumerate(zip(mine, theirs, strict=False)) if one != other)
    start = max(0, at - DIFFERENCE_CONTEXT_BYTES)
    end = at + DIFFERENCE_CONTEXT_BYTES
    return Difference(kind, connection, 7, 0, mine[start:end], at - start, theirs[start:end], at - start)


def told(pairs, same_connection=False, **options):
    suggestions = Suggestions()
    for number, (mine, theirs) in enumerate(pairs):
        suggestions.difference(difference(mine, theirs, key(0 if same_connection else number, **options)))
    return suggestions.proposed()


ANSWERS = {
    "date": [
        (
            b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sun, 29 Nov 2026 20:15:%02d GMT\r\nX: 1\r\n\r\n" % second,
            b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sun, 29 Nov 2026 20:15:%02d GMT\r\nX: 1\r\n\r\n" % (second + 1),
        )
        for second in (10, 30, 42)
    ],
    "request": [
        (
            b"HTTP/1.1 200 OK\r\nX-Request-Id: %032x\r\n\r\n" % (one << 90),
            b"HTTP/1.1 200 OK\r\nX-Request-Id: %032x\r\n\r\n" % one,
        )
        for one in (0xABC123, 0xDEF456, 0x123FED)
    ],
    "json": [
        (b'{"name": "x", "token": "%08x", "n": 1}' % one, b'{"name": "x", "token": "%08x", "n": 1}' % (one + 0x1111))
        for one in (0x12345678, 0xABCDEF01, 0x90ABCDEF)
    ],
    "number": [(b"OK count is %03d.\n" % one, b"OK count is %03d.\n" % (one + 1)) for one in (100, 205, 317)],
}


@pytest.mark.rule("C7")
@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_proposed_would_have_hidden_it(name):
    (proposal,) = told(ANSWERS[name])
    assert (proposal["ports"], proposal["direction"], proposal["differences"]) == ([80], "in", 3)
    compile_pattern(proposal["pattern"])
    pattern = re.compile(proposal["pattern"].encode())
    for mine, theirs in ANSWERS[name]:
        ours, others = pattern.search(mine), pattern.search(theirs)
        assert ours is not None
        assert others is not None
        assert ours.span() == others.span()
        assert mine[: ours.start()] + mine[ours.end() :] == theirs[: others.start()] + theirs[others.end() :]


CAUTIONS = {
    **dict.fromkeys(("date", "request"), ""),
    "json": SENT_BACK,
    "number": COUNTED,
    "a cookie": SENT_BACK,
    "a time": "",
}
MORE = {
    "a cookie": [
        tuple(b"HTTP/1.1 200 OK\r\nSet-Cookie: s=%08x; Path=/\r\n\r\n" % number for number in (one, two))
        for one, two in ((0x12345678, 0xABCDEF01), (0x90ABCDEF, 0x11223344), (0x55667788, 0x99AABBCC))
    ],
    "a time": [
        (b'{"done": true, "at": %d}' % one, b'{"done": true, "at": %d}' % (one + 1))
        for one in (1_795_970_100, 1_795_970_205, 1_795_970_317)
    ],
}


@pytest.mark.rule("C7")
def test_no_mask_hides_another_number_of_bytes():
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
    assert told([(answer % (n, b"9" * n), answer % (n + 1, b"1" * (n + 1))) for n in (3, 14, 25)]) == []


@pytest.mark.rule("C7")
@pytest.mark.parametrize("name", CAUTIONS)
def test_what_speaks_against_it_is_said(name):
    (proposal,) = told((ANSWERS | MORE)[name])
    assert proposal["caution"] == CAUTIONS[name]


@pytest.mark.rule("C7")
def test_it_is_proposed_for_the_side_that_listens():
    (proposal,) = told(ANSWERS["date"], port=40_000)
    assert proposal["direction"] == "in", "a port of the guest's above those that it opens itself"
    suggestions = Suggestions()
    for number, (mine, theirs) in enumerate(ANSWERS["date"]):
        out = ConnectionKey(6, ip_address("10.0.0.2"), ip_address("10.0.0.1"), 40_000 + number, 443)
        suggestions.difference(difference(mine, theirs, out))
    assert [(one["ports"], one["direction"]) for one in suggestions.proposed()] == [([443], "out")]


@pytest.mark.rule("C7")
def test_nothing_is_proposed_too_early_or_for_something_else():
    assert told(ANSWERS["date"][: SEEN_MIN - 1]) == []
    assert told(ANSWERS["date"], same_connection=True) == []
    assert told(ANSWERS["date"], proto=17) == []
    assert told([(b"HTTP/1.1 200 OK\r\nLength: 99\r\n", b"HTTP/1.1 200 OK\r\nLength: 100\r\n")] * 3) == []
    assert told([(b"total is 7\n", b"total is 12\n")] * 3) == []


@pytest.mark.rule("C7")
@given(st.lists(st.tuples(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=80)), max_size=6))
def test_any_bytes_of_a_guest_are_proposed_as_a_pattern_or_not_at_all(parts):
    suggestions = Suggestions()
    for number, (before, one, other) in enumerate(parts * SEEN_MIN):
        if before + one != before + other and one[:1] != other[:1] and one and other:
            suggestions.difference(difference(before + one, before + other, key(number)))
    for proposal in suggestions.proposed():
        compile_pattern(proposal["pattern"])
        assert proposal["pattern"].isprintable()
        assert "'" not in proposal["pattern"]


def test_a_guest_that_differs_in_ever_other_places_takes_no_more_memory():
    suggestions = Suggestions()
    for number in range(4 * PLACES_MAX):
        suggestions.difference(difference(b"place %06d: a;" % number, b"place %06d: b;" % number, key(number)))
    assert len(suggestions._seen) == PLACES_MAX
