"""What every TCP connection of a node and of the proxy has: no delay, and an end when its peer has vanished."""

import socket
from typing import Final

LINK_STUCK_MS: Final = 10_000
"""A peer whose host takes not one byte for so long is gone (TCP_USER_TIMEOUT). Far above every heartbeat's
time-out: this one is for half-open connections, not for the decision to take over."""

KEEPALIVE_IDLE_S: Final = 5
KEEPALIVE_INTERVAL_S: Final = 1
KEEPALIVE_PROBES: Final = 5
"""A connection on which nothing has to be sent notices a vanished peer in ten seconds as well."""


def set_options(sock: socket.socket) -> None:
    """No delay for small messages, and an end for half-open connections."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LINK_STUCK_MS)
