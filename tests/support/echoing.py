"""A small server and its client, for runs with a server of one's own.

python echoing.py serve HOST PORT [random]    echoes lines; with `random` it greets with eight random bytes
python echoing.py talk HOST PORT [lines]      asks a question every 20 ms; without a number of lines, for ever
"""

import os
import socket
import sys
import threading
import time

TIMEOUT_S = 20.0


def serve(host: str, port: int, greeting: bool) -> None:
    # What is written to the working directory is the guest's own.
    with open("here", "x") as file:
        file.write(host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        while True:
            threading.Thread(target=echo, args=(listener.accept()[0], greeting), daemon=True).start()


def echo(connection: socket.socket, greeting: bool) -> None:
    with connection:
        if greeting:
            connection.sendall(os.urandom(8) + b"\n")
        while octets := connection.recv(4096):
            connection.sendall(octets)


def talk(host: str, port: int, lines: int) -> None:
    with socket.create_connection((host, port), timeout=TIMEOUT_S) as connection:
        number = 0
        while number != lines:
            number += 1
            question = b"%d\n" % number
            connection.sendall(question)
            answer = b""
            while not answer.endswith(question):
                octets = connection.recv(4096)
                if not octets:
                    sys.exit("the server went away")
                answer += octets
            time.sleep(0.02)


def main() -> None:
    kind, host, port, *more = sys.argv[1:]
    if kind == "serve":
        serve(host, int(port), more == ["random"])
    else:
        talk(host, int(port), int(more[0]) if more else -1)


if __name__ == "__main__":
    main()
