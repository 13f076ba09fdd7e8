"""The appending client: lines for a file on the guest's disk, each acknowledged when it is there, and the law of them.

Whatever has been acknowledged is on the disk of whichever guest serves: at its place, with its text. The file is read
from the disk at the end, not from the guest's memory, and fetched whole. Runs as a separate process in the client's
namespace.
"""

import argparse
import hashlib
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from pycolo_lab.clients import in_words, leave_result
from pycolo_lab.guest_server import PORT
from pycolo_lab.qemu.topology import GUEST_ADDRESS
from pycolo_lab.scoreboard import Scoreboard, Slot

WEB_PORT: Final = 80
PATH: Final = "/log"
BREACHES_SHOWN: Final = 3
PAUSE_S: Final = 0.002
ANEW_S: Final = 1.0
RECEIVE_BYTES: Final = 1 << 16


class AppenderResult(msgspec.Struct):
    """Results of the appending client."""

    acknowledged: int
    on_disk: int
    breaches: list[str]
    """What breaks the law, one line each; also an error of the client's."""


def lost(acknowledged: Sequence[str], lines: Sequence[str], unanswered: int) -> list[str]:
    """What breaks the law: `acknowledged` lines in their order, and the file's. It may have `unanswered` more."""
    found = [
        f"line {number} is {lines[number - 1][:60]!r}, acknowledged was {line[:60]!r}"
        if number <= len(lines)
        else f"line {number} is missing, acknowledged was {line[:60]!r}"
        for number, line in enumerate(acknowledged, 1)
        if number > len(lines) or lines[number - 1] != line
    ]
    surplus = len(lines) - len(acknowledged) - unanswered
    if surplus > 0:
        found.append(f"{surplus} lines on the disk were never asked for")
    return found


class Appender:
    """One connection that asks for one line after another."""

    def __init__(self, arguments: argparse.Namespace, board: Scoreboard) -> None:
        self._arguments = arguments
        self._board = board
        self._acknowledged: list[str] = []
        self._answered = 0
        """The number of the last answer: a guest that was started anew has begun at 1, whatever the file had."""
        self._heard = b""
        self._socket = self._connected()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _connected(self) -> socket.socket:
        """A guest that begins anew is not there at first."""
        until_s = time.monotonic() + self._arguments.stall_seconds
        while True:
            try:
                return socket.create_connection((self._arguments.address, PORT), self._arguments.stall_seconds)
            except OSError:
                if not self._arguments.begins_anew or time.monotonic() > until_s:
                    raise
                time.sleep(ANEW_S)

    def run(self) -> AppenderResult:
        """Until the run ends it; then the file is read and judged."""
        lines: list[str] = []
        try:
            if self._arguments.goes_on is not None:
                self._acknowledged = self._earlier(self._arguments.goes_on)
                self._append(is_first=True)
            while not self._board[Slot.FINISH]:
                self._append()
                time.sleep(PAUSE_S)
            lines = self._fetched()
            broken = lost(self._acknowledged, lines, 0)
        except (OSError, ValueError) as error:
            if self._arguments.begins_anew:
                return self._judged_anew()
            why = in_words(error) if isinstance(error, OSError) else error
            broken = [f"after {len(self._acknowledged)} lines: {why}"]
        return self._judged(lines, broken)

    def _earlier(self, least: int) -> list[str]:
        """What earlier clients have left."""
        lines = self._fetched()
        if len(lines) < least:
            raise ValueError(f"the file has {len(lines)} lines, and earlier clients have left at least {least}")
        return lines

    def _judged_anew(self) -> AppenderResult:
        """Another guest has begun from the disk: ask that one, when it is there."""
        self._socket.close()
        try:
            self._heard = b""
            self._socket = self._connected()
            lines = self._fetched()
            return self._judged(lines, lost(self._acknowledged, lines, 1))
        except (OSError, ValueError) as error:
            return self._judged([], [f"of the guest that began anew: {error}"])

    def _judged(self, lines: Sequence[str], broken: list[str]) -> AppenderResult:
        more = [f"and {len(broken) - BREACHES_SHOWN} more"] if len(broken) > BREACHES_SHOWN else []
        return AppenderResult(len(self._acknowledged), len(lines), [*broken[:BREACHES_SHOWN], *more])

    def _append(self, *, is_first: bool = False) -> None:
        text = f"{time.monotonic_ns():x}".ljust(self._arguments.line_characters, ".")
        answer = self._asked(f"append {text}")
        self._answered = int(answer.partition(" ")[0]) if is_first else self._answered + 1
        if answer != f"{self._answered} {text}":
            raise ValueError(f"wrong answer to line {self._answered}: {answer[:60]!r}")
        self._acknowledged.append(answer)
        if self._arguments.begins_anew:  # there are no other clients, which count their answers there
            self._board[Slot.ANSWERS] = len(self._acknowledged)

    def _asked(self, line: str) -> str:
        self._socket.sendall(line.encode() + b"\n")
        while b"\n" not in self._heard:
            received = self._socket.recv(RECEIVE_BYTES)
            if not received:
                raise ValueError("the connection ended")
            self._heard += received
        answer, _, self._heard = self._heard.partition(b"\n")
        return answer.decode(errors="replace")

    def _fetched(self) -> list[str]:
        """The file's lines, as the web server sends them after the guest has read them from the disk."""
        said = self._asked("appended").split()
        with socket.create_connection((self._arguments.address, WEB_PORT), self._arguments.stall_seconds) as web:
            web.sendall(f"GET {PATH} HTTP/1.0\r\n\r\n".encode())
            received = b""
            while part := web.recv(RECEIVE_BYTES):
                received += part
        content = received.partition(b"\r\n\r\n")[2]
        lines = content.decode(errors="replace").splitlines()
        if said != [str(len(lines)), hashlib.sha256(content).hexdigest()]:
            raise ValueError(f"the guest reads {' '.join(said)[:60]} from its disk and sends {len(lines)} other lines")
        return lines


def start_words(result: Path, scoreboard: Path, stall_s: float) -> list[str]:
    """The client's command line."""
    words = ["--address", GUEST_ADDRESS, "--result", result, "--scoreboard", scoreboard, "--stall-seconds", stall_s]
    return [sys.executable, "-m", __name__, *map(str, words)]


def main() -> None:
    """Append until the run ends it."""
    parser = argparse.ArgumentParser(prog="appender")
    parser.add_argument("--address", required=True)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--scoreboard", type=Path, required=True)
    parser.add_argument("--stall-seconds", type=float, required=True)
    parser.add_argument("--begins-anew", action="store_true", help="a guest that ends begins anew, from the disk")
    parser.add_argument("--goes-on", type=int, metavar="LINES", help="the file has at least so many of earlier clients")
    parser.add_argument("--line-characters", type=int, default=0, help="at least so long")
    arguments = parser.parse_args()
    leave_result(arguments.result, Appender(arguments, Scoreboard(arguments.scoreboard)).run())


if __name__ == "__main__":
    main()
