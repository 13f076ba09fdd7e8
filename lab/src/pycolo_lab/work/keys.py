"""Keys are typed in an ssh session, and the law: the echo of each key comes, once and in order, in the same session.

The terminal is the guest's, which echoes what is typed; the program there only reads.
"""

import os
import random
import select
import string
import subprocess
import time
from typing import Final, Self

from pycolo_lab.work.result import SSH_OPTIONS, USER, Work, WorkResult, main, shown

REMOTE: Final = "echo typing; exec cat > /dev/null"
GREETING: Final = b"typing\r\n"
LINE_KEYS: Final = 60
"""A return after so many: a terminal takes lines of a limited length."""

PAUSE_S: Final = 0.05
RECEIVE_BYTES: Final = 4096


class SessionError(Exception):
    """What the person at the keyboard would say."""


class Session:
    """One ssh with a terminal. Its standard input and output are pipes."""

    def __init__(self, work: Work) -> None:
        self._stall_s = work.stall_s
        command = ["ssh", *SSH_OPTIONS, "-tt", "-e", "none", f"{USER}@{work.address}", REMOTE]
        self._popen = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        assert self._popen.stdin is not None and self._popen.stdout is not None, "pipes"  # noqa: PT018
        self._in, self._out = self._popen.stdin.fileno(), self._popen.stdout.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._popen.kill()
        with self._popen:  # closes the pipes
            self._popen.wait()

    def expect(self, wanted: bytes) -> None:
        """Wait for these bytes, and no others. Raises `SessionError`."""
        heard = b""
        deadline = time.monotonic() + self._stall_s
        while len(heard) < len(wanted):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._out], [], [], left)[0]:
                raise SessionError(f"no echo of {wanted!r} for {self._stall_s:.0f} s")
            received = os.read(self._out, RECEIVE_BYTES)
            if not received:
                raise SessionError("the session ended")
            heard += received
        if heard != wanted:
            raise SessionError(f"the echo of {wanted!r} was {heard[:60]!r}")

    def type(self, key: str) -> float:
        """Returns how long the echo took, in seconds."""
        began = time.monotonic()
        os.write(self._in, key.encode())
        self.expect(b"\r\n" if key == "\n" else key.encode())
        return time.monotonic() - began


def run(work: Work) -> WorkResult:
    """Until the run ends it, and one more key."""
    rng = random.Random(1)
    waits: list[float] = []
    found: list[str] = []
    with Session(work) as session:
        try:
            session.expect(GREETING)
            ends = False
            while not ends:
                ends = work.is_over()
                key = "\n" if len(waits) % LINE_KEYS == LINE_KEYS - 1 else rng.choice(string.ascii_letters)
                waits.append(session.type(key))
                time.sleep(PAUSE_S)
        except (SessionError, OSError) as error:
            found.append(f"after {len(waits)} keys: {error}")
    longest = f", the longest wait was {max(waits) * 1e3:.0f} ms" if waits else ""
    return WorkResult(len(waits), f"{len(waits)} keys were echoed in one ssh session{longest}", shown(found))


if __name__ == "__main__":
    main("keys", run)
