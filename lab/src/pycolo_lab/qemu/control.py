"""A node's control socket: questions and commands, as `colo` asks them."""

import json
import socket
import time
from pathlib import Path
from typing import Any, Final

from pycolo_lab.errors import LabError
from pycolo_lab.interruption import LOOK_S, Look
from pycolo_lab.processes import Host

ANSWER_BYTES_MAX: Final = 4 << 20
RECEIVE_BYTES: Final = 1 << 16
ASK_TIMEOUT_S: Final = 5.0

STATUS_S: Final = 4.0
"""A node waits a second for a QEMU that hangs, and another one for the other node."""


class NodeControl:
    """Of the node on `host`. `look` is called while it waits for the node, and may raise."""

    def __init__(self, path: Path, host: Host, look: Look) -> None:
        self.path = path
        self.host = host
        self._look = look

    def ask(self, command: str, timeout_s: float = ASK_TIMEOUT_S) -> dict[str, Any]:
        """The node's answer to a command. Raises `LabError` when it refuses or does not answer."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(LOOK_S)
                connection.connect(str(self.path))
                connection.sendall(json.dumps({"command": command}).encode() + b"\n")
                answer = json.loads(self.heard(connection, timeout_s))
        except (OSError, ValueError) as error:
            raise LabError(f"{self.path}: no answer to {command} ({error})") from error
        if not isinstance(answer, dict) or "error" in answer:
            raise LabError(f"the node on {self.host.value} refuses {command}: {answer}")
        return answer

    def heard(self, connection: socket.socket, timeout_s: float) -> bytes:
        """The line that a node sends, or what there is of it when it hangs up. Raises `TimeoutError`."""
        connection.settimeout(LOOK_S)
        deadline = time.monotonic() + timeout_s
        line = b""
        while not line.endswith(b"\n") and len(line) < ANSWER_BYTES_MAX:
            self._look()
            try:
                received = connection.recv(RECEIVE_BYTES)
            except TimeoutError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not within {timeout_s:g} s") from None
                continue
            if not received:
                break
            line += received
        return line

    def tell(self, command: str) -> socket.socket:
        """Send a command and do not wait; the answer comes on the returned connection. Raises `LabError`."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(self.path))
            connection.sendall(json.dumps({"command": command}).encode() + b"\n")
        except OSError as error:
            connection.close()
            raise LabError(f"{self.path}: {command} could not be sent ({error.strerror})") from error
        return connection

    def status(self) -> dict[str, Any] | None:
        """What the node says about itself; None when it does not answer."""
        try:
            return self.ask("status", timeout_s=STATUS_S)
        except LabError:
            return None
