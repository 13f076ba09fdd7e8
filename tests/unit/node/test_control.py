"""The control socket: its owner's alone, one line each way, nonsense is answered."""

import asyncio
import json
import socket
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pycolo.errors import ConnectError, PeerError, PycoloError
from pycolo.node.control import ControlServer, ask

ENDED = "the node has ended before it answered"
STRANGER = "is this a node's control socket"


async def answer(request):
    if request["command"] == "status":
        return {"state": "waiting", "asked": request}
    return {"error": "unknown command"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "control"


def served(path, question, handler=answer):
    """What `question()`, run in another thread, returns while a server listens at `path`."""

    async def run():
        server = ControlServer(path, handler)
        await server.start()
        try:
            async with asyncio.timeout(20):
                return await asyncio.to_thread(question)
        finally:
            await server.close()

    return asyncio.run(run())


def raw(path, octets):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        sock.sendall(octets)
        return sock.makefile("rb").readline()


def test_a_question_is_answered(path):
    found = served(path, lambda: ask(path, {"command": "status", "x": 1}))
    assert found == {"state": "waiting", "asked": {"command": "status", "x": 1}}


def test_a_refusal_is_one_line_that_names_the_socket(path):
    with pytest.raises(PeerError, match=r"^.*control: unknown command$"):
        served(path, lambda: ask(path, {"command": "x"}))


def test_several_questions_may_follow_one_another_on_one_connection(path):
    def question():
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(path))
            sock.sendall(b'{"command":"status"}\n{"command":"x"}\n')
            lines = sock.makefile("rb")
            return [json.loads(lines.readline()) for _ in range(2)]

    first, second = served(path, question)
    assert first["state"] == "waiting"
    assert "error" in second


@pytest.mark.parametrize(
    "line", [b"\n", b"\xff\n", b"{}\n", b"[]\n", b"3\n", b'{"command":[]}\n', b"[" * 50_000 + b"\n", b"nonsense\n"]
)
def test_nonsense_is_answered_with_an_error(path, line):
    assert "error" in json.loads(served(path, lambda: raw(path, line)))


def test_a_line_without_end_is_cut_off(path):
    def question():
        try:
            return raw(path, b"x" * 200_000)
        except OSError:
            return b""

    assert served(path, question) == b""


def test_only_the_owner_may_ask_and_the_path_goes_with_the_node(path):
    assert stat.S_IMODE(served(path, path.stat).st_mode) == 0o600
    assert not path.exists()


def test_a_socket_left_behind_by_a_killed_node_is_taken_over(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
    assert served(path, lambda: ask(path, {"command": "status"}))["state"] == "waiting"


def test_a_socket_where_a_node_answers_is_left_alone(path):
    def second():
        with pytest.raises(ConnectError, match="already running: process "):
            asyncio.run(ControlServer(path, answer).start())
        return ask(path, {"command": "status"})

    assert served(path, second)["state"] == "waiting"


def test_a_node_that_ends_before_it_has_answered_logs_no_error(path, logged):
    asked = threading.Event()
    with ThreadPoolExecutor() as pool:

        def question():
            answering = pool.submit(ask, path, {"command": "protect"}, timeout_s=20)
            assert asked.wait(20)
            return answering

        async def never(request):
            asked.set()
            await asyncio.Event().wait()

        answering = served(path, question, never)
        with pytest.raises(PycoloError, match=ENDED):
            answering.result()
    assert logged() == []


def test_a_file_with_that_name_is_left_alone(path):
    path.write_text("mine")
    with pytest.raises(ConnectError, match="there is something else with that name"):
        served(path, lambda: None)
    assert path.read_text() == "mine"


def test_a_directory_that_does_not_exist_is_one_line(tmp_path):
    with pytest.raises(ConnectError, match="No such file or directory"):
        served(tmp_path / "nowhere" / "control", lambda: None)


def test_not_connected_is_one_line(path):
    with pytest.raises(ConnectError, match=r"no node answers there \(No such file or directory\): start the node, or"):
        ask(path, {"command": "status"})


def test_who_may_not_ask_is_told_who_may(path, monkeypatch):
    def refuse(self, address):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(
        ConnectError, match=r"may not ask the node \(Permission denied\): run it as root, as the node's"
    ):
        ask(path, {"command": "status"})


@pytest.mark.parametrize(
    ("octets", "said"),
    [(b"", ENDED), (b'{"state": "al', ENDED), (b"hello\n", STRANGER), (b"[1]\n", STRANGER), (b"3\n", STRANGER)],
)
def test_an_answer_that_is_none_is_one_line(path, octets, said):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve():
            sock, _ = server.accept()
            with sock:
                sock.recv(1000)
                sock.sendall(octets)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(PycoloError, match=said):
            ask(path, {"command": "status"})
        thread.join()
