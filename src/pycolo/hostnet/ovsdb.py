"""Open vSwitch's database server, over its unix socket: transactions of RFC 7047, and waiting for ovs-vswitchd.

Not by `ovs-vsctl`: a program that starts and reads the schema and all tables takes longer than the switch itself, and
no frame passes meanwhile.
"""

import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from pycolo.errors import ConnectError

_RUN_DIRECTORY: Final = "/run/openvswitch"
_DATABASE: Final = "Open_vSwitch"
_ANSWER_S: Final = 10.0
"""For an answer of the server, and for ovs-vswitchd to carry a change out: milliseconds, unless one of them hangs."""

_LOOK_AGAIN_S: Final = 0.001
_RECEIVE_BYTES: Final = 65_536

Row = dict[str, Any]
"""Column to value, as RFC 7047 writes it."""


def socket_path() -> Path:
    """Where the server listens on this host; OVS_RUNDIR as for Open vSwitch's own programs."""
    return Path(os.environ.get("OVS_RUNDIR", _RUN_DIRECTORY)) / "db.sock"


class Database:
    """A connection to the server."""

    def __init__(self, where: str = "Open vSwitch") -> None:
        """`where`: how messages begin."""
        self._where = where
        self._path = socket_path()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._sock.settimeout(_ANSWER_S)
        self._asked = 0
        self._unread = ""
        try:
            self._sock.connect(str(self._path))
        except OSError as error:
            self._sock.close()
            raise ConnectError(f"{self._where}: {self._path}: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _it: BaseException | None, _at: TracebackType | None) -> None:
        self._sock.close()

    def select(self, table: str, where: list[Any], columns: list[str]) -> list[Row]:
        """The rows that fit."""
        (answer,) = self.transact([{"op": "select", "table": table, "where": where, "columns": columns}])
        rows: list[Row] = answer["rows"]
        return rows

    def change(self, operations: list[Row]) -> None:
        """Carry out the operations as one transaction, and wait until ovs-vswitchd has followed."""
        counted = {"op": "mutate", "table": _DATABASE, "where": [], "mutations": [["next_cfg", "+=", 1]]}
        asked = {"op": "select", "table": _DATABASE, "where": [], "columns": ["next_cfg"]}
        answers = self.transact([*operations, counted, asked])
        number = int(answers[-1]["rows"][0]["next_cfg"])
        deadline = time.monotonic() + _ANSWER_S
        while int(self.select(_DATABASE, [], ["cur_cfg"])[0]["cur_cfg"]) < number:
            if time.monotonic() > deadline:
                raise ConnectError(f"{self._where}: nothing was done within {_ANSWER_S:g} s: does ovs-vswitchd run?")
            time.sleep(_LOOK_AGAIN_S)

    def transact(self, operations: list[Row]) -> list[Row]:
        """The answers of one transaction. Raises `ConnectError` when one of its operations is refused."""
        self._asked += 1
        request = {"method": "transact", "params": [_DATABASE, *operations], "id": self._asked}
        try:
            self._sock.sendall(json.dumps(request).encode())
            while True:
                message = self._receive()
                if message.get("method") == "echo":  # the server asks whether we are there
                    answer = {"result": message.get("params"), "error": None, "id": message.get("id")}
                    self._sock.sendall(json.dumps(answer).encode())
                elif message.get("id") == self._asked:
                    break
        except OSError as error:
            raise ConnectError(f"{self._where}: {self._path}: {error.strerror or error}") from error
        answers = message.get("result") or []
        for found in [message, *answers]:
            if found is not None and found.get("error"):
                details = found.get("details")
                raise ConnectError(f"{self._where}: {found['error']}" + (f": {details}" if details else ""))
        return list(answers)

    def _receive(self) -> Row:
        """The next JSON value; they follow one another without anything between."""
        decoder = json.JSONDecoder()
        while True:
            self._unread = self._unread.lstrip()
            try:
                found, end = decoder.raw_decode(self._unread)
            except ValueError:
                octets = self._sock.recv(_RECEIVE_BYTES)
                if not octets:
                    raise ConnectError(f"{self._where}: {self._path}: the server has closed the connection") from None
                self._unread += octets.decode(errors="replace")
                continue
            self._unread = self._unread[end:]
            if not isinstance(found, dict):
                raise ConnectError(f"{self._where}: {self._path}: not a database server")
            return found
