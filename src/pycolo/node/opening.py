"""How a node's ports are opened."""

from collections.abc import Callable
from typing import Final

from pycolo.transport.guesttap import open_guest
from pycolo.transport.ports import Port, open_device
from pycolo.transport.portspec import PortKind, PortSpec
from pycolo.transport.streamport import StreamPort

GUEST_OPTION: Final = "--guest"
"""The option of the port behind which the guest lives: a packet socket there counts what the guest has had."""

PortOpener = Callable[[PortSpec, str], Port]
"""Opens a port, given what the user wrote and the option it was written for (`--lan`, `--guest`)."""


def open_port(spec: PortSpec, option: str) -> Port:
    """A device or a stream. Raises `ConnectError`."""
    if option == GUEST_OPTION and spec.kind is PortKind.PACKET:
        return open_guest(spec, option)
    return open_device(spec, option) if spec.kind.is_device else StreamPort(spec, option)
