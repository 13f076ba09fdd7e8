"""The patterns' language: a part of Python's, with the same meaning; everything else is refused with its place."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo import limits
from pycolo.compare.patterns import Automaton, PatternError, compile_pattern
from support.examples import examples
from support.noise import EXPRESSIONS, LETTERS, text


def matches(automaton: Automaton, octets: bytes) -> bool:
    """Whether all of them are one match, position by position."""
    at = None
    for octet in octets:
        may = automaton.first if at is None else 0
        for position, follow in enumerate(automaton.follow):
            may |= follow if at is not None and at >> position & 1 else 0
        at = sum(1 << place for place, takes in enumerate(automaton.takes) if may >> place & 1 and takes >> octet & 1)
    return at is not None and bool(at & automaton.last)


@examples(200)
@given(expression=EXPRESSIONS, octets=st.lists(st.sampled_from(LETTERS), min_size=1, max_size=8).map(bytes))
def test_a_pattern_means_what_it_means_to_the_library(expression, octets):
    automaton = compile_pattern(text(expression))
    assert matches(automaton, octets) == (re.fullmatch(text(expression).encode(), octets) is not None)
    assert len(octets) <= automaton.longest or not matches(automaton, octets)


WRITTEN = [
    r"Date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n",
    r"X-Request-Id: [0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\r\n",
    r"(a|bc){0,3}\.?",
    r"[^\r\n\x80-\xff]{1,64}",
    r"[\]\-\\^]{2}",
    r"[a-]{2}",
    r"\{[\w\s]{3}}",
    r"\D\W\S.",
]


@pytest.mark.parametrize("pattern", WRITTEN)
def test_each_byte_is_in_a_class_as_it_is_for_the_library(pattern):
    """By matches of it, and by what they become when one byte is another."""
    automaton, library = compile_pattern(pattern), re.compile(pattern.encode())
    match = example_of(automaton)
    assert library.fullmatch(match) is not None
    for place in range(len(match)):
        for octet in range(256):
            other = match[:place] + bytes([octet]) + match[place + 1 :]
            assert matches(automaton, other) == (library.fullmatch(other) is not None)


def example_of(automaton: Automaton) -> bytes:
    """A shortest match."""
    ways = {place: bytes([min(places(automaton.takes[place]))]) for place in places(automaton.first)}
    while not any(automaton.last >> place & 1 for place in ways):
        ways = {
            behind: way + bytes([min(places(automaton.takes[behind]))])
            for place, way in ways.items()
            for behind in places(automaton.follow[place])
        }
    return next(way for place, way in ways.items() if automaton.last >> place & 1)


def places(members: int) -> list[int]:
    return [place for place in range(members.bit_length()) if members >> place & 1]


@pytest.mark.parametrize(
    ("pattern", "column", "expected"),
    [
        ("Date: .*", 8, "a repeat with a bound"),
        ("a+b", 2, "a repeat with a bound"),
        ("a{2,}", 2, "a repeat with a bound"),
        ("(a{1,9}){1,9}+", 14, "one repeat for each part"),
        ("a??", 3, "one repeat for each part"),
        ("a{3,2}", 2, "second number"),
        ("a{0}", 2, "second number"),
        ("^a", 1, "no anchor"),
        ("a$", 2, "no anchor"),
        (r"\bword", 1, "one of "),
        (r"(a)\1", 4, "one of "),
        ("(?=a)", 1, "a plain group"),
        ("(?P<x>a)", 1, "a plain group"),
        ("(a", 1, r"a \) for this \("),
        ("a)", 2, r"no \) without a \("),
        ("[a", 1, r"a \] for this \["),
        ("[]", 1, r"something within"),
        ("[[:alpha:]]", 2, r"\[ for a \["),
        ("[z-a]", 2, "a range"),
        (r"[\d-z]", 2, "a range"),
        (r"\x4", 1, "two hexadecimal digits"),
        ("é", 1, r"bytes above"),
        ("?", 1, "something to repeat"),
        ("", 1, "at least one byte"),
        ("(|)", 1, "at least one byte"),
        ("(" * 40 + "a" + ")" * 40, 33, "groups in one another"),
        ("((a{1000}){1000}){1000}", 1, f"at most {limits.MASK_POSITIONS_MAX} bytes"),
        ("a{1025}", 1, f"at most {limits.MASK_POSITIONS_MAX} bytes"),
    ],
)
def test_what_is_refused_is_said_with_its_place(pattern, column, expected):
    with pytest.raises(PatternError, match=expected) as caught:
        compile_pattern(pattern)
    assert caught.value.column == column


@given(st.text(alphabet="ab(|)[]{},?*+-^$.\\\\xd019é", max_size=12))
def test_any_text_is_a_pattern_of_the_library_or_refused(pattern):
    try:
        automaton = compile_pattern(pattern)
    except PatternError as error:
        refused = error
    else:
        re.compile(pattern.encode())
        assert automaton.longest <= len(automaton.takes) <= limits.MASK_POSITIONS_MAX
        return
    assert 1 <= refused.column <= len(pattern) + 1


@pytest.mark.parametrize("pattern", ["(a?){24}a{24}", "(a|a){1,100}b", "(a{1,10}){1,10}b", "(.?.?){50}x"])
def test_what_backtracks_elsewhere_is_a_few_positions(pattern):
    assert len(compile_pattern(pattern).takes) <= 250


def test_nothing_is_repeated_once():
    """Repeats within repeats have no bytes that a limit would count, and would be read for years."""
    nothing = "(?:)"
    for _ in range(8):
        nothing = f"(?:{nothing}){{9999}}"
    assert compile_pattern(f"{nothing}a") == compile_pattern("a")
