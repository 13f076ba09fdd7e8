"""The user's own commands: a fencing command, `network.serve` and `network.retire`.

No shell: the configured words are the command's words, with `{peer}`, `{pair}`, `{role}` and `{term}` replaced. It runs
in a process group of its own, which is killed at the time limit, and when the node ends. The last line of its stderr is
kept; at most a few kilobytes are held meanwhile.
"""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

LAST_BYTES: Final = 4096
"""The end of the command's stderr that is kept: it contains the last line."""

LINE_LENGTH: Final = 200
"""Characters of that line that are shown."""


class Ended(NamedTuple):
    """`exit_code` None: not started, or not in time. `text`: why, or the last line of stderr."""

    exit_code: int | None
    text: str

    def __str__(self) -> str:
        if self.exit_code is None:
            return self.text
        return f"exit code {self.exit_code}; {self.text}" if self.text else f"exit code {self.exit_code}"


class _Tail:
    """The last bytes that were written to a pipe. It does not wait for a process that keeps the pipe open."""

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
        for _ in range(16):  # a pipe holds 64 KiB; a process may still write to it
            if not self._read():
                break
        self._loop.remove_reader(self._read_fd)
        os.close(self._read_fd)
        lines = self._bytes.decode(errors="replace").strip().splitlines()
        line = "".join(letter if letter.isprintable() else " " for letter in lines[-1]) if lines else ""
        return line.strip()[-LINE_LENGTH:]


async def run_command(words: Sequence[str], timeout_s: float) -> Ended:
    """Run it to its end; its process group is killed after `timeout_s`, and when this is cancelled."""
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
