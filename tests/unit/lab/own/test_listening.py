"""Who listens where: read from /proc, and said to the person."""

from ipaddress import ip_address

import pytest

from pycolo_lab.own.listening import is_reachable, parse_listeners, why_unreachable

TCP = """\
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 0200090A:1F90 0100090A:9C40 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0
"""
TCP6 = """\
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 4 1 0
   1: 0000000000000000FFFF00000200090A:1F90 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 4 1 0
"""


def test_listeners_are_found_with_their_addresses():
    assert list(parse_listeners(TCP.splitlines(), "0A")) == [
        (ip_address("127.0.0.1"), 8080),
        (ip_address("0.0.0.0"), 80),
    ]


def test_ipv6_too_and_what_is_ipv4_in_it():
    assert list(parse_listeners(TCP6.splitlines(), "0A")) == [(ip_address("::"), 8080), (ip_address("10.9.0.2"), 8080)]


@pytest.mark.parametrize(
    ("address", "host", "reachable"),
    [
        ("0.0.0.0", "10.9.0.2", True),
        ("10.9.0.2", "10.9.0.2", True),
        ("::", "10.9.0.2", True),
        ("127.0.0.1", "10.9.0.2", False),
        ("10.9.0.3", "10.9.0.2", False),
        ("0.0.0.0", "fd00:9::2", False),
        ("::", "fd00:9::2", True),
        ("fd00:9::2", "fd00:9::2", True),
        ("::1", "fd00:9::2", False),
    ],
)
def test_where_the_client_comes(address: str, host: str, reachable: bool):
    assert is_reachable([ip_address(address)], host) is reachable
    assert is_reachable([ip_address("127.0.0.1"), ip_address(address)], host) is reachable


def test_nothing_is_not_reachable():
    assert not is_reachable([], "10.9.0.2")


def test_loopback_alone_is_said_with_where_the_client_comes():
    said = why_unreachable([ip_address("127.0.0.1"), ip_address("::1")], 8080, "10.9.0.2")
    assert "127.0.0.1 and ::1 only" in said
    assert "the client connects to 10.9.0.2" in said
    assert "{host}" in said
