"""The items of a check, and the heaviest of them."""

import pytest

from pycolo.check.table import Item, Level, ok, one_line, refused, warning, worst


@pytest.mark.parametrize(
    ("items", "level"),
    [
        ([], Level.OK),
        ([ok("a", "")], Level.OK),
        ([ok("a", ""), warning("b", "")], Level.WARNING),
        ([refused("a", ""), warning("b", ""), ok("c", "")], Level.REFUSED),
    ],
)
def test_the_heaviest_level_counts(items, level):
    assert worst(items) is level


@pytest.mark.parametrize("make", [ok, warning, refused])
def test_an_item_is_one_line_that_a_terminal_does_not_obey(make):
    item = make("name", "two\nlines\tand \x1b[31mred")
    assert item == Item("name", item.level, "two lines and  [31mred", "this host")


def test_text_without_secrets_for_terminals_stays():
    assert one_line("tap0 — größer") == "tap0 — größer"
