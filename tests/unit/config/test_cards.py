"""`[[card]]`: one table per network card, in the place of `qemu.netdev` and of the commands of `[network]`."""

import pytest

from pycolo.config import CardOptions, ConfigFileError, PairConfig, describe, parse

FILE = """
pair = "vm1"
role = "secondary"
state = "/s"
[link]
listen = "[fd00::1]:9000"
peer = "host-b.example:9000"
insecure = true
[qemu]
qmp = "/q"
directory = "/d"
[control]
socket = "/c"
"""
CARDS = """
[[card]]
netdev = "hn0"
bridge = "br0"
[[card]]
netdev = "hn1"
tap = "vnet1"
vlan = 12
"""


def read(text: str) -> PairConfig:
    return parse(text.encode(), "vm.toml")


def errors_of(text: str) -> list[str]:
    with pytest.raises(ConfigFileError) as caught:
        read(text)
    return [str(error).removeprefix("vm.toml: ") for error in caught.value.errors]


def test_cards_are_read_in_their_order() -> None:
    assert read(FILE + CARDS).card == (
        CardOptions(netdev="hn0", bridge="br0"),
        CardOptions(netdev="hn1", tap="vnet1", vlan=12),
    )
    assert read(FILE + CARDS).qemu.netdev == ""
    assert read(FILE.replace("[qemu]", '[qemu]\nnetdev = "hn0"')).card == ()


def test_what_describe_writes_has_the_same_cards() -> None:
    found = read(FILE + CARDS)
    assert "[[card]]" in describe(found)
    assert read(describe(found)) == found


INTERFACE = "expected the name of a network interface, at most 15 characters"
ONE = "[[card]]\nnetdev = 'hn0'\n"
WRONG = [
    ("", "qemu.netdev: expected the netdev to protect, unless each has a table [[card]], found nothing"),
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
        CARDS + "[network]\nserve = ['s']\nretire = ['r']",
        (
            "network.serve: expected no such command, since the node moves the tap of each [[card]], found 's'\n"
            "network.retire: expected no such command, since the node moves the tap of each [[card]], found 'r'"
        ),
    ),
    (ONE * 17, "card: expected at most 16 tables, found 17"),
]


@pytest.mark.parametrize(("more", "said"), WRONG)
def test_what_is_wrong_is_one_line(more: str, said: str) -> None:
    assert errors_of(FILE + more) == said.split("\n")


def test_a_netdev_is_named_once() -> None:
    text = FILE.replace("[qemu]", '[qemu]\nnetdev = "hn0"') + CARDS
    assert errors_of(text) == ["qemu.netdev: expected no such key, since [[card]] names the netdev, found 'hn0'"]


def test_a_key_of_a_card_elsewhere_is_told_where_it_belongs() -> None:
    assert errors_of(FILE.replace("[control]", '[control]\nbridge = "br0"') + CARDS) == [
        "control.bridge: expected a key that exists here (it belongs into [[card]]), found an unknown key"
    ]
