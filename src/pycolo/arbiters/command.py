"""The arbiter `command`: runs the fencing command for its core (`failover.fencing`).

No shell: the words of the configuration are the words of the command, `{peer}`, `{pair}`, `{role}` and `{term}`
replaced. It runs in a process group of its own, which is killed when it takes too long, and when the node ends.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import structlog

from pycolo.arbiters.live import LiveArbiter, now_ms
from pycolo.failover.arbiter import Decision
from pycolo.failover.fencing import FencingArbiter

LAST_BYTES: Final = 4096
"""Of what the command writes to stderr, the end is kept: it holds the last line."""

LINE_LENGTH: Final = 200
"""Characters of that line which are shown."""

log = structlog.get_logger("colo")


class Ended(NamedTuple):
    """`exit_code` None: not started, or not in time. `text`: why, or the last line of stderr."""

    exit_code: int | None
    text: str


class _Tail:
    """The last bytes that were written to a pipe. Nobody who keeps it open is waited for."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._bytes = b""
        self._read_fd, self.write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        self._loop.add_reader(self._read_fd, self._read)

    def _read(self) -> bool:
        try:
            chunk = os.read(self._read_fd, 65536)
        except BlockingIOError:
            return False
        if not chunk:
            self._loop.remove_reader(self._read_fd)
        self._bytes = (self._bytes + chunk)[-LAST_BYTES:]
        return bool(chunk)

    def close_writer(self) -> None:
        """The command has its own copy."""
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def close(self) -> str:
        """The last line, printable."""
        self.close_writer()
        for _ in range(16):  # a pipe holds 64 KiB; a writer that goes on is not waited for
            if not self._read():
                break
        self._loop.remove_reader(self._read_fd)
        os.close(self._read_fd)
        lines = self._bytes.decode(errors="replace").strip().splitlines()
        line = "".join(letter if letter.isprintable() else " " for letter in lines[-1]) if lines else ""
        return line.strip()[-LINE_LENGTH:]


async def run_command(words: Sequence[str], timeout_s: float) -> Ended:
    """Run it to its end, or kill its process group after `timeout_s`; also when this is cancelled."""
    tail = _Tail()
    process: asyncio.subprocess.Process | None = None
    in_time = True
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=tail.write_fd,
            start_new_session=True,
        )
        tail.close_writer()
        try:
            async with asyncio.timeout(timeout_s):
                await process.wait()
        except TimeoutError:
            in_time = False
    except (OSError, ValueError) as error:  # ValueError: a word with a NUL
        return Ended(None, f"{words[0]}: cannot be started: {getattr(error, 'strerror', None) or error}")
    finally:
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        last_line = tail.close()
    if not in_time:
        said = f", last line: {last_line}" if last_line else ""
        return Ended(None, f"killed: it did not end within {timeout_s:g} s{said}")
    return Ended(process.returncode, last_line)


def fill_in(words: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """The words with `{name}` replaced, once: a value that looks like a placeholder stays as it is."""
    filled = []
    for word in words:
        parts = word.split("{")
        for i, part in enumerate(parts[1:], start=1):
            name, brace, rest = part.partition("}")
            parts[i] = values[name] + rest if brace and name in values else "{" + part
        filled.append("".join(parts))
    return filled


class CommandArbiter(LiveArbiter):
    """`values`: of the placeholders but `{term}`, which is the term that success opens."""

    _core: FencingArbiter

    def __init__(
        self,
        term: int,
        on_change: Callable[[], None],
        words: Sequence[str],
        timeout_ms: int,
        values: Mapping[str, str],
    ) -> None:
        super().__init__(FencingArbiter(term), on_change)
        self._words = tuple(words)
        self._timeout_s = timeout_ms / 1000
        self._values = dict(values)

    @property
    def is_acting(self) -> bool:
        """While the fencing command runs."""
        return self._core.is_running

    def deadline_ms(self) -> int | None:
        """None: the task here has its own timers."""
        return None

    async def _run(self) -> None:
        core = self._core
        while True:
            if core.wants_run(now_ms()):
                await self._fence()
                continue
            due_ms = core.deadline_ms()
            await self._sleep(None if due_ms is None else max(0, due_ms - now_ms()) / 1000)

    async def _fence(self) -> None:
        core = self._core
        term = core.verdict().term + 1
        words = fill_in(self._words, {**self._values, "term": str(term)})
        log.warning("fencing the other node", command=words)
        core.fencing_started(now_ms())
        self._changed()
        ended = await run_command(words, self._timeout_s)
        core.fencing_finished(now_ms(), ended.exit_code, ended.text)
        if ended.exit_code != 0:
            log.error(
                f"{words[0]}: the other node is not fenced: "
                f"{f'exit code {ended.exit_code}' if ended.exit_code is not None else 'no exit code'}; {ended.text}"
            )
        elif core.verdict().decision is Decision.DENIED:
            log.error("the other node was fenced though it had taken over: now neither serves")
        self._changed()
