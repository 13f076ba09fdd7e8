"""What a node does about its guest's disks besides the steps of the primary's plans: copies here, and their state."""

from pycolo.vm.disknote import DiskNoteFile
from pycolo.vm.disksettling import DiskSettling
from pycolo.vm.guesthost import GuestHost
from pycolo.vm.secondarydisks import SecondaryDisks


class HostDisks:
    """Lives as long as the node."""

    def __init__(self, host: GuestHost) -> None:
        note = DiskNoteFile(host.config.state)
        self.copies = SecondaryDisks(host, note)
        self.settling = DiskSettling(note)
        self.orders = {"disks": self.copies.hear, "open-disk": self.copies.open_link}
        """What the other node may ask."""
