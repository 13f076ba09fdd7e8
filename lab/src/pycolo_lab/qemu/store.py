"""The etcd of the scenarios that need one: on a machine of its own that both hosts reach, and which may die too."""

import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Final

from pycolo_lab.errors import LabError
from pycolo_lab.interruption import LOOK_S, Look
from pycolo_lab.namespaces import Namespace
from pycolo_lab.processes import Host, Process, Processes
from pycolo_lab.qemu.topology import STORE_ADDRESS

PROGRAM: Final = "etcd"
CLIENT_PORT: Final = 2379
PEER_PORT: Final = 2380
START_S: Final = 30.0
"""Until it listens for clients: it elects itself first, which takes a second or two."""


class Store:
    """One member. Its data outlive it: `start` after `kill` is the same etcd. `look` is called
    while it waits, and may raise."""

    def __init__(self, processes: Processes, namespace: Namespace, directory: Path, look: Look) -> None:
        self._processes = processes
        self._namespace = namespace
        self._data = directory / "etcd"
        self._look = look
        self._lives = 0
        self._process: Process | None = None

    def start(self) -> None:
        """Returns when it listens. Raises `LabError`."""
        self._lives += 1
        peer, client = f"http://127.0.0.1:{PEER_PORT}", f"http://{STORE_ADDRESS}:{CLIENT_PORT}"
        options = {
            "name": "one",
            "data-dir": self._data,
            "log-level": "error",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"one={peer}",
        }
        command = [PROGRAM, *(f"--{name}={value}" for name, value in options.items())]
        self._process = process = self._processes.start(f"etcd-{self._lives}", Host.CLIENT, self._namespace, command)
        deadline = time.monotonic() + START_S
        while not self._listens():
            self._processes.assert_running(process)
            if time.monotonic() > deadline:
                raise LabError(f"etcd does not listen within {START_S:.0f} s: {process.last_words()}")
            self._look()
            time.sleep(0.1)

    def _listens(self) -> bool:
        with self._namespace.entered(), socket.socket() as connection:
            connection.settimeout(LOOK_S)
            return connection.connect_ex((STORE_ADDRESS, CLIENT_PORT)) == 0

    def hang(self) -> None:
        """Stop it: it answers no request, and its connections stay open."""
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `hang`."""
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        """It is gone."""
        self._send(signal.SIGKILL)

    def clear(self) -> None:
        """The run's directory is small, and etcd's log begins with 64 MB."""
        shutil.rmtree(self._data, ignore_errors=True)

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None, "it was started with the stage"
        self._process.send(number)
