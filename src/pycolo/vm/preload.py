"""What a QEMU under software emulation preloads, so that a COLO checkpoint ends: `preload.c` beside this file.

It is compiled where it is used: a wheel that held it compiled would ask for a newer glibc than all the rest does, and
a QEMU under KVM needs none of it.
"""

import shlex
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("preload.c")
"""The library, in C."""

FLAGS: Final = ("-O2", "-shared", "-fPIC")
"""Of gcc, before `-o LIBRARY SOURCE`."""

PROGRAM: Final = "/usr/bin/qemu-system-x86_64"


def wrapper(library: Path) -> str:
    """A shell script that is QEMU with the library preloaded, for whatever can only be told a program's path."""
    return f'#!/bin/sh\nexec env LD_PRELOAD={shlex.quote(str(library))} {PROGRAM} "$@"\n'
