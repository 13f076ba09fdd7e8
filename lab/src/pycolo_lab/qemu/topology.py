"""The network of the QEMU laboratory.

::

                                  LAN bridge
        client 10.9.0.1 ─────────────┼────────────────────────────┐
                                     │ eth0                       │ eth0
        ┌ host A ────────────────────┴──┐          ┌ host B ──────┴────────────────┐
        │ br0 ── node A ── tap0, QEMU A │   link   │ br0   node B ── tap0, QEMU B  │
        │          │     guest 10.9.0.2 │ 10.8.0.x │         │     guest 10.9.0.2  │
        │          └───────────── lnk ──┼══════════┼── lnk ──┘                     │
        └───────────────────────────────┘          └───────────────────────────────┘

Each box is a network namespace; so is the machine with the etcd of the scenarios that need one, 10.9.0.3. The hosts are
10.9.0.11 and 10.9.0.12 on the LAN. The tap of an unprotected guest is on the bridge, put there by `serve_without_node`;
while it is protected the node's own TAP is, on the host that serves. The guest's second card, tap1, is wired in the
same way.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pycolo_lab.errors import LabError
from pycolo_lab.interruption import Look
from pycolo_lab.namespaces import Namespace
from pycolo_lab.processes import Host
from pycolo_lab.topology import (
    CLIENT_MAC,
    LAN_MTU,
    LINK_A_ADDRESS,
    LINK_B_ADDRESS,
    index_of,
    lay_cable,
    raise_up,
    require_tun,
    switch_ipv6_off,
)

CLIENT_ADDRESS: Final = "10.9.0.1"
GUEST_ADDRESS: Final = "10.9.0.2"
STORE_ADDRESS: Final = "10.9.0.3"
HOST_ADDRESSES: Final = {Host.A: "10.9.0.11", Host.B: "10.9.0.12"}
"""The hosts' own addresses on the LAN, for reaching etcd."""
LAN_PREFIX: Final = 24
LINK_PREFIX: Final = 30
GUEST_MAC: Final = "52:54:00:09:00:02"
SECOND_CLIENT_ADDRESS: Final = "10.9.1.1"
SECOND_GUEST_ADDRESS: Final = "10.9.1.2"
"""Of a second card, in a subnet of its own on the same LAN."""
GUEST_ADDRESSES: Final = (GUEST_ADDRESS, SECOND_GUEST_ADDRESS)
"""By card."""
SECOND_GUEST_MAC: Final = "52:54:00:09:01:02"
TAP: Final = "tap0"
SECOND_TAP: Final = "tap1"
TAPS: Final = (TAP, SECOND_TAP)
BRIDGE: Final = "br0"
UPLINK: Final = "eth0"
LINK: Final = "lnk"

LINK_MTU: Final = 1500
"""The default MTU of a link between two machines; the demo's jumbo frames would make the pauses look too short."""

OURS: Final = "colo-"
"""Prefix of the names of all devices that a node makes."""

TAP_QUEUE_FRAMES: Final = 10_000
"""txqueuelen: a burst for a guest under software emulation must not lose single frames."""


