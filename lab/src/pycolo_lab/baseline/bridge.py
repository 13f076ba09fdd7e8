"""The client and one guest on a bare bridge: no node, no second guest."""

from pathlib import Path

from pyroute2 import IPRoute

from pycolo_lab.interruption import Look
from pycolo_lab.namespaces import Namespace
from pycolo_lab.topology import (
    CLIENT_ADDRESSES,
    CLIENT_MAC,
    GUEST_ADDRESSES,
    GUEST_MAC,
    add_addresses,
    connect_to_bridge,
    make_bridge,
    prepare,
)


class BareBridge:
    """Three namespaces. `build` once, `delete` when their processes are gone."""

    def __init__(self, directory: Path, look: Look, *, ipv6: bool) -> None:
        directory.mkdir()
        self._look = look
        self._ipv6 = ipv6
        self.client = Namespace.create(directory, "client")
        self.lan = Namespace.create(directory, "lan")
        self.guest = Namespace.create(directory, "guest")

    def build(self) -> None:
        """As the protected guest's namespace, with a cable instead of its node."""
        ends = ((self.client, CLIENT_MAC, CLIENT_ADDRESSES), (self.guest, GUEST_MAC, GUEST_ADDRESSES))
        prepare(self.lan, ipv6=False)
        make_bridge(self.lan)
        for namespace, mac, addresses in ends:
            self._look()
            prepare(namespace, ipv6=self._ipv6)
            connect_to_bridge(namespace, mac, self.lan)
            with namespace.entered(), IPRoute() as netlink:
                add_addresses(netlink, addresses, ipv6=self._ipv6)

    def delete(self) -> None:
        """Remove the namespaces."""
        for namespace in (self.client, self.lan, self.guest):
            namespace.delete()
