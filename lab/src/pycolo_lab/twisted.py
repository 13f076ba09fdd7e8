"""`colo`, whose nodes have the twist at their guest's network card: `python -m pycolo_lab.twisted secondary …`.

The command line, and everything else, is `colo`'s own.
"""

from typing import TYPE_CHECKING

from pycolo.__main__ import main

if TYPE_CHECKING:
    from pycolo.transport.ports import Port
    from pycolo.transport.portspec import PortSpec


def open_port(spec: "PortSpec", option: str) -> "Port":
    """The node's own port; the guest's in the twist."""
    from pycolo.node.opening import open_port as opened_by_the_node  # noqa: PLC0415 - the command line comes first
    from pycolo_lab.twist import TwistedPort  # noqa: PLC0415

    port = opened_by_the_node(spec, option)
    return TwistedPort(port) if option == "--guest" else port


if __name__ == "__main__":
    main(open_port)
