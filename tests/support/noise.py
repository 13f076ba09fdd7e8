"""Patterns as the specification takes them apart, and as the comparator reads them; streams that differ in places."""

from typing import Any

from hypothesis import strategies as st

from pycolo.compare.flows import Flow
from pycolo.compare.noise import Mask
from pycolo.model.masks import Either, Expression, Nothing, One, Then, Times
from support.segments import Tcp
from support.streams import PRIMARY, SECONDARY, SECONDARY_ISN, Script, merged, reduced, segmentations

LETTERS = b"abc"
EVERYWHERE = (Flow(6),)


def text(expression: Expression) -> str:
    """The same as a pattern."""
    match expression:
        case Nothing():
            return "(?:)"
        case One(octets):
            return "[" + "".join(f"\\x{octet:02x}" for octet in sorted(octets)) + "]"
        case Then(one, other):
            return text(one) + text(other)
        case Either(one, other):
            return f"({text(one)}|{text(other)})"
        case Times(part, lowest, highest):
            return f"(?:{text(part)}){{{lowest},{highest}}}"


def literally(octets: bytes) -> Expression:
    """Exactly these."""
    whole: Expression = One(frozenset(octets[-1:]))
    for octet in reversed(octets[:-1]):
        whole = Then(One(frozenset([octet])), whole)
    return whole


ONES = st.sets(st.sampled_from(LETTERS), min_size=1).map(frozenset).map(One)


def _times(parts: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    bounds = st.tuples(st.integers(0, 3), st.integers(0, 2)).map(lambda two: (two[0], max(1, sum(two))))
    return st.tuples(parts, bounds).map(lambda pair: Times(pair[0], *pair[1]))


EXPRESSIONS: st.SearchStrategy[Expression] = st.recursive(
    ONES,
    lambda parts: st.builds(Then, parts, parts) | st.builds(Either, parts, parts) | _times(parts),
    max_leaves=5,
)


def masks(expressions: list[Expression]) -> list[Mask]:
    return [Mask(f"mask {number}", text(one), EVERYWHERE) for number, one in enumerate(expressions)]


@st.composite
def noisy(draw: Any) -> Script:
    """Two guests that answer in a few letters, alike but for some of them."""
    isn, client_isn = draw(st.integers(0, 50)) - 25, draw(st.integers(0, 50))
    said = bytes(draw(st.lists(st.sampled_from(LETTERS), min_size=1, max_size=24)))
    changes = draw(st.lists(st.tuples(st.integers(0, len(said) - 1), st.sampled_from(LETTERS)), max_size=4))
    other = bytearray(said)
    for place, letter in changes:
        other[place] = letter
    ends = draw(st.booleans())
    facts = [
        (PRIMARY, Tcp(isn, "SA", ack=client_isn + 1)),
        (SECONDARY, Tcp(SECONDARY_ISN, "SA", ack=client_isn + 1)),
        *merged(
            draw,
            draw(segmentations(said, isn + 1, client_isn + 1, ends)),
            draw(segmentations(bytes(other), isn + 1, client_isn + 1, ends)),
        ),
    ]
    return Script(isn, client_isn, 0, said, tuple((side, reduced(segment)) for side, segment in facts))
