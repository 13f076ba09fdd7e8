"""The names of the intended differences: in the cases, above the tests, and in the document."""

from collections.abc import Callable
from typing import TypeVar

_Test = TypeVar("_Test", bound=Callable[..., object])


def difference(name: str) -> Callable[[_Test], _Test]:
    """The test below asserts what QEMU does and what we do instead: row `name` of docs/differences-from-qemu.md."""
    del name  # read from the source by test_differences.py
    return lambda test: test
