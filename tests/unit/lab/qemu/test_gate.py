"""The gate before a monitor: transparent, but for the one command that QEMU is to refuse."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycolo_lab.qemu import gate

DEADLINE_S = 20
CHECKPOINT = {"execute": "migrate-set-parameters", "arguments": {"x-checkpoint-delay": 1000000000}, "id": "7"}


class Stage:
    """A gate, a client in front of it, and a monitor behind it that the test plays."""

    def __init__(self, place: Path) -> None:
        self.refusing = place / "refusing"
        self._front = place / "front"
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(place / "behind"))
        self._listening.listen()
        self.gate = threading.Thread(target=gate.main, args=(self._front, place / "behind", self.refusing), daemon=True)
        self.gate.start()
        self.client, self.monitor = self.meet()

    def meet(self) -> tuple[socket.socket, socket.socket]:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(DEADLINE_S)
        while True:
            try:
                client.connect(str(self._front))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                assert self.gate.is_alive()
        monitor, _ = self._listening.accept()
        monitor.settimeout(DEADLINE_S)
        return client, monitor

    def hear(self) -> object:
        line = b""
        while not line.endswith(b"\n"):
            line += self.monitor.recv(1)
        return json.loads(line)

    def close(self) -> None:
        for sock in (self.monitor, self.client, self._listening):
            sock.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.close()


def test_commands_pass_as_they_are_however_they_are_cut(stage: Stage) -> None:
    other = {"execute": "query-status", "id": "ä"}
    octets = json.dumps(other, ensure_ascii=False).encode() + json.dumps(CHECKPOINT).encode()
    for octet in octets:
        stage.client.sendall(bytes([octet]))
    assert [stage.hear(), stage.hear()] == [other, CHECKPOINT]
    stage.client.sendall(octets + octets)
    assert [stage.hear() for _ in range(4)] == [other, CHECKPOINT] * 2


def test_answers_and_events_pass_byte_for_byte(stage: Stage) -> None:
    stage.monitor.sendall(b'{"QMP": {}}\r\n{"event"')
    assert stage.client.recv(100) in (b'{"QMP": {}}\r\n{"event"', b'{"QMP": {}}\r\n')


def test_while_it_is_told_to_qemu_gets_what_it_must_refuse(stage: Stage) -> None:
    stage.refusing.touch()
    stage.client.sendall(json.dumps(CHECKPOINT).encode())
    stage.client.sendall(json.dumps({"execute": "query-status"}).encode())
    assert stage.hear() == CHECKPOINT | {"arguments": gate.REFUSED_ARGUMENTS}
    assert stage.hear() == {"execute": "query-status"}
    stage.refusing.unlink()
    stage.client.sendall(json.dumps(CHECKPOINT).encode())
    assert stage.hear() == CHECKPOINT


def test_the_next_client_is_served_and_the_gate_ends_with_its_qemu(stage: Stage) -> None:
    stage.client.close()
    assert stage.monitor.recv(1) == b""
    stage.monitor.close()
    stage.client, stage.monitor = stage.meet()
    stage.monitor.close()
    assert stage.client.recv(1) == b""
    stage.gate.join(DEADLINE_S)
    assert not stage.gate.is_alive()
