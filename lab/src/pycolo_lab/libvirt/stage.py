"""The stage: two hosts with a libvirtd each, and a domain that runs on the first."""

import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pycolo.vm import preload
from pycolo_lab.errors import LabError
from pycolo_lab.guest_server import PORT
from pycolo_lab.interruption import Look
from pycolo_lab.libvirt import truth
from pycolo_lab.libvirt.domain import DISK, EMULATOR, INITRAMFS, KERNEL, NAME, NETWORK, PRELOAD, Domain, network_xml
from pycolo_lab.libvirt.hosts import IMAGES, LibvirtHost
from pycolo_lab.libvirt.releases import Release
from pycolo_lab.namespaces import mount
from pycolo_lab.processes import Host, Processes
from pycolo_lab.qemu.image import Image
from pycolo_lab.qemu.machine import DEBIAN_BOOT_S
from pycolo_lab.qemu.machine import DISK_BYTES as GUEST_DISK_BYTES
from pycolo_lab.qemu.nodes import LETTERS
from pycolo_lab.qemu.topology import BRIDGE, GUEST_ADDRESS, LAN_PREFIX, OURS, Network
from pycolo_lab.work import incr

DISK_BYTES: Final = 2 << 30
"""Of both hosts together, in memory."""

DEBIAN_DISK_BYTES: Final = 8 << 30
"""The same where each host has a Debian's disk, and what protects it."""

ACCEPT_S: Final = 2.0
COUNT_S: Final = 5.0
COUNT_BYTES: Final = 100
POLL_S: Final = 0.1
UNTIL_S: Final = 30.0

DEBIAN: Final = "debian"

MACHINES: Final = {
    "usual": Domain(machine="q35", memory_mib=256, vcpus=2),
    "small": Domain(machine="pc", memory_mib=98, vcpus=1, is_small=True),
    DEBIAN: Domain(
        machine="q35",
        memory_mib=512,
        vcpus=1,
        has_disk=True,
        ports=(PORT, 22, 80, incr.PORT, 5432),
        boot_s=DEBIAN_BOOT_S,
    ),
}
"""By name."""


class LibvirtStage:
    """Everything on it dies with the process. `look` is called while it waits, and may raise."""

    def __init__(
        self, domain: Domain, image: Image, release: Release, network: Network, directory: Path, look: Look
    ) -> None:
        directory.mkdir()
        size = DISK_BYTES if domain.disk_source is None else DEBIAN_DISK_BYTES
        mount("colo-lab", str(directory), "tmpfs", 0, f"mode=0755,size={size}")
        self.network = network
        self.directory = directory
        self.look = look
        self.processes = Processes(directory)
        self.hosts: dict[Host, LibvirtHost] = {}
        for host, letter in LETTERS.items():
            (directory / letter).mkdir()
            disk = directory / letter
            self.hosts[host] = LibvirtHost(host, network.hosts[host], disk, release, domain.accelerator)
        self._domain = domain
        self._image = image
        self.has_disk = domain.has_disk
        self.has_network = domain.has_network
        self.boot_s = domain.boot_s
        self.lines = 0
        """At least so many have to be in the file on the disk."""

    # ── building ──────────────────────────────────────────────────────────────────────────────────────────────

    def build(self) -> None:
        """Two hosts that are up, and a domain that runs on host A and is known there alone. Raises `LabError`."""
        for host in self.hosts.values():
            host.write_configuration()
            self._bring_image(host)
            host.boot()
            if self.has_network:
                host.define_network(NETWORK, network_xml(BRIDGE))
        first = self.hosts[Host.A]
        if self._domain.disk_source is not None:
            shutil.copyfile(self._domain.disk_source, first.on_disk(IMAGES / DISK))
        elif self.has_disk:
            first.make_disk(IMAGES / DISK, GUEST_DISK_BYTES)
        words = f"console=ttyS0 panic=-1 loglevel=4 nokaslr colo.address={GUEST_ADDRESS}/{LAN_PREFIX}"
        first.write(f"/etc/colo/{NAME}.xml", self._domain.xml(IMAGES, words, BRIDGE))
        first.virsh("define", f"/etc/colo/{NAME}.xml")
        self.start_domain(Host.A)

    def _bring_image(self, host: LibvirtHost) -> None:
        images = host.on_disk(IMAGES)
        images.mkdir(parents=True, exist_ok=True)
        images.chmod(0o711)
        for name, path in zip((KERNEL, INITRAMFS, PRELOAD), self._image, strict=True):
            shutil.copyfile(path, images / name)
            (images / name).chmod(0o644)
        host.write(IMAGES / EMULATOR, preload.wrapper(IMAGES / PRELOAD), mode=0o755)

    def start_domain(self, host: Host) -> None:
        """`virsh start`, and the guest answers."""
        self.hosts[host].virsh("start", NAME)
        self.until("the guest does not answer", self.guest_answers, self.boot_s)

    def ensure_domain(self, host: Host) -> None:
        """Start it there unless it runs."""
        if (self.hosts[host].domains() or {}).get(NAME) != "running":
            self.start_domain(host)

    # ── looking ───────────────────────────────────────────────────────────────────────────────────────────────

    def guest_answers(self) -> bool:
        """Whether its servers accept connections from the client."""
        return all(self._accepts(port) for port in self._domain.ports)

    def _accepts(self, port: int) -> bool:
        with self.network.client.entered(), socket.socket() as connection:
            connection.settimeout(ACCEPT_S)
            return connection.connect_ex((GUEST_ADDRESS, port)) == 0

    def count(self) -> int | None:
        """How many questions the guest has counted since it started, with this one; None: it does not answer."""
        try:
            with self.network.client.entered():
                connection = socket.create_connection((GUEST_ADDRESS, PORT), ACCEPT_S)
            with connection:
                connection.settimeout(COUNT_S)
                connection.sendall(b"count looked\n")
                said = connection.recv(COUNT_BYTES).split()
            return int(said[0]) if said else None
        except OSError:
            return None

    def wrong(self, serving: Host | None, *, is_protected: bool) -> list[str]:
        """What is not as it must be on the hosts that are on, see `truth`."""
        facts = {host: one.facts() for host, one in self.hosts.items() if one.powered.is_on}
        return truth.wrong(facts, NAME, bridge=BRIDGE, ours=OURS, serving=serving, is_protected=is_protected)

    def rest(self, seconds: float) -> None:
        """Let time pass."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.look()
            time.sleep(min(left, POLL_S))

    def until(self, what: str, holds: Callable[[], bool], timeout_s: float = UNTIL_S) -> None:
        """Wait for a condition; raise `LabError` when it does not come true."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline:
                raise LabError(f"{what} within {timeout_s:.0f} s")
            self.rest(POLL_S)

    # ── doing ─────────────────────────────────────────────────────────────────────────────────────────────────

    def power_off(self, host: Host) -> None:
        """Both cables first: a dead host says nothing more."""
        self.network.cut_host(host)
        self.hosts[host].die()

    def power_on(self, host: Host) -> None:
        """It boots, and its services start."""
        self.network.restore_host(host)
        self.hosts[host].boot()

    def clear(self) -> None:
        """End all of it."""
        for host in self.hosts.values():
            host.die()
        self.processes.kill_all()
