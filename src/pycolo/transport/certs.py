"""A small certificate authority for one pair of nodes, and the files it leaves.

::

    DIR/ca.pem               both hosts     whom to trust
    DIR/ca-key.pem           neither host   signs; keep it off line, or delete it
    DIR/primary.pem          primary host   who I am
    DIR/primary-key.pem      primary host
    DIR/secondary.pem        secondary host
    DIR/secondary-key.pem    secondary host

One authority per pair: there is nobody else to trust. A node's certificate says pair and role in a URI,
``colo:PAIR/primary``, and no host name: a node may move to another host, but not to another pair or role.
To revoke a certificate, make a new authority (`--force`) and copy the new files.
"""

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pycolo.errors import ConfigError, ConnectError
from pycolo.link.hello import Role, check_pair_name

VALID_DAYS_DEFAULT: Final = 730
"""Two years: few renewals, and somebody still remembers how."""

VALID_DAYS_MAX: Final = 3_650

BACKDATED: Final = timedelta(days=1)
"""The hosts' clocks may differ, and a fresh certificate must be valid on both."""

_FILE_NAMES: Final = frozenset(
    {"ca.pem", "ca-key.pem"} | {f"{role}{suffix}.pem" for role in Role for suffix in ("", "-key")}
)


class NodeFiles(NamedTuple):
    """The three files that one node needs."""

    authority: Path
    certificate: Path
    key: Path


def node_files(directory: Path, role: Role) -> NodeFiles:
    """Where the files of the node with `role` are."""
    return NodeFiles(directory / "ca.pem", directory / f"{role}.pem", directory / f"{role}-key.pem")


def node_uri(pair: str, role: Role) -> str:
    """How a certificate names its node."""
    return f"colo:{pair}/{role}"


def create(directory: Path, pair: str, days: int, now: datetime, *, force: bool = False) -> datetime:
    """Make the authority and both certificates in `directory` (made if missing); the answer is when they end.

    Raises `ConfigError` for a bad argument, for files that exist (unless `force`) and for a directory that
    holds other things, `ConnectError` when something cannot be written. Either all files are the new ones,
    or none.
    """
    check_pair_name(pair)
    if not 1 <= days <= VALID_DAYS_MAX:
        raise ConfigError("--days", f"1 to {VALID_DAYS_MAX}", days)
    try:
        _prepare(directory, force=force)
        ends = now.astimezone(UTC) + timedelta(days=days)
        contents = _contents(pair, (now.astimezone(UTC) - BACKDATED, ends))
        _write_all(directory, contents)
    except OSError as error:
        raise ConnectError(f"{error.filename or directory}: cannot be written: {error.strerror}") from error
    return ends


def check_own_files(directory: Path, pair: str, role: Role, now: datetime) -> None:
    """Raises `ConfigError` when a file of this node is missing, open to others, out of date or another's.

    The other node would refuse them too, but this host is where they can be put right.
    """
    files = node_files(directory, role)
    for path in files:
        if not path.is_file():
            expected = f"the files {', '.join(file.name for file in files)} of `colo certs init`"
            raise ConfigError(str(directory), expected, f"no {path.name}")
    mode = stat.S_IMODE(files.key.stat().st_mode)
    if mode & 0o077:
        raise ConfigError(str(files.key), "a key that only its owner can read (chmod 600)", f"{mode:04o}")
    try:
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(str(files.certificate), "a certificate in PEM", str(error)) from error
    found = _uris(certificate)
    if node_uri(pair, role) not in found:
        raise ConfigError(str(files.certificate), f"a certificate for {node_uri(pair, role)}", ", ".join(found))
    begin, end = validity(certificate)
    if not begin <= now <= end:
        expected = f"a certificate that is valid now ({now:%Y-%m-%d}); make new ones with `colo certs init --force`"
        span = f"{begin:%Y-%m-%d} to {end:%Y-%m-%d}"
        raise ConfigError(str(files.certificate), expected, span)


def validity(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    """From when and until when it counts. Debian 12's cryptography has the naive properties only, which are UTC."""
    if hasattr(certificate, "not_valid_before_utc"):
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return certificate.not_valid_before.replace(tzinfo=UTC), certificate.not_valid_after.replace(tzinfo=UTC)


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


# ── making them ─────────────────────────────────────────────────────────────────────────────────────────────


def _contents(pair: str, valid: tuple[datetime, datetime]) -> dict[str, bytes]:
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = _name(f"colo {pair} authority")
    authority = (
        _builder(authority_name, authority_name, authority_key, authority_key, valid)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    contents = {"ca.pem": _certificate_pem(authority), "ca-key.pem": _key_pem(authority_key)}
    for role in Role:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_name(f"colo {pair} {role}"), authority_name, key, authority_key, valid)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            # Both: after a failover the secondary may be the node that listens.
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(node_uri(pair, role))]),
                critical=False,
            )
            .sign(authority_key, hashes.SHA256())
        )
        contents[f"{role}.pem"] = _certificate_pem(certificate)
        contents[f"{role}-key.pem"] = _key_pem(key)
    return contents


def _name(common_name: str) -> x509.Name:
    # RFC 5280 allows 64 characters; the pair is told by the URI, the common name is for people.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    valid: tuple[datetime, datetime],
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    # Not encrypted: a node must start without a human. The file's mode protects it.
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


# ── writing them ────────────────────────────────────────────────────────────────────────────────────────────


def _prepare(directory: Path, *, force: bool) -> None:
    """An empty directory for its owner only, or with `force` one with an earlier set of files."""
    try:
        directory.mkdir(mode=0o700)
        return
    except FileExistsError:
        found = {path.name for path in directory.iterdir()}
    # Its mode will be narrowed: that must not happen to somebody's home directory.
    if found - _FILE_NAMES:
        raise ConfigError(str(directory), "a directory of its own", ", ".join(sorted(found - _FILE_NAMES)[:3]))
    if found and not force:
        raise ConfigError(
            str(directory),
            "an empty directory, or --force to replace what is there",
            ", ".join(sorted(found)),
        )
    directory.chmod(0o700)


def _write_all(directory: Path, contents: dict[str, bytes]) -> None:
    """Write all beside their names first, so that a full disk leaves the earlier files as they were."""
    waiting: list[tuple[Path, Path]] = []
    try:
        for name, content in contents.items():
            path = directory / name
            temporary = directory / f".{name}.{os.getpid()}"
            waiting.append((temporary, path))
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        while waiting:
            temporary, path = waiting[0]
            temporary.replace(path)
            del waiting[0]
    finally:
        for temporary, _ in waiting:
            temporary.unlink(missing_ok=True)
