"""Who is taken for the other node, and where plain text may be spoken."""

import errno
import socket
import ssl
import threading
from contextlib import closing
from datetime import UTC, datetime

import pytest

from pycolo.errors import ConfigError, LinkError
from pycolo.link.hello import Role
from pycolo.transport import tls
from pycolo.transport.certs import create
from pycolo.transport.tls import check_plaintext_allowed, client_context, server_context


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    made = tmp_path_factory.mktemp("certificates") / "web"
    create(made, "web", 30, datetime.now(UTC))
    return made


def shake_hands(server, client, *, server_expects=("web", Role.SECONDARY), client_expects=("web", Role.PRIMARY)):
    """What each side of a handshake over a socket pair says: the protocol version, or its line."""
    said = {}

    def side(name, sock, context, expects):
        wrapped = context.wrap_socket(sock, server_side=name == "server", do_handshake_on_connect=False)
        with closing(wrapped):
            try:
                tls.handshake(wrapped, *expects, name, 10)
                said[name] = wrapped.version()
            except LinkError as error:
                said[name] = str(error)

    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=side, args=("server", ours, server, server_expects))
    thread.start()
    side("client", theirs, client, client_expects)
    thread.join(10)
    return said


def test_the_two_nodes_speak_tls_1_3(directory):
    said = shake_hands(server_context(directory, "web"), client_context(directory, "web"))
    assert said == {"server": "TLSv1.3", "client": "TLSv1.3"}


def test_roles_are_not_tied_to_who_listens(directory):
    said = shake_hands(
        server_context(directory, "web", Role.SECONDARY),
        client_context(directory, "web", Role.PRIMARY),
        server_expects=("web", Role.PRIMARY),
        client_expects=("web", Role.SECONDARY),
    )
    assert said == {"server": "TLSv1.3", "client": "TLSv1.3"}


def test_older_tls_is_refused(directory):
    client = client_context(directory, "web")
    client.minimum_version = ssl.TLSVersion.TLSv1_2
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    said = shake_hands(server_context(directory, "web"), client)
    assert said["server"] == "server: the other side does not speak TLS 1.3"


def test_a_valid_certificate_of_the_wrong_role_or_pair_is_refused(directory):
    twins = shake_hands(server_context(directory, "web"), client_context(directory, "web", Role.PRIMARY))
    assert twins["server"] == (
        "server: the other side's certificate is for colo:web/primary, must be for colo:web/secondary; link closed"
    )
    other = shake_hands(
        server_context(directory, "web"),
        client_context(directory, "web"),
        client_expects=("shop", Role.PRIMARY),
    )
    assert "is for colo:web/primary, must be for colo:shop/primary" in other["client"]


def test_files_of_two_sets_are_told_at_start(directory, tmp_path):
    create(tmp_path / "mixed", "web", 30, datetime.now(UTC))
    (tmp_path / "mixed" / "primary.pem").write_bytes((directory / "primary.pem").read_bytes())
    with pytest.raises(ConfigError, match=r"expected primary.pem, its key and ca.pem of one `colo certs init`"):
        server_context(tmp_path / "mixed", "web")


GONE = [
    ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol"),
    ssl.SSLZeroReturnError(ssl.SSL_ERROR_ZERO_RETURN, "TLS/SSL connection has been closed (EOF)"),
    ssl.SSLSyscallError(ssl.SSL_ERROR_SYSCALL, "Some I/O error occurred"),
    ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    OSError(errno.ENOTCONN, "Transport endpoint is not connected"),
]


@pytest.mark.parametrize("error", GONE, ids=lambda error: type(error).__name__)
def test_a_peer_that_leaves_in_the_handshake_is_one_line(monkeypatch, error):
    """Which error it is depends on the releases of Python and OpenSSL; no peer makes all of them with one."""

    def leave(_sock):
        raise error

    monkeypatch.setattr(ssl.SSLSocket, "do_handshake", leave)
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        ssl.create_default_context().wrap_socket(ours, do_handshake_on_connect=False, server_hostname="a") as sock,
        pytest.raises(LinkError) as raised,
    ):
        tls.handshake(sock, "web", Role.PRIMARY, "link", 1)
    assert str(raised.value) == (
        "link: the other side closed during the TLS handshake (does that node say --insecure, or link.insecure in its "
        "file?)"
    )


HALF_A_RECORD, GOODBYE, ALERT = b"\x16\x03\x01", b"\x15\x03\x03\x00\x02\x01\x00", b"\x15\x03\x03\x00\x02\x02\x28"


@pytest.mark.parametrize("words", [b"", HALF_A_RECORD, GOODBYE, ALERT])
def test_whatever_a_peer_says_before_it_leaves_is_one_line(directory, words):
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(words)
    with (
        server_context(directory, "web").wrap_socket(ours, server_side=True, do_handshake_on_connect=False) as sock,
        pytest.raises(LinkError, match=r"^link: [^\n]+$"),
    ):
        tls.handshake(sock, "web", Role.SECONDARY, "link", 10)


def test_a_tls_record_is_told_from_a_message():
    assert tls.is_tls_record(b"\x16\x03\x01\x02\x00\x01\x00\x01")
    assert tls.is_tls_record(b"\x15\x03\x03\x00\x02")
    assert not tls.is_tls_record(b"\x00\x00\x01\x16\x03")
    assert not tls.is_tls_record(b"\x16")


# ── plain text ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("link", [None, "lo", "10.0.0.0/8"])
@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "10.0.0.1"])
def test_plain_text_always_needs_the_word(host, link):
    with pytest.raises(ConfigError, match=r"--tls.*--insecure"):
        check_plaintext_allowed(host, insecure=False, allowed_link=link)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_link(host):
    assert check_plaintext_allowed(host, insecure=True, allowed_link=None) is None


@pytest.mark.parametrize("host", ["10.0.0.1", "0.0.0.0", "::", "fe80::1", "db.example", "localhost.example", ""])
def test_anything_else_needs_the_link_named(host):
    with pytest.raises(ConfigError, match="--insecure-link"):
        check_plaintext_allowed(host, insecure=True, allowed_link=None)


@pytest.mark.parametrize(
    ("host", "link"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.0/24"),
        ("10.0.0.9", "10.0.0.1/24"),
        ("fd00::2", "fd00::/64"),
    ],
)
def test_an_address_or_prefix_names_a_link(host, link):
    assert check_plaintext_allowed(host, insecure=True, allowed_link=link) is None


@pytest.mark.parametrize(
    ("host", "link"),
    [
        ("10.0.0.2", "10.0.0.1"),
        ("10.0.1.1", "10.0.0.0/24"),
        ("0.0.0.0", "10.0.0.1"),
        ("fd00::2", "10.0.0.1"),
        ("db", "::/0"),
    ],
)
def test_an_address_elsewhere_is_refused(host, link):
    with pytest.raises(ConfigError, match="covers"):
        check_plaintext_allowed(host, insecure=True, allowed_link=link)


def test_an_interface_is_what_the_socket_must_be_bound_to():
    assert check_plaintext_allowed("0.0.0.0", insecure=True, allowed_link="lo") == "lo"
    with pytest.raises(ConfigError, match="an interface of this host, found 'no-such0'"):
        check_plaintext_allowed("10.0.0.1", insecure=True, allowed_link="no-such0")
