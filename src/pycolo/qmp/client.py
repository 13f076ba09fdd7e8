"""One QMP connection to one QEMU, over the library `qemu.qmp` (docs/adr/0018-qmp-library.md).

What is added to the library: a time-out on every command, a bound on what a hanging QEMU can make us keep, events as
calls instead of as a list that only grows, errors of one line, and silence in the log.

A QEMU serves one client per QMP socket. A second one is accepted by the kernel and gets no greeting until the first
has gone; so does everybody whose QEMU's main loop hangs. Both end as `QmpTimeout`.
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

CONNECT_TIMEOUT_S: Final = 5.0
"""From the first attempt to the end of the negotiation, which takes milliseconds. Who starts a QEMU passes more."""

COMMAND_TIMEOUT_S: Final = 5.0
"""A command takes about a millisecond; at a checkpoint it waits for the main loop, some tens of them."""

CONNECT_PAUSE_S: Final = 0.05
"""Between two looks whether the socket is there yet: a QEMU takes some tenths of a second to start."""

LINE_BYTES_MAX: Final = 4 << 20
"""One message. The longest known, the answer to query-qmp-schema, has 0.2 MB in 7.2."""

UNANSWERED_MAX: Final = 256
"""Commands that QEMU owes an answer, timed out or not. It reads eight ahead; what is beyond is kept by us."""

MESSAGES_IN_A_ROW_MAX: Final = 64
"""Then the loop's other work has its turn: 64 events take about a millisecond."""

# Every one of its reasons arrives here as an exception and is told once, in one line.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL + 1)

_NOT_THERE_YET: Final = frozenset({errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN})

_HINTS: Final = (
    ("Vhost is not supported", "filters cannot see what vhost carries: start QEMU with vhost=off on this netdev"),
    ("multiqueue is not supported", "filters take one queue: start QEMU with queues=1 and mq=off"),
    ("expects a network backend id", "this QEMU has no such netdev: compare with `info network`"),
    ("duplicate property", "left over from before? `colo unprotect` takes it away"),
    ("Duplicate ID", "left over from before? `colo unprotect` takes it away"),
    ("There's a migration process in progress", "wait for it, or give it up with migrate_cancel"),
    ("Migration is disabled when", "a device or disk of this VM cannot migrate: start QEMU without it"),
)


def _hint(error_class: str, description: str) -> str:
    if error_class == "CommandNotFound":
        return "this QEMU was built without it: use QEMU 7.2 or 10.0 as Debian builds them"
    return next((hint for words, hint in _HINTS if words in description), "")


Fact = TypeVar("Fact")


@dataclass(frozen=True, slots=True)
class QmpEvent:
    """Something that QEMU tells of itself."""

    name: str
    data: Mapping[str, Any]
    at_us: int
    """When it happened, by the wall clock of QEMU's host, µs since 1970; 0 when QEMU could not tell."""
    received_ns: int
    """When it was read here, by this process's monotonic clock."""


