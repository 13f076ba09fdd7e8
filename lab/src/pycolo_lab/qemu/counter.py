"""The counting client: many long-lived connections to the guest's counter, which ask in turn, and now and then a new
one.

Every `interval_ms` the next connection without a pending question asks one; so at any moment some connections are idle
and some are in flight, and the first to ask after a takeover shows it. Each answer is kept for `pycolo_lab.qemu.law`.
Runs as a separate process in the client's namespace.
"""

import argparse
import select
import socket
import time
from enum import Enum, auto
from pathlib import Path
from typing import Final

import msgspec

from pycolo_lab.clients import in_words, leave_result
from pycolo_lab.guest_server import PORT
from pycolo_lab.qemu.law import Answer
from pycolo_lab.scoreboard import Scoreboard, Slot

FRESH_EVERY_NS: Final = 500_000_000
"""How often a new connection is opened, asked once, and closed."""

RECEIVE_BYTES: Final = 4096


class CounterResult(msgspec.Struct):
    """Results of the counting client."""

    connections: int
    """Long-lived connections."""
    failed: list[str]
    """The errors of those that failed, one line each."""
    fresh: int
    """Short-lived connections that were opened, used once and closed."""
    fresh_failed: list[str]
    unanswered: int
    """Questions without an answer."""
    answers: list[Answer]


class State(Enum):
    """The state of a connection."""

    CONNECTING = auto()
    IDLE = auto()
    WAITING = auto()
    OVER = auto()


class Connection:
    """One connection to the counter."""

    def __init__(self, number: int, address: str, *, fresh: bool) -> None:
        self.number = number
        self.fresh = fresh
        self.state = State.CONNECTING
        self.opened = False
        self.since_ns = time.monotonic_ns()
        self.drew = False
        self._heard = b""
        self._text = ""
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex((address, PORT))

    def ask(self, question: int, *, draw: bool) -> None:
        """Ask for the next number, and for a new random one with `draw`."""
        self.drew = draw
        self._text = "rnd" if draw else f"{self.number}/{question}"
        self.since_ns = time.monotonic_ns()
        self.state = State.WAITING
        self.socket.send(b"rnd\n" if draw else b"count %s\n" % self._text.encode())

    def hear(self) -> Answer | None:
        """The answer, once it is complete. Raises OSError, and `ValueError` for a wrong answer."""
        received = self.socket.recv(RECEIVE_BYTES)
        if not received:
            raise ValueError("the connection ended")
        self._heard += received
        if not self._heard.endswith(b"\n"):
            return None
        heard, self._heard = self._heard.decode(errors="replace"), b""
        number, last, text = heard.rstrip("\n").split(" ", 2)
        if self.state is not State.WAITING or text != self._text:
            raise ValueError(f"wrong answer: {heard[:60]!r} to {self._text!r}")
        self.state = State.IDLE
        return Answer(self.number, self.since_ns, time.monotonic_ns(), int(number), last, self.drew)


