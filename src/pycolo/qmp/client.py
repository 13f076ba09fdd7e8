"""One QMP connection to one QEMU, over the library `qemu.qmp` (docs/adr/0018-qmp-library.md).

It adds to the library: a time-out for every command, a bound on what a hanging QEMU can make us keep, events as calls
(not as a list that only grows), one-line errors, and no log messages of its own.

A QEMU serves one client per QMP socket. The kernel accepts a second client, which gets no greeting until the first has
left; the same happens while QEMU's main loop hangs. Both cases end as `QmpTimeout`.
"""

import asyncio
import errno
import json
import logging
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic_ns
from typing import Any, Final, TypeVar

from qemu.qmp import ConnectError as LibraryConnectError
from qemu.qmp import ExecInterruptedError, ExecuteError, QMPClient, QMPError, Runstate
from qemu.qmp import StateError as LibraryStateError
from qemu.qmp.error import ProtocolError
from qemu.qmp.message import DeserializationError, Message, UnexpectedTypeError
from qemu.qmp.qmp_client import BadReplyError, GreetingError, NegotiationError, ServerParseError

from pycolo.errors import ConnectError, PeerError, QmpError, QmpTimeout, StateError
from pycolo.qmp.monitor import COMMAND_TIMEOUT_S

CONNECT_TIMEOUT_S: Final = 5.0
"""From the first attempt to the end of the negotiation, which takes milliseconds. Allow more for a starting QEMU."""

CONNECT_PAUSE_S: Final = 0.05
"""Interval at which the socket is looked for: a QEMU takes some tenths of a second to start."""

LINE_BYTES_MAX: Final = 4 << 20
"""Longest message. The longest known, QEMU 7.2's answer to query-qmp-schema, which is not asked, has 0.2 MB."""

UNANSWERED_MAX: Final = 256
"""Commands that QEMU has not answered yet, timed out or not. It reads eight ahead; the rest stays in our memory."""

MESSAGES_IN_A_ROW_MAX: Final = 64
"""After this many events the loop gets a turn: 64 take about a millisecond."""

# Each reason reaches this module as an exception and is reported once, in one line.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL + 1)

_NOT_THERE_YET: Final = frozenset({errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN})

_HINTS: Final = (
    ("Vhost is not supported", "filters cannot see what vhost carries: start QEMU with vhost=off on this netdev"),
    ("multiqueue is not supported", "filters take one queue: start QEMU with queues=1 and mq=off"),
    ("expects a network backend id", "this QEMU has no such netdev: compare with `info network`"),
    ("duplicate property", "left over from an earlier run? `colo unprotect` removes it"),
    ("Duplicate ID", "left over from an earlier run? `colo unprotect` removes it"),
    ("There's a migration process in progress", "wait for it, or cancel it with migrate_cancel"),
    ("Migration is disabled when", "a device or disk of this VM cannot migrate: start QEMU without it"),
)


def hint(error_class: str, description: str) -> str:
    """What to do about an error of QEMU; empty: it speaks for itself."""
    if error_class == "CommandNotFound":
        return "this QEMU was built without it: use QEMU 7.2, 10.0 or 11.1 as Debian builds them"
    return next((hint for words, hint in _HINTS if words in description), "")


Fact = TypeVar("Fact")


@dataclass(frozen=True, slots=True)
class QmpEvent:
    """An event from QEMU."""

    name: str
    data: Mapping[str, Any]
    at_us: int
    """Wall-clock time of QEMU's host, µs since 1970; 0 if QEMU could not read its clock."""
    received_ns: int
    """Monotonic time of this process when it was read."""


