"""Whether a `colo secondary` that is started has taken over before, and goes on serving."""

import socket
from typing import Final

from pycolo.errors import ConfigError
from pycolo.node.options import NodeOptions
from pycolo.node.rowsfile import KeptRows, RowsFile
from pycolo.transport.linksetup import Address

LOOK_S: Final = 0.3
"""For a host on the link to answer a SYN; a dead one does not, and the clients wait meanwhile."""


def find_survivor(options: NodeOptions) -> KeptRows | None:
    """What the node that served has left; None for one that is to follow the primary.

    Raises `ConfigError` for a file that cannot be used, and where a primary listens: only one of the two may serve.
    """
    if options.rows is None:
        return None
    kept = RowsFile(options.rows, options.pair, lambda: 0).read()
    if kept is not None and is_listening(options.link):
        raise ConfigError(
            f"rows {options.rows}",
            f"no primary at {options.link} while this node serves (it took over under term {kept.term}); "
            "if the primary there is to serve, remove the file",
            "one that listens",
        )
    return kept


def is_listening(address: Address) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection((address.host, address.port), timeout=LOOK_S).close()
    except OSError:
        return False
    return True
