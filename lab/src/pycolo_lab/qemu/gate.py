"""A proxy before a QEMU's monitor: passes everything on, and makes QEMU refuse checkpoints on demand.

While the file REFUSING exists, each `migrate-set-parameters` is passed on with a value that QEMU does not accept, so
the refusal is QEMU's own. The gate ends with its QEMU: ::

    python -m pycolo_lab.qemu.gate FRONT BEHIND REFUSING
"""

import json
import select
import socket
import sys
from pathlib import Path
from typing import Final

COMMAND: Final = "migrate-set-parameters"
REFUSED_ARGUMENTS: Final = {"x-checkpoint-delay": -1}
RECEIVE_BYTES: Final = 1 << 16


class _Commands:
    """Commands on their way to QEMU; a client may send several without a separator."""

    def __init__(self, refusing: Path) -> None:
        self._refusing = refusing
        self._heard = b""

    def pass_on(self, octets: bytes) -> bytes:
        """Data for QEMU: the complete commands so far."""
        self._heard += octets
        passed = b""
        while self._heard:
            try:
                text = self._heard.decode()
                command, end = json.JSONDecoder().raw_decode(text.lstrip())
            except ValueError:  # a part of one
                break
            self._heard = text.lstrip()[end:].encode()
            if command.get("execute") == COMMAND and self._refusing.exists():
                command["arguments"] = REFUSED_ARGUMENTS
            passed += json.dumps(command).encode() + b"\n"
        return passed


def _serve(client: socket.socket, qemu: socket.socket, refusing: Path) -> bool:
    """Serve one client until it disconnects; False when QEMU has gone."""
    commands = _Commands(refusing)
    while True:
        for ready in select.select([client, qemu], [], [])[0]:
            try:
                octets = ready.recv(RECEIVE_BYTES)
                if not octets:
                    return ready is client
                (qemu if ready is client else client).sendall(commands.pass_on(octets) if ready is client else octets)
            except OSError:
                return ready is client


def main(front: Path, behind: Path, refusing: Path) -> None:
    """Serve one client after the other, as QEMU's own monitor does."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(front))
        listening.listen()
        is_there = True
        while is_there:
            client, _ = listening.accept()
            with client, socket.socket(socket.AF_UNIX) as qemu:
                qemu.connect(str(behind))
                is_there = _serve(client, qemu, refusing)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
