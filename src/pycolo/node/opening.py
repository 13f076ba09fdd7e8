"""How a node's ports are opened."""

from collections.abc import Callable

from pycolo.transport.ports import Port, open_device
from pycolo.transport.portspec import PortSpec
from pycolo.transport.streamport import StreamPort

PortOpener = Callable[[PortSpec, str], Port]
"""Opens a port, given what the user wrote and the option it was written for (`--lan`, `--guest`)."""


def open_port(spec: PortSpec, option: str) -> Port:
    """A device or a stream. Raises `ConnectError`."""
    return open_device(spec, option) if spec.kind.is_device else StreamPort(spec, option)
