"""What a data path leaves to the one that follows it."""

from collections.abc import Iterable
from dataclasses import dataclass

from pycolo.core import Batch, Rewriter
from pycolo.node.announcer import Announcer
from pycolo.node.guestwire import GuestWire
from pycolo.node.rowsfile import RowsFile
from pycolo.transport.ports import Port


@dataclass(frozen=True)
class PathState:
    """Open ports, the rewriter, and every byte that was taken and has not left. No path owns it: see `close`.

    `from_lan`, `from_guest`: read, not translated; `to_guest`, `to_client`: translated, not written; `mirrored`:
    clients' frames from the link, not translated, that go before those of the LAN. `rows`: the file with the rewriter's
    rows, if there is one. `tap`: the ports to the guest, if they are its tap.
    """

    lan_in: Port
    lan_out: Port
    guest_in: Port
    guest_out: Port
    rewriter: Rewriter
    from_lan: Batch
    from_guest: Batch
    to_guest: Batch
    to_client: Batch
    mirrored: Iterable[bytearray]
    announcer: Announcer
    rows: RowsFile | None
    tap: GuestWire | None

    def close(self) -> None:
        """Close the ports, where no other path takes them."""
        for port in (self.lan_in, self.lan_out, self.guest_in, self.guest_out):
            port.close()
