"""Directories, the record, the group."""

import os
from pathlib import Path

import pytest

from pycolo.check import Level, places
from pycolo.check.places import RECORD_NAME, place_items, read_record, user_name
from pycolo.config import parse
from pycolo.link.hello import Role
from pycolo.vm.statefile import FILE_NAME, NodeRecord, StateFile
from support.configs import changed, checkable


def items(tmp_path, changes=None, *, is_running=False):
    config = parse(changed(checkable(tmp_path, changes)).encode(), "vm.toml")
    return {item.name: item for item in place_items(config, is_running=is_running)}


def test_a_host_where_everything_is_there(tmp_path):
    found = items(tmp_path)
    assert {name: item.level for name, item in found.items()} == {"sockets": Level.OK, "state": Level.OK}
    assert "no record yet" in found["state"].text
    assert list((tmp_path / "state").iterdir()) == [], "nothing is left behind"


def test_each_directory_is_looked_at_once(tmp_path):
    given = {"qemu.qmp": "/nowhere/qmp.sock", "qemu.yank": "/nowhere/yank.sock", "control.socket": "/none/c.sock"}
    config = parse(changed(checkable(tmp_path, given)).encode(), "vm.toml")
    texts = [item.text for item in place_items(config, is_running=True) if item.name == "sockets"]
    assert texts[0] == f"{tmp_path}/run can be written"
    assert texts[1:] == [f"{name} does not exist: mkdir -p {name}" for name in ("/nowhere", "/none")]


def test_the_folder_of_a_domains_qemu_is_the_nodes_to_make(tmp_path):
    checkable(tmp_path)
    file = f"""
pair = "vm1"
role = "primary"
state = "{tmp_path}/state"
[link]
listen = "127.0.0.1:9000"
peer = "127.0.0.1:9001"
insecure = true
[guest]
domain = "vm1"
[qemu]
directory = "{tmp_path}/none"
[control]
socket = "{tmp_path}/run/control.sock"
"""
    found = [item for item in place_items(parse(file.encode(), "vm.toml"), is_running=True) if item.name == "sockets"]
    assert [(item.level, item.text) for item in found] == [(Level.OK, f"{tmp_path}/run can be written")]


def test_something_else_in_the_control_sockets_place_is_refused(tmp_path):
    checkable(tmp_path)
    (tmp_path / "run" / "control.sock").touch()
    assert items(tmp_path)["control.socket"].level is Level.REFUSED


@pytest.mark.parametrize(("is_running", "level"), [(False, Level.WARNING), (True, Level.REFUSED)])
def test_a_directory_below_run_may_come_with_the_node(tmp_path, is_running, level):
    name = "/run/colo-of-a-test/none"
    given = {"qemu.directory": name, "qemu.qmp": f"{name}/q", "control.socket": f"{name}/c"}
    assert items(tmp_path, given, is_running=is_running)["sockets"].level is level


def test_a_file_in_a_directorys_place_is_refused(tmp_path):
    (tmp_path / "file").touch()
    given = dict.fromkeys(("qemu.qmp", "control.socket"), f"{tmp_path}/file/x")
    found = items(tmp_path, {"qemu.directory": f"{tmp_path}/file", **given, "control.socket": f"{tmp_path}/file/y"})
    assert found["sockets"].level is Level.REFUSED
    assert items(tmp_path, {"state": f"{tmp_path}/file"})["state"].level is Level.REFUSED
    assert items(tmp_path, {"state": f"{tmp_path}/file/below"})["state"].level is Level.REFUSED


def test_what_cannot_be_written_is_refused(tmp_path, monkeypatch):
    def denied(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(places, "TemporaryFile", denied)
    found = items(tmp_path)
    assert [item.level for item in found.values()] == [Level.REFUSED, Level.REFUSED]
    assert f"cannot be written by {user_name()}: Permission denied" in found["state"].text
    assert (
        f"cannot be made by {user_name()} in {tmp_path}" in items(tmp_path, {"state": f"{tmp_path}/a/b"})["state"].text
    )


def test_what_cannot_even_be_looked_at_is_refused(tmp_path, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    config = parse(changed(checkable(tmp_path)).encode(), "vm.toml")
    monkeypatch.setattr(Path, "is_dir", denied)
    first = next(place_items(config, is_running=False))
    assert first.text == f"{tmp_path}/run: Permission denied, as {user_name()}: run the check as the node's user"


def test_a_full_disk_is_refused(tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left" in items(tmp_path)["state"].text


def test_a_state_directory_is_made_at_the_first_start(tmp_path):
    assert items(tmp_path, {"state": f"{tmp_path}/a/b/c"})["state"].level is Level.OK
    assert not (tmp_path / "a").exists()


def test_a_state_that_a_restart_of_the_host_loses_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "_VOLATILE", (tmp_path,))
    assert items(tmp_path)["state"].level is Level.WARNING


def test_the_record_is_the_nodes_own(tmp_path):
    assert RECORD_NAME == FILE_NAME
    assert read_record(tmp_path) is None
    StateFile(tmp_path).write(NodeRecord(role=Role.SECONDARY, term=7))
    found = read_record(tmp_path)
    assert (found.role, found.term) == (Role.SECONDARY, 7)


@pytest.mark.parametrize("octets", [b"", b"{}", b"\xff\x00", b'{"role": "king"}'])
def test_a_record_that_cannot_be_read_is_refused(tmp_path, octets):
    checkable(tmp_path)
    (tmp_path / "state" / RECORD_NAME).write_bytes(octets)
    assert items(tmp_path)["state"].level is Level.REFUSED


@pytest.mark.parametrize(("group", "level"), [("root", Level.OK), ("no-such-group", Level.REFUSED)])
def test_the_group_of_the_control_socket_exists(tmp_path, group, level):
    found = items(tmp_path, {"control.group": group, "control.mode": "0660"})
    assert found["control.group"].level is level


def test_a_user_without_a_name_has_a_number(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_000)
    assert user_name() == "user 4000000000"
