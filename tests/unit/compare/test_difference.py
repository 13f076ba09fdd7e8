"""What a user is told of a difference."""

from ipaddress import IPv4Address

import pytest

from pycolo.compare.difference import Difference, ReportDifference, RequestCheckpoint, on_card
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


def test_of_several_cards_the_text_names_one_after_the_connection():
    key = ConnectionKey(6, IPv4Address("10.0.0.9"), IPv4Address("10.0.0.7"), 80, 51234)
    plain = [
        RequestCheckpoint(Difference(DifferenceKind.PAYLOAD, key, 7, 0)),
        ReportDifference(Difference(DifferenceKind.QUEUE_FULL, None, 0, 0)),
    ]
    named = on_card("hn1", plain)
    assert [type(one) for one in named] == [type(one) for one in plain]
    assert [str(one.difference) for one in named] == [
        f"{key} on hn1: the streams differ at sequence number 7",
        "all connections on hn1: max_queue_size packets are waiting",
    ]
    assert [str(one.difference).replace(" on hn1", "") for one in named] == [str(one.difference) for one in plain]
