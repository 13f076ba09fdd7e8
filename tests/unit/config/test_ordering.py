"""`[[order]]`: which ports are ordered, and how."""

import re

import pytest

from pycolo.config import describe
from pycolo.config.ordering import tuner
from pycolo.order.tuner import Mode
from support.configs import WITHOUT_CARDS, errors_of, read

FILE = f"""{WITHOUT_CARDS}[[card]]
netdev = "hn0"
bridge = "br0"
"""
ORDER = """
[[order]]
ports = [5432, 6379]
mode = "follow"
[[order]]
ports = [80]
mode = "off"
[[order]]
"""

ARRAY = "expected an array of 1 to 64 ports, such as [5432, 6379]"


def test_without_a_table_each_port_may_be_ordered() -> None:
    found = tuner(read(FILE).order, "commit")
    assert found.begin(0) == []
    found.differed(80, 0)
    assert found.ports[80].mode is Mode.AUTO


def test_what_was_acknowledged_at_once_is_never_ordered() -> None:
    assert tuner(read(FILE).order, "immediate").is_off


def test_all_may_be_off() -> None:
    assert tuner(read(FILE + "[[order]]\nmode = 'off'\n").order, "commit").is_off


def test_a_table_without_ports_is_for_all_that_no_other_names() -> None:
    found = tuner(read(FILE + ORDER).order, "commit")
    assert not found.is_off
    assert {setting.port for setting in found.begin(0)} == {5432, 6379}
    assert found.ports[5432].mode is Mode.FOLLOW
    for port, is_there in ((80, False), (443, True)):
        found.differed(port, 0)
        assert (port in found.ports) is is_there


def test_what_describe_writes_has_the_same_tables() -> None:
    found = read(FILE + ORDER)
    assert read(describe(found)) == found


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "ports = []",
            "order[0].ports: expected an array of 1 to 64 ports, such as [5432, 6379], found an empty array",
        ),
        ("ports = 80", "order[0].ports: expected an array of 1 to 64 ports, such as [5432, 6379], found 80"),
        ("ports = [80, 0]", "order[0].ports[1]: expected a port from 1 to 65535, found 0"),
        ("ports = [true]", "order[0].ports[0]: expected a port from 1 to 65535, found true"),
        ("mode = 'always'", "order[0].mode: expected follow, auto or off, found 'always'"),
        ("mode = 'follow'", 'order[0].ports: expected the ports to order, since mode is "follow", found nothing'),
        ("[[order]]", "order[1].ports: expected ports: only one table is for all others, found nothing"),
        (
            "ports = [80]\n[[order]]\nports = [81, 80]",
            "order[1].ports: expected other ports than order[0] has, found 80",
        ),
        (
            "[compare]\nack_policy = 'immediate'",
            'order[0].mode: expected "off", or compare.ack_policy = "commit" with it, found \'auto\'',
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text: str, error: str) -> None:
    (line,) = errors_of(f"{FILE}[[order]]\n{text}\n")
    assert re.sub(r"^line \d+: ", "", line) == error


def test_a_port_that_is_never_ordered_needs_no_policy() -> None:
    assert read(f"{FILE}[[order]]\nmode = 'off'\n[compare]\nack_policy = 'immediate'\n").order
