"""Sequence numbers without their wrap: the rules are stated over integers, and only here do 32 bits matter."""

from typing import Final

SPACE: Final = 1 << 32
WINDOW_MAX: Final = 1 << 30


def near(number: int, reference: int) -> int:
    """Return the integer that is `number` modulo 2^32 and nearest to `reference` (RFC 1982)."""
    return reference + (number - reference + SPACE // 2) % SPACE - SPACE // 2
