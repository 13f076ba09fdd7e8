"""The options of a run with the user's own server, besides `LabOptions`."""

from typing import Final

import msgspec

from pycolo_lab.own.commands import Command

PORT_DEFAULT: Final = 8080
"""Above 1023, so that an ordinary user's server may have it, and free: a guest runs nothing else."""

CLIENTS_DEFAULT: Final = 4
READY_S_DEFAULT: Final = 20.0


class OwnOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`client` None: the user works in a shell (`--hold`). `cwd`: the user's working directory."""

    serve: Command
    client: Command | None
    port: int = PORT_DEFAULT
    udp: bool = False
    clients: int = CLIENTS_DEFAULT
    ready_seconds: float = READY_S_DEFAULT

    @property
    def protocol(self) -> str:
        """For sentences."""
        return "UDP" if self.udp else "TCP"
