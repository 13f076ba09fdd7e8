"""A minimal QMP client: commands, and waiting for events.

The laboratory watches the virtual machines on a QMP socket of its own: it must not depend on what it examines.
"""

import json
import socket
import time
from pathlib import Path
from typing import Any, Final, Self

from pycolo_lab.errors import LabError
from pycolo_lab.interruption import LOOK_S, Look

ANSWER_S: Final = 10.0
"""Time limit for an answer; QEMU answers within milliseconds unless it hangs."""

CONNECT_STEP_S: Final = 0.02
RECEIVE_BYTES: Final = 1 << 16


class Monitor:
    """One QMP connection. Events collect in `events` while something is asked or waited for.

    `look` is called while it waits, and may raise. `is_urgent`: `ask_at_once` is wanted.
    """

    def __init__(self, path: Path, look: Look, timeout_s: float = ANSWER_S, *, is_urgent: bool = False) -> None:
        self._name = str(path)
        self._look = look
        self._heard = b""
        self.events: list[dict[str, Any]] = []
        self._socket = self._connect(path, timeout_s)
        self._message(time.monotonic() + ANSWER_S)
        self.ask("qmp_capabilities", {"enable": ["oob"]} if is_urgent else None)

    def _connect(self, path: Path, timeout_s: float) -> socket.socket:
        deadline = time.monotonic() + timeout_s
        while True:
            self._look()
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(LOOK_S)
            try:
                connection.connect(str(path))
            except OSError as error:
                connection.close()
                if time.monotonic() > deadline:
                    raise LabError(f"{path}: no QMP within {timeout_s:.0f} s ({error.strerror})") from error
                time.sleep(CONNECT_STEP_S)
            else:
                return connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def ask(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """The answer to a command. Raises `LabError` when QEMU refuses it or says nothing."""
        return self._ask({"execute": command} | ({"arguments": arguments} if arguments else {}), command)

    def ask_at_once(self, command: str, arguments: dict[str, Any]) -> Any:
        """The same out of band, which works while QEMU is busy; QEMU allows that for few commands."""
        return self._ask({"exec-oob": command, "id": command, "arguments": arguments}, command)

    def _ask(self, words: dict[str, Any], command: str) -> Any:
        try:
            self._socket.sendall(json.dumps(words).encode() + b"\n")
        except OSError as error:
            raise LabError(f"{self._name}: {command}: {error.strerror}") from error
        deadline = time.monotonic() + ANSWER_S
        while True:
            message = self._message(deadline)
            if "event" in message:
                self.events.append(message)
            elif "error" in message:
                raise LabError(f"{self._name}: QEMU refuses {command}: {message['error']['desc']}")
            else:
                return message["return"]

    def wait_event(self, name: str, timeout_s: float, status: str | None = None) -> dict[str, Any] | None:
        """The next event of that name (and, where given, that status); None when none comes in time."""
        deadline = time.monotonic() + timeout_s
        while True:
            while self.events:
                event = self.events.pop(0)
                if event["event"] == name and status in (None, event.get("data", {}).get("status")):
                    return event
            try:
                self.events.append(self._message(deadline))
            except TimeoutError:
                return None

    def _message(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._heard:
            self._look()
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(min(left, LOOK_S))
            try:
                received = self._socket.recv(RECEIVE_BYTES)
            except TimeoutError:
                continue
            if not received:
                raise LabError(f"{self._name}: QEMU hung up")
            self._heard += received
        line, _, self._heard = self._heard.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message


def seconds(event: dict[str, Any]) -> float:
    """An event's timestamp, wall clock."""
    at = event["timestamp"]
    return float(at["seconds"] + at["microseconds"] / 1e6)
