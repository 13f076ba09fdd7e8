"""The user's own commands: their syntax and their placeholders.

A command is split into words as in a shell, but without a shell; use `sh -c '…'` for one. `{port}` and similar
placeholders are replaced. Only a known word of lower-case letters in braces is a placeholder, so that the braces of
JSON and of configuration files stay; `{{port}}` is a literal `{port}`.
"""

import os
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from pycolo_lab.errors import LabError

SERVER_PLACES: Final[Mapping[str, str]] = {
    "port": "the port to listen on",
    "host": "the guest's address",
    "dir": "an empty directory of its own, which is its working directory as well",
}
CLIENT_PLACES: Final[Mapping[str, str]] = {
    "host": "the guest's address",
    "port": "the server's port",
    "dir": "an empty directory of its own, which is its working directory as well",
    "n": "the number of this run of the client",
}

ALSO_LOOKED_IN: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Servers are installed there, but an ordinary user's PATH lacks these directories."""

SHELL_WORDS: Final = frozenset({"&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1", "cd", "export", "ulimit"})
"""As separate words they are meant for a shell."""

_PLACE: Final = re.compile(r"\{\{([a-z_]+)\}\}|\{([a-z_]+)\}")


class CommandError(LabError):
    """A command that cannot be run as written: wrong usage."""

    exit_code = 2


class Command(msgspec.Struct, frozen=True):
    """The words of a command; the first one is a program's absolute path, unless it is filled in."""

    words: tuple[str, ...]
    text: str
    """As the user wrote it."""

    def filled(self, places: Mapping[str, str | int]) -> list[str]:
        """The words with everything filled in."""
        return [_PLACE.sub(lambda found: _filled(found, places), word) for word in self.words]


def parse_command(option: str, text: str, known: Mapping[str, str]) -> Command:
    """Raises `CommandError` with one line: unbalanced quotes, an unknown placeholder, a missing program."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise CommandError(f"{option} {text!r}: an unclosed quotation mark or a final backslash ({error})") from error
    if not words or not words[0]:
        raise CommandError(f"{option}: the command is empty")
    for word in words:
        for found in _PLACE.finditer(word):
            name = found[2]
            if name is not None and name not in known:
                places = ", ".join(f"{{{place}}}" for place in known)
                raise CommandError(
                    f"{option}: {{{name}}} is unknown; known are {places}; "
                    f"to get these characters literally, write {{{{{name}}}}}"
                )
    if not _PLACE.search(words[0]):
        words[0] = _program(option, words)
    return Command(tuple(words), text)


def _filled(found: re.Match[str], places: Mapping[str, str | int]) -> str:
    return f"{{{found[1]}}}" if found[1] is not None else str(places[found[2]])


def _program(option: str, words: list[str]) -> str:
    """The absolute path of the first word: the command runs in another directory than the one we are in."""
    name = words[0]
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *ALSO_LOOKED_IN])
    found = shutil.which(name) if "/" in name else shutil.which(name, path=path)
    if found:
        return str(Path(found).absolute())
    if "/" in name and Path(name).exists():
        what = "is not a program that this user may run"
    else:
        what = "no such file" if "/" in name else "there is no such program on PATH"
    if SHELL_WORDS & set(words):
        what += "; the command runs without a shell: for a shell line write sh -c '…'"
    elif "=" in name and "/" not in name.partition("=")[0]:
        what += "; the command runs without a shell: to set a variable write env NAME=value PROGRAM …"
    raise CommandError(f"{option}: {name}: {what}")
