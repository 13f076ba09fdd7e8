"""Options of every TCP connection of a node and of the proxy: no delay, and an end if the peer vanishes."""

import socket
from typing import Final

LINK_STUCK_MS: Final = 10_000
"""If the peer's host acknowledges nothing for this long, the connection ends (TCP_USER_TIMEOUT). Far above every
heartbeat time-out: it is for half-open connections, not for the decision to take over."""

KEEPALIVE_IDLE_S: Final = 5
KEEPALIVE_INTERVAL_S: Final = 1
KEEPALIVE_PROBES: Final = 5
"""Keepalive: an idle connection also detects a vanished peer within ten seconds."""


def set_options(sock: socket.socket) -> None:
    """Send small messages without delay, and end half-open connections."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LINK_STUCK_MS)
