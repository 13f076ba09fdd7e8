"""SIGINT, SIGTERM and SIGHUP: a handler records them, ordinary code polls; a second signal ends everything.

A handler that raises would interrupt any code, for example a library's event loop, which might then wait for ever or
print a page. So only `Interruption.look` raises; every loop and every wait of the laboratory calls it at least once in
`LOOK_S`.
"""

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from pycolo_lab.errors import RunInterruptedError

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

LOOK_S: Final = 0.1
"""The longest wait between two polls."""

SAME_S: Final = 0.25
"""What comes again within that time is the first one once more: timeout(1) and make send a signal to the process, and
to its group as well."""

Look = Callable[[], None]


class Interruption:
    """The first signal is recorded; the second one ends this process and all its children."""

    def __init__(self) -> None:
        self._number: signal.Signals | None = None
        self._at = -math.inf
        self._has_warden = False
        self._groups: set[int] = set()

    def watch(self) -> None:
        """Record signals from now on. A signal that `nohup` has set to be ignored stays ignored."""
        for number in SIGNALS:
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._record)

    def watch_under_warden(self) -> None:
        """`watch`, in a child whose parent kills it at the second signal: it may get each of them twice itself."""
        self._has_warden = True
        self.watch()

    def look(self) -> None:
        """Raise `RunInterruptedError` if a signal has come."""
        if self._number is not None:
            raise RunInterruptedError(f"interrupted by {self._number.name}; everything was shut down")

    def forget(self) -> None:
        """The signal was the answer to a question: the run continues."""
        self._number = None

    def rest(self, seconds: float) -> None:
        """Let time pass; raises as `look` does."""
        deadline = time.monotonic() + seconds
        while True:
            self.look()
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, LOOK_S))

    @contextmanager
    def ending(self, group: int) -> Iterator[None]:
        """For the length of the block a second signal kills that process group too."""
        self._groups.add(group)
        try:
            yield
        finally:
            self._groups.discard(group)

    def _record(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._at <= SAME_S:
            return
        if self._number is None:
            self._number, self._at = signal.Signals(number), now
        elif not self._has_warden:
            for group in self._groups:
                _send(os.killpg, group, signal.SIGKILL)
            die_of(number)


class Warden:
    """Waits for a child: passes the first signal on, and kills the child at the second one.

    `wait` once; signals are this object's from `watch` to the end of the process, or to `leave`.
    """

    def __init__(self, child: int, *, kills: bool) -> None:
        """Without `kills` it passes everything on, to a child that has another warden above."""
        self._child = child
        self._kills = kills
        self._has_ended = False
        self._at: float | None = None
        self._before: dict[signal.Signals, object] = {}
        self.second: int | None = None
        """The signal that made it kill."""

    def watch(self) -> None:
        """Take the signals."""
        for number in SIGNALS:
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._take)

    def wait(self) -> int:
        """The child's exit code, negative for a signal's number."""
        # The child's process id stays its own until it is asked for its exit code.
        os.waitid(os.P_PID, self._child, os.WEXITED | os.WNOWAIT)
        self._has_ended = True
        return os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])

    def leave(self) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self._has_ended:
            return
        now = time.monotonic()
        if self._kills and self._at is not None and now - self._at > SAME_S:
            self.second = number
            for each in SIGNALS:
                signal.signal(each, signal.SIG_DFL)
            number = signal.SIGKILL
        self._at = now if self._at is None else self._at
        _send(os.kill, self._child, number)


@contextmanager
def signals_held() -> Iterator[Callable[[], None]]:
    """Within the block signals wait. It gets what lets them in before its end, for a child that never comes to it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    def let_in() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    try:
        yield let_in
    finally:
        let_in()


def die_of(number: int) -> None:
    """End this process by that signal, as if it had never been handled."""
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # process 1 of a namespace is spared by the default


def _send(how: Callable[[int, int], None], target: int, number: int) -> None:
    try:
        how(target, number)
    except ProcessLookupError:
        return
