"""The server in both guests: the answers on a connection depend only on that connection's requests.

No time, no random number, no process id, no memory of other connections: two guests that see the same input give the
same output, byte for byte, so every difference is a fault of the product. Three commands, one per line:

    ask TEXT    answers "COUNT HASH": the number of lines so far, and the hash over all of them
    get N       answers N bytes of the pattern, going on where the connection's last `get` ended
    put N       takes N bytes, answers the SHA-256 over everything that was put on this connection, in hex
"""

import argparse
import hashlib
import random
import socket
import threading
from collections.abc import Callable
from io import BufferedReader
from typing import Final

PORT: Final = 5000

PATTERN_BYTES: Final = 1_048_573
"""A prime just below 1 MiB: no piece of the stream looks like its neighbour at any power-of-two distance."""

CHUNK_BYTES: Final = 256 << 10

LINE_BYTES_MAX: Final = 4096

HASH_CHARACTERS: Final = 16
"""Length of the hash in an answer; 64 bits are enough to tell any two histories of a session apart."""


def pattern(seed: int) -> bytes:
    """Return the endless pattern's period, twice: any window up to PATTERN_BYTES is one slice of it."""
    return random.Random(seed).randbytes(PATTERN_BYTES) * 2


class Conversation:
    """One connection's side of the protocol, without its socket."""

    def __init__(self) -> None:
        self._lines = 0
        self._history = hashlib.sha256()

    def answer(self, line: bytes) -> bytes:
        """Take the next line; return what `ask` has to answer to it."""
        self._lines += 1
        self._history.update(line)
        return b"%d %s\n" % (self._lines, self._history.hexdigest()[:HASH_CHARACTERS].encode())


def serve(connection: socket.socket, doubled_pattern: memoryview) -> None:
    """Answer one connection until its client ends it."""
    conversation = Conversation()
    position = 0
    received = hashlib.sha256()
    with connection, connection.makefile("rb") as stream:
        try:
            while line := stream.readline(LINE_BYTES_MAX):
                answer = conversation.answer(line)
                command, _, rest = line.partition(b" ")
                if command == b"ask":
                    connection.sendall(answer)
                elif command == b"get":
                    position = _send_pattern(connection, doubled_pattern, position, int(rest))
                elif command == b"put":
                    _take(stream, int(rest), received)
                    connection.sendall(received.hexdigest().encode() + b"\n")
                else:
                    return
        except (OSError, EOFError, ValueError):
            # The client disconnected, or sent nonsense; that is its business.
            return


def _take(stream: BufferedReader, left: int, received: "hashlib._Hash") -> None:
    while left:
        piece = stream.read1(min(CHUNK_BYTES, left))
        if not piece:
            raise EOFError
        received.update(piece)
        left -= len(piece)


def _send_pattern(connection: socket.socket, doubled: memoryview, position: int, length: int) -> int:
    end = position + length
    while position < end:
        size = min(CHUNK_BYTES, end - position)
        offset = position % PATTERN_BYTES
        connection.sendall(doubled[offset : offset + size])
        position += size
    return position


def listen(program: str, port: int, serve_one: Callable[[socket.socket, bytes], None]) -> None:
    """Listen on the guest's only address until killed; a thread per connection."""
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("--address", required=True)
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    family = socket.AF_INET6 if ":" in arguments.address else socket.AF_INET
    content = pattern(arguments.seed)
    with socket.create_server((arguments.address, port), family=family, backlog=1024) as listener:
        # Inherited by every connection: an answer must not wait for the next one.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve_one, args=(connection, content), daemon=True).start()


def main() -> None:
    """Run the server of a guest."""
    listen("guest_server", PORT, lambda connection, content: serve(connection, memoryview(content)))


if __name__ == "__main__":
    main()
