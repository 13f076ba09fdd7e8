"""Options of TCP connections: small messages leave at once, and a peer that has vanished ends the connection."""

import socket

import pytest

from pycolo.transport import tcpoptions


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_tcp_connection_has_no_delay_and_an_end(family):
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        tcpoptions.set_options(sock)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == tcpoptions.LINK_STUCK_MS
        silent_s = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) + sock.getsockopt(
            socket.IPPROTO_TCP, socket.TCP_KEEPINTVL
        ) * sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        assert silent_s * 1000 == tcpoptions.LINK_STUCK_MS, "an idle connection ends as early as a busy one"


def test_other_sockets_are_left_as_they_are():
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        tcpoptions.set_options(sock)
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
