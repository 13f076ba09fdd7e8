"""The small sessions: many long-lived connections, opened at different times, each asking question after question.

One process, one epoll loop. A session asks, waits for the one correct answer (the count and the hash over everything
that this session has sent, so that a lost, duplicate or foreign line shows), pauses for a moment and asks again. A
pause in the results is time spent waiting for an answer, not time between questions.
"""

import argparse
import heapq
import os
import random
import resource
import select
import socket
import time
from collections.abc import Sequence
from enum import Enum, auto
from pathlib import Path
from typing import Final

from pycolo_lab.clients import PAUSES_MAX, in_words, leave_result
from pycolo_lab.facts import Latency, Pause, SessionResult, SessionsResult
from pycolo_lab.guest_server import PORT, Conversation
from pycolo_lab.scoreboard import Scoreboard, Slot

THINK_MS: Final = (20, 80)
WAIT_NS_MIN: Final = 20_000_000
"""Shorter waits for an answer are ordinary latency; they are in the percentiles, not among the pauses."""

POLL_S: Final = 0.02
CHECK_NS: Final = 100_000_000
"""How often the sessions are looked through for one that has waited too long."""

LATE_AFTER_NS: Final = 500_000_000
LATE_EVERY_NS: Final = 50_000_000
"""Sessions that are opened after the kill: the first half a second later, then one every 50 ms."""


class State(Enum):
    """The state of a session."""

    PLANNED = auto()
    CONNECTING = auto()
    THINKING = auto()
    WAITING = auto()
    OVER = auto()


class Session:
    """One connection and what it has been told."""

    def __init__(self, number: int, family: int) -> None:
        self.number = number
        self.state = State.PLANNED
        self.socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.expected = b""
        self.asked_ns = 0
        self.heard_ns = 0
        self._conversation = Conversation()
        self._heard = b""
        self.facts = SessionResult(
            number=number, opened_ns=None, ended_ns=0, answers=0, after_kill=0, pauses=[], error=None
        )

    def ask(self, now_ns: int) -> None:
        """Send the next line."""
        line = b"ask session %d question %d\n" % (self.number, self.facts.answers + 1)
        self.expected = self._conversation.answer(line)
        self.asked_ns = now_ns
        self.state = State.WAITING
        self.socket.send(line)

    def hear(self) -> bool:
        """Read; True when the answer is complete and correct. Raises OSError; a wrong answer is a `ValueError`."""
        received = self.socket.recv(4096)
        if not received:
            raise ValueError("the connection ended")
        self._heard += received
        if not self._heard.endswith(b"\n"):
            return False
        heard, self._heard = self._heard, b""
        if self.state is not State.WAITING or heard != self.expected:
            raise ValueError(f"wrong answer: {heard[:60]!r} instead of {self.expected!r}")
        return True


