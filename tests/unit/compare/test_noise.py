"""The automata of all masks side by side: they run as each for itself."""

import pytest

from pycolo import limits
from pycolo.compare.flows import Flow
from pycolo.compare.noise import WORD_BITS, Mask, tables
from pycolo.compare.patterns import compile_pattern

FLOWS = (Flow(6),)


def made(*patterns):
    return tables([Mask(str(number), pattern, FLOWS) for number, pattern in enumerate(patterns)])


def sets(words, packed):
    return [
        sum(word << WORD_BITS * place for place, word in enumerate(packed[at : at + words]))
        for at in range(0, len(packed), words)
    ]


def test_positions_lie_one_behind_another_and_mix_with_no_others():
    patterns = ["a(b|cd){1,40}e", "[0-9]{70}", "x?y"]
    table = made(*patterns)
    automata = [compile_pattern(pattern) for pattern in patterns]
    base = 0
    (step,), begins, ends = (
        sets(table.words, table.next),
        sets(table.words, table.begins),
        sets(table.words, table.ends),
    )
    for number, one in enumerate(automata):
        own = (1 << len(one.takes)) - 1 << base
        assert sets(table.words, table.follows)[number] == sum(1 << at for at, to in enumerate(one.follow, base) if to)
        assert sets(table.words, table.first)[number] == one.first << base
        assert sets(table.words, table.last)[number] == one.last << base
        for place, follow in enumerate(one.follow):
            here = 1 << base + place
            found = (here << 1 if step & here else 0) | sum(
                end for begin, end in zip(begins, ends, strict=True) if begin & here
            )
            assert found & own == found, "it goes on within its own mask"
            assert found == follow << base
        for octet in range(256):
            takes = sum(1 << place for place, members in enumerate(one.takes) if members >> octet & 1)
            assert sets(table.words, table.takes)[octet] & own == takes << base
        base += len(one.takes)
    assert table.longest == max(one.longest for one in automata)


def test_without_masks_there_is_nothing():
    table = made()
    assert (table.longest, table.branches) == (0, 0)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["a"] * (limits.MASKS_MAX + 1), "at most 16 masks"),
        (["a{600}", "b{600}"], "bytes together"),
        (["(ab|cd){1,200}"], "choices in all masks together"),
    ],
)
def test_there_are_limits(patterns, expected):
    with pytest.raises(ValueError, match=expected):
        made(*patterns)


def test_a_usual_pattern_is_far_below_the_limits():
    date = r"Date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n"
    table = made(date, r"X-Request-Id: [0-9a-f]{32}\r\n", r"Set-Cookie: sid=[\w-]{1,200};")
    assert (table.words, table.branches) == (5, 1)
