"""What a user is told of a difference."""

from ipaddress import IPv4Address

import pytest

from pycolo.compare.difference import Difference
from pycolo.compare.kinds import DifferenceKind
from pycolo.conntrack.key import ConnectionKey

KEY = ConnectionKey(6, IPv4Address("10.0.0.2"), IPv4Address("10.0.0.1"), 80, 5000)


@pytest.mark.parametrize("kind", DifferenceKind)
def test_every_kind_has_one_sentence_that_names_the_connection(kind):
    text = str(Difference(kind, KEY, 4711, 3002))
    assert text.startswith("tcp 10.0.0.2:80 > 10.0.0.1:5000: ")
    assert "\n" not in text
    assert "{" not in text


def test_numbers_are_said_where_they_mean_something():
    assert "4711" in str(Difference(DifferenceKind.PAYLOAD, KEY, 4711, 0))
    assert "3002 ms" in str(Difference(DifferenceKind.TIMEOUT, KEY, 4711, 3002))


def test_a_full_table_is_no_single_connections_fault():
    assert str(Difference(DifferenceKind.TABLE_FULL, None, 0, 0)).startswith("all connections: ")
