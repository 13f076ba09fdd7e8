"""Standard input, output and error, in any condition: closed, full, without a reader, with a small character set.

If standard output cannot be written, that is an `OutputError`, one line like all others; if standard error cannot be
written, the text is lost, as there is no third place. Characters that an encoding lacks are replaced by others that
every terminal shows.
"""

import codecs
import errno
import fcntl
import io
import os
import sys
from typing import Any, Final, TextIO

from pycolo.errors import PycoloError

PREFIX: Final = "colo: "
"""The prefix of every error message."""

PLAIN: Final = "pycolo-plain"
"""Name of the codecs error handler that replaces characters."""

ASCII: Final = "pycolo_ascii"
"""ASCII by another name: click takes an encoding called `ascii` for a mistake and writes UTF-8."""

_WORDS: Final = {"✓": "OK", "✗": "FAIL", "…": "...", "→": "->", "←": "<-"}
_LINES: Final = zip("▁▂▃▄▅▆▇█─│═║┌┐└┘├┤┬┴┼", "__.--==#-|=|+++++++++", strict=True)
_MARKS: Final = zip("≠×µ·–—’‘“”", "!xu.--''\"\"", strict=True)
_PLAIN_TEXT: Final = str.maketrans(_WORDS | dict(_LINES) | dict(_MARKS))


class OutputError(PycoloError):
    """Standard output is closed, or full, or its reader has gone."""


class _Output(io.FileIO):
    """File descriptor 1. Its failures are `OutputError`s, so that they are not taken for another file's."""

    def write(self, octets: Any) -> int | None:  # type: ignore[override]
        try:
            return super().write(octets)
        except OSError as error:
            why = "its reader has gone" if error.errno == errno.EPIPE else error.strerror
            raise OutputError("standard output is closed" if _is_closed() else f"standard output: {why}") from error


class _Errors(io.FileIO):
    """File descriptor 2; a write never fails."""

    def write(self, octets: Any) -> int | None:  # type: ignore[override]
        try:
            return super().write(octets)
        except OSError:
            return len(octets)


def set_up() -> None:
    """Prepare all streams before the process opens a file: that file must not become standard output.

    Streams that a test has substituted for the interpreter's own are kept.
    """
    # A stream that is open for reading only cannot be written: a closed output stays one that fails.
    for fd, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(_Output(1, "w", closefd=False), sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Errors(2, "w", closefd=False), sys.stderr)


def require_output() -> None:
    """Raise `OutputError` if standard output is closed: call it before work whose result would be lost."""
    if _is_closed():
        raise OutputError("standard output is closed: leave it open, or redirect it to a file or to /dev/null")


def abandon_output() -> None:
    """Redirect descriptor 1 to /dev/null, where the interpreter writes what is still buffered when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _is_closed() -> bool:
    return fcntl.fcntl(1, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY


def _text(raw: io.FileIO, before: Any) -> TextIO:
    encoding = before.encoding if before is not None else "utf-8"
    if codecs.lookup(encoding).name == "ascii":
        encoding = ASCII
    if before is not None and before.write_through:  # PYTHONUNBUFFERED
        return io.TextIOWrapper(raw, encoding=encoding, errors=PLAIN, write_through=True)
    # Standard error is line-buffered everywhere, as the interpreter's own.
    by_line = raw.isatty() or raw.fileno() == 2
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors=PLAIN, line_buffering=by_line)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(character: str) -> str:
    if 0xD800 <= ord(character) <= 0xDFFF:  # a byte of a file name that is not a character
        return f"\\u{ord(character):04x}"
    text = character.translate(_PLAIN_TEXT)
    return text if text.isascii() else "?"


def _ascii(name: str) -> codecs.CodecInfo | None:
    if name != ASCII:
        return None
    known = codecs.lookup("ascii")
    return codecs.CodecInfo(
        known.encode,
        known.decode,
        streamreader=known.streamreader,
        streamwriter=known.streamwriter,
        incrementalencoder=known.incrementalencoder,
        incrementaldecoder=known.incrementaldecoder,
        name=ASCII,
    )


codecs.register_error(PLAIN, _replaced)
codecs.register(_ascii)
