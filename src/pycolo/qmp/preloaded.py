"""Whether a QEMU has preloaded the library that software emulation needs (`pycolo.vm.preload`).

Users choose the library's name. It is recognised by the function that it replaces and those that it calls. One that was
compiled before it dropped translations of code is not it.
"""

import re
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")

FUNCTIONS: Final = (b"\0pthread_cond_wait\0", b"\0pthread_cond_clockwait\0", b"\0tb_flush__exclusive_or_serial\0")
"""Names in the library's symbol table."""

LIBRARY_BYTES_MAX: Final = 1 << 20
"""The library has 16 KB."""

_VARIABLE: Final = b"LD_PRELOAD="
_SEPARATORS: Final = re.compile(rb"[:\s]+")


def has_preload(pid: int, proc: Path = PROC) -> bool | None:
    """Whether the QEMU `pid` has the library in its memory; None: not a QEMU, or its process cannot be read."""
    place = proc / str(pid)
    try:
        if not (place / "exe").readlink().name.lstrip(".").startswith("qemu"):
            return None  # a program that started it, perhaps
        named = _preloaded_names((place / "environ").read_bytes())
        mapped = [line.split(maxsplit=5)[5] for line in (place / "maps").read_bytes().splitlines() if b"/" in line]
        libraries = {path for path in mapped if path.rpartition(b"/")[2] in named}
        return any(_is_the_library(place / "root", path.decode()) for path in sorted(libraries))
    except (OSError, ValueError, IndexError):
        return None


def _preloaded_names(environment: bytes) -> set[bytes]:
    """The file names in LD_PRELOAD, without directories."""
    value = next((one.removeprefix(_VARIABLE) for one in environment.split(b"\0") if one.startswith(_VARIABLE)), b"")
    return {path.rpartition(b"/")[2] for path in _SEPARATORS.split(value) if path}


def _is_the_library(root: Path, path: str) -> bool:
    """`path` is as a process in another mount namespace sees it, or, after chroot, as this one does."""
    inside = root / path.lstrip("/")
    with (inside if inside.exists() else Path(path)).open("rb") as file:
        octets = file.read(LIBRARY_BYTES_MAX)
    return all(name in octets for name in FUNCTIONS)
