"""The content of a certificate, written and read with `cryptography`.

Importing that takes a tenth of a second: import this module only where a certificate is made or read.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pycolo.link.hello import Role


def said_by(pem: bytes) -> tuple[list[str], tuple[datetime, datetime]]:
    """The URIs of a certificate, and its validity period. Raises ValueError if it is not a certificate."""
    certificate = x509.load_pem_x509_certificate(pem)
    return _uris(certificate), validity(certificate)


def validity(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    """The validity period. Debian 12's cryptography has only the naive properties, which are UTC."""
    if hasattr(certificate, "not_valid_before_utc"):
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return certificate.not_valid_before.replace(tzinfo=UTC), certificate.not_valid_after.replace(tzinfo=UTC)


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def contents_of(pair: str, uris: Mapping[Role, str], valid: tuple[datetime, datetime]) -> dict[str, bytes]:
    """File name → content: an authority, and a certificate with that URI for each role."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = _name(f"colo {pair} authority")
    authority = (
        _builder(authority_name, authority_name, authority_key, authority_key, valid)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    contents = {"ca.pem": _certificate_pem(authority), "ca-key.pem": _key_pem(authority_key)}
    for role, uri in uris.items():
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_name(f"colo {pair} {role}"), authority_name, key, authority_key, valid)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            # Both usages: after a failover the secondary may be the node that listens.
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]),
                critical=False,
            )
            .sign(authority_key, hashes.SHA256())
        )
        contents[f"{role}.pem"] = _certificate_pem(certificate)
        contents[f"{role}-key.pem"] = _key_pem(key)
    return contents


def _name(common_name: str) -> x509.Name:
    # RFC 5280 allows 64 characters; the URI identifies the pair, the common name is for people.
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
    # Not encrypted: a node must start unattended. The file's mode protects it.
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
