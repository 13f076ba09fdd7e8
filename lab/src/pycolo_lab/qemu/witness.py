"""A client whose connection is older than the guest's reboot: what becomes of it.

Any machine answers data of a connection that it does not know with a reset. Exit code 0: so did this one; 1: the
connection ended otherwise, as the last line says. Runs as a separate process in the client's namespace.
"""

import argparse
import socket
import sys
import time
from typing import Final

from pycolo_lab.guest_server import PORT

ASK_S: Final = 0.5
"""Pause between two questions."""

ANSWER_BYTES: Final = 99


def watch(connection: socket.socket, within_s: float) -> str | None:
    """Tell the guest to reboot, and ask on. Returns None once the connection is reset, otherwise what came instead."""
    connection.settimeout(within_s)
    connection.sendall(b"reboot\n")
    if connection.recv(ANSWER_BYTES) != b"reboot\n":
        return "the guest does not answer reboot"
    connection.settimeout(ASK_S)
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            connection.sendall(b"count x\n")
            if not connection.recv(ANSWER_BYTES):
                return "the connection was closed in order"
        except TimeoutError:
            continue
        except (ConnectionResetError, BrokenPipeError):
            return None
        time.sleep(ASK_S)  # the guest has not gone down yet
    return f"the connection was not reset within {within_s:g} s"


def main() -> None:
    """Watch one connection to its end."""
    parser = argparse.ArgumentParser(prog="witness")
    parser.add_argument("--address", required=True)
    parser.add_argument("--within-s", type=float, required=True)
    arguments = parser.parse_args()
    with socket.create_connection((arguments.address, PORT), timeout=arguments.within_s) as connection:
        said = watch(connection, arguments.within_s)
    if said is not None:
        sys.exit(said)


if __name__ == "__main__":
    main()
