"""The network of the laboratory.

::

    client 10.9.0.1 ── LAN bridge ─┬─ eth0 host A lnk ─ 10.8.0.1 ═══ link ═══ 10.8.0.2 ─ lnk host B eth0 ─┐
                                   │       │                                         │                  │
                                   │    guest A 10.9.0.2                         guest B 10.9.0.2       │
                                   │    02:00:00:00:00:02                        02:00:00:00:00:02      │
                                   └────────────────────────────────────────────────────────────────────┘

Each box is a network namespace. Both guests have the same address; they do not collide because neither is on the LAN:
their network card ends in their host's node process, as a TAP device, or, if this user may not open /dev/net/tun, as a
veth pair whose far end the node reads with AF_PACKET.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pycolo_lab.errors import LabError
from pycolo_lab.interruption import Look
from pycolo_lab.namespaces import Namespace, is_machine_root
from pycolo_lab.options import Nic

CLIENT_MAC: Final = "02:00:00:00:00:01"
GUEST_MAC: Final = "02:00:00:00:00:02"
HOST_A_MAC: Final = "02:00:00:00:01:0a"
HOST_B_MAC: Final = "02:00:00:00:01:0b"
CLIENT_ADDRESSES: Final = {4: ("10.9.0.1", 24), 6: ("fd00:9::1", 64)}
GUEST_ADDRESSES: Final = {4: ("10.9.0.2", 24), 6: ("fd00:9::2", 64)}
LINK_A_ADDRESS: Final = "10.8.0.1"
LINK_B_ADDRESS: Final = "10.8.0.2"
LINK_PORT: Final = 7000

LAN_MTU: Final = 1500
LINK_MTU: Final = 9000
"""The hosts' own cable carries batches; jumbo frames cost fewer wake-ups."""

GUEST_QUEUE_FRAMES: Final = 10_000
"""txqueuelen of the guests: with the default of 1000 a burst loses single frames, each worth a
retransmission."""

SMALL_RECEIVE_BUFFERS: Final = "4096 131072 262144"
"""tcp_rmem (least, first, most, bytes). Half of a buffer is window: 128 KiB, two GSO frames of 64 KiB in
flight."""

IFA_F_NODAD: Final = 0x02
"""linux/if_addr.h: the guests share an address on purpose, so duplicate address detection has to stay out of
it."""

TUN_DEVICE: Final = "/dev/net/tun"


class GuestPort(NamedTuple):
    """How the guests are attached: "tap" or "veth", and why."""

    kind: str
    why: str


def choose_guest_port(nic: Nic) -> GuestPort:
    """The requested kind, or TAP if this user may open the device.

    Raises `LabError` if TAP was requested and is not available.
    """
    if nic == "veth":
        return GuestPort("veth", "--nic veth")
    error = _tun_error()
    if error is None:
        return GuestPort("tap", f"{TUN_DEVICE} opens")
    if nic == "tap":
        raise LabError(f"--nic tap: {_tun_cure(error)}; or --nic veth") from error
    return GuestPort("veth", f"{TUN_DEVICE}: {error.strerror}")


def require_tun() -> None:
    """Raise `LabError` if this user cannot open TAP devices."""
    error = _tun_error()
    if error is not None:
        raise LabError(f"virtual machines need TAP devices: {_tun_cure(error)}") from error


