"""Can a program be started? Asked without starting it."""

import os
import shutil
import stat
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Final

_HEAD_BYTES: Final = 256
"""Linux' BINPRM_BUF_SIZE: of a script's first line the kernel reads no more."""

_ELF: Final = b"\x7fELF"


def find_program(name: str, search_path: str | None = None) -> tuple[Path | None, str]:
    """Where it is, and why it cannot be started; the latter is empty if it can. `search_path`: default is PATH."""
    if "/" in name and not name.startswith("/"):
        return None, f"{name} depends on the working directory, which is the node's own: write its whole path"
    found = shutil.which(name, path=search_path)
    if found is not None:
        return Path(found), _fault_of_content(Path(found))
    if "/" not in name:
        searched = os.environ.get("PATH", os.defpath) if search_path is None else search_path
        return None, f"there is no program {name} in PATH ({searched}): install it, or write its whole path"
    return None, _fault_of_path(Path(name))


def _fault_of_path(path: Path) -> str:
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            return f"{path} is a directory: name the program in it"
    except (FileNotFoundError, NotADirectoryError):
        return f"{path} does not exist{_suggestion(path)}"
    except OSError as error:
        return f"{path} cannot be reached by this user: {error.strerror}"
    return f"{path} is not executable by this user: chmod +x {path}"


def _suggestion(path: Path) -> str:
    near: list[str] = []
    with suppress(OSError):
        near = get_close_matches(path.name, os.listdir(path.parent), n=1)
    return f": did you mean {path.parent / near[0]}?" if near else ": correct the path, or install it"


def _fault_of_content(path: Path) -> str:
    """What execve() would say."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:  # executable, not readable
        return ""
    if head.startswith(_ELF):
        return ""
    if not head:
        return f"{path} is empty"
    if not head.startswith(b"#!"):
        return f"{path} is neither a program nor a script: a script begins with #! and its interpreter"
    return _fault_of_interpreter(path, head[2:].partition(b"\n")[0].decode(errors="replace"))


def _fault_of_interpreter(path: Path, line: str) -> str:
    words = line.strip(" \t").split(" ")
    interpreter = words[0]
    if not os.access(interpreter, os.X_OK) or os.path.isdir(interpreter):
        return f"{path}: its first line names the interpreter {interpreter!r}, which cannot be started"
    if os.path.basename(interpreter) == "env":
        named = [word for word in words[1:] if word and not word.startswith("-") and "=" not in word]
        if named and shutil.which(named[0]) is None:
            return f"{path}: its interpreter {named[0]!r} is not in PATH"
    return ""
