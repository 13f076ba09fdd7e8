"""The bulk server in the guests. As `pycolo.lab.guest_server` it answers from what its connection asked, and from
nothing else."""

import argparse
import socket
import threading

from pycolo.lab.baseline.protocol import (
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
from pycolo.lab.guest_server import pattern


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
    """Listen on the guest's only address until killed; a thread per connection."""
    parser = argparse.ArgumentParser(prog="bulk server")
    parser.add_argument("--address", required=True)
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    family = socket.AF_INET6 if ":" in arguments.address else socket.AF_INET
    content = pattern(arguments.seed)
    with socket.create_server((arguments.address, PORT), family=family) as listener:
        # Inherited by every connection: an answer is not to wait for the next.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, content), daemon=True).start()


if __name__ == "__main__":
    main()
