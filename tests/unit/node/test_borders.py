"""Borders are exact when the guest has read all that it was sent, and the node all that it has said."""

from itertools import product

import pytest

from pycolo.node.borders import Borders


class Tap:
    strayed = None

    def __init__(self, *, input_read: bool, output_read: bool) -> None:
        self._input, self._output = input_read, output_read

    def is_input_read(self) -> bool:
        return self._input

    def is_output_read(self) -> bool:
        return self._output

    def purge(self) -> int:
        raise AssertionError

    def recount_output(self) -> None:
        raise AssertionError

    def forget_begun(self) -> None:
        raise AssertionError


@pytest.mark.parametrize(("input_read", "output_read", "output"), list(product([True, False], repeat=3)))
def test_what_is_asked_for_must_be_read(input_read: bool, output_read: bool, output: bool) -> None:
    borders = Borders(Tap(input_read=input_read, output_read=output_read))
    borders.passed(output=output)
    is_exact = input_read and (output_read or not output)
    assert borders.counters() == {"borders_exact": int(is_exact), "borders_inexact": int(not is_exact)}


def test_without_a_tap_nothing_is_counted() -> None:
    borders = Borders(None)
    borders.passed(output=True)
    assert borders.counters() == {"borders_exact": 0, "borders_inexact": 0}
