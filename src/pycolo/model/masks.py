"""Noise masks (C7), as a definition: what a pattern matches is said by taking it apart byte by byte.

A pattern is an expression; `rest` says what may follow one byte of a match (partial derivatives, Antimirov, 1996).
Nothing here is fast, and nothing is shared with the automata that it judges.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Final


@dataclass(frozen=True)
class One:
    """Any one of these bytes."""

    octets: frozenset[int]


@dataclass(frozen=True)
class Then:
    """One behind the other."""

    one: "Expression"
    other: "Expression"


@dataclass(frozen=True)
class Either:
    """One or the other."""

    one: "Expression"
    other: "Expression"


@dataclass(frozen=True)
class Times:
    """So many of them, one behind the other."""

    part: "Expression"
    lowest: int
    highest: int


@dataclass(frozen=True)
class Nothing:
    """No bytes."""


Expression = One | Then | Either | Times | Nothing

NOTHING: Final = Nothing()


@cache
def may_end(expression: Expression) -> bool:
    """Whether it matches no bytes."""
    match expression:
        case Nothing():
            return True
        case One():
            return False
        case Then(one, other):
            return may_end(one) and may_end(other)
        case Either(one, other):
            return may_end(one) or may_end(other)
    return expression.lowest == 0 or may_end(expression.part)


@cache
def rest(expression: Expression, octet: int) -> frozenset[Expression]:
    """What a match may still have to match behind this byte."""
    match expression:
        case Nothing():
            return frozenset()
        case One(octets):
            return frozenset({NOTHING}) if octet in octets else frozenset()
        case Then(one, other):
            behind = frozenset(_then(left, other) for left in rest(one, octet))
            return behind | rest(other, octet) if may_end(one) else behind
        case Either(one, other):
            return rest(one, octet) | rest(other, octet)
    part, lowest, highest = expression.part, expression.lowest, expression.highest
    further = Times(part, max(0, lowest - 1), highest - 1) if highest > 1 else NOTHING
    return frozenset(_then(left, further) for left in rest(part, octet))


def _then(one: Expression, other: Expression) -> Expression:
    return other if one is NOTHING or isinstance(one, Nothing) else Then(one, other)


def _behind(matches: Iterable[Expression], octet: int) -> frozenset[Expression]:
    return frozenset(left for match in matches for left in rest(match, octet))


OPEN: Final = -1
"""A match may yet end on both sides, behind what they have sent."""


def masked_end(
    masks: Sequence[Expression], mine: Mapping[int, int], theirs: Mapping[int, int], at: int, first: int, last: int
) -> int | None:
    """Up to where the bytes from `at` on are masked, where both sides differ; None: they are not; or `OPEN`.

    In front of `at`, from `first` on, both sides are equal; `last`: the place from which on bytes do not count.
    """
    under_way = []
    for mask in masks:
        matches: frozenset[Expression] = frozenset()
        for place in range(first, at):
            matches = _behind(matches | {mask}, mine[place])
        under_way.append((matches | {mask}, matches | {mask}))
    for place in count(at):
        if place >= last or place not in mine or place not in theirs:
            return None if place >= last else OPEN
        under_way = [(_behind(one, mine[place]), _behind(other, theirs[place])) for one, other in under_way]
        if any(any(map(may_end, one)) and any(map(may_end, other)) for one, other in under_way):
            return place + 1
        under_way = [(one - {NOTHING}, other - {NOTHING}) for one, other in under_way]
        under_way = [(one, other) for one, other in under_way if one and other]
        if not under_way:
            return None
    raise AssertionError("every expression has a longest match")