def _tun_error() -> OSError | None:
    try:
        os.close(os.open(TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return error
    return None


def _tun_cure(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"{TUN_DEVICE}: {error.strerror}; give this user access to it"
    return f"{TUN_DEVICE}: {error.strerror}; load the kernel's module (modprobe tun), or give the container this device"


class Topology:
    """The six namespaces and what connects them. `build` once, `attach_guest` for each guest, `cut_host_a`
    once. `look` is called between steps, and may raise."""

    def __init__(self, directory: Path, guest_port: str, look: Look, *, ipv6: bool) -> None:
        directory.mkdir()
        self._look = look
        self._guest_port = guest_port
        self._ipv6 = ipv6
        self.client = self._namespace(directory, "client")
        self.lan = self._namespace(directory, "lan")
        self.host_a = self._namespace(directory, "host-a")
        self.host_b = self._namespace(directory, "host-b")
        self.guest_a = self._namespace(directory, "guest-a")
        self.guest_b = self._namespace(directory, "guest-b")
        self._host_a_netlink: Any = None
        self._host_a_links: list[int] = []

    def _namespace(self, directory: Path, name: str) -> Namespace:
        self._look()
        return Namespace.create(directory, name)

    @property
    def guest_address(self) -> str:
        """The guest's address for the client."""
        return GUEST_ADDRESSES[6 if self._ipv6 else 4][0]

    def guest_port_option(self, guest: Namespace) -> str:
        """The value of a node's --guest."""
        return f"tap:eth0,netns={guest.path}" if self._guest_port == "tap" else "packet:gnic"

    def build(self) -> None:
        """Interfaces, addresses, bridge; the guests get theirs in `attach_guest`."""
        try:
            self._build()
        except NetlinkError as error:
            raise LabError(
                f"the kernel refused a part of the demo's network ({error}): it needs bridge, veth and "
                f"packet sockets (modules bridge, veth, af_packet)"
            ) from error

    def _build(self) -> None:
        everyone = (self.client, self.lan, self.host_a, self.host_b, self.guest_a, self.guest_b)
        speakers = {self.client, self.guest_a, self.guest_b} if self._ipv6 else set()
        for namespace in everyone:
            self._look()
            prepare(namespace, ipv6=namespace in speakers)
        make_bridge(self.lan)
        for namespace, mac in (
            (self.client, CLIENT_MAC),
            (self.host_a, HOST_A_MAC),
            (self.host_b, HOST_B_MAC),
        ):
            self._look()
            connect_to_bridge(namespace, mac, self.lan)
        self._look()
        self._connect_hosts()
        self._look()
        with self.client.entered(), IPRoute() as netlink:
            add_addresses(netlink, CLIENT_ADDRESSES, ipv6=self._ipv6)
        if self._guest_port == "veth":
            for guest, host in ((self.guest_a, self.host_a), (self.guest_b, self.host_b)):
                lay_cable(guest, "eth0", host, "gnic", LAN_MTU)
                with host.entered(), IPRoute() as netlink:
                    raise_up(netlink, "gnic")
                self._look()
        self._prepare_cut()

    def _connect_hosts(self) -> None:
        lay_cable(self.host_a, "lnk", self.host_b, "lnk", LINK_MTU)
        for namespace, address in ((self.host_a, LINK_A_ADDRESS), (self.host_b, LINK_B_ADDRESS)):
            with namespace.entered(), IPRoute() as netlink:
                netlink.addr("add", index=index_of(netlink, "lnk"), address=address, prefixlen=30)
                raise_up(netlink, "lnk")

    def _prepare_cut(self) -> None:
        """Prepare the messages: at the kill there is time for two netlink messages, not for twenty."""
        with self.host_a.entered():
            self._host_a_netlink = IPRoute()
            self._host_a_links = [index_of(self._host_a_netlink, name) for name in ("lnk", "eth0")]

    def attach_guest(self, guest: Namespace, check: Callable[[], None], timeout_s: float = 10.0) -> None:
        """Give the guest its card: wait until the node has made it, then name, size, address and raise it.

        `check` is called while waiting and raises when waiting is in vain.
        """
        deadline = time.monotonic() + timeout_s
        with guest.entered(), IPRoute() as netlink:
            while not netlink.link_lookup(ifname="eth0"):
                check()
                if time.monotonic() > deadline:
                    raise LabError(f"{guest.name} got no network card within {timeout_s:.0f} s from its node")
                self._look()
                time.sleep(0.02)
            index = index_of(netlink, "eth0")
            netlink.link("set", index=index, address=GUEST_MAC, mtu=LAN_MTU, txqlen=GUEST_QUEUE_FRAMES)
            raise_up(netlink, "eth0")
            add_addresses(netlink, GUEST_ADDRESSES, ipv6=self._ipv6)

    def cut_host_a(self) -> None:
        """Pull both cables of host A. The link goes first, so that no goodbye of its node leaves."""
        for index in self._host_a_links:
            self._host_a_netlink.link("set", index=index, state="down")

    def delete_host_a(self) -> None:
        """Remove host A and guest A."""
        self._host_a_netlink.close()
        self.host_a.delete()
        self.guest_a.delete()

    def delete(self) -> None:
        """Remove all of it; its processes have ended."""
        self.delete_host_a()
        for namespace in (self.client, self.lan, self.host_b, self.guest_b):
            namespace.delete()


def index_of(netlink: Any, name: str) -> int:
    """Return the interface's number. Raises `LabError` when there is none of that name."""
    found = netlink.link_lookup(ifname=name)
    if not found:
        raise LabError(f"interface {name} is missing in the demo's network")
    return int(found[0])


def raise_up(netlink: Any, name: str) -> None:
    """Set the interface up."""
    netlink.link("set", index=index_of(netlink, name), state="up")


def lay_cable(here: Namespace, name: str, there: Namespace, far_name: str, mtu: int) -> None:
    """A veth pair from `here` to `there`."""
    file = os.open(there.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with here.entered(), IPRoute() as netlink:
            netlink.link(
                "add",
                ifname=name,
                kind="veth",
                mtu=mtu,
                peer={"ifname": far_name, "net_ns_fd": file, "mtu": mtu},
            )
    finally:
        os.close(file)


def prepare(namespace: Namespace, *, ipv6: bool) -> None:
    """Its loopback interface, and what its kernel is told."""
    with namespace.entered():
        if not ipv6:
            switch_ipv6_off()
        if not is_machine_root():
            _fit_windows()
        with IPRoute() as netlink:
            raise_up(netlink, "lo")


def make_bridge(lan: Namespace) -> None:
    """A bridge that forwards at once, and everything."""
    with lan.entered(), IPRoute() as netlink:
        netlink.link("add", ifname="br0", kind="bridge", br_forward_delay=0, br_mcast_snooping=0)
        raise_up(netlink, "br0")


def connect_to_bridge(namespace: Namespace, mac: str, lan: Namespace) -> None:
    """A network card for the namespace, whose cable ends in the bridge."""
    port = f"to-{namespace.name}"
    lay_cable(namespace, "eth0", lan, port, LAN_MTU)
    with namespace.entered(), IPRoute() as netlink:
        netlink.link("set", index=index_of(netlink, "eth0"), address=mac)
        raise_up(netlink, "eth0")
    with lan.entered(), IPRoute() as netlink:
        netlink.link("set", index=index_of(netlink, port), master=index_of(netlink, "br0"))
        raise_up(netlink, port)


def add_addresses(netlink: Any, addresses: dict[int, tuple[str, int]], *, ipv6: bool) -> None:
    """To eth0, those of the versions that are spoken."""
    index = index_of(netlink, "eth0")
    for version, (address, prefix) in addresses.items():
        if version == 4:
            netlink.addr("add", index=index, address=address, prefixlen=prefix)
        elif ipv6:
            netlink.addr("add", index=index, address=address, prefixlen=prefix, flags=IFA_F_NODAD)


def switch_ipv6_off() -> None:
    """Where it stays on, its noise is harmless; it only shows in the counters."""
    for scope in ("all", "default"):
        _sysctl(f"ipv6/conf/{scope}/disable_ipv6", "1")


def _fit_windows() -> None:
    """Keep a connection's bytes in flight below what a packet socket holds.

    Only root of the machine may give the nodes' packet sockets more than net.core.rmem_max (208 KiB by
    default); windows of megabytes overflow that again and again, and the run measures nothing but
    retransmissions.
    """
    _sysctl("ipv4/tcp_rmem", SMALL_RECEIVE_BUFFERS)


def _sysctl(name: str, value: str) -> None:
    """Set it in the namespace that this thread is in, where /proc/sys may be written (not in some
    containers)."""
    try:
        Path("/proc/sys/net", name).write_text(value)
    except OSError:
        return
