"""`[[card]]`: one table per network card."""

import pytest

from pycolo.config import CardOptions, describe
from support.configs import WITHOUT_CARDS, errors_of, read

CARDS = """
[[card]]
netdev = "hn0"
bridge = "br0"
[[card]]
netdev = "hn1"
tap = "vnet1"
vlan = 12
"""


def test_cards_are_read_in_their_order() -> None:
    assert read(WITHOUT_CARDS + CARDS).card == (
        CardOptions(netdev="hn0", bridge="br0"),
        CardOptions(netdev="hn1", tap="vnet1", vlan=12),
    )


def test_what_describe_writes_has_the_same_cards() -> None:
    found = read(WITHOUT_CARDS + CARDS)
    assert "[[card]]" in describe(found)
    assert read(describe(found)) == found


INTERFACE = "expected the name of a network interface, at most 15 characters"
ONE = "[[card]]\nnetdev = 'hn0'\n"
WRONG = [
    ("", "card: expected a table [[card]] with netdev and bridge for each network card, found nothing"),
    ("[card]\nnetdev = 'hn0'", "card: expected tables [[card]], found a table"),
    (
        "[[card]]\nbridge = 'br0'",
        "card[0].netdev: expected an id of QEMU: a letter, then letters, digits, - . _, found nothing",
    ),
    (ONE + "vlan = 4095", "card[0].vlan: expected a VLAN from 1 to 4094, found 4095"),
    (ONE + "bridge = 'a bridge'", f"card[0].bridge: {INTERFACE}, found 'a bridge'"),
    (ONE + "tap = '0123456789abcdef'", f"card[0].tap: {INTERFACE}, found '0123456789abcdef'"),
    (
        ONE + "brigde = 'br0'",
        "card[0].brigde: expected a key that exists (did you mean bridge?), found an unknown key",
    ),
    (ONE + ONE, "card[1].netdev: expected another one than card[0] has, found 'hn0'"),
    (
        ONE + "tap = 't'\n[[card]]\nnetdev = 'b'\ntap = 't'",
        "card[1].tap: expected another one than card[0] has, found 't'",
    ),
    (
        CARDS
        + "[network]\nserve = ['ip', 'link', 'set', 'tap0', 'master', 'br0']\n"
        + "retire = ['brctl', 'delif', 'br0', 'tap0']",
        (
            "network.serve: expected no command that moves a tap: the node does that, see the bridge of [[card]], "
            "found 'master'\n"
            "network.retire: expected no command that moves a tap: the node does that, see the bridge of [[card]], "
            "found 'delif'"
        ),
    ),
    (ONE * 17, "card: expected at most 16 tables, found 17"),
]


@pytest.mark.parametrize(("more", "said"), WRONG)
def test_what_is_wrong_is_one_line(more: str, said: str) -> None:
    assert errors_of(WITHOUT_CARDS + more) == said.split("\n")


@pytest.mark.parametrize("text", ["", "pair = 'vm1'", "card = []"])
def test_a_file_that_has_next_to_nothing_is_told_of_cards_too(text: str) -> None:
    lines = errors_of(text)
    assert "card: expected a table [[card]] with netdev and bridge for each network card, found nothing" in lines
    (line,) = [line for line in lines if line.startswith("qemu: ")]
    instead = "or [guest] with domain for a guest of libvirt's"
    assert line == f"qemu: expected a table [qemu] with qmp, directory, {instead}, found nothing"


@pytest.mark.parametrize("cards", ["", CARDS])
def test_a_file_of_an_earlier_version_is_told_what_to_write(cards: str) -> None:
    old = WITHOUT_CARDS.replace("[qemu]", '[qemu]\nnetdev = "hn0"') + cards
    line, *others = errors_of(old)
    assert line.startswith("qemu.netdev: expected a table [[card]] with this netdev, and its bridge")
    assert all(other.startswith("card: expected a table [[card]]") for other in others)
    (line,) = errors_of(WITHOUT_CARDS + "[network]\nserve = ['true']\nretire = ['true']")
    assert line.startswith("card: expected a table [[card]]")


def test_commands_for_the_rest_may_stand_beside_cards() -> None:
    found = read(
        WITHOUT_CARDS + CARDS + "[network]\nserve = ['ip', 'route', 'add', 'x']\nretire = ['ip', 'route', 'del', 'x']"
    )
    assert found.network.serve[2] == "add"


def test_a_key_of_a_card_elsewhere_is_told_where_it_belongs() -> None:
    assert errors_of(WITHOUT_CARDS.replace("[control]", '[control]\nbridge = "br0"') + CARDS) == [
        "control.bridge: expected a key that exists here (it belongs into [[card]]), found an unknown key"
    ]
