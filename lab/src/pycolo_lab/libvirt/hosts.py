"""A host: its power, its libvirtd, its node, and what `virsh` says there."""

import time
import uuid
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Final

from pyroute2 import IPRoute

from pycolo_lab.errors import LabError
from pycolo_lab.libvirt.domain import NAME
from pycolo_lab.libvirt.releases import Release
from pycolo_lab.libvirt.truth import HostFacts, domains_in
from pycolo_lab.namespaces import Namespace
from pycolo_lab.powered import PoweredHost
from pycolo_lab.processes import Host
from pycolo_lab.qemu.nodes import LETTERS

DAEMON: Final = "/usr/sbin/libvirtd"
DAEMON_PID: Final = "/run/libvirtd.pid"
QEMU_PID: Final = f"/run/libvirt/qemu/{NAME}.pid"
IMAGES: Final = Path("/var/lib/libvirt/images")

LAB: Final = Path("/lab")
"""The disks of both hosts, in a root that is not the host's: see host.sh."""

URI: Final = "qemu:///system"

DAEMON_S: Final = 20.0
VIRSH_S: Final = 60.0
LIST_S: Final = 5.0
POLL_S: Final = 0.05

QEMU_CONF: Final = """stdio_handler = "file"
security_driver = "none"
"""
"""All else is libvirt's default. There is no virtlogd, and an AppArmor profile would not know these hosts' paths."""

IN_A_ROOT_CONF: Final = """namespaces = []
"""
"""In a root that is not the host's, libvirt's own /dev for a QEMU has no terminals."""

LIBVIRTD_CONF: Final = """host_uuid = "{uuid}"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""
"""Two hosts on one machine would have one UUID, which libvirt refuses to migrate between."""


class LibvirtHost:
    """Off until `boot`. `directory` is its disk."""

    def __init__(self, host: Host, namespace: Namespace, directory: Path, release: Release, accelerator: str) -> None:
        self.host = host
        self.namespace = namespace
        script = Path(str(files(__package__).joinpath("host.sh")))
        root = "" if release.root is None else str(release.root)
        self.powered = PoweredHost(LETTERS[host], namespace, directory, script, [root, accelerator])
        self._inside = release.inside

    # ── its disk ──────────────────────────────────────────────────────────────────────────────────────────────

    def on_disk(self, path: str | Path) -> Path:
        """A file of the host, as it is reached from outside; below /etc, /var/lib, /var/cache, /var/log or /run."""
        return self.powered.root / str(path).lstrip("/")

    def as_peer(self, path: str | Path) -> Path:
        """The same file, as libvirt on the other host reaches it: this machine is its network."""
        return self.on_disk(path) if not self._inside else LAB / LETTERS[self.host] / "root" / str(path).lstrip("/")

    def write(self, path: str | Path, content: str | bytes, mode: int = 0o644) -> None:
        """A file of the host."""
        target = self.on_disk(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        target.chmod(mode)

    def write_configuration(self) -> None:
        """Of libvirt, before the first start."""
        self.write("/etc/libvirt/qemu.conf", QEMU_CONF + (IN_A_ROOT_CONF if self._inside else ""))
        self.write("/etc/libvirt/libvirtd.conf", LIBVIRTD_CONF.format(uuid=uuid.uuid4()))

    def make_disk(self, path: Path, size_bytes: int) -> None:
        """An empty qcow2 of the host's, which is up. Raises `LabError`."""
        self._done("qemu-img", "create", "-q", "-f", "qcow2", str(path), str(size_bytes))

    # ── its power ─────────────────────────────────────────────────────────────────────────────────────────────

    def boot(self) -> None:
        """The host is up, and libvirtd runs."""
        self.powered.boot()
        self.start_daemon()

    def die(self) -> None:
        """All its processes at once: libvirtd, QEMU, the node."""
        self.powered.die()

    # ── libvirtd ──────────────────────────────────────────────────────────────────────────────────────────────

    def start_daemon(self) -> None:
        """Returns once it answers. Raises `LabError`."""
        # In the background it would keep the pipes that its output is read from.
        quiet = f'exec "$@" -d -p {DAEMON_PID} </dev/null >>/var/log/libvirt/started.log 2>&1'
        self._done("sh", "-c", quiet, "sh", *self._inside, DAEMON)
        deadline = time.monotonic() + DAEMON_S
        while self.domains() is None:
            if time.monotonic() > deadline:
                raise LabError(f"{self.host.value}: libvirtd does not answer within {DAEMON_S:.0f} s")
            time.sleep(POLL_S)

    def stop_daemon(self, signal: str = "TERM") -> None:
        """TERM ends it in order, KILL at once; QEMU lives on. Returns once it is gone."""
        pid = self.powered.pid_of(DAEMON_PID)
        self.powered.kill(pid, signal)
        deadline = time.monotonic() + DAEMON_S
        while pid and self.powered.lives(pid):
            if time.monotonic() > deadline:
                raise LabError(f"{self.host.value}: libvirtd does not end within {DAEMON_S:.0f} s")
            time.sleep(POLL_S)

    def virsh(self, *words: str, timeout_s: float = VIRSH_S) -> str:
        """What it prints. Raises `LabError` with what it says when it fails."""
        return self._done(*self._inside, "virsh", "-q", "-c", URI, *words, timeout_s=timeout_s)

    def define_network(self, name: str, xml: str) -> None:
        """And start it, now and with the host. Raises `LabError`."""
        path = f"/etc/colo/{name}.xml"
        self.write(path, xml)
        self.virsh("net-define", path)
        self.virsh("net-autostart", name)
        self.virsh("net-start", name)

    def domains(self) -> dict[str, str] | None:
        """Name -> state of all domains; None when libvirtd does not answer."""
        words = (*self._inside, "virsh", "-q", "-c", URI, "list", "--all")
        done = self.powered.ended(*words, timeout_s=LIST_S)
        return domains_in(done.stdout) if done is not None and done.returncode == 0 else None

    def _done(self, *words: str, timeout_s: float = VIRSH_S) -> str:
        done = self.powered.ended(*words, timeout_s=timeout_s)
        what = " ".join(words)
        if done is None:
            raise LabError(f"{self.host.value}: {what} does not end within {timeout_s:.0f} s, or the host is off")
        if done.returncode != 0:
            raise LabError(f"{self.host.value}: {what}: {' | '.join(done.stderr.strip().splitlines())}")
        return done.stdout

    # ── the guest ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def qemu_pid(self) -> int:
        """Of the domain's QEMU, inside the host; 0 when none lives."""
        pid = self.powered.pid_of(QEMU_PID)
        return pid if pid and f"guest={NAME}" in self.powered.run("cat", f"/proc/{pid}/cmdline") else 0

    def kill_qemu(self, signal: str = "KILL") -> None:
        """Raises `LabError` when none lives."""
        pid = self.qemu_pid
        if not pid:
            raise LabError(f"no QEMU to kill on {self.host.value}")
        self.powered.kill(pid, signal)

    def facts(self) -> HostFacts:
        """As they are now. Raises `LabError` when libvirtd does not answer."""
        domains = self.domains()
        if domains is None:
            raise LabError(f"{self.host.value}: libvirtd does not answer")
        return HostFacts(domains, self.qemu_pid != 0, self.masters())

    def masters(self) -> Mapping[str, str]:
        """Interface -> its bridge; "" for none."""
        with self.namespace.entered(), IPRoute() as netlink:
            links = list(netlink.get_links())
        names = {link["index"]: link.get("ifname") for link in links}
        return {link.get("ifname"): names.get(link.get("master"), "") for link in links}
