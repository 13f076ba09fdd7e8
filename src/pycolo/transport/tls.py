"""TLS 1.3 with certificates on both sides, and the rule for plain text.

A peer is the other node if its certificate is signed by the pair's own authority *and* names the pair and the other
role (`certs`). Host names and addresses prove nothing here and are not checked.
"""

import errno
import ipaddress
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from pycolo.errors import ConfigError, LinkError
from pycolo.link.hello import Role
from pycolo.transport.certs import check_own_files, node_files, node_uri


def server_context(directory: Path, pair: str, role: Role = Role.PRIMARY) -> ssl.SSLContext:
    """For the node that listens. Raises `ConfigError` if `directory` does not hold valid files for it."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, directory, pair, role)
    # Both connections live as long as the nodes: there is no session to resume.
    context.num_tickets = 0
    return context


def client_context(directory: Path, pair: str, role: Role = Role.SECONDARY) -> ssl.SSLContext:
    """For the node that connects. Raises `ConfigError` if `directory` does not hold valid files for it."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, directory, pair, role)


def _context(protocol: int, directory: Path, pair: str, role: Role) -> ssl.SSLContext:
    check_own_files(directory, pair, role, datetime.now(UTC))
    files = node_files(directory, role)
    context = ssl.SSLContext(protocol)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the URI identifies the peer, see check_peer
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(files.authority)
        context.load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            str(directory), f"{role}.pem, its key and ca.pem of one `colo certs init`", str(error)
        ) from error
    return context


def handshake(sock: ssl.SSLSocket, pair: str, peer_role: Role, stream: str, timeout_s: float) -> None:
    """Shake hands and check the peer's identity. Raises `LinkError` with one line for any failure."""
    sock.settimeout(timeout_s)
    try:
        sock.do_handshake()
    except OSError as error:  # ssl.SSLError is one
        raise LinkError(f"{stream}: {describe(error)}") from error
    check_peer(sock, pair, peer_role, stream)


def check_peer(sock: ssl.SSLSocket, pair: str, role: Role, stream: str) -> None:
    """Raises `LinkError` unless the peer's (already verified) certificate names `pair` and `role`."""
    expected = node_uri(pair, role)
    names = (sock.getpeercert() or {}).get("subjectAltName", ())
    found = [str(name[1]) for name in names if isinstance(name, tuple) and name[0] == "URI"]
    if expected not in found:
        shown = ", ".join(found) or "no pair"
        raise LinkError(f"{stream}: the other side's certificate is for {shown}, must be for {expected}; link closed")


_VERIFY_TEXTS = {
    9: "is not valid yet (are both hosts' clocks correct?)",
    10: "has expired (make new ones with `colo certs init --force` and copy them to both hosts)",
}
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED; all others concern the signer."""

_REASON_TEXTS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the other side shows no certificate; give that node --tls",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the other node requires a certificate and got none from this one",
    "TLSV1_ALERT_UNKNOWN_CA": "the other node does not know the authority of this node's certificate; "
    "both need the files of one `colo certs init`",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "this node's certificate has expired (or the other's clock is wrong)",
    "TLSV1_ALERT_DECRYPT_ERROR": "the other node's authority did not sign this node's certificate; "
    "both need the files of one `colo certs init`",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the other side does not speak TLS 1.3",
    "UNSUPPORTED_PROTOCOL": "the other side does not speak TLS 1.3",
}

_NO_TLS_REASONS = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "RECORD_LAYER_FAILURE", "BAD_RECORD_TYPE",
     "PACKET_LENGTH_TOO_LONG", "UNEXPECTED_MESSAGE", "UNKNOWN_PROTOCOL"}
)  # fmt: skip


_GONE = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError, ConnectionError)
"""Errors for a peer that closes during the handshake: they depend on how it closes, and on the releases of Python and
OpenSSL (3.11.2 raises SSLZeroReturnError where 3.11.7 raises SSLEOFError). Or the socket is no longer connected."""

_GONE_BEFORE = "Closed before TLS handshake with data in recv buffer."
"""The reason that Python's `ssl` gives if there was no handshake, despite bytes from the peer."""


_PLAIN: Final = "does that node say --insecure, or link.insecure in its file?"


def describe(error: OSError) -> str:
    """One line for the error that ended a TLS handshake (or the first read after it)."""
    if isinstance(error, TimeoutError):
        return "the other side did not finish the TLS handshake in time; link closed"
    if isinstance(error, ssl.SSLCertVerificationError):
        why = _VERIFY_TEXTS.get(
            error.verify_code,
            f"is refused: {error.verify_message}; both nodes need the files of one `colo certs init`",
        )
        return f"the other side's certificate {why}"
    reason = getattr(error, "reason", None)  # only an ssl.SSLError has one
    if isinstance(error, _GONE) or error.errno == errno.ENOTCONN or reason == _GONE_BEFORE:
        return f"the other side closed during the TLS handshake ({_PLAIN})"
    if reason in _NO_TLS_REASONS:
        return f"the other side does not speak TLS ({_PLAIN}); link closed"
    known = _REASON_TEXTS.get(reason or "")
    return known or f"TLS failed: {reason or error.strerror or error}; link closed"


def is_tls_record(octets: bytes) -> bool:
    """Whether a plain-text peer's first bytes are a TLS handshake or alert record (RFC 8446, 5.1)."""
    return octets[:1] in (b"\x15", b"\x16") and octets[1:2] == b"\x03"


class PlainNames(NamedTuple):
    """What the user writes where: for messages."""

    insecure: str
    link: str
    tls: str


OPTIONS: Final = PlainNames("--insecure", "--insecure-link", "--tls")
KEYS: Final = PlainNames("link.insecure", "link.insecure_link", "link.tls")


def check_plaintext_allowed(
    host: str, *, insecure: bool, allowed_link: str | None, names: PlainNames = OPTIONS
) -> str | None:
    """Check that the link to or on `host` may be plain text. Raises `ConfigError` if not.

    Plain text requires `insecure`, and then loopback or `allowed_link`: an address, a prefix or the name of an
    interface. Returns the interface to which the socket must be bound, so that no route can lead the bytes elsewhere,
    or None if the address suffices.
    """
    if not insecure:
        raise ConfigError(names.tls, f"the directory of `colo certs init` (or {names.insecure}, for plain text)", None)
    address = _literal(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return None
    if allowed_link is None:
        raise ConfigError(names.insecure, f"a loopback address, or the link that you trust in {names.link}", host)
    try:
        trusted = ipaddress.ip_network(allowed_link, strict=False)
    except ValueError:
        return _interface(allowed_link, names)
    if address is None or address.version != trusted.version or address not in trusted:
        raise ConfigError(names.link, f"an address, prefix or interface that covers {host}", allowed_link)
    return None


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _interface(name: str, names: PlainNames) -> str:
    try:
        socket.if_nametoindex(name)
    except OSError as error:
        raise ConfigError(names.link, "an address, a prefix or an interface of this host", name) from error
    return name
