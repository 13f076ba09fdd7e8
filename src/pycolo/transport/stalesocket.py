"""The path of a unix socket before somebody listens there: what a killed process has left is taken away."""

import os
import socket
import stat
from enum import Enum


class Occupant(Enum):
    """What is at a path."""

    NOTHING = "nothing"
    """The path is free, or will say itself why it is not."""
    FILE = "file"
    """Something that is no socket."""
    LISTENER = "listener"
    """A process listens there."""


def clear_path(path: str | os.PathLike[str]) -> Occupant:
    """Remove a socket on which no process listens any more; what is there afterwards. Waits for nothing."""
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
        except BlockingIOError:  # it listens, and is busy
            return Occupant.LISTENER
        except OSError:
            return Occupant.NOTHING
    return Occupant.LISTENER
