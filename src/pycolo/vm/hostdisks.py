"""What a node does about its guest's disks besides the steps of the primary's plans: copies here, and their state."""

from pycolo.vm.disknote import DiskNoteFile
from pycolo.vm.diskplaces import CommandPlaces, DiskPlaces, DomainPlaces
from pycolo.vm.disksettling import DiskSettling
from pycolo.vm.domainguest import DomainGuest
from pycolo.vm.guesthost import GuestHost
from pycolo.vm.secondarydisks import SecondaryDisks


class HostDisks:
    """Lives as long as the node."""

    def __init__(self, host: GuestHost, domain: DomainGuest | None) -> None:
        note, config = DiskNoteFile(host.config.state), host.config
        self.places: DiskPlaces = CommandPlaces(config) if domain is None else DomainPlaces(config, domain.host)
        self.copies = SecondaryDisks(host, note, self.places)
        self.settling = DiskSettling(note, None if domain is None or config.disks is None else domain.guard)
        self.orders = {"disks": self.copies.hear, "open-disk": self.copies.open_link}
        """What the other node may ask."""
