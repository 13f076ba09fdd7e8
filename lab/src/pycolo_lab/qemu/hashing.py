"""A client that sends datagrams in bursts, and checks the guest's running hash over all of them.

Each answer says which datagram it belongs to, how many the guest has had, and its hash over all of them (see
`guest/service.c`). What the client knows of the guest's input must give the same hash: the order of the datagrams that
were answered, and those in between whose answers were lost with a primary.
"""

import argparse
import random
import select
import socket
import struct
import time
from pathlib import Path
from typing import Final

import msgspec

from pycolo_lab.clients import leave_result
from pycolo_lab.scoreboard import Scoreboard, Slot

PORT: Final = 5000
HEAD: Final = b"hash"
ANSWER: Final = struct.Struct("<QQQ")
NUMBER: Final = struct.Struct("<Q")

FNV_START: Final = 14695981039346656037
FNV_PRIME: Final = 1099511628211
WORD: Final = (1 << 64) - 1

BYTES_MIN: Final = 24
BYTES_MAX: Final = 200
UNDER_WAY_MAX: Final = 400
"""A slow machine gets fewer datagrams rather than a queue that overflows somewhere."""

SILENCE_S: Final = 0.5
"""After this time without an answer those that are under way count as lost, and the next ones are sent."""

SO_RCVBUFFORCE: Final = 33
LAST_S: Final = 3.0
"""How long the last answers may take."""

HAD_MAX: Final = 600
"""Of datagrams that the guest has had and whose answers died with the primary: what may be on the way."""


class HashResult(msgspec.Struct, kw_only=True):
    """What came of it."""

    sent: int
    answered: int
    unanswered: list[tuple[int, int]]
    """First and last number of each run."""
    wrong: list[str]
    """Answers that contradict the datagrams that were sent."""
    longest_gap_ms: float


def datagram(number: int, seed: int) -> bytes:
    """Of that number: its bytes follow from it."""
    length = random.Random(seed << 32 ^ number).randrange(BYTES_MIN, BYTES_MAX)
    return (HEAD + NUMBER.pack(number)).ljust(length, b"x")


def fnv(value: int, octets: bytes) -> int:
    """FNV-1a, going on from `value`."""
    for octet in octets:
        value = (value ^ octet) * FNV_PRIME & WORD
    return value


class Chain:
    """Checks answers in the order of their counts."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._number, self._count, self._hash = -1, 0, FNV_START
        self.wrong: list[str] = []

    def add(self, number: int, count: int, value: int) -> None:
        """The next answer."""
        missing_counts, missing_numbers = count - self._count - 1, number - self._number - 1
        lost = missing_numbers - missing_counts
        if missing_counts < 0 or lost < 0 or not self._fits(number, missing_counts, lost, value):
            self.wrong.append(
                f"datagram {number} was number {count} of the guest, after {self._number}, number {self._count}: "
                "its hash is not that of this input"
            )
        self._number, self._count, self._hash = number, count, value

    def _fits(self, number: int, had: int, lost: int, value: int) -> bool:
        """Whether the hash follows, with `lost` of the unanswered datagrams lost in one run, and `had` of them not."""
        if had > HAD_MAX:
            return False
        first, until = self._number + 1, self._hash
        for before in range(had + 1):
            if before:
                until = fnv(until, datagram(first + before - 1, self._seed))
            if lost or before == had:
                found = until
                for one in range(first + before + lost, number + 1):
                    found = fnv(found, datagram(one, self._seed))
                if found == value:
                    return True
        return False


class Hashing:
    """One socket and its loop."""

    def __init__(self, arguments: argparse.Namespace, board: Scoreboard) -> None:
        self._arguments = arguments
        self._board = board
        self._random = random.Random(arguments.seed)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        self._socket.connect((arguments.address, PORT))
        self._socket.setblocking(False)
        self._sent = 0
        self._answers: list[tuple[int, int, int]] = []
        self._heard_ns = 0
        self._gap_ns = 0
        self._under_way = 0

    def run(self) -> HashResult:
        """Send until the run ends it, and wait for the last answers."""
        burst = self._arguments.burst
        mean_s = burst / self._arguments.rate
        due = time.monotonic()
        self._heard_ns = time.monotonic_ns()
        while not self._board[Slot.FINISH]:
            now = time.monotonic()
            while due <= now:
                self._send(self._random.randint(1, 2 * burst - 1))
                due = max(due, now - 0.05) + mean_s * self._random.uniform(0.2, 1.8)
            self._hear(due - now)
        until = time.monotonic() + LAST_S
        while len(self._answers) < self._sent and time.monotonic() < until:
            self._hear(0.05)
        return self._result()

    def _send(self, count: int) -> None:
        if time.monotonic_ns() - self._heard_ns > SILENCE_S * 1e9:
            self._under_way = 0
        for _ in range(min(count, UNDER_WAY_MAX - self._under_way)):
            try:
                self._socket.send(datagram(self._sent, self._arguments.seed))
            except BlockingIOError:
                return
            self._sent += 1
            self._under_way += 1

    def _hear(self, wait_s: float) -> None:
        if not select.select([self._socket], [], [], max(0.0, wait_s))[0]:
            return
        now = time.monotonic_ns()
        self._gap_ns, self._heard_ns = max(self._gap_ns, now - self._heard_ns), now
        try:
            while True:
                self._answers.append(ANSWER.unpack(self._socket.recv(ANSWER.size)))
                self._board[Slot.ANSWERS] += 1
                self._under_way = max(0, self._under_way - 1)
        except (BlockingIOError, ConnectionRefusedError):
            return

    def _result(self) -> HashResult:
        chain = Chain(self._arguments.seed)
        answers = sorted(self._answers, key=lambda answer: answer[1])
        for answer in answers:
            chain.add(*answer)
        answered = {number for number, _, _ in answers}
        return HashResult(
            sent=self._sent,
            answered=len(answers),
            unanswered=runs(sorted(set(range(self._sent)) - answered)),
            wrong=chain.wrong,
            longest_gap_ms=round(self._gap_ns / 1e6, 1),
        )


def runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Sorted numbers as first and last of each run."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = found[-1][0], number
        else:
            found.append((number, number))
    return found


def main() -> None:
    """Send and check until the run ends it."""
    parser = argparse.ArgumentParser(prog="hashing")
    parser.add_argument("--address", required=True)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--scoreboard", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="datagrams per second")
    parser.add_argument("--burst", type=int, required=True, help="the mean of how many at a time")
    arguments = parser.parse_args()
    leave_result(arguments.result, Hashing(arguments, Scoreboard(arguments.scoreboard)).run())


if __name__ == "__main__":
    main()
