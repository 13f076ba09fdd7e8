"""`--hold`: commands on standard input while a run waits before its kill, or after it.

A terminal gets a prompt; a pipe or a file is read line by line too, so that a script can do the same. The end of the
input is `end`. Nothing here waits: the run polls.
"""

import os
import select
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TextIO

PROMPT: Final = "colo> "
LINE_BYTES_MAX: Final = 4096

KILL: Final = "kill"
FAILOVER: Final = "failover"
END: Final = "end"


class Answer(NamedTuple):
    """A command that is answered here, as lines."""

    help: str
    lines: Callable[[], list[str]]


class Prompt:
    """`look` returns the commands for the run itself: kill, failover or end; all others are answered here."""

    def __init__(self, answers: Mapping[str, Answer], out: TextIO, file: int = 0) -> None:
        self._answers = answers
        self._out = out
        self._file = file
        self._pending = b""
        self._has_ended = False
        self._is_terminal = _is_terminal(file)

    def open(self, first_lines: list[str]) -> None:
        """Show the commands."""
        for line in [*first_lines, "", *self._help()]:
            self.say(line)
        self._ask()

    def look(self) -> str | None:
        """The next command that is the run's, if one has come."""
        while True:
            line, found, rest = self._pending.partition(b"\n")
            if found:
                self._pending = rest
                command = self._carry_out(line)
                if command is not None:
                    return command
                self._ask()
            elif self._has_ended:
                return END
            elif not self._read():
                return None

    def done(self, text: str) -> None:
        """The run has done what it was told."""
        self.say(text)
        self._ask()

    def say(self, line: str) -> None:
        """A line for the person."""
        print(line, file=self._out, flush=True)

    def _read(self) -> bool:
        """Whether something has come, an end too."""
        try:
            if not select.select([self._file], [], [], 0)[0]:
                return False
            octets = os.read(self._file, LINE_BYTES_MAX)
        except OSError:  # there is no standard input
            octets = b""
        if octets:
            self._pending = (self._pending + octets)[-LINE_BYTES_MAX:]
            return True
        self._has_ended = True
        self._pending += b"\n" if self._pending else b""
        return True

    def _carry_out(self, line: bytes) -> str | None:
        word = line.decode(errors="replace").strip().lower()
        if word in (KILL, FAILOVER, END):
            return word
        if word in ("quit", "exit", "q"):
            return END
        if word in self._answers:
            for text in self._answers[word].lines():
                self.say(text)
        elif word:
            for text in [] if word == "help" else [f"{word!r} is not a command:"]:
                self.say(text)
            for text in self._help():
                self.say(text)
        return None

    def _help(self) -> list[str]:
        known = {
            KILL: "host A dies: both cables pulled, its node and its guest killed",
            FAILOVER: "host B is told to serve alone, as by `colo failover`",
            **{name: answer.help for name, answer in self._answers.items()},
            END: "everything is shut down (Ctrl-D too)",
        }
        return [f"  {name:<12} {text}" for name, text in known.items()]

    def _ask(self) -> None:
        if self._is_terminal and not self._has_ended:
            print(PROMPT, end="", file=self._out, flush=True)


def _is_terminal(file: int) -> bool:
    try:
        return os.isatty(file)
    except OSError:
        return False
