"""The laboratory's server: its answers are a function of the connection's own input."""

import contextlib
import hashlib
import socket
import threading

from pycolo_lab.guest_server import PATTERN_BYTES, pattern, serve

SCRIPT = b"ask one\nget 3000000\nask two\nput 5\nhelloget 10\nput 3\n..."


def converse(pieces: list[bytes], *, seed: int = 7) -> bytes:
    """What the server says to the pieces, each sent on its own."""
    here, there = socket.socketpair()
    server = threading.Thread(target=serve, args=(there, memoryview(pattern(seed))))
    server.start()

    def talk() -> None:
        # A server that refuses closes first: what is still to be said then finds no reader.
        with contextlib.suppress(OSError):
            for piece in pieces:
                here.sendall(piece)
            here.shutdown(socket.SHUT_WR)

    talker = threading.Thread(target=talk)
    talker.start()
    heard = bytearray()
    with here:
        # Nor is the end of one that has not read everything an orderly one.
        with contextlib.suppress(ConnectionResetError):
            while piece := here.recv(1 << 16):
                heard += piece
        talker.join()
    server.join()
    return bytes(heard)


def test_the_same_input_gives_the_same_output_in_any_pieces() -> None:
    whole = converse([SCRIPT])
    assert converse([bytes([octet]) for octet in SCRIPT]) == whole
    assert converse([SCRIPT[:9], SCRIPT[9:30], SCRIPT[30:]]) == whole


def test_get_goes_on_where_the_last_one_ended() -> None:
    parts = converse([b"get 1000000\nget 1048573\nget 7\n"])
    whole = converse([b"get 2048580\n"])
    assert parts == whole == (pattern(7) * 2)[: 1_000_000 + PATTERN_BYTES + 7]


def test_put_answers_the_digest_of_everything_so_far() -> None:
    heard = converse([b"put 3\nabcput 2\nde"])
    assert heard.split() == [hashlib.sha256(text).hexdigest().encode() for text in (b"abc", b"abcde")]


def test_ask_counts_and_remembers_every_line() -> None:
    first, second = converse([b"ask a\nask b\n"]).splitlines()
    assert first.startswith(b"1 ")
    assert second.startswith(b"2 ")
    assert second != converse([b"ask x\nask b\n"]).splitlines()[1], "a line that was lost or changed shows later"


def test_another_seed_is_another_pattern() -> None:
    assert converse([b"get 100\n"], seed=1) != converse([b"get 100\n"], seed=2)


def test_nonsense_ends_the_connection_and_nothing_else() -> None:
    assert converse([b"what\n"]) == b""
    assert converse([b"get many\n"]) == b""
    assert converse([b"put 10\nabc"]) == b"", "a client that leaves in the middle"
