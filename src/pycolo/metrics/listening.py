"""The listening socket of an HTTP server, opened before the server's imports."""

import socket
from typing import Final

from pycolo.errors import ConnectError
from pycolo.transport.occupied import why_not

_BACKLOG: Final = 16


def listen(host: str, port: int, what: str, advice: str = "") -> socket.socket:
    """Listen on TCP; port 0 selects a free one. Raises `ConnectError`, whose text begins with `what`."""
    try:
        family, _, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((str(target[0]), int(target[1])), family=family, backlog=_BACKLOG)
    except OSError as error:
        hint = f" ({advice})" if advice else ""
        raise ConnectError(f"{what}: cannot listen: {why_not(error, port)}{hint}") from error
