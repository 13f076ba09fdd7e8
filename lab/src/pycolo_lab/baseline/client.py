"""The bulk clients: a download, an upload, or small questions; each continues until the run ends it, and writes one
JSON result. A transfer then sends no more requests and waits for outstanding data."""

import argparse
import socket
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pycolo_lab.baseline.facts import Answered, BulkResult
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
    wait_at_most,
)
from pycolo_lab.clients import ClientError, in_words, leave_result, tcp_info
from pycolo_lab.guest_server import pattern
from pycolo_lab.scoreboard import Scoreboard, Slot

PIECE_BYTES: Final = 4 << 20

AHEAD_BYTES: Final = 32 << 20
"""Requested ahead of received data: a download is never idle, and ends soon after the run's end."""

ASK_EVERY_S: Final = 0.002
"""Pause between an answer and the next question: the questions measure the load and should not add to it."""


class Bulk:
    """What the clients share: the connection, the content, and the result."""

    def __init__(self, connection: socket.socket, board: Scoreboard, seed: int) -> None:
        self.socket = connection
        self.board = board
        self.content = pattern(seed)
        self.result = BulkResult(bytes=0, checked_bytes=0, error=None)

    @property
    def finishing(self) -> bool:
        """Whether the run has ended the load."""
        return self.board[Slot.FINISH] != 0


def download(bulk: Bulk) -> None:
    """Fetch the pattern, piece by piece."""
    into = Sampler(bulk.content)
    asked = 0
    while True:
        while asked - into.position < AHEAD_BYTES and not bulk.finishing:
            bulk.socket.sendall(REQUEST.pack(GET, PIECE_BYTES))
            asked += PIECE_BYTES
        if into.position == asked:
            return
        try:
            into.receive(bulk.socket, asked - into.position)
        except EOFError:
            raise ClientError(f"the connection ended after {into.position} bytes") from None
        except ValueError as error:
            raise ClientError(str(error)) from None
        bulk.result.bytes = bulk.board[Slot.DOWNLOAD_BYTES] = into.position
        bulk.result.checked_bytes = into.checked


def upload(bulk: Bulk) -> None:
    """Put the pattern, piece by piece; the guest confirms each. Progress is what TCP has acknowledged."""
    out = Pattern(bulk.content)
    expected: deque[tuple[int, int]] = deque()
    answers = bytearray()

    def take_answers(flags: int) -> None:
        received = bulk.socket.recv(CHECK.size * len(expected), flags)
        if not received:
            raise ClientError(f"the connection ended after {out.position} bytes")
        answers.extend(received)
        while len(answers) >= CHECK.size:
            check, checked = expected.popleft()
            if answers[: CHECK.size] != CHECK.pack(check):
                raise ClientError(f"the guest's check differs before byte {out.position}")
            del answers[: CHECK.size]
            bulk.result.checked_bytes = checked

    while not bulk.finishing:
        bulk.socket.sendall(REQUEST.pack(PUT, PIECE_BYTES))
        left = PIECE_BYTES
        while left:
            sent = bulk.socket.send(out.next(left))
            out.sent(sent)
            left -= sent
            bulk.board[Slot.UPLOAD_BYTES] = tcp_info(bulk.socket)[0]
        expected.append((out.check, out.checked))
        try:
            take_answers(socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
    while expected:
        take_answers(0)
    bulk.result.bytes = out.position


def ask(bulk: Bulk) -> None:
    """Send one question after another."""
    number = 0
    while not bulk.finishing:
        asked_ns = time.monotonic_ns()
        bulk.socket.sendall(REQUEST.pack(ASK, number))
        number += 1
        answer = receive_exactly(bulk.socket, NUMBER.size)
        bulk.result.answers.append(Answered(asked_ns, time.monotonic_ns() - asked_ns))
        if answer != NUMBER.pack(number):
            raise ClientError(f"wrong answer to question {number}")
        time.sleep(ASK_EVERY_S)


KINDS: Final[dict[str, Callable[[Bulk], None]]] = {"download": download, "upload": upload, "ask": ask}


def run(kind: str, address: str, board: Scoreboard, seed: int, stall_seconds: float) -> BulkResult:
    """Run that client to its end."""
    result = BulkResult(bytes=0, checked_bytes=0, error=None)
    try:
        with socket.create_connection((address, PORT), timeout=stall_seconds) as connection:
            connection.settimeout(None)
            wait_at_most(connection, stall_seconds)
            bulk = Bulk(connection, board, seed)
            result = bulk.result
            KINDS[kind](bulk)
    except BlockingIOError:
        result.error = f"no progress for {stall_seconds:.0f} s after {result.bytes} bytes"
    except OSError as failure:
        result.error = in_words(failure)
    except ClientError as failure:
        result.error = str(failure)
    except EOFError:
        result.error = "the connection ended"
    return result


def main() -> None:
    """Run one client."""
    parser = argparse.ArgumentParser(prog="bulk client")
    parser.add_argument("kind", choices=tuple(KINDS))
    parser.add_argument("--address", required=True)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--stall-seconds", type=float, required=True)
    parser.add_argument("--scoreboard", type=Path, required=True)
    given = parser.parse_args()
    result = run(given.kind, given.address, Scoreboard(given.scoreboard), given.seed, given.stall_seconds)
    leave_result(given.result, result)


if __name__ == "__main__":
    main()
