"""INCR of one key by several connections to redis, and the law: the answers are the history of one machine.

As for the guest's counter (`pycolo_lab.qemu.law`): no number twice, none left out, none lower than an answer that had
come before the question; and the key ends with the last of them.
"""

import select
import socket
import time
from typing import Final

from pycolo_lab.clients import in_words
from pycolo_lab.qemu.law import Answer
from pycolo_lab.qemu.law import breaches as breaches_of
from pycolo_lab.work.result import Work, WorkResult, main, shown

PORT: Final = 6379
CONNECTIONS: Final = 6
PAUSE_S: Final = 0.002
"""Between an answer and the connection's next question."""

RECEIVE_BYTES: Final = 4096
KEY: Final = "colo"


def request(*words: str) -> bytes:
    """A command as redis wants it (RESP: an array of strings)."""
    return b"".join([b"*%d\r\n" % len(words), *(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words)])


def number(reply: bytes) -> int:
    """An integer's reply. Raises `ValueError` for anything else."""
    if not reply.startswith(b":") or not reply.endswith(b"\r\n"):
        raise ValueError(f"wrong answer: {reply[:60]!r}")
    return int(reply[1:-2])


def breaches(answers: list[Answer], unanswered: int, last: int) -> list[str]:
    """What breaks the law; `last` is the key's value afterwards, and it was 0 before."""
    found = [breach.text for breach in breaches_of(answers, unanswered)]
    first = min((answer.number for answer in answers), default=1)
    highest = max((answer.number for answer in answers), default=0)
    if first > 1 + unanswered:
        found.append(f"the first answer is {first}")
    if not highest <= last <= highest + unanswered:
        found.append(f"the key is {last}, the last answer was {highest}")
    return found


class Connection:
    """Asks one INCR after the other."""

    def __init__(self, name: int, work: Work) -> None:
        self.name = name
        self.answers: list[Answer] = []
        self.asked_ns = 0
        self._heard = b""
        self.socket = socket.create_connection((work.address, PORT), work.stall_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self) -> None:
        """The answer comes by `hear`."""
        self.asked_ns = time.monotonic_ns()
        self.socket.sendall(request("INCR", KEY))

    def hear(self) -> bool:
        """Whether the answer is complete. Raises `ValueError`."""
        received = self.socket.recv(RECEIVE_BYTES)
        if not received:
            raise ValueError("the connection ended")
        self._heard += received
        if not self._heard.endswith(b"\n"):
            return False
        self.answers.append(Answer(self.name, self.asked_ns, time.monotonic_ns(), number(self._heard), "", False))
        self._heard = b""
        self.asked_ns = 0
        return True

    def said(self, *words: str) -> bytes:
        """The answer to another command, when none is pending."""
        self.socket.sendall(request(*words))
        return self.socket.recv(RECEIVE_BYTES)


def _work(work: Work, connections: list[Connection]) -> None:
    by_file = {one.socket.fileno(): one for one in connections}
    poll = select.epoll()
    for file in by_file:
        poll.register(file, select.EPOLLIN)
    due = dict.fromkeys(connections, 0)
    last_ns = time.monotonic_ns()
    ends = False
    while not ends or any(one.asked_ns for one in connections):
        now = time.monotonic_ns()
        for one in () if ends else connections:
            if not one.asked_ns and now >= due[one]:
                one.ask()
        ends = ends or work.is_over()  # a client that has not asked since is idle
        for file, _ in poll.poll(PAUSE_S):
            one = by_file[file]
            if one.hear():
                last_ns = time.monotonic_ns()
                due[one] = last_ns + int(PAUSE_S * 1e9)
        if time.monotonic_ns() - last_ns > work.stall_s * 1e9:
            raise ValueError(f"no answer for {work.stall_s:.0f} s")
    for one in connections:
        one.ask()
        while not one.hear():
            pass


def run(work: Work) -> WorkResult:
    """Until the run ends it."""
    connections: list[Connection] = []
    found: list[str] = []
    last = 0
    try:
        connections += [Connection(name, work) for name in range(CONNECTIONS)]
        connections[0].said("SET", KEY, "0")
        _work(work, connections)
        last = int(connections[0].said("GET", KEY).split(b"\r\n")[1])
    except OSError as error:
        found.append(in_words(error))
    except ValueError as error:
        found.append(str(error))
    answers = [answer for one in connections for answer in one.answers]
    unanswered = sum(one.asked_ns != 0 for one in connections)
    if not found:
        found += breaches(answers, unanswered, last)
    account = f"{len(answers)} answers of redis to {len(connections)} connections, the key ends at {last}"
    return WorkResult(len(answers), account, shown(found))


if __name__ == "__main__":
    main("incr", run)
