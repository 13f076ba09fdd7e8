"""Certificates of both roles: what the link would refuse is refused beforehand, and what is about to end is said."""

import os
import shutil
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization

from pycolo.check import Level
from pycolo.check.certificates import certificate_items
from pycolo.link.hello import Role
from pycolo.transport.certs import authority_key, create, files_of_both_roles, node_files

NOW = datetime.now(UTC)


def made(directory, days=100, pair="vm1", now=NOW):
    """A host's directory: what `colo certs init` says that both hosts need."""
    whole = directory.with_name(f"{directory.name}-all")
    create(whole, pair, days, now)
    directory.mkdir(mode=0o700)
    for path in files_of_both_roles(whole):
        shutil.copy2(path, directory)
    return directory


@pytest.fixture
def host(tmp_path):
    return made(tmp_path / "host")


def items(directory, now=NOW):
    return {item.name.removeprefix("link.tls ") or item.name: item for item in certificate_items(directory, "vm1", now)}


def test_what_certs_init_names_for_colo_node_is_enough(host):
    found = items(host)
    assert {name: item.level for name, item in found.items()} == dict.fromkeys(("primary", "secondary"), Level.OK)
    assert f"valid until {NOW + timedelta(days=100):%Y-%m-%d}" in found["primary"].text


@pytest.mark.parametrize("role", list(Role))
def test_a_host_with_three_files_cannot_take_the_other_role(host, role):
    for path in node_files(host, role.other)[1:]:
        path.unlink()
    found = items(host)
    assert (found[role].level, found[role.other].level) == (Level.OK, Level.REFUSED)
    assert f"{host} has no {role.other}.pem, {role.other}-key.pem" in found[role.other].text


def test_a_directory_that_is_not_there_is_refused_twice(tmp_path):
    assert [item.level for item in items(tmp_path / "none").values()] == [Level.REFUSED, Level.REFUSED]


@pytest.mark.parametrize(("left", "level"), [(31, Level.OK), (29, Level.WARNING), (-2, Level.REFUSED)])
def test_thirty_days_before_its_end_a_certificate_is_to_be_renewed(tmp_path, left, level):
    made(tmp_path / "host", days=100, now=NOW - timedelta(days=100 - left))
    found = items(tmp_path / "host")
    assert [item.level for item in found.values()] == [level, level]
    if level is not Level.OK:
        assert "colo certs init --force" in found["primary"].text


def test_the_authoritys_end_counts_too(tmp_path):
    """One who signs by other means may let the authority end first."""
    host, old = made(tmp_path / "host"), made(tmp_path / "old", days=10)
    shutil.copy2(old / "ca.pem", host)
    found = items(host)
    assert found["primary"].level is Level.REFUSED  # it has not signed them, either


def test_a_certificate_of_another_authority_is_refused(tmp_path, host):
    other = made(tmp_path / "other")
    for path in node_files(other, Role.SECONDARY)[1:]:
        shutil.copy2(path, host)
    found = items(host)
    assert found["primary"].level is Level.OK
    assert found["secondary"].level is Level.REFUSED
    assert "do not fit" in found["secondary"].text


def test_a_key_of_another_certificate_is_refused(host):
    shutil.copy2(host / "primary-key.pem", host / "secondary-key.pem")
    assert items(host)["secondary"].level is Level.REFUSED


def test_a_certificate_of_another_pair_or_role_is_refused(tmp_path, host):
    shutil.copy2(host / "primary.pem", host / "secondary.pem")
    shutil.copy2(host / "primary-key.pem", host / "secondary-key.pem")
    assert "expected a certificate for colo:vm1/secondary" in items(host)["secondary"].text
    other = made(tmp_path / "other", pair="vm2")
    assert "colo:vm2/primary" in items(other)["primary"].text


def test_a_key_that_others_can_read_is_refused(host):
    (host / "primary-key.pem").chmod(0o640)
    assert "chmod 600" in items(host)["primary"].text


def test_an_encrypted_key_is_refused_and_no_password_asked_for(host):
    path = host / "primary-key.pem"
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    path.write_bytes(key.private_bytes(*form, serialization.BestAvailableEncryption(b"secret")))
    assert "is encrypted" in items(host)["primary"].text


@pytest.mark.parametrize("name", ["ca.pem", "primary.pem", "primary-key.pem"])
@pytest.mark.parametrize("octets", [b"", b"garbage", os.urandom(2000)])
def test_garbage_is_refused_in_one_line(host, name, octets):
    (host / name).write_bytes(octets)
    item = items(host)["primary"]
    assert item.level is Level.REFUSED
    assert "\n" not in item.text


def test_the_authoritys_key_does_not_belong_here(tmp_path):
    create(tmp_path / "all", "vm1", 100, NOW)
    found = list(certificate_items(tmp_path / "all", "vm1", NOW))
    assert [item.level for item in found] == [Level.OK, Level.OK, Level.WARNING]
    assert str(authority_key(tmp_path / "all")) in found[-1].text
