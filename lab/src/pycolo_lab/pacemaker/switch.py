"""The power switch of both hosts: fence agents ask it over a socket."""

import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic_ns


class PowerSwitch:
    """`off(letter)` and `on(letter)` do it; called in a thread of this object's, one at a time."""

    def __init__(
        self, path: Path, off: Callable[[str], None], on: Callable[[str], None], is_on: Callable[[str], bool]
    ) -> None:
        self.log: list[tuple[int, str, str]] = []
        """(when, action, host), of what was asked from the hosts."""
        self._do: Mapping[str, Callable[[str], None]] = {"off": off, "on": on, "reboot": self._reboot}
        self._off, self._on, self._is_on = off, on, is_on
        self._lock = threading.Lock()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(16)
        threading.Thread(target=self._serve, daemon=True).start()

    def _reboot(self, letter: str) -> None:
        """Off is what counts; it boots while the cluster goes on."""
        self._off(letter)
        threading.Thread(target=self._boot, args=(letter,), daemon=True).start()

    def _boot(self, letter: str) -> None:
        with self._lock:
            self._on(letter)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            words = connection.makefile().readline().split()
            if len(words) != 2:
                return
            action, letter = words
            if action == "status":
                answer = "on" if self._is_on(letter) else "off"
            elif action in self._do:
                with self._lock:
                    self.log.append((monotonic_ns(), action, letter))
                    self._do[action](letter)
                answer = "done"
            else:
                answer = "unknown"
            with suppress(BrokenPipeError):  # the host that asked is off
                connection.sendall(f"{answer}\n".encode())

    def close(self) -> None:
        """Answer no more."""
        self._server.close()
