"""Ports for what must be told its port before it listens."""

import random
import socket

LOWEST, END = 10_000, 32_768
"""Below those that a kernel gives to those who ask for any: it gives none of these away between two looks."""

DICE = random.SystemRandom()
"""Not the module's own: several runs of the tests at once have the same seed."""


def unused_port() -> int:
    """A TCP port of 127.0.0.1 at which nothing listens."""
    while True:
        port = DICE.randrange(LOWEST, END)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
