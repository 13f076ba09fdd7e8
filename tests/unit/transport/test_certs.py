"""What `colo certs init` leaves behind, and what a node says about files that are wrong."""

import errno
import os
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from pycolo.cli.certs import certs
from pycolo.errors import ConfigError, ConnectError
from pycolo.link.hello import Role
from pycolo.transport.certificates import validity
from pycolo.transport.certs import authority_key, check_own_files, create, files_of_both_roles, node_files

NOW = datetime(2030, 1, 1, tzinfo=UTC)
NAMES = {"ca.pem", "ca-key.pem", "primary.pem", "primary-key.pem", "secondary.pem", "secondary-key.pem"}


@pytest.fixture
def directory(tmp_path):
    create(tmp_path / "tls", "web", 30, NOW)
    return tmp_path / "tls"


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_only_the_owner_can_read_the_keys(directory):
    assert contents(directory).keys() == NAMES
    assert directory.stat().st_mode & 0o777 == 0o700
    for path in directory.glob("*-key.pem"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_the_certificates_say_who_and_how_long(directory):
    authority = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
    for role in Role:
        certificate = x509.load_pem_x509_certificate((directory / f"{role}.pem").read_bytes())
        authority.public_key().verify(
            certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(certificate.signature_hash_algorithm)
        )
        assert certificate.issuer == authority.subject
        assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
        begin, end = validity(certificate)
        assert (begin < NOW, end) == (True, NOW + timedelta(days=30))
        assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"colo:web/{role}"]


def test_a_validity_is_in_utc_whatever_cryptography_has():
    """Debian 12's has only the naive properties, which later ones warn of."""
    naive = SimpleNamespace(not_valid_before=NOW.replace(tzinfo=None), not_valid_after=NOW.replace(tzinfo=None))
    assert validity(naive) == (NOW, NOW)


def test_a_second_call_replaces_nothing_unless_told_to(directory):
    before = contents(directory)
    with pytest.raises(ConfigError, match="--force"):
        create(directory, "web", 30, NOW)
    assert contents(directory) == before
    create(directory, "web", 30, NOW, force=True)
    assert contents(directory).keys() == NAMES
    assert not set(contents(directory).values()) & set(before.values())


def test_an_empty_directory_is_taken_and_closed_to_others(tmp_path):
    directory = tmp_path / "tls"
    directory.mkdir(mode=0o755)
    create(directory, "web", 30, NOW)
    assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("force", [False, True])
def test_a_directory_with_other_things_is_left_alone(tmp_path, force):
    tmp_path.chmod(0o755)
    (tmp_path / "letters").touch()
    with pytest.raises(ConfigError, match="a directory of its own, found 'letters'"):
        create(tmp_path, "web", 30, NOW, force=force)
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_full_disk_leaves_the_earlier_files(directory, monkeypatch):
    before, synced = contents(directory), []

    def full(descriptor):
        synced.append(descriptor)
        if len(synced) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConnectError, match="cannot be written: No space left on device"):
        create(directory, "web", 30, NOW, force=True)
    assert contents(directory) == before


def test_a_path_that_cannot_be_made_is_one_line(tmp_path):
    with pytest.raises(ConnectError, match=r"/missing/tls: cannot be written: No such file or directory$"):
        create(tmp_path / "missing" / "tls", "web", 30, NOW)
    (tmp_path / "file").touch()
    with pytest.raises(ConnectError, match=r"/file: cannot be written: Not a directory$"):
        create(tmp_path / "file", "web", 30, NOW)


@pytest.mark.parametrize(("pair", "days"), [("a b", 30), ("", 30), ("web", 0), ("web", 4_000)])
def test_bad_arguments_make_nothing(tmp_path, pair, days):
    with pytest.raises(ConfigError):
        create(tmp_path / "tls", pair, days, NOW)
    assert not (tmp_path / "tls").exists()


def test_a_node_that_keeps_its_role_needs_three_files_only(directory, tmp_path):
    host = tmp_path / "host"
    host.mkdir()
    for path in node_files(directory, Role.SECONDARY):
        path.rename(host / path.name)
    check_own_files(host, "web", Role.SECONDARY, NOW)


def test_a_node_whose_role_changes_needs_all_but_the_authoritys_key(directory):
    assert {path.name for path in files_of_both_roles(directory)} == NAMES - {authority_key(directory).name}
    authority_key(directory).unlink()
    for role in Role:
        check_own_files(directory, "web", role, NOW)


def damage_key_mode(directory):
    (directory / "primary-key.pem").chmod(0o644)


def damage_certificate(directory):
    (directory / "primary.pem").write_text("no PEM")


def swap_roles(directory):
    (directory / "secondary.pem").rename(directory / "primary.pem")


def remove_key(directory):
    (directory / "primary-key.pem").unlink()


@pytest.mark.parametrize(
    ("damage", "pair", "now", "text"),
    [
        (
            remove_key,
            "web",
            NOW,
            r"expected the files ca.pem, primary.pem, primary-key.pem .* 'no primary-key.pem'",
        ),
        (damage_key_mode, "web", NOW, r"primary-key.pem: expected .*\(chmod 600\), found '0644'"),
        (damage_certificate, "web", NOW, r"primary.pem: expected a certificate in PEM"),
        (swap_roles, "web", NOW, r"expected a certificate for colo:web/primary, found 'colo:web/secondary'"),
        (
            lambda _: None,
            "shop",
            NOW,
            r"expected a certificate for colo:shop/primary, found 'colo:web/primary'",
        ),
        (lambda _: None, "web", NOW + timedelta(days=31), r"valid now \(2030-02-01\).* to 2030-01-31'"),
        (lambda _: None, "web", NOW - timedelta(days=2), r"valid now \(2029-12-30\).*'2029-12-31 to"),
    ],
)
def test_wrong_files_are_found_where_they_can_be_put_right(directory, damage, pair, now, text):
    damage(directory)
    with pytest.raises(ConfigError, match=text):
        check_own_files(directory, pair, Role.PRIMARY, now)


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_command_says_what_goes_where(tmp_path):
    directory = tmp_path / "tls"
    done = CliRunner().invoke(certs, ["init", str(directory), "--pair", "web", "--days", "7"])
    assert done.exit_code == 0
    assert contents(directory).keys() == NAMES
    lines = done.output.splitlines()
    for role in Role:
        (line,) = (line for line in lines if f"{role} host:" in line)
        assert line.split()[2:] == [str(path) for path in node_files(directory, role)]
    (names,) = (line.split() for line in lines if line.count(".pem") == 5)
    assert {path.removeprefix(f"{directory}/") for path in names} == NAMES - {"ca-key.pem"}
    assert f"Keep {directory}/ca-key.pem off both hosts" in done.output
    check_own_files(directory, "web", Role.PRIMARY, datetime.now(UTC))


def test_the_command_fails_with_one_line(tmp_path):
    directory = tmp_path / "tls"
    CliRunner().invoke(certs, ["init", str(directory)])
    again = CliRunner().invoke(certs, ["init", str(directory)])
    assert again.exit_code == 1
    assert again.output.startswith(f"Error: {directory}: expected an empty directory, or --force")
    assert again.output.count("\n") == 1
    assert CliRunner().invoke(certs, ["init", str(directory), "--force"]).exit_code == 0
