"""The laboratory's clients notice what a client must notice: pauses, wrong bytes, resets, silence."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pycolo_lab import clients, guest_server, sessions
from pycolo_lab.clients import ClientError, PauseRecorder, Transfer, Upload, download, probe
from pycolo_lab.scoreboard import Scoreboard, Slot
from support.nodes import wait_for

pytestmark = pytest.mark.slow

SEED = 3
MS = 1_000_000
Serve = Callable[[socket.socket], None]


class Server:
    """A server on loopback; `serve` can be replaced while it runs, and `behaviours` are for one connection each."""

    def __init__(self) -> None:
        self.behaviours: list[Serve] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        doubled = memoryview(guest_server.pattern(SEED))
        self.serve: Serve = lambda connection: guest_server.serve(connection, doubled)
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            if self.serve is quit_now:
                connection.close()
                return
            behaviour = self.behaviours.pop(0) if self.behaviours else self.serve
            threading.Thread(target=self._perform, args=(behaviour, connection), daemon=True).start()

    def _perform(self, behaviour: Serve, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client has gone first: it has seen enough
            behaviour(connection)

    def close(self) -> None:
        self.serve = quit_now
        self.is_over.set()
        socket.create_connection(("127.0.0.1", self.port)).close()
        self.thread.join()
        self.listener.close()

    def silent(self, connection: socket.socket) -> None:
        """Say nothing until the test is over."""
        with connection:
            self.is_over.wait(100)


def quit_now(_connection: socket.socket) -> None:
    raise AssertionError


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    running = Server()
    monkeypatch.setattr(clients, "PORT", running.port)
    monkeypatch.setattr(sessions, "PORT", running.port)
    yield running
    running.close()


@pytest.fixture
def board(tmp_path: Path) -> Scoreboard:
    return Scoreboard(tmp_path / "scoreboard")


@contextlib.contextmanager
def meanwhile(action: Callable[[], None]) -> Iterator[None]:
    """`action()` in a thread of its own; it has ended when the block has."""
    thread = threading.Thread(target=action)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def transfer_of(board: Scoreboard, size: int | None, stall_seconds: float = 20.0) -> Transfer:
    return Transfer("127.0.0.1", board, size, SEED, stall_seconds)


def test_scoreboard_is_shared_through_its_file(tmp_path: Path) -> None:
    one, other = Scoreboard(tmp_path / "board"), Scoreboard(tmp_path / "board")
    for slot in Slot:
        one[slot] = (1 << 63) + slot
    assert [other[slot] for slot in Slot] == [(1 << 63) + slot for slot in Slot]


def test_pauses_are_the_stretches_without_progress() -> None:
    recorder = PauseRecorder(0)
    for at_ms in (1, 4, 104, 106, 111, 120):
        recorder.moved(at_ms * MS)
    assert [(p.start_ns // MS, p.end_ns // MS) for p in recorder.ended(121 * MS)] == [
        (4, 104),
        (106, 111),
        (111, 120),
    ]


def test_a_pause_that_never_ends_counts() -> None:
    recorder = PauseRecorder(0)
    assert [pause.ns // MS for pause in recorder.ended(4000 * MS)] == [4000]


def test_download_of_a_size_gets_exactly_that(server: Server, board: Scoreboard) -> None:
    transfer = transfer_of(board, 10_000_001)
    with transfer.socket:
        download(transfer)
        assert board[Slot.DOWNLOAD_BYTES] == transfer.done == 10_000_001
        assert transfer.result(None).bytes == 10_000_001


def test_download_without_a_size_ends_when_asked(server: Server, board: Scoreboard) -> None:
    transfer = transfer_of(board, None)

    def ask_for_the_end() -> None:
        with contextlib.suppress(AssertionError):  # it ends all the same, and too early
            wait_for(lambda: board[Slot.DOWNLOAD_BYTES] > 1 << 20, "a megabyte")
        board[Slot.FINISH] = 1

    with transfer.socket, meanwhile(ask_for_the_end):
        download(transfer)
    assert transfer.done > 1 << 20


def test_download_says_where_a_byte_is_wrong(server: Server, board: Scoreboard) -> None:
    spoiled = bytearray(guest_server.pattern(SEED))
    spoiled[5000] ^= 1
    server.serve = lambda connection: guest_server.serve(connection, memoryview(spoiled))
    transfer = transfer_of(board, 1_000_000)
    with transfer.socket, pytest.raises(ClientError, match="wrong content"):
        download(transfer)
    assert transfer.done <= 5000


def test_upload_is_confirmed_by_the_digest(server: Server, board: Scoreboard) -> None:
    transfer = transfer_of(board, 9_000_001)
    with transfer.socket:
        Upload(transfer).run()
        assert transfer.done >= 9_000_001, "acknowledged: the bytes and the commands"
        assert board[Slot.UPLOAD_BYTES] == transfer.done


def test_upload_notices_a_wrong_digest(server: Server, board: Scoreboard) -> None:
    def lie(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            stream.read(int(stream.readline().split()[1]))
            connection.sendall(b"0" * 64 + b"\n")
            stream.read()

    server.serve = lie
    transfer = transfer_of(board, 100_000)
    with transfer.socket, pytest.raises(ClientError, match="digest"):
        Upload(transfer).run()


def reset(connection: socket.socket) -> None:
    """Let the kernel answer with a reset."""
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def liar(connection: socket.socket) -> None:
    with connection:
        connection.recv(99)
        connection.sendall(b"1 0000000000000000\n")
        connection.recv(99)


@pytest.mark.parametrize("kind", ["download", "upload"])
def test_a_reset_is_told_from_everything_else(server: Server, board: Scoreboard, kind: str) -> None:
    server.serve = reset
    transfer = transfer_of(board, 100_000_000)
    with transfer.socket, pytest.raises(ConnectionError) as caught:
        download(transfer) if kind == "download" else Upload(transfer).run()
    assert clients.in_words(caught.value) == "reset by the other side"


@pytest.mark.parametrize("kind", ["download", "upload"])
def test_silence_is_given_up_on(server: Server, board: Scoreboard, kind: str) -> None:
    server.serve = server.silent
    transfer = transfer_of(board, 100_000_000, stall_seconds=0.5)
    with transfer.socket, pytest.raises(ClientError, match="no progress"):
        download(transfer) if kind == "download" else Upload(transfer).run()


def test_probe_holds_all_three_conversations(server: Server) -> None:
    result = probe("127.0.0.1", SEED, 20.0)
    assert result.error is None
    assert 0 < result.connect_ms <= result.total_ms


def test_probe_says_why_it_could_not(server: Server) -> None:
    server.serve = reset
    assert probe("127.0.0.1", SEED, 20.0).error == "reset by the other side"


def has_shown_it(session: sessions.Session) -> bool:
    """Whether it was answered after the kill, or never will be."""
    return session.facts.error is not None or session.facts.after_kill > 0


def run_sessions(board: Scoreboard, *, count: int, late: int = 0, stall_seconds: float = 20.0) -> sessions.Sessions:
    """Sessions with a kill that is announced when all are open or have failed, and that are then asked to end."""
    everyone = sessions.Sessions("127.0.0.1", board, count=count, late=late, open_over_s=0.2, seed=1)

    def kill_and_end() -> None:
        with contextlib.suppress(AssertionError):  # it ends all the same, and too early
            wait_for(lambda: board[Slot.SESSIONS_OPEN] + board[Slot.SESSIONS_FAILED] >= count, "the sessions")
            board[Slot.KILLED_AT_NS] = time.monotonic_ns()
            wait_for(lambda: len(everyone.sessions) == count + late, "the late ones to be planned")
            wait_for(lambda: all(map(has_shown_it, everyone.sessions)), "an answer of each")
        board[Slot.FINISH] = 1

    with meanwhile(kill_and_end):
        everyone.run(stall_seconds)
    return everyone


def test_sessions_go_on_and_answer_after_the_kill(
    server: Server, board: Scoreboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "LATE_AFTER_NS", 100 * MS)
    everyone = run_sessions(board, count=8, late=3)
    facts = [session.facts for session in everyone.sessions]
    assert len(facts) == 11
    assert all(f.error is None and f.opened_ns and f.after_kill > 0 for f in facts)
    assert board[Slot.ANSWERS] == sum(f.answers for f in facts)
    assert board[Slot.SESSIONS_FAILED] == 0
    opened = [f.opened_ns or 0 for f in facts]
    assert opened == sorted(opened), "one after another"
    assert all(at > board[Slot.KILLED_AT_NS] for at in opened[8:]), "the late ones after the kill"
    assert everyone.protected_ns
    assert everyone.after_kill_ns


def test_sessions_tell_reset_and_wrong_answers_apart(server: Server, board: Scoreboard) -> None:
    server.behaviours = [reset, liar]
    everyone = run_sessions(board, count=2)
    errors = [session.facts.error or "" for session in everyone.sessions]
    assert errors[0] == "reset by the other side"
    assert errors[1].startswith("wrong answer")
    assert board[Slot.SESSIONS_FAILED] == 2
    assert board[Slot.SESSIONS_OPEN] == 0


def test_sessions_give_silence_up(server: Server, board: Scoreboard) -> None:
    server.serve = server.silent
    everyone = run_sessions(board, count=3, stall_seconds=1.0)
    assert {session.facts.error for session in everyone.sessions} == {"no answer for 1 s"}
    assert board[Slot.SESSIONS_FAILED] == 3
    assert board[Slot.SESSIONS_OPEN] == 0