class Sessions:
    """All sessions and their one loop."""

    def __init__(
        self, address: str, board: Scoreboard, *, count: int, late: int, open_over_s: float, seed: int
    ) -> None:
        self._address = address
        self._board = board
        self._random = random.Random(seed)
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._epoll = select.epoll()
        self._by_file: dict[int, Session] = {}
        self._due: list[tuple[int, int, Session]] = []
        self._late = late
        self.sessions: list[Session] = []
        self.protected_ns: list[int] = []
        self.after_kill_ns: list[int] = []
        start = time.monotonic_ns()
        for number in range(count):
            self._plan(start + int(open_over_s * 1e9) * number // count)

    def _plan(self, at_ns: int) -> None:
        session = Session(len(self.sessions), self._family)
        self.sessions.append(session)
        heapq.heappush(self._due, (at_ns, session.number, session))

    def run(self, stall_seconds: float) -> None:
        """Run until the run ends it and every session has its last answer, or gives up waiting."""
        stall_ns = int(stall_seconds * 1e9)
        checked = 0
        while True:
            now = time.monotonic_ns()
            finishing = self._board[Slot.FINISH] != 0
            killed = self._board[Slot.KILLED_AT_NS]
            if finishing and not any(_owes_an_answer(s, killed) for s in self.sessions):
                break
            if killed and self._late and not finishing:
                for index in range(self._late):
                    self._plan(killed + LATE_AFTER_NS + LATE_EVERY_NS * index)
                self._late = 0
            while self._due and self._due[0][0] <= now:
                _, _, session = heapq.heappop(self._due)
                if not finishing or _owes_an_answer(session, killed):
                    self._act(session, now)
            wait_s = min(POLL_S, max(0.0, (self._due[0][0] - now) / 1e9)) if self._due else POLL_S
            for file, _ in self._epoll.poll(wait_s):
                self._ready(self._by_file[file])
            if now - checked > CHECK_NS:
                checked = now
                self._give_up(stall_ns)
        self._close(time.monotonic_ns())

    def _act(self, session: Session, now_ns: int) -> None:
        """A planned session connects, a thinking one asks."""
        try:
            if session.state is State.PLANNED:
                session.state = State.CONNECTING
                session.asked_ns = now_ns
                self._by_file[session.socket.fileno()] = session
                self._epoll.register(session.socket, select.EPOLLOUT)
                session.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    session.socket.connect((self._address, PORT))
                except BlockingIOError:
                    pass
            elif session.state is State.THINKING:
                session.ask(now_ns)
        except OSError as error:
            self._fail(session, in_words(error))

    def _ready(self, session: Session) -> None:
        now = time.monotonic_ns()
        try:
            if session.state is State.CONNECTING:
                code = session.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, os.strerror(code))
                session.facts.opened_ns = now
                self._board[Slot.SESSIONS_OPEN] += 1
                self._epoll.modify(session.socket, select.EPOLLIN)
                session.ask(now)
            elif session.hear():
                self._answered(session, now)
        except OSError as error:
            self._fail(session, in_words(error))
        except ValueError as error:
            self._fail(session, str(error))

    def _answered(self, session: Session, now_ns: int) -> None:
        waited = now_ns - session.asked_ns
        killed = self._board[Slot.KILLED_AT_NS]
        facts = session.facts
        facts.answers += 1
        if not killed:
            self.protected_ns.append(waited)
        elif (facts.opened_ns or 0) > killed or session.heard_ns > killed:
            # The first answer of a session that was open at the kill is its wait there: a pause, no latency.
            self.after_kill_ns.append(waited)
        if killed and session.asked_ns >= killed:
            facts.after_kill += 1
        session.heard_ns = now_ns
        if waited >= WAIT_NS_MIN and len(facts.pauses) < PAUSES_MAX:
            facts.pauses.append(Pause(session.asked_ns, now_ns))
        self._board[Slot.ANSWERS] += 1
        session.state = State.THINKING
        heapq.heappush(self._due, (now_ns + int(self._random.uniform(*THINK_MS) * 1e6), session.number, session))

    def _give_up(self, stall_ns: int) -> None:
        now = time.monotonic_ns()
        for session in self.sessions:
            if session.state in (State.CONNECTING, State.WAITING) and now - session.asked_ns > stall_ns:
                what = "no connection" if session.state is State.CONNECTING else "no answer"
                self._fail(session, f"{what} for {stall_ns / 1e9:.0f} s")

    def _fail(self, session: Session, error: str) -> None:
        if session.facts.opened_ns is not None:
            self._board[Slot.SESSIONS_OPEN] -= 1
        self._board[Slot.SESSIONS_FAILED] += 1
        if session.state is State.WAITING:
            session.facts.pauses.append(Pause(session.asked_ns, time.monotonic_ns()))
        session.facts.error = error
        self._end(session)

    def _end(self, session: Session) -> None:
        session.state = State.OVER
        session.facts.ended_ns = time.monotonic_ns()
        self._by_file.pop(session.socket.fileno(), None)
        session.socket.close()

    def _close(self, now_ns: int) -> None:
        for session in self.sessions:
            if session.state is State.PLANNED:
                session.facts.ended_ns = now_ns
                session.socket.close()
            elif session.state is not State.OVER:
                self._end(session)


def _owes_an_answer(session: Session, killed_at_ns: int) -> bool:
    """Whether the end has to wait for it: for what it asked, and for one question asked after the kill."""
    if session.state is State.THINKING:
        return killed_at_ns != 0 and session.facts.after_kill == 0
    return session.state in (State.CONNECTING, State.WAITING)


def latency(waited_ns: Sequence[int]) -> Latency:
    """The median and the 99th percentile."""
    ordered = sorted(waited_ns) or [0]
    return Latency(
        answers=len(waited_ns),
        p50_us=ordered[len(ordered) // 2] // 1000,
        p99_us=ordered[len(ordered) * 99 // 100] // 1000,
    )


def main() -> None:
    """Run all sessions."""
    parser = argparse.ArgumentParser(prog="sessions")
    parser.add_argument("--address", required=True)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--stall-seconds", type=float, required=True)
    parser.add_argument("--scoreboard", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--late", type=int, required=True, help="sessions to open after the kill")
    parser.add_argument("--open-over", type=float, required=True, help="seconds over which the others are opened")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    board = Scoreboard(arguments.scoreboard)
    sessions = Sessions(
        arguments.address,
        board,
        count=arguments.count,
        late=arguments.late,
        open_over_s=arguments.open_over,
        seed=arguments.seed,
    )
    sessions.run(arguments.stall_seconds)
    leave_result(
        arguments.result,
        SessionsResult(
            sessions=[session.facts for session in sessions.sessions],
            protected=latency(sessions.protected_ns),
            after_kill=latency(sessions.after_kill_ns),
        ),
    )


if __name__ == "__main__":
    main()
