"""The unix socket on which a running node is asked: one JSON object per line each way.

``{"command": "status"}``, ``{"command": "divergences"}`` (the last ones with their bytes, and which connections have
diverged) and ``{"command": "failover"}`` (the operator confirms that the other node is down). An answer with an
"error" key is one line for the user. The socket is for its owner alone (mode 0600).
"""

import asyncio
import grp
import json
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pycolo.errors import ConnectError, PeerError
from pycolo.transport.occupied import why_not_unix
from pycolo.transport.stalesocket import Occupant, clear_path

REQUEST_BYTES_MAX: Final = 64 << 10
"""A request is a short line; a client that sends more is disconnected."""

ASK_TIMEOUT_S: Final = 5.0

Answer = dict[str, Any]
Handler = Callable[[dict[str, Any]], Awaitable[Answer]]


class ControlServer:
    """Listens at `path` until `close`."""

    def __init__(self, path: Path, handler: Handler, mode: int = 0o600, group: str | None = None) -> None:
        self._path = path
        self._mode = mode
        self._group = group
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Raises `ConnectError` when the path cannot be used, or another node answers on it."""
        match clear_path(self._path):
            case Occupant.FILE:
                raise ConnectError(f"--control {self._path}: there is something else with that name")
            case Occupant.LISTENER:
                raise ConnectError(f"--control {self._path}: {why_not_unix(str(self._path))}")
        try:
            old_mask = os.umask(0o177)
            try:
                path = str(self._path)
                self._server = await asyncio.start_unix_server(self._connected, path, limit=REQUEST_BYTES_MAX)
            finally:
                os.umask(old_mask)
            self._admit()
        except OSError as error:
            raise ConnectError(f"--control {self._path}: {error.strerror or error}") from error

    def _admit(self) -> None:
        """Grant access as configured; until here only the owner could connect."""
        if self._group is not None:
            try:
                os.chown(self._path, -1, grp.getgrnam(self._group).gr_gid)
            except KeyError as error:
                raise ConnectError(f"control.group: there is no group {self._group!r}") from error
        os.chmod(self._path, self._mode)

    async def close(self) -> None:
        """Stop listening; the path goes."""
        if self._server is not None:
            self._server.close()
            self._server = None
            with suppress(OSError):
                self._path.unlink()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of its own: one of asyncio's streams is logged as an error, with Python 3.11, when the node ends.
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError):  # gone, or a line without end
            return
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> Answer:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"error": "a request is one JSON object on one line"}
        if not isinstance(request, dict) or not isinstance(request.get("command"), str):
            return {"error": 'a request is a JSON object with a "command"'}
        return await self._handler(request)


def ask(path: Path, request: dict[str, Any], *, timeout_s: float = ASK_TIMEOUT_S) -> Answer:
    """Ask the node at `path`. Raises `ConnectError` when it does not answer in time, `PeerError` when it refuses."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect(str(path))
            sock.sendall(json.dumps(request).encode() + b"\n")
            line = sock.makefile("rb").readline()
    except TimeoutError as error:
        raise ConnectError(f"{path}: the node does not answer within {timeout_s:g} s") from error
    except PermissionError as error:
        who = "run it as root, as the node's user, or in the group that control.group names"
        raise ConnectError(f"{path}: this user may not ask the node ({error.strerror}): {who}") from error
    except OSError as error:
        why = error.strerror or error
        raise ConnectError(f"{path}: no node answers there ({why}): start the node, or correct the path") from error
    if not line.endswith(b"\n"):
        raise ConnectError(f"{path}: the node has ended before it answered: see its log, and start it again")
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PeerError(f"{path}: the answer is no JSON; is this a node's control socket?") from error
    if not isinstance(answer, dict):
        raise PeerError(f"{path}: the answer is no JSON object; is this a node's control socket?")
    if "error" in answer:
        raise PeerError(f"{path}: {answer['error']}")
    return dict(answer)
