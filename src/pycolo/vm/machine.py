"""This host's QEMU: found at its QMP socket, or started, and watched until it ends.

The kernel (a pidfd) says whether it still runs, not QMP: a monitor may be slow.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog

from pycolo.config import QemuOptions
from pycolo.errors import ConnectError, PeerError, QmpError
from pycolo.qmp.client import Qmp, QmpEvent
from pycolo.qmp.commands import permitted
from pycolo.qmp.monitor import Monitor
from pycolo.qmp.probe import Facts, Netdev, netdevs, probe
from pycolo.qmp.process import with_process, with_taps
from pycolo.qmp.yank import MIGRATION, yank
from pycolo.vm.monitorsource import MonitorSource, SocketSource

KILL_S: Final = 5.0
"""How long a QEMU may take to be gone after SIGKILL: it may be in the middle of freeing its memory."""

CONNECT_S: Final = 5.0
"""For a QEMU that runs already."""

TIDY_S: Final = 5.0
"""For QEMU to tidy up after a migration; seen for a fraction of a second."""

TIDY_POLL_S: Final = 0.05
STILL_THERE: Final = "duplicate yank instance"

_LAST_WORDS_BYTES: Final = 4096
"""Of its output, which is read while the guest waits for its takeover: a guest may have made QEMU write much."""

log = structlog.get_logger("colo")

EventFilter = Callable[[QmpEvent], bool]


class Machine:
    """One QEMU. `on_event(event)` in asyncio's thread; `on_gone(text)` once, when the process has ended.

    `source`: the way to its monitor; None: the QMP socket of `options`.
    """

    def __init__(
        self,
        options: QemuOptions,
        name: str,
        on_event: Callable[[QmpEvent], None],
        on_gone: Callable[[str], None],
        source: MonitorSource | None = None,
    ) -> None:
        self.pid = 0
        self.qmp: Monitor | None = None
        self.version = ""
        self._yank: Qmp | None = None
        self._options = options
        self._source: MonitorSource = SocketSource(options.qmp, options.yank) if source is None else source
        self._name = name
        self._on_event = on_event
        self._on_gone = on_gone
        self._pidfd = -1
        self._is_over = False
        self._ended = asyncio.Event()
        self._log_start = 0
        self._waiting: list[tuple[EventFilter, asyncio.Future[QmpEvent]]] = []
        self._process: asyncio.subprocess.Process | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def is_there(self) -> bool:
        """Whether QMP is connected and the process lives."""
        return self.qmp is not None and not self._is_over

    def rebind(self, on_event: Callable[[QmpEvent], None], on_gone: Callable[[str], None]) -> None:
        """Another owner hears of it from here on."""
        self._on_event = on_event
        self._on_gone = on_gone

    @property
    def is_over(self) -> bool:
        """Whether the process has ended, or was released."""
        return self._is_over

    # ── start and end ──────────────────────────────────────────────────────────────────────────────────────

    async def start(self, extra: Sequence[str], command: Sequence[str] | None = None) -> None:
        """Start the configured command, or `command`, with `extra` arguments. Raises `ConnectError`.

        It is in a session of its own: it outlives this node.
        """
        command = [*(self._options.command if command is None else command), *extra]
        path = Path(self._options.directory) / "qemu.log"
        try:
            with open(path, "ab") as output:
                self._log_start = output.tell()
                self._process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    env={**os.environ, **self._options.environment},
                )
        except OSError as error:
            raise ConnectError(f"qemu.command {command[0]}: {error.strerror or error}") from error
        self.watch(self._process.pid)

    async def connect(self, timeout_s: float = CONNECT_S) -> None:
        """Connect to the QMP socket. Raises `ConnectError`, `PeerError`."""
        opening = self._source.open(self._name, self._heard, self._qmp_closed, timeout_s)
        try:
            qmp = await self._unless_ended(opening)
        except ConnectError as error:
            if self._ended.is_set():
                raise ConnectError(await self._how_it_ended()) from error
            raise ConnectError(f"{error}{self._last_words()}") from error
        self.qmp = qmp
        if self._pidfd < 0:
            self.watch(self._source.pid())
        self.version = qmp.version
        await self._connect_yank(timeout_s)

    async def _unless_ended(self, connecting: Coroutine[Any, Any, Monitor]) -> Monitor:
        """What `connecting` connects, unless QEMU has ended. Raises `ConnectError`, and what `connecting` raises."""
        trying = self._loop.create_task(connecting)
        ending = self._loop.create_task(self._ended.wait())
        try:
            await asyncio.wait((trying, ending), return_when=asyncio.FIRST_COMPLETED)
            if not trying.done():
                raise ConnectError(await self._how_it_ended())
            return await trying
        except BaseException:
            trying.cancel()
            (made,) = await asyncio.gather(trying, return_exceptions=True)
            if not isinstance(made, BaseException):  # connected as this was cancelled, or as QEMU ended
                await made.close()
            raise
        finally:
            ending.cancel()  # and not awaited: cancelled in there, this would lose what it returns

    async def _how_it_ended(self) -> str:
        if self._process is None:
            return f"{self._name}: QEMU has ended"
        code = await self._process.wait()
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        return f"{self._name}: qemu.command {self._options.command[0]} has ended ({how}){self._last_words()}"

    async def _connect_yank(self, timeout_s: float) -> None:
        """Connect to the second QMP socket, if there is one, now: a monitor that hangs accepts no connection.

        Raises `ConnectError` when QEMU ends meanwhile.
        """
        path = self._source.yank
        if path is None or (self._yank is not None and self._yank.is_connected):
            return
        line = Qmp(path, f"{self._name} (yank)", lambda event: None, lambda text: None)

        async def connected() -> Qmp:
            await line.connect(timeout_s)
            return line

        try:
            await self._unless_ended(connected())
        except (ConnectError, PeerError) as error:
            if self._ended.is_set():
                raise ConnectError(await self._how_it_ended()) from error
            log.warning(f"QEMU cannot be yanked: {error}")
            return
        self._yank = line

    async def yank(self) -> None:
        """Have QEMU shut the migration stream down, even while its main loop hangs in it."""
        line = self._yank
        if line is not None and line.is_connected:
            await yank(line, [MIGRATION])

    def watch(self, pid: int) -> None:
        """Watch for the end of the process; 0: it is not known."""
        self.pid = pid
        if pid <= 0:
            return
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            # It has ended already, and its parent (perhaps asyncio) has taken its exit code.
            self._loop.call_soon(self._process_ended)
            return
        except OSError:
            return
        self._loop.add_reader(self._pidfd, self._process_ended)

    def _process_ended(self) -> None:
        self._forget_pidfd()
        self._ended.set()
        self._over(f"QEMU of {self._name} (process {self.pid}) has ended{self._last_words()}")

    def _qmp_closed(self, text: str) -> None:
        """The monitor's connection is gone; the process may live on."""
        self.qmp = None
        self._fail_waiting(text)
        if self._pidfd < 0 and not self._is_over:
            self._over(text)

    def _over(self, text: str) -> None:
        if not self._is_over:
            self._is_over = True
            self._fail_waiting(text)
            self._on_gone(text)

    def _last_words(self) -> str:
        """The last line of output of a QEMU that this node has started."""
        if self._process is None:
            return ""
        with suppress(OSError):
            with open(Path(self._options.directory) / "qemu.log", "rb") as output:
                end = output.seek(0, os.SEEK_END)
                output.seek(max(self._log_start, end - _LAST_WORDS_BYTES))
                lines = output.read(_LAST_WORDS_BYTES).decode("utf-8", "replace").strip().splitlines()
            if lines:
                return f"; its last line: {lines[-1][:300]}"
        return ""

    async def kill(self) -> None:
        """Kill the process, and wait until it is gone. No `on_gone` follows."""
        self._is_over = True
        if self.pid > 0 and self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            with suppress(TimeoutError):
                async with asyncio.timeout(KILL_S):
                    await self._wait_for_end()
        elif self.qmp is not None:
            with suppress(PeerError, ConnectError):
                await self.qmp.execute("quit")
        await self.release()

    async def _wait_for_end(self) -> None:
        ended = asyncio.Event()
        self._loop.add_reader(self._pidfd, ended.set)
        await ended.wait()
        if self._process is not None:
            await self._process.wait()

    async def release(self) -> None:
        """Disconnect without ending it. No `on_gone` follows."""
        self._is_over = True
        self._forget_pidfd()
        self._fail_waiting("released")
        qmp, self.qmp = self.qmp, None
        line, self._yank = self._yank, None
        for one in (qmp, line):
            if one is not None:
                await one.close()

    def _forget_pidfd(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    # ── commands ────────────────────────────────────────────────────────────────────────────────────────

    async def execute(self, command: str, arguments: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """One QMP command's answer. Raises `PeerError`, `ConnectError`."""
        return await self._connected().execute(permitted(command), dict(arguments) if arguments else None, **options)

    async def execute_aside(self, command: str, timeout_s: float, arguments: Mapping[str, Any] | None = None) -> Any:
        """As `execute`, on the second QMP connection if there is one: the first may wait for another answer."""
        line = self._yank
        if line is None or not line.is_connected:
            return await self.execute(command, arguments, timeout_s=timeout_s)
        return await line.execute(permitted(command), arguments, timeout_s=timeout_s)

    async def set_capabilities(self, wanted: Mapping[str, bool]) -> None:
        """Turn migration capabilities on and off. Raises `PeerError`, `ConnectError`."""
        capabilities = [{"capability": name, "state": state} for name, state in wanted.items()]
        await self.execute("migrate-set-capabilities", {"capabilities": capabilities})

    @property
    def passes_descriptors(self) -> bool:
        """Whether QEMU gets its end of a stream from this node: it may not, or cannot, open the node's sockets."""
        return self._source.passes_descriptors

    async def pass_descriptor(self, descriptor: int, name: str) -> None:
        """Give QEMU an open file, for a command that names it so. Raises `PeerError`, `ConnectError`."""
        await self._connected().pass_descriptor(descriptor, name)

    async def migrate(self, uri: str, descriptor: int | None = None) -> None:
        """Start a migration; to `descriptor`, passed under the name in `uri` (fd:NAME). Raises `PeerError`,
        `ConnectError`.

        QEMU 10.0 refuses one while it still tidies up after the last, though that has ended and answers so.
        """
        until_s = self._loop.time() + TIDY_S
        while True:
            try:
                if descriptor is not None:
                    await self.pass_descriptor(descriptor, uri.removeprefix("fd:"))
                await self.execute("migrate", {"uri": uri})
                return
            except QmpError as error:
                if STILL_THERE not in error.description or self._loop.time() > until_s:
                    raise
            await asyncio.sleep(TIDY_POLL_S)

    async def probe(self, *, is_forced: bool) -> Facts:
        """Query what it is and supports. Raises `PeerError`, also for an unknown version, and `ConnectError`."""
        facts = await probe(self._connected(), is_forced=is_forced)
        return await asyncio.to_thread(with_process, facts, self.pid, await self._source.taps())

    async def netdevs(self) -> Mapping[str, Netdev]:
        """Its network backends, by their ids. Raises `PeerError`, `ConnectError`."""
        found = await netdevs(self._connected())
        return await asyncio.to_thread(with_taps, found, self.pid, await self._source.taps())

    def _connected(self) -> Monitor:
        if self.qmp is None:
            raise ConnectError(f"{self._name}: QEMU is not there (no connection to {self._source.where})")
        return self.qmp

    async def wait_for(self, wanted: EventFilter, timeout_s: float, what: str) -> QmpEvent:
        """The next event for which `wanted` is true. Raises `PeerError` naming `what` when none comes in time."""
        future: asyncio.Future[QmpEvent] = self._loop.create_future()
        entry = (wanted, future)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError as error:
            raise PeerError(f"{self._name}: no {what} within {timeout_s:g} s") from error
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)

    async def status(self) -> dict[str, Any]:
        """Its part of `colo status`."""
        shown: dict[str, Any] = {"qmp": "absent", "version": self.version, "status": None, "colo": None, "pid": None}
        if self.qmp is None:
            return shown
        shown["qmp"] = "connected"
        shown["pid"] = self.pid or None
        with suppress(PeerError, ConnectError):
            shown["status"] = (await self.execute("query-status", timeout_s=1.0))["status"]
            shown["colo"] = (await self.execute("query-colo-status", timeout_s=1.0))["mode"]
        return shown

    def _heard(self, event: QmpEvent) -> None:
        for wanted, future in list(self._waiting):
            if not future.done() and wanted(event):
                future.set_result(event)
        self._on_event(event)

    def _fail_waiting(self, text: str) -> None:
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(ConnectError(text))
