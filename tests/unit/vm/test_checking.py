"""A running node's part of `colo check`: its guest, the other host, both together."""

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from pycolo.check import Item, Level
from pycolo.check.hostfacts import HostFacts
from pycolo.config import parse
from pycolo.errors import PeerError
from pycolo.failover.pair import Pair, Settings
from pycolo.failover.pairstates import State
from pycolo.vm.checking import ROUNDS, Checking
from pycolo.vm.diskplaces import CommandPlaces
from support.configs import changed, checkable
from support.qemufacts import GOOD

S = State


class Machine:
    is_there = True
    pid = 0

    def __init__(self, facts: Any) -> None:
        self._facts = facts
        self.probes = 0

    async def probe(self, *, is_forced: bool) -> Any:
        assert is_forced
        self.probes += 1
        if isinstance(self._facts, Exception):
            raise self._facts
        return self._facts


class Side:
    def __init__(self, facts: Any, formed_with: Any = None) -> None:
        self.machine = Machine(facts)
        self.facts = formed_with


class Links:
    """The other node, which may be another `Checking`."""

    def __init__(self, other: Checking | None = None, answers: dict[str, Any] | None = None) -> None:
        self.other = other
        self.answers = answers or {}
        self.asked: list[str] = []

    async def request(self, order: str, arguments: Any = None, timeout_s: float = 0) -> Any:
        self.asked.append(order)
        if order in self.answers:
            answer = self.answers[order]
            if isinstance(answer, Exception):
                raise answer
            return answer
        assert self.other is not None
        told = self.other.tell_clock if order == "clock" else self.other.tell_host
        return msgspec.json.decode(msgspec.json.encode(await told(msgspec.json.decode(msgspec.json.encode(arguments)))))


def checking(tmp_path, state, side=None, link=1, text=""):
    directory = tmp_path / state.name
    directory.mkdir(exist_ok=True)
    short = {
        "qemu.directory": "/tmp",
        "qemu.qmp": "/tmp/no.sock",
        "control.socket": "/tmp/none.sock",
    }  # paths are long here
    config = parse((changed(checkable(directory, short)) + text).encode(), "vm1.toml")
    pair = Pair(Settings(150), state, link=link, last_link=1, is_heard=bool(link))
    return Checking(config, f"/etc/{state.name}.toml", lambda: pair, lambda: side, CommandPlaces(config), None)


def both(one, links) -> list[Item]:
    answer = asyncio.run(one.both(links))
    return msgspec.convert(msgspec.json.decode(msgspec.json.encode(answer))["items"], list[Item])


def test_the_guest_the_other_host_and_both_are_shown(tmp_path):
    other = checking(tmp_path, S.SECONDARY_LINKED)
    links = Links(other)
    items = both(checking(tmp_path, S.PRIMARY_LINKED, Side(GOOD)), links)
    assert {item.where for item in items} == {"guest", "the other host", "both hosts"}
    assert links.asked == ["clock"] * ROUNDS + ["check"]
    names = {item.name for item in items if item.where == "the other host"}
    assert {"host", "memory for a secondary", "/dev/kvm", "state", "network.retire"} <= names


def test_the_secondary_sees_whether_the_other_hosts_guest_fits_here(tmp_path):
    other = checking(tmp_path, S.PRIMARY_LINKED, Side(replace(GOOD, ram_bytes=1 << 60)))
    items = both(checking(tmp_path, S.SECONDARY_LINKED), Links(other))
    (room,) = [item for item in items if item.name == "memory for a secondary"]
    assert (room.where, room.level) == ("this host", Level.REFUSED)
    assert any(item.where == "the other host's guest" for item in items)


def test_a_protected_guest_is_not_probed_again(tmp_path):
    side = Side(PeerError("busy"), formed_with=GOOD)
    items = both(checking(tmp_path, S.PRIMARY_PROTECTED, side, link=0), Links())
    assert side.machine.probes == 0
    assert any("in COLO" in item.text for item in items)


def test_a_guest_that_cannot_be_asked_is_refused(tmp_path):
    items = both(checking(tmp_path, S.PRIMARY_WAITING, Side(PeerError("vm1: no answer")), link=0), Links())
    assert [(item.name, item.level) for item in items] == [("guest", Level.REFUSED), ("other host", Level.WARNING)]


def test_without_a_link_nothing_is_asked(tmp_path):
    links = Links()
    (item,) = both(checking(tmp_path, S.SECONDARY_WAITING, link=0), links)
    assert (item.name, item.level, links.asked) == ("other host", Level.WARNING, [])


@pytest.mark.parametrize(
    "answers",
    [
        {"clock": PeerError("this node knows no order 'clock'")},
        {"clock": {}},
        {"clock": {"ns": "x"}},
        {"clock": {"ns": 0}, "check": PeerError("gone")},
        {"clock": {"ns": 0}, "check": {}},
        {"clock": {"ns": 0}, "check": {"host": {}, "items": [["a"]]}},
    ],
)
def test_an_other_node_that_cannot_answer_is_a_warning(tmp_path, answers):
    (item,) = both(checking(tmp_path, S.SECONDARY_LINKED), Links(answers=answers))
    assert (item.name, item.level) == ("other host", Level.WARNING)


def test_an_answer_with_fields_of_a_later_version_is_read(tmp_path):
    answers = {"clock": {"ns": 0}, "check": {"host": {"hostname": "b", "later": 1}, "items": [], "later": 2}}
    items = both(checking(tmp_path, S.SECONDARY_LINKED), Links(answers=answers))
    assert {item.where for item in items} == {"both hosts"}


@pytest.mark.parametrize("need", [3, ["x", True], {"ram": 1}])
def test_a_need_that_cannot_be_read_is_refused(tmp_path, need):
    with pytest.raises(PeerError, match="need cannot be read"):
        asyncio.run(checking(tmp_path, S.SECONDARY_LINKED).tell_host({"need": need}))


def test_the_answer_fits_into_an_order(tmp_path):
    told = asyncio.run(checking(tmp_path, S.PRIMARY_LINKED, Side(GOOD)).tell_host({}))
    assert len(msgspec.json.encode(told)) < 32_000
    assert msgspec.convert(told["host"], HostFacts).cpus


def test_what_only_one_of_the_files_says_is_named_with_both_files(tmp_path):
    own = checking(tmp_path, S.PRIMARY_LINKED, Side(GOOD), text="[[mask]]\nports = [80]\npattern = 'id=[0-9]{4}'\n")
    (item,) = [item for item in both(own, Links(checking(tmp_path, S.SECONDARY_LINKED))) if item.name == "[[mask]]"]
    assert (item.where, item.level) == ("both hosts", Level.WARNING)
    assert "id=[0-9]{4}" in item.text
    assert "in /etc/PRIMARY_LINKED.toml here, none in /etc/SECONDARY_LINKED.toml there" in item.text


def test_what_an_older_nodes_file_says_is_not_known(tmp_path):
    answers = {"clock": {"ns": 0}, "check": {"host": {}, "items": []}}
    items = both(checking(tmp_path, S.SECONDARY_LINKED), Links(answers=answers))
    (item,) = [item for item in items if item.name == "both files"]
    assert item.level is Level.WARNING
    assert "not known" in item.text
