"""The user's own commands: found, and tried as far as that harms nothing."""

import asyncio

import pytest

from pycolo.check import Level, Moment, hooks
from pycolo.check.hooks import fencing_items, hook_items, qemu_items
from pycolo.config import parse
from pycolo.link.hello import Role
from support.configs import changed, checkable

SECONDARY = Moment(Role.SECONDARY, term=4)


@pytest.fixture
def script(tmp_path):
    """Makes a program that writes its words into the file `ran`, then does `line`."""

    def make(name, line="exit 0"):
        path = tmp_path / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/ran\n{line}\n')
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def ran(tmp_path):
    return lambda: (tmp_path / "ran").read_text().splitlines() if (tmp_path / "ran").exists() else []


@pytest.fixture
def items(tmp_path):
    """Of a configuration with these changes."""

    def run(changes, moment=SECONDARY, what=hook_items):
        config = parse(changed(checkable(tmp_path, changes)).encode(), "vm.toml")
        return {item.name: item for item in asyncio.run(what(config, moment))}

    return run


def network(script, **lines):
    given = {"network.serve": [script("serve")], "network.serve_dry_run": [script("trial")]}
    return given | {"network.retire": [script("retire")]} | lines


def test_the_dry_run_and_retire_are_run_and_serve_is_not(script, ran, items):
    found = items(network(script) | {"network.retire": [script("retire"), "{role}", "{peer}", "{term}", "{pair}"]})
    assert {item.level for item in found.values()} == {Level.OK}
    assert ran() == ["trial", "retire secondary 127.0.0.1 4 vm1"]


@pytest.mark.parametrize(
    "moment",
    [Moment(Role.PRIMARY), Moment(Role.PRIMARY, 12), Moment(Role.SECONDARY, 12, may_take_over=True)],
)
def test_retire_is_not_run_where_it_would_take_the_guest_off_the_network(script, ran, items, moment):
    found = items(network(script), moment)
    assert ran() == ["trial"]
    assert found["network.retire"].level is Level.OK
    assert "not run, because" in found["network.retire"].text


def test_a_serve_that_cannot_be_tried_is_a_warning(script, ran, items):
    found = items(network(script, **{"network.serve_dry_run": None}))
    assert found["network.serve"].level is Level.WARNING
    assert "let network.serve_dry_run try" in found["network.serve"].text
    assert ran() == ["retire"]


@pytest.mark.parametrize("key", ["network.serve", "network.serve_dry_run", "network.retire"])
@pytest.mark.parametrize("moment", [SECONDARY, Moment(Role.PRIMARY, 12)])
def test_a_misspelt_hook_is_refused_whatever_this_host_does(script, items, tmp_path, key, moment):
    item = items(network(script) | {key: [f"{tmp_path}/serv"]}, moment)[key]
    assert item.level is Level.REFUSED
    assert item.text.startswith(f"{tmp_path}/serv does not exist: did you mean {tmp_path}/serve?")


@pytest.mark.parametrize("key", ["network.serve_dry_run", "network.retire"])
def test_a_failure_is_shown_with_its_last_line(script, items, key):
    given = network(script) | {key: [script("bad", "echo first >&2; echo no such bridge >&2; exit 3"), "br0"]}
    item = items(given)[key]
    assert item.level is Level.REFUSED
    assert item.text.endswith("bad br0: exit code 3; no such bridge: run it by hand and correct it")


def test_a_hook_that_hangs_is_ended(script, items, monkeypatch):
    monkeypatch.setattr(hooks, "HOOK_S", 0.3)
    item = items(network(script) | {"network.retire": [script("slow", "sleep 600")]})["network.retire"]
    assert item.level is Level.REFUSED
    assert "did not end within 0.3 s" in item.text


def test_no_hooks_are_allowed(items):
    assert items({"network": None}) == {}


# ── fencing ─────────────────────────────────────────────────────────────────────────────────────────────────


def fencing(command, **more):
    return {"arbiter.kind": "command", "arbiter.command": command, **more}


def test_the_fencing_command_is_never_run_its_dry_run_is(script, ran, items):
    given = fencing([script("fence"), "{peer}"], **{"arbiter.dry_run": [script("monitor"), "{peer}", "{role}"]})
    found = items(given, what=fencing_items)
    assert [item.level for item in found.values()] == [Level.OK, Level.OK]
    assert ran() == ["monitor 127.0.0.1 secondary"]


def test_a_fencing_command_without_a_dry_run_is_a_warning(script, ran, items):
    (item,) = items(fencing([script("fence")]), what=fencing_items).values()
    assert (item.level, ran()) == (Level.WARNING, [])
    assert "let arbiter.dry_run try what it needs" in item.text


def test_a_misspelt_fencing_command_is_refused(script, items, tmp_path):
    (item,) = items(fencing([f"{tmp_path}/fence"]), what=fencing_items).values()
    assert item.level is Level.REFUSED


def test_a_dry_run_that_fails_is_refused_and_has_the_arbiters_time(script, items):
    failing = fencing([script("fence")], **{"arbiter.dry_run": [script("monitor", "echo no power switch >&2; exit 1")]})
    assert "no power switch" in items(failing, what=fencing_items)["arbiter.dry_run"].text
    hanging = {**failing, "arbiter.dry_run": [script("hang", "sleep 600")], "arbiter.timeout_ms": 200}
    item = items(hanging, what=fencing_items)["arbiter.dry_run"]
    assert item.level is Level.REFUSED
    assert "did not end within 0.2 s" in item.text


# ── QEMU ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({"qemu.command": ["sh", "-c"]}, Level.OK),
        ({"qemu.command": None}, Level.OK),
        ({"qemu.command": ["qemu-system-x86_65"]}, Level.REFUSED),
        ({"qemu.command": ["sh"], "qemu.environment": {"PATH": "/nonexistent"}}, Level.REFUSED),
        ({"qemu.environment": {"LD_PRELOAD": f"libc.so.6 {__file__}"}}, Level.OK),
        ({"qemu.environment": {"LD_PRELOAD": f"{__file__}:/nowhere/colo-preload.so"}}, Level.REFUSED),
        ({"qemu.command": ["true", "-netdev", "tap,id=hn0,vhost=on"]}, Level.WARNING),
    ],
)
def test_what_starts_the_secondarys_guest_is_there(tmp_path, changes, level):
    config = parse(changed(checkable(tmp_path, changes)).encode(), "vm.toml")
    (item,) = qemu_items(config)
    assert item.level is level


def test_a_command_must_find_its_files_and_must_not_wait(tmp_path):
    words = ["true", "-daemonize", "-serial", "unix:/x,server", "-kernel", "/nowhere/vmlinuz", "-cdrom", str(tmp_path)]
    config = parse(changed(checkable(tmp_path, {"qemu.command": words})).encode(), "vm.toml")
    items = qemu_items(config)
    traps = {"qemu.command -daemonize", "qemu.command wait=on", "qemu.command -kernel"}
    assert {item.name for item in items} == traps
    assert {item.level for item in items} == {Level.REFUSED}
