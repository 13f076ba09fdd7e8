"""The path of a unix socket before a server listens there: removes what a killed process has left."""

import os
import socket
import stat
from enum import Enum


class Occupant(Enum):
    """The state of a path."""

    NOTHING = "nothing"
    """The path is free, or opening it will report why not."""
    FILE = "file"
    """Something other than a socket."""
    LISTENER = "listener"
    """A process listens there."""


def clear_path(path: str | os.PathLike[str]) -> Occupant:
    """Remove a socket without a listening process. Returns the state afterwards. Does not block."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return Occupant.FILE
    except OSError:
        return Occupant.NOTHING
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            os.unlink(path)
            return Occupant.NOTHING
        except BlockingIOError:  # a process listens, and is busy
            return Occupant.LISTENER
        except OSError:
            return Occupant.NOTHING
    return Occupant.LISTENER
