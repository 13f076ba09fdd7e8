"""The user whom libvirt runs QEMU as, and where it gets to."""

import os
import pwd
from pathlib import Path

import pytest

from pycolo.domain import user as users
from pycolo.domain.user import closed_to, qemu_user

NOBODY = pwd.getpwnam("nobody")


def test_it_has_one_of_the_usual_names_or_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "USERS", ("no-such-user", "nobody"))
    assert qemu_user() == NOBODY
    monkeypatch.setattr(users, "USERS", ("no-such-user",))
    assert qemu_user() is None


def test_the_first_directory_that_it_may_not_pass_is_named(tmp_path: Path) -> None:
    place = tmp_path / "open" / "closed" / "new"
    for directory in (tmp_path, *(one for one in tmp_path.parents if "pytest" in one.name)):
        directory.chmod(directory.stat().st_mode | 0o001)  # these are closed to others
    (tmp_path / "open").mkdir(mode=0o711)
    assert closed_to(NOBODY, place) is None, "what is not there yet is made"
    (tmp_path / "open" / "closed").mkdir(mode=0o700)
    assert closed_to(NOBODY, place) == place.parent
    (tmp_path / "open" / "closed").chmod(0o701)
    assert closed_to(NOBODY, place) is None


def test_its_own_directories_and_those_of_its_groups_are_open(tmp_path: Path) -> None:
    owner = pwd.struct_passwd((*NOBODY[:2], os.geteuid(), os.getegid(), *NOBODY[4:]))
    tmp_path.chmod(0o100)
    assert closed_to(owner, tmp_path) is None
    other = pwd.struct_passwd((*NOBODY[:2], NOBODY.pw_uid, tmp_path.stat().st_gid, *NOBODY[4:]))
    tmp_path.chmod(0o010)
    assert closed_to(other, tmp_path) in (None, *tmp_path.parents), "its group may pass"
    tmp_path.chmod(0o700)
