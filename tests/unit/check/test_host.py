"""All items of a host together, and what `protect` makes of them."""

import asyncio

import pytest

from pycolo.check import Level, Moment, before_protect, check_host, host
from pycolo.check.host import arbiter_items
from pycolo.check.table import worst
from pycolo.config import parse
from pycolo.errors import PeerError
from pycolo.link.hello import Role
from support.configs import changed, checkable

SECONDARY = Moment(Role.SECONDARY)


@pytest.fixture(autouse=True)
def without_cards(monkeypatch):
    """They need a bridge of this host: see test_cards."""
    monkeypatch.setattr(host, "card_items", lambda config, moment, bridges: iter(()))


def config(tmp_path, changes=None):
    return parse(changed(checkable(tmp_path, changes)).encode(), "vm.toml")


def test_a_good_host_has_one_item_of_each_kind_and_none_refused(tmp_path):
    items = asyncio.run(check_host(config(tmp_path), SECONDARY))
    assert worst(items) is Level.WARNING
    assert [item.name for item in items] == [
        "sockets",
        "state",
        "link.listen",
        "link.peer",
        "link.insecure",
        "link",
        "qemu.command",
        "network.serve",
        "network.serve_dry_run",
        "network.retire",
        "arbiter.kind",
        "other managers",
    ]


def test_with_tls_there_are_items_of_both_roles(tmp_path):
    given = {"link.tls": str(tmp_path / "tls"), "link.insecure": None}
    items = asyncio.run(check_host(config(tmp_path, given), SECONDARY))
    assert {"link.tls primary", "link.tls secondary"} <= {item.name for item in items}
    assert "link.insecure" not in {item.name for item in items}


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({"arbiter.kind": "manual"}, Level.OK),
        ({"arbiter.kind": "first-to-notice"}, Level.WARNING),
        ({"arbiter.kind": "command", "arbiter.command": ["/nowhere/fence"]}, Level.REFUSED),
        ({"arbiter.kind": "etcd", "arbiter.endpoints": ["http://127.0.0.1:1"]}, Level.REFUSED),
    ],
)
def test_each_kind_of_arbiter_is_looked_at(tmp_path, changes, level):
    assert worst(asyncio.run(arbiter_items(config(tmp_path, changes), SECONDARY))) is level


def test_protect_logs_the_warnings(tmp_path, capsys):
    warnings = asyncio.run(before_protect(config(tmp_path), "secondary", 3))
    assert {item.level for item in warnings} == {Level.WARNING}
    assert {item.name for item in warnings} == {"link.peer", "link.insecure"}
    said = capsys.readouterr().out
    assert all(f"{item.name}: {item.text}" in said for item in warnings)


@pytest.mark.parametrize(("role", "has_run"), [("primary", False), ("secondary", True)])
def test_protect_tries_retire_on_the_secondarys_host_only(tmp_path, role, has_run):
    given = {"network.retire": ["touch", f"{tmp_path}/{{role}}-{{term}}"]}
    asyncio.run(before_protect(config(tmp_path, given), role, 3))
    assert (tmp_path / f"{role}-3").exists() is has_run


def test_protect_is_refused_with_every_fault_on_one_line(tmp_path):
    given = {"network.serve": ["/nowhere/serve"], "arbiter.kind": "command", "arbiter.command": ["/nowhere/fence"]}
    with pytest.raises(PeerError) as caught:
        asyncio.run(before_protect(config(tmp_path, given), "secondary", 3))
    text = str(caught.value)
    assert text.startswith(
        "the secondary's host cannot be part of a pair: network.serve: /nowhere/serve does not exist"
    )
    assert "; arbiter.command: /nowhere/fence does not exist" in text
    assert "\n" not in text