class Network:
    """The namespaces and what connects them; `build` once. `look` is called between steps, and may raise.

    `taps`: of the guest on each host; none where something else makes them.
    """

    def __init__(self, directory: Path, look: Look, taps: Sequence[str] = TAPS) -> None:
        directory.mkdir()
        self._look = look
        self._taps = taps
        require_tun()
        self.client, self.lan, self.store, host_a, host_b = (
            self._namespace(directory, name) for name in ("client", "lan", "store", "host-a", "host-b")
        )
        self.hosts = {Host.A: host_a, Host.B: host_b}

    def _namespace(self, directory: Path, name: str) -> Namespace:
        self._look()
        return Namespace.create(directory, name)

    def build(self) -> None:
        """Bridges, taps, cables and addresses. Raises `LabError` when the kernel refuses one."""
        try:
            self._build()
        except NetlinkError as error:
            raise LabError(
                f"the kernel refused a part of the laboratory's network ({error}): it needs bridge, veth and tun"
            ) from error

    def _build(self) -> None:
        for namespace in (self.client, self.lan, self.store, *self.hosts.values()):
            self._look()
            with namespace.entered(), IPRoute() as netlink:
                switch_ipv6_off()
                raise_up(netlink, "lo")
        _add_bridge(self.lan, "br0")
        self._connect(self.client)
        self._connect(self.store)
        with self.client.entered(), IPRoute() as netlink:
            netlink.link("set", index=index_of(netlink, UPLINK), address=CLIENT_MAC)
        _give_address(self.client, UPLINK, CLIENT_ADDRESS)
        _give_address(self.client, UPLINK, SECOND_CLIENT_ADDRESS)
        _give_address(self.store, UPLINK, STORE_ADDRESS)
        for host, namespace in self.hosts.items():
            self._look()
            _add_bridge(namespace, BRIDGE)
            self._connect(namespace)
            with namespace.entered(), IPRoute() as netlink:
                _put_on(netlink, UPLINK, BRIDGE)
                for tap in self._taps:
                    netlink.link("add", ifname=tap, kind="tuntap", mode="tap")
                    netlink.link("set", index=index_of(netlink, tap), txqlen=TAP_QUEUE_FRAMES, mtu=LAN_MTU)
                    raise_up(netlink, tap)
            _give_address(namespace, BRIDGE, HOST_ADDRESSES[host])
        self._connect_hosts()

    def _connect(self, namespace: Namespace) -> None:
        self._look()
        port = f"to-{namespace.name}"
        lay_cable(namespace, UPLINK, self.lan, port, LAN_MTU)
        with self.lan.entered(), IPRoute() as netlink:
            _put_on(netlink, port, "br0")
            raise_up(netlink, port)
        with namespace.entered(), IPRoute() as netlink:
            raise_up(netlink, UPLINK)

    def _connect_hosts(self) -> None:
        host_a, host_b = self.hosts[Host.A], self.hosts[Host.B]
        lay_cable(host_a, LINK, host_b, LINK, LINK_MTU)
        for namespace, address in ((host_a, LINK_A_ADDRESS), (host_b, LINK_B_ADDRESS)):
            _give_address(namespace, LINK, address, LINK_PREFIX)
            with namespace.entered(), IPRoute() as netlink:
                raise_up(netlink, LINK)

    def delete(self) -> None:
        """Take the namespaces' names away; they go with their last processes."""
        for namespace in (self.client, self.lan, self.store, *self.hosts.values()):
            namespace.delete()

    def serve_without_node(self, host: Host) -> None:
        """Connect a virtual machine of which no node knows, as the script of its tap does elsewhere."""
        with self.hosts[host].entered(), IPRoute() as netlink:
            for tap in self._taps:
                _put_on(netlink, tap, BRIDGE)

    def not_as_before(self, host: Host) -> list[str]:
        """What a node has left on the host of an unprotected guest: its TAPs, and the guest's that are on no bridge."""
        with self.hosts[host].entered(), IPRoute() as netlink:
            bridge = index_of(netlink, BRIDGE)
            links = {link.get("ifname"): link for link in netlink.get_links()}
            wrong = [f"{tap} on no bridge" for tap in self._taps if links[tap].get("master") != bridge]
        return sorted([*wrong, *(name for name in links if name.startswith(OURS))])

    def cut_link(self) -> None:
        """Pull the cable between the hosts."""
        self._set(Host.A, LINK, "down")

    def restore_link(self) -> None:
        """Plug it in again."""
        self._set(Host.A, LINK, "up")

    def cut_host(self, host: Host) -> None:
        """Pull both cables of a host; the link first, so that no goodbye leaves."""
        self._set(host, LINK, "down")
        self._set(host, UPLINK, "down")

    def restore_host(self, host: Host) -> None:
        """Plug both in again."""
        self._set(host, UPLINK, "up")
        self._set(host, LINK, "up")

    def _set(self, host: Host, interface: str, state: str) -> None:
        with self.hosts[host].entered(), IPRoute() as netlink:
            netlink.link("set", index=index_of(netlink, interface), state=state)


def _add_bridge(namespace: Namespace, name: str) -> None:
    with namespace.entered(), IPRoute() as netlink:
        netlink.link("add", ifname=name, kind="bridge", br_forward_delay=0, br_mcast_snooping=0)
        raise_up(netlink, name)


def _put_on(netlink: IPRoute, name: str, bridge: str) -> None:
    netlink.link("set", index=index_of(netlink, name), master=index_of(netlink, bridge))


def _give_address(namespace: Namespace, interface: str, address: str, prefix: int = LAN_PREFIX) -> None:
    with namespace.entered(), IPRoute() as netlink:
        netlink.addr("add", index=index_of(netlink, interface), address=address, prefixlen=prefix)
