"""The line of a key in an array of tables."""

import pytest

from pycolo.config.lines import line_of

TEXT = """[[mask]]
ports = [80]
pattern = 'a'
[other]
pattern = 'x'
[[bypass]]
pattern = 'y'
 [[ mask ]]
  pattern='b'
[[mask]]
"""


@pytest.mark.parametrize(("number", "line"), [(0, 3), (1, 9), (2, None), (3, None)])
def test_the_line_of_a_pattern(number, line):
    assert line_of(TEXT, "mask", number, "pattern") == line


def test_a_file_that_writes_it_otherwise_has_no_line():
    assert line_of("mask = [{ports = [80], pattern = 'a'}]", "mask", 0, "pattern") is None