class Counter:
    """All connections and their one loop."""

    def __init__(self, arguments: argparse.Namespace, board: Scoreboard) -> None:
        self._arguments = arguments
        self._board = board
        self._poll = select.epoll()
        self._by_file: dict[int, Connection] = {}
        self._long: list[Connection] = []
        self._turn = 0
        self._questions = 0
        self._numbers = 0
        self.result = CounterResult(connections=0, failed=[], fresh=0, fresh_failed=[], unanswered=0, answers=[])

    def run(self) -> CounterResult:
        """Ask until the run ends it; then each connection answers once more, or has failed."""
        interval_ns = int(self._arguments.interval_ms * 1e6)
        next_ask = next_fresh = time.monotonic_ns()
        while not self._board[Slot.FINISH]:
            now = time.monotonic_ns()
            if now >= next_ask:
                next_ask = max(next_ask + interval_ns, now)
                self._open_or_ask()
            if now >= next_fresh:
                next_fresh = now + FRESH_EVERY_NS
                self._open(fresh=True)
            self._look(max(0.0, (next_ask - time.monotonic_ns()) / 1e9))
            self._give_up()
        self._last_round()
        return self.result

    def _open_or_ask(self) -> None:
        if len(self._long) < self._arguments.connections:
            self._long.append(self._open(fresh=False))
            self.result.connections += 1
        for _ in self._long:
            connection = self._long[self._turn % len(self._long)]
            self._turn += 1
            if connection.state is State.IDLE:
                self._ask(connection)
                return

    def _last_round(self) -> None:
        """Only a question shows whether a connection is alive."""
        owing = [connection for connection in self._long if connection.state is not State.OVER]
        asked: set[Connection] = set()
        while any(c.state is State.WAITING or c.state is State.CONNECTING for c in self._by_file.values()) or owing:
            for connection in owing:
                if connection.state is State.IDLE:
                    asked.add(connection)
                    self._ask(connection)
            owing = [c for c in owing if c not in asked and c.state is not State.OVER]
            self._look(0.02)
            self._give_up()
        for connection in list(self._by_file.values()):
            self._close(connection)

    def _open(self, *, fresh: bool) -> Connection:
        connection = Connection(self._numbers, self._arguments.address, fresh=fresh)
        self._numbers += 1
        self._by_file[connection.socket.fileno()] = connection
        self._poll.register(connection.socket, select.EPOLLOUT)
        return connection

    def _ask(self, connection: Connection) -> None:
        self._questions += 1
        every = self._arguments.draw_every
        try:
            connection.ask(self._questions, draw=bool(every) and self._questions % every == 0)
        except OSError as error:
            self._fail(connection, in_words(error))

    def _look(self, wait_s: float) -> None:
        for file, _ in self._poll.poll(wait_s):
            connection = self._by_file[file]
            try:
                self._ready(connection)
            except OSError as error:
                self._fail(connection, in_words(error))
            except ValueError as error:
                self._fail(connection, str(error))

    def _ready(self, connection: Connection) -> None:
        if connection.state is State.CONNECTING:
            code = connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, "connect")
            connection.opened = True
            connection.state = State.IDLE
            self._poll.modify(connection.socket, select.EPOLLIN)
            if connection.fresh:
                self.result.fresh += 1
            else:
                self._board[Slot.SESSIONS_OPEN] += 1
            self._ask(connection)
        elif answer := connection.hear():
            self.result.answers.append(answer)
            self._board[Slot.ANSWERS] += 1
            if connection.fresh:
                self._close(connection)

    def _give_up(self) -> None:
        now = time.monotonic_ns()
        limit_ns = int(self._arguments.stall_seconds * 1e9)
        for connection in list(self._by_file.values()):
            if connection.state in (State.CONNECTING, State.WAITING) and now - connection.since_ns > limit_ns:
                what = "no connection" if connection.state is State.CONNECTING else "no answer"
                self._fail(connection, f"{what} for {self._arguments.stall_seconds:.0f} s")

    def _fail(self, connection: Connection, error: str) -> None:
        text = f"connection {connection.number}: {error}"
        (self.result.fresh_failed if connection.fresh else self.result.failed).append(text)
        if connection.opened and not connection.fresh:
            self._board[Slot.SESSIONS_OPEN] -= 1
        self._board[Slot.SESSIONS_FAILED] += 1
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        if connection.state is State.WAITING:
            self.result.unanswered += 1
        connection.state = State.OVER
        del self._by_file[connection.socket.fileno()]
        connection.socket.close()


def main() -> None:
    """Count until the run ends it."""
    parser = argparse.ArgumentParser(prog="counter")
    parser.add_argument("--address", required=True)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--scoreboard", type=Path, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--interval-ms", type=float, required=True)
    parser.add_argument("--draw-every", type=int, required=True, help="of how many questions one draws; 0: none")
    parser.add_argument("--stall-seconds", type=float, required=True)
    arguments = parser.parse_args()
    leave_result(arguments.result, Counter(arguments, Scoreboard(arguments.scoreboard)).run())


if __name__ == "__main__":
    main()
