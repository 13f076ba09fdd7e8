"""What two nodes' files must say alike: each difference is found, with both values; what is each host's own is none."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.check.alike import SHOWN_CHARACTERS_MAX, Told, alike_items, shown, told
from pycolo.check.table import Level, worst
from pycolo.config import parse
from support.configs import changed

MASK = "[[mask]]\nports = [80]\npattern = 'id=[0-9]{4}'\n"
OTHER_MASK = "[[mask]]\nports = [80]\npattern = 'id=[0-9]{5}'\n"
BYPASS = '[[bypass]]\nprotocol = "esp"\n'
ORDER = "[[order]]\nports = [6379]\n"


def of(text="", file="/etc/colo/a.toml", **changes):
    paths = {key.replace("__", "."): value for key, value in changes.items()}
    return told(parse((changed(paths) + text).encode(), "vm1.toml"), file)


def items(own, other):
    return list(alike_items(own, other))


def test_the_same_files_agree():
    assert worst(items(of(MASK + BYPASS + ORDER), of(MASK + BYPASS + ORDER))) is Level.OK


def test_what_is_each_hosts_own_may_differ():
    other = of(state="/elsewhere", link__listen="10.9.9.1:1", link__peer="10.9.9.2:1", log__level="debug", metrics=None)
    assert worst(items(of(), other)) is Level.OK


@pytest.mark.parametrize(
    ("one", "other", "name", "here", "there"),
    [
        (MASK, "", "[[mask]]", "id=[0-9]{4}", "none in"),
        ("", BYPASS, "[[bypass]]", "none in", "esp"),
        (MASK, OTHER_MASK, "[[mask]]", "{4}", "{5}"),
        (ORDER, ORDER + 'mode = "follow"\n', "[[order]]", "{ ports = [6379] }", "follow"),
        (BYPASS * 2, BYPASS, "[[bypass]]", "esp", "none in"),
    ],
)
def test_tables_that_differ_are_shown_with_their_files(one, other, name, here, there):
    (item,) = items(of(one), of(other, "/etc/colo/b.toml"))
    assert (item.name, item.level) == (name, Level.WARNING)
    left, right = item.text.split("/etc/colo/a.toml here")
    assert here.removesuffix(" in") in left
    assert there.removesuffix(" in") in right
    assert "in /etc/colo/b.toml there: write the same into both files" in right


def test_the_order_of_tables_means_nothing():
    assert worst(items(of(MASK + OTHER_MASK), of(OTHER_MASK + MASK))) is Level.OK


@pytest.mark.parametrize(
    ("changes", "name", "level"),
    [
        ({"compare__ack_policy": "immediate"}, "compare.ack_policy", Level.WARNING),
        ({"checkpoint__max_interval_ms": 2000}, "checkpoint.max_interval_ms", Level.WARNING),
        ({"protect__automatic": False}, "protect.automatic", Level.WARNING),
        ({"heartbeat__timeout_ms": 900}, "heartbeat.timeout_ms", Level.WARNING),
        ({"arbiter__kind": "manual"}, "arbiter.kind", Level.REFUSED),
        ({"card": [{"netdev": "hn0"}, {"netdev": "hn1"}]}, "[[card]]", Level.REFUSED),
    ],
)
def test_keys_that_differ_are_shown(changes, name, level):
    (item,) = items(of(), of(file="/b", **changes))
    assert (item.name, item.level) == (name, level)


def test_a_guest_of_libvirt_has_one_name():
    domain = {"guest": {"domain": "vm1"}, "qemu__command": None, "qemu__environment": None, "disks": None}
    (item,) = [item for item in items(of(**domain), of(disks=None)) if item.name == "guest.domain"]
    assert item.level is Level.REFUSED
    assert item.text.startswith('"vm1" in /etc/colo/a.toml here, none in')


def test_disks_are_protected_by_both_or_by_none():
    has = parse(changed({}).encode(), "vm1.toml").disks is not None
    other = of(disks=None) if has else of(disks={})
    (item,) = items(of(), other)
    assert (item.name, item.level) == ("[disks]", Level.REFUSED)


def test_an_earlier_version_says_nothing():
    (item,) = items(of(), None)
    assert item.level is Level.WARNING
    assert "not known" in item.text


def test_what_only_one_version_knows_is_not_compared():
    own, later = of(), of()
    later.keys["compare.later"], later.tables["later"] = "1", ["{ a = 1 }"]
    assert worst([*items(own, later), *items(later, own)]) is Level.OK


def test_long_tables_are_told_by_a_digest():
    long = "[[mask]]\nports = [80]\npattern = '{}'\n"
    one, other = of(long.format("a" * 500 + "b")), of(long.format("a" * 500 + "c"))
    assert len(one.tables["mask"][0]) < 500
    (item,) = items(one, other)
    left, right = item.text.split(" here, ")
    assert left[:100] != right[:100], "where they differ is shown"


@given(st.text(max_size=400), st.text(max_size=400))
def test_two_texts_that_differ_are_shown_so_that_they_differ(one, other):
    here, there = shown(one, other)
    assert len(here) <= SHOWN_CHARACTERS_MAX + 2
    assert (here == there) == (one == other)


def test_it_survives_the_link():
    one = of(MASK)
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(one)), Told) == one