class Qmp:
    """The QMP socket at `path` of the VM `name`; every message to the user begins with that name.

    `on_event` is called in the loop for each event, in order, from the end of the negotiation on, which may be before
    `connect` returns. `on_closed` is called once for each lost connection, with the reason, before the outstanding
    commands fail; it is not called after `close`. Neither may block. After a loss, `connect` may be called again.
    """

    def __init__(
        self, path: Path, name: str, on_event: Callable[[QmpEvent], None], on_closed: Callable[[str], None]
    ) -> None:
        self.path = path
        self.name = name
        self.version = ""
        """QEMU's version from its greeting, "7.2.22"; empty before the first connection."""
        self._on_event = on_event
        self._on_closed = on_closed
        self._client: _Client | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._is_connecting = False
        self._is_closing = False
        self._reason = "never connected"

    @property
    def is_connected(self) -> bool:
        """Whether commands can be sent."""
        return self._client is not None and self._client.runstate is Runstate.RUNNING

    # ── connect, close ────────────────────────────────────────────────────────────────────────────────────────

    async def connect(self, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Wait until the socket exists and QEMU greets.

        Raises `QmpTimeout` if a program accepts the connection and sends nothing before the time-out, `ConnectError` if
        no program accepts by then or the peer does not speak QMP, and `StateError` if already connected.
        """
        if self._is_connecting or self._watcher is not None:
            raise StateError(f"{self.name}: connect", "connected or connecting", "disconnected")
        self._is_connecting = True
        try:
            client = await self._connected(asyncio.get_running_loop().time() + timeout_s, timeout_s)
        finally:
            self._is_connecting = False
        self._client = client
        self._is_closing = False
        if client.greeting is not None:
            self.version = version_of(client.greeting.QMP.version)
        self._watcher = asyncio.get_running_loop().create_task(self._watch(client), name=f"{self.name}: QMP")

    async def _connected(self, deadline: float, timeout_s: float) -> "_Client":
        """A client after negotiation."""
        while True:
            try:
                return await self._attempt(deadline, timeout_s)
            except OSError as error:
                if error.errno not in _NOT_THERE_YET and not isinstance(error, ConnectionError):
                    raise self._refused(_os_reason(error)) from error
                left_s = deadline - asyncio.get_running_loop().time()
                if left_s <= 0:
                    raise self._refused(f"{_os_reason(error)}, for {timeout_s:g} s") from error
                await asyncio.sleep(min(CONNECT_PAUSE_S, left_s))

    async def _attempt(self, deadline: float, timeout_s: float) -> "_Client":
        """Raises the errors of `connect`, and OSError if another attempt may succeed."""
        client = _Client(self._deliver)
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            # Here and not in asyncio, which mistakes EAGAIN (the listener's queue is full) for success.
            end.connect(str(self.path))
            async with asyncio.timeout_at(deadline):
                await client.connect(end)
        except TimeoutError:
            raise self._no_session(client, timeout_s) from None
        except AssertionError as error:
            if client.runstate is Runstate.RUNNING:
                raise
            # The library assumes that a peer that has just answered is still connected.
            with suppress(Exception):
                await client.disconnect()
            raise ConnectionResetError(errno.ECONNRESET, "closed immediately") from error
        except LibraryConnectError as error:
            if isinstance(error.exc, EOFError):
                raise ConnectionResetError(errno.ECONNRESET, "closed immediately") from error
            if isinstance(error.exc, OSError):
                raise error.exc from error
            raise self._refused(_why(error.exc)) from error
        finally:
            if client.runstate is not Runstate.RUNNING:
                end.close()
        return client

    def _no_session(self, client: "_Client", timeout_s: float) -> QmpTimeout:
        if client.greeting is not None:
            return QmpTimeout(self.name, "qmp_capabilities", timeout_s, "QEMU greeted and did not answer")
        return QmpTimeout(
            self.name,
            f"QMP socket {self.path}",
            timeout_s,
            "no greeting (does QEMU hang, or does another program use this socket? QEMU serves one client)",
        )

    def _refused(self, why: str) -> ConnectError:
        return ConnectError(f"{self.name}: QMP socket {self.path}: {why}")

    async def close(self) -> None:
        """Close the connection; outstanding commands fail. Never waits for QEMU. Harmless if not connected."""
        if self._watcher is None or self._client is None:
            return
        self._is_closing = True
        self._client.abort()
        await asyncio.wait((self._watcher,))

    async def wait_closed(self) -> str:
        """Wait until there is no connection. Returns the reason."""
        if self._watcher is not None:
            await asyncio.wait((self._watcher,))
        return self._reason

    async def _watch(self, client: "_Client") -> None:
        """Wait for the end of the connection, then clean up after the library and report the reason."""
        while client.runstate is Runstate.RUNNING:
            await client.runstate_changed()
        try:
            await client.disconnect()
        except Exception as error:  # any error of its reader or writer
            reason = client.broken or _why(error)
        else:
            reason = client.broken or "closed"
        self._reason = "closed by this node" if self._is_closing else reason
        self._client = self._watcher = None
        if not self._is_closing:
            _call(self._on_closed, self._refused(self._reason).args[0])

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = COMMAND_TIMEOUT_S,
        oob: bool = False,
    ) -> Any:
        """QEMU's return value. `oob`: out of band, works while the main loop hangs; only a few commands allow it.

        Raises `QmpError` if QEMU refuses; `QmpTimeout`, after which QEMU may still carry the command out; and
        `ConnectError` if there is no connection or it is lost before the answer.
        """
        client, watcher = self._client, self._watcher
        if client is None or watcher is None or client.runstate is not Runstate.RUNNING:
            raise ConnectError(f"{self.name}: {command}: no QMP connection to {self.path}: {self._reason}")
        if client.unanswered >= UNANSWERED_MAX:
            raise QmpTimeout(self.name, command, 0, f"not sent: QEMU owes {UNANSWERED_MAX} answers; none came")
        message = client.make_execute_msg(command, arguments, oob)
        bytes(message)  # arguments that JSON cannot represent: fail here, not in the library's writer
        client.unanswered += 1
        try:
            async with asyncio.timeout(timeout_s):
                return await client.execute_msg(message)
        except TimeoutError:
            raise QmpTimeout(self.name, command, timeout_s, "no answer from QEMU") from None
        except ExecuteError as error:
            advice = hint(error.error_class, str(error))
            raise QmpError(self.name, command, error.error_class, str(error), advice) from error
        except (ExecInterruptedError, LibraryStateError) as error:
            await asyncio.wait((watcher,))
            raise ConnectError(
                f"{self.name}: {command}: the QMP connection to {self.path} ended before the answer: {self._reason}"
            ) from error
        except BadReplyError as error:
            client.broken = f"it answered {command} with neither a result nor an error"
            client.abort()
            raise PeerError(f"{self.name}: QMP socket {self.path}: {client.broken}; closed") from error

    async def pass_descriptor(self, descriptor: int, name: str) -> None:
        """Give QEMU a copy of an open file, under `name`. Raises as `execute` does."""
        client = self._client
        if client is None or not self.is_connected:
            raise ConnectError(f"{self.name}: getfd: no QMP connection to {self.path}: {self._reason}")
        try:
            client.send_fd_scm(descriptor)
        except (OSError, LibraryStateError) as error:
            raise ConnectError(f"{self.name}: getfd: {self.path}: {error}") from error
        await self.execute("getfd", {"fdname": name})

    def _deliver(self, event: QmpEvent) -> None:
        _call(self._on_event, event)


class _Client(QMPClient):
    """The library's client, except that events are passed on, not kept."""

    def __init__(self, deliver: Callable[[QmpEvent], None]) -> None:
        super().__init__(None, LINE_BYTES_MAX)
        self.unanswered = 0
        self.broken = ""
        """Why we closed it; the library's own reason would only say that it was closed."""
        self._deliver = deliver
        self._in_a_row = 0

    def abort(self) -> None:
        """Close at once: an orderly close waits until QEMU has read all data, and QEMU may hang."""
        if self._writer is not None:
            self._writer.transport.abort()

    def _cb_outbound(self, msg: Message) -> Message:
        # The library's own formats each message for the log, indented, even if no handler logs it.
        return msg

    def _cb_inbound(self, msg: Message) -> Message:
        self.unanswered = max(0, self.unanswered - 1)  # the greeting answers no command
        return msg

    async def _do_recv(self) -> Message:
        """The next message that is not an event. Events bypass the library, whose list of them grows without bound.

        This matters during the negotiation too: there the library mistakes an event for a wrong answer.
        """
        while True:
            self._in_a_row += 1
            if self._in_a_row >= MESSAGES_IN_A_ROW_MAX:
                self._in_a_row = 0
                await asyncio.sleep(0)
            message = await super()._do_recv()
            if "event" not in message:
                return message
            self._deliver(_event_of(message))


def _event_of(message: Message) -> QmpEvent:
    """Raises ProtocolError."""
    name, data, at = message["event"], message.get("data", {}), message.get("timestamp", {})
    if not isinstance(name, str) or not isinstance(data, dict) or not isinstance(at, dict):
        raise ProtocolError("an event without a name, or with data that is not an object")
    return QmpEvent(name, data, _microseconds(at.get("seconds"), at.get("microseconds")), monotonic_ns())


def _microseconds(seconds: object, microseconds: object) -> int:
    # QEMU sends -1 for an unknown time.
    if isinstance(seconds, int) and isinstance(microseconds, int) and seconds >= 0 and microseconds >= 0:
        return seconds * 1_000_000 + microseconds
    return 0


def _call(callback: Callable[[Fact], None], fact: Fact) -> None:
    """A callback that fails is its owner's bug; the loop reports it. Connection and watcher go on."""
    try:
        callback(fact)
    except Exception as error:
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a callback of a QMP connection failed", "exception": error}
        )


