"""The folder in which a domain's QEMU makes its sockets."""

import os
import pwd
import stat
from types import SimpleNamespace

import pytest

from pycolo.errors import ConnectError
from pycolo.vm import domainfolder
from pycolo.vm.domainfolder import make_folder


def test_the_group_of_libvirts_qemu_may_write_there_and_nobody_else(tmp_path, monkeypatch):
    changed = []
    monkeypatch.setattr(domainfolder.os, "geteuid", lambda: 0)
    monkeypatch.setattr(domainfolder.os, "chown", lambda path, user, group: changed.append((path, user, group)))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: SimpleNamespace(pw_gid=64055))
    path = tmp_path / "colo" / "vm1"
    make_folder(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o770
    assert changed == [(path, -1, 64055)]
    make_folder(path)
    assert len(changed) == 1, "a folder that is there keeps its owner"


def test_without_such_a_user_the_folder_is_the_nodes_own(tmp_path, monkeypatch):
    def none(name):
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", none)
    make_folder(tmp_path / "vm1")
    assert (tmp_path / "vm1").stat().st_gid == os.getegid()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConnectError, match=r"^qemu.directory .*/file/vm1: "):
        make_folder(tmp_path / "file" / "vm1")
