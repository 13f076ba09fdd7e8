"""The bulk server in the guests. As in `pycolo_lab.guest_server`, answers depend only on a connection's requests."""

import socket

from pycolo_lab.baseline.protocol import (
    ASK,
    CHECK,
    GET,
    NUMBER,
    PORT,
    PUT,
    REQUEST,
    Pattern,
    Sampler,
    receive_exactly,
)
from pycolo_lab.guest_server import listen


def serve(connection: socket.socket, content: bytes) -> None:
    """Answer one connection until its client ends it."""
    out, into = Pattern(content), Sampler(content)
    with connection:
        try:
            while request := receive_exactly(connection, REQUEST.size):
                operation, number = REQUEST.unpack(request)
                if operation == ASK:
                    connection.sendall(NUMBER.pack(number + 1))
                elif operation == GET:
                    _send(connection, out, number)
                elif operation == PUT:
                    left = number
                    while left:
                        left -= into.receive(connection, left)
                    connection.sendall(CHECK.pack(into.check))
                else:
                    return
        except (OSError, EOFError, ValueError):
            # Of an upload with a wrong byte too: its client misses the answer.
            return


def _send(connection: socket.socket, out: Pattern, left: int) -> None:
    while left:
        sent = connection.send(out.next(left))
        out.position += sent
        left -= sent


def main() -> None:
    """Run the bulk server of a guest."""
    listen("bulk server", PORT, serve)


if __name__ == "__main__":
    main()