def version_of(version: Mapping[str, Any]) -> str:
    """What query-version answers, and the greeting says: "7.2.22"."""
    numbers = version.get("qemu")
    if not isinstance(numbers, dict):
        return "?"
    return ".".join(str(numbers.get(part, "?")) for part in ("major", "minor", "micro"))


def _os_reason(error: OSError) -> str:
    match error.errno:
        case errno.ENOENT:
            return "no such socket (is QEMU running, and started with -qmp?)"
        case errno.ECONNREFUSED:
            return "no program listens (has QEMU ended?)"
        case errno.EAGAIN:
            return "other clients are already waiting (QEMU serves one client per QMP socket)"
        case errno.EACCES:
            return "permission denied (run the node as the user that QEMU runs as, or as root)"
        case _:
            return error.strerror or str(error)


def _why(error: Exception) -> str:
    """One line: why a session ended or did not begin."""
    match error:
        case GreetingError() | NegotiationError() if not isinstance(error.exc, KeyError | TypeError | AssertionError):
            return _why(error.exc)
        case GreetingError():
            return "the first message is not a greeting; closed (is this a QMP socket?)"
        case NegotiationError():
            return "QEMU refused qmp_capabilities; closed"
        case EOFError():
            return "QEMU closed the connection (has it ended?)"
        case OSError():
            return _os_reason(error)
        case DeserializationError(raw=raw) if not raw.endswith(b"\n"):
            return "the connection ended in the middle of a message (was QEMU killed?)"
        case DeserializationError() | UnicodeDecodeError() | RecursionError() | json.JSONDecodeError():
            return "received data is not JSON; closed (is this a QMP socket?)"
        case UnexpectedTypeError():
            return "received JSON is not an object; closed (is this a QMP socket?)"
        case ServerParseError():
            return "QEMU could not parse a message and named no command; closed"
        case QMPError():
            return " ".join(str(error).split())[:200] + "; closed"
        case ValueError():
            return f"a message longer than {LINE_BYTES_MAX} bytes; closed"
        case _:
            return f"received data cannot be parsed ({type(error).__name__}); closed"
