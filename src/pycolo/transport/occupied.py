"""Who has an address already: for the one line about it."""

import errno
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

_LISTEN: Final = "0A"
"""In the column `st` of /proc/net/tcp."""

_UCRED: Final = struct.Struct("iII")


def why_not(error: OSError, port: int) -> str:
    """What keeps a server from listening on a TCP port of this host, on one line."""
    if error.errno != errno.EADDRINUSE:
        return error.strerror or str(error)
    pid = listener_of_port(port)
    return f"already running: {_program(pid)} listens there" if pid else "already in use"


def why_not_unix(path: str) -> str:
    """What keeps a server from listening at `path`, where another one does."""
    pid = listener_of_path(path)
    return f"already running: {_program(pid)} listens there" if pid else "already in use"


def listener_of_path(path: str) -> int | None:
    """The process that listens on a unix socket, if it can be told."""
    with suppress(OSError):
        return owner_of_path(path, 0)[0] or None
    return None


def owner_of_path(path: str | Path, timeout_s: float) -> tuple[int, int]:
    """Process and user that listen on a unix socket, see SO_PEERCRED in unix(7). Raises `OSError`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(timeout_s)
        probe.connect(str(path))
        pid, uid, _ = _UCRED.unpack(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid


def listener_of_port(port: int, proc: Path = Path("/proc")) -> int | None:
    """The process that listens on a TCP port, if it can be told: those of other users can't."""
    inodes = {f"socket:[{inode}]" for name in ("tcp", "tcp6") for inode in _listening(proc / "net" / name, port)}
    for process in proc.iterdir():
        if process.name.isdigit() and _has_one_of(process / "fd", inodes):
            return int(process.name)
    return None


def _listening(table: Path, port: int) -> list[str]:
    """Inodes of the sockets in a table of the kernel's that listen on the port."""
    found = []
    with suppress(OSError):
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            words = line.split()
            if words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                found.append(words[9])
    return found


def _has_one_of(descriptors: Path, sockets: set[str]) -> bool:
    with suppress(OSError):
        for descriptor in descriptors.iterdir():
            with suppress(OSError):
                if str(descriptor.readlink()) in sockets:
                    return True
    return False


def _program(pid: int) -> str:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        name = " ".join(Path(word.decode(errors="replace")).name for word in words[:3] if word)
        if name.isprintable():
            return f"process {pid} ({name})"
    return f"process {pid}"