class Qmp:
    """The QMP socket at `path` of the VM `name`, which begins every message to the user.

    `on_event` is called in the loop for each event, in order, from the end of the negotiation on, which may be before
    `connect` returns. `on_closed` is called once for each connection that is lost, with the reason, before the
    outstanding commands fail; not for one that `close` ends. Neither may wait. After a loss `connect` may be called
    again.
    """

    def __init__(
        self, path: Path, name: str, on_event: Callable[[QmpEvent], None], on_closed: Callable[[str], None]
    ) -> None:
        self.path = path
        self.name = name
        self.version = ""
        """QEMU's version as in its greeting, "7.2.22"; empty before the first connection."""
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
        """Wait for the socket and for QEMU behind it.

        Raises `QmpTimeout` when somebody accepts and does not speak until the time is over, `ConnectError` when
        nobody accepts until then, or what speaks is not QMP, `StateError` when connected.
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
            self.version = _version_of(client.greeting.QMP.version)
        self._watcher = asyncio.get_running_loop().create_task(self._watch(client), name=f"{self.name}: QMP")

    async def _connected(self, deadline: float, timeout_s: float) -> "_Client":
        """A client that has negotiated."""
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
        """Raises what `connect` does, and OSError where another attempt may succeed."""
        client = _Client(self._deliver)
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            # Here and not in asyncio, which takes EAGAIN (the listener's queue is full) for success.
            end.connect(str(self.path))
            async with asyncio.timeout_at(deadline):
                await client.connect(end)
        except TimeoutError:
            raise self._no_session(client, timeout_s) from None
        except AssertionError as error:
            if client.runstate is Runstate.RUNNING:
                raise
            # The library takes for certain that who has just answered is still there.
            with suppress(Exception):
                await client.disconnect()
            raise ConnectionResetError(errno.ECONNRESET, "it is closed at once") from error
        except LibraryConnectError as error:
            if isinstance(error.exc, EOFError):
                raise ConnectionResetError(errno.ECONNRESET, "it is closed at once") from error
            if isinstance(error.exc, OSError):
                raise error.exc from error
            raise self._refused(_why(error.exc)) from error
        finally:
            if client.runstate is not Runstate.RUNNING:
                end.close()
        return client

    def _no_session(self, client: "_Client", timeout_s: float) -> QmpTimeout:
        if client.greeting is not None:
            return QmpTimeout(self.name, "qmp_capabilities", timeout_s, "QEMU greets and then does not answer")
        return QmpTimeout(
            self.name,
            f"QMP socket {self.path}",
            timeout_s,
            "no greeting (does QEMU hang, or has another program this socket open? QEMU serves one)",
        )

    def _refused(self, why: str) -> ConnectError:
        return ConnectError(f"{self.name}: QMP socket {self.path}: {why}")

    async def close(self) -> None:
        """End the connection; outstanding commands fail. At once, also when QEMU hangs. Nothing when there is none."""
        if self._watcher is None or self._client is None:
            return
        self._is_closing = True
        self._client.abort()
        await asyncio.wait((self._watcher,))

    async def wait_closed(self) -> str:
        """Until there is no connection (any more): why."""
        if self._watcher is not None:
            await asyncio.wait((self._watcher,))
        return self._reason

    async def _watch(self, client: "_Client") -> None:
        """Until the connection ends; then collect what the library left behind, and say so."""
        while client.runstate is Runstate.RUNNING:
            await client.runstate_changed()
        try:
            await client.disconnect()
        except Exception as error:  # whatever its reader or writer ended with
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
        """What QEMU returns. `oob`: out of band, past a hanging main loop; only a few commands can.

        Raises `QmpError` when QEMU refuses, `QmpTimeout`, after which the command may still be carried out, and
        `ConnectError` when there is no connection or it breaks before the answer.
        """
        client, watcher = self._client, self._watcher
        if client is None or watcher is None or client.runstate is not Runstate.RUNNING:
            raise ConnectError(f"{self.name}: {command}: no QMP connection to {self.path}: {self._reason}")
        if client.unanswered >= UNANSWERED_MAX:
            raise QmpTimeout(self.name, command, 0, f"not sent: QEMU owes {UNANSWERED_MAX} answers; none came")
        message = client.make_execute_msg(command, arguments, oob)
        bytes(message)  # arguments that are no JSON: here, and not in the library's writer
        client.unanswered += 1
        try:
            async with asyncio.timeout(timeout_s):
                return await client.execute_msg(message)
        except TimeoutError:
            raise QmpTimeout(self.name, command, timeout_s, "no answer from QEMU") from None
        except ExecuteError as error:
            hint = _hint(error.error_class, str(error))
            raise QmpError(self.name, command, error.error_class, str(error), hint) from error
        except (ExecInterruptedError, LibraryStateError) as error:
            await asyncio.wait((watcher,))
            raise ConnectError(
                f"{self.name}: {command}: the QMP connection to {self.path} ended before the answer: {self._reason}"
            ) from error
        except BadReplyError as error:
            client.broken = f"it answered {command} with neither a result nor an error"
            client.abort()
            raise PeerError(f"{self.name}: QMP socket {self.path}: {client.broken}; closed") from error

    def _deliver(self, event: QmpEvent) -> None:
        _call(self._on_event, event)


class _Client(QMPClient):
    """The library's client, which gives events away instead of keeping all of them."""

    def __init__(self, deliver: Callable[[QmpEvent], None]) -> None:
        super().__init__(None, LINE_BYTES_MAX)
        self.unanswered = 0
        self.broken = ""
        """Why we ended it, where the library's own reason would only be that it ended."""
        self._deliver = deliver
        self._in_a_row = 0

    def abort(self) -> None:
        """End at once: an orderly end waits until QEMU has read what is on its way, and it may hang."""
        if self._writer is not None:
            self._writer.transport.abort()

    def _cb_outbound(self, msg: Message) -> Message:
        # The library's own prepares each message for the log, indented, whether or not anybody reads it.
        return msg

    def _cb_inbound(self, msg: Message) -> Message:
        self.unanswered = max(0, self.unanswered - 1)  # the greeting was not asked for
        return msg

    async def _do_recv(self) -> Message:
        """The next message that is no event: those never reach the library, whose list of them has no end.

        During the negotiation too, where the library takes an event for a wrong answer.
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
        raise ProtocolError("an event without a name, or with data that is no object")
    return QmpEvent(name, data, _microseconds(at.get("seconds"), at.get("microseconds")), monotonic_ns())


def _microseconds(seconds: object, microseconds: object) -> int:
    # QEMU says -1 for what it does not know.
    if isinstance(seconds, int) and isinstance(microseconds, int) and seconds >= 0 and microseconds >= 0:
        return seconds * 1_000_000 + microseconds
    return 0


def _call(callback: Callable[[Fact], None], fact: Fact) -> None:
    """A callback that fails is a bug of its owner, shown by the loop; it ends neither connection nor watcher."""
    try:
        callback(fact)
    except Exception as error:
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a callback of a QMP connection failed", "exception": error}
        )


def _version_of(version: Mapping[str, Any]) -> str:
    numbers = version.get("qemu")
    if not isinstance(numbers, dict):
        return "?"
    return ".".join(str(numbers.get(part, "?")) for part in ("major", "minor", "micro"))


def _os_reason(error: OSError) -> str:
    match error.errno:
        case errno.ENOENT:
            return "there is no such socket (is QEMU running, and started with -qmp?)"
        case errno.ECONNREFUSED:
            return "nobody listens (QEMU has ended?)"
        case errno.EAGAIN:
            return "others wait for it already (QEMU serves one client per QMP socket)"
        case errno.EACCES:
            return "permission denied (run the node as the user that QEMU runs as, or as root)"
        case _:
            return error.strerror or str(error)


def _why(error: Exception) -> str:
    """One line on why a session ended or did not begin."""
    match error:
        case GreetingError() | NegotiationError() if not isinstance(error.exc, KeyError | TypeError | AssertionError):
            return _why(error.exc)
        case GreetingError():
            return "what came first is no greeting; closed (is this a QMP socket?)"
        case NegotiationError():
            return "QEMU refuses qmp_capabilities; closed"
        case EOFError():
            return "QEMU closed the connection (it has ended?)"
        case OSError():
            return _os_reason(error)
        case DeserializationError(raw=raw) if not raw.endswith(b"\n"):
            return "the connection broke off in the middle of a message (QEMU was killed?)"
        case DeserializationError() | UnicodeDecodeError() | RecursionError() | json.JSONDecodeError():
            return "what came is not JSON; closed (is this a QMP socket?)"
        case UnexpectedTypeError():
            return "what came is JSON, but no object; closed (is this a QMP socket?)"
        case ServerParseError():
            return "QEMU could not read what was sent, and says so without naming a command; closed"
        case QMPError():
            return " ".join(str(error).split())[:200] + "; closed"
        case ValueError():
            return f"a message above {LINE_BYTES_MAX} bytes; closed"
        case _:
            return f"what came cannot be read ({type(error).__name__}); closed"
