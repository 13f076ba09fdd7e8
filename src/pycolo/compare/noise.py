"""Noise masks (rule C7): bytes that may differ, and their automata as one table of words."""

from array import array
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from pycolo import limits
from pycolo.compare.flows import Flow
from pycolo.compare.patterns import Automaton, compile_pattern

WORD_BITS: Final = 64
_WORD: Final = (1 << WORD_BITS) - 1


class TooManyError(ValueError):
    """What all masks together may have, and what they have."""

    def __init__(self, expected: str, found: int) -> None:
        super().__init__(f"{expected}, not {found}")
        self.expected = expected
        self.found = found


class Mask(NamedTuple):
    """Of the streams of the connections that `flows` name, what `pattern` matches may differ at equal length."""

    name: str
    pattern: str
    flows: tuple[Flow, ...]


class Tables(NamedTuple):
    """All masks' automata side by side, each a range of positions; a set of positions is `words` words.

    `takes`: for each byte the positions that take it. `next`: positions that the following one may follow. Every other
    transition is a *branch*: from any of `begins` to all of `ends`. By mask: `first`, `last`, and those that another
    one `follows`. `longest`: bytes.
    """

    words: int
    takes: "array[int]"
    next: "array[int]"
    branches: int
    begins: "array[int]"
    ends: "array[int]"
    first: "array[int]"
    last: "array[int]"
    follows: "array[int]"
    longest: int


def tables(masks: Sequence[Mask]) -> Tables:
    """Raises `PatternError`; `TooManyError` for more than there is room for."""
    automata = [compile_pattern(mask.pattern) for mask in masks]
    positions = sum(len(one.takes) for one in automata)
    if len(masks) > limits.MASKS_MAX:
        raise TooManyError(f"at most {limits.MASKS_MAX} masks", len(masks))
    if positions > limits.MASK_POSITIONS_MAX:
        raise TooManyError(f"patterns of at most {limits.MASK_POSITIONS_MAX} bytes together", positions)
    words = max(1, -(-positions // WORD_BITS))
    takes, following, base = [0] * 256, 0, 0
    branches: dict[int, int] = {}
    first: list[int] = []
    last: list[int] = []
    follows: list[int] = []
    for one in automata:
        for position, members in enumerate(one.takes, base):
            for octet in range(256):
                takes[octet] |= (members >> octet & 1) << position
        step, others = _transitions(one)
        following |= step << base
        branches |= {(ends << base): begins << base for ends, begins in others.items()}
        first.append(one.first << base)
        last.append(one.last << base)
        follows.append(sum(1 << place for place, follow in enumerate(one.follow) if follow) << base)
        base += len(one.takes)
    if len(branches) > limits.MASK_BRANCHES_MAX:
        raise TooManyError(f"at most {limits.MASK_BRANCHES_MAX} choices in all masks together", len(branches))
    return Tables(
        words,
        _packed(takes, words),
        _packed([following], words),
        len(branches),
        _packed(branches.values(), words),
        _packed(branches, words),
        _packed(first, words),
        _packed(last, words),
        _packed(follows, words),
        max((one.longest for one in automata), default=0),
    )


def _transitions(one: Automaton) -> tuple[int, dict[int, int]]:
    """Positions that the following one may follow; and for each set of others that may follow, after which."""
    step, others = 0, dict[int, int]()
    for position, follow in enumerate(one.follow):
        behind = 2 << position
        step |= (1 << position) if follow & behind else 0
        if follow & ~behind:
            others[follow & ~behind] = others.get(follow & ~behind, 0) | 1 << position
    return step, others


def _packed(sets: Iterable[int], words: int) -> "array[int]":
    return array("Q", [one >> WORD_BITS * word & _WORD for one in sets for word in range(words)])
