"""The scenario `refused`: what libvirt takes and a pair cannot have, or not wholly; `colo check` names each."""

import sys
from typing import Final, NamedTuple

from pycolo_lab.errors import LabError, RunInterruptedError
from pycolo_lab.libvirt.domain import NAME
from pycolo_lab.libvirt.facts import RoundFacts
from pycolo_lab.libvirt.hosts import IMAGES, LibvirtHost
from pycolo_lab.libvirt.pair import CONFIG, settings, write_files
from pycolo_lab.libvirt.stage import LibvirtStage
from pycolo_lab.processes import Host
from pycolo_lab.qemu.nodes import toml

REFUSED: Final = "refused"

CHECK_S: Final = 60.0
NETWORK: Final = "tried"
TRIED: Final = "/etc/colo/tried.xml"

_MAC: Final = "52:54:00:09:00:7f"
_OWN: Final = "is this host's own"


class Case(NamedTuple):
    """One thing more in the domain."""

    name: str
    device: str
    """Its element."""
    says: str
    """Of the line that names it."""
    network: str = ""
    """What a network of libvirt's is made of, that the device is on."""

    @property
    def level(self) -> str:
        """Of that line; `colo check`'s word."""
        return "warning" if _OWN in self.says else "refused"


def _card(words: str) -> str:
    return f"<interface {words}<mac address='{_MAC}'/><model type='virtio'/></interface>"


def _network(name: str, inside: str, says: str) -> Case:
    card = _card(f"type='network'><source network='{NETWORK}'/>")
    return Case(f"network {name}", card, says, f"<network><name>{NETWORK}</name>{inside}</network>")


def _disk(name: str, inside: str, says: str, *, kind: str = "file", device: str = "disk", bus: str = "virtio") -> Case:
    target = {"virtio": "vdz", "fdc": "fda"}.get(bus, "sdz")
    source = "" if "<source" in inside else f"<source file='{IMAGES}/tried.img'/>"
    xml = f"<disk type='{kind}' device='{device}'>{source}{inside}<target dev='{target}' bus='{bus}'/></disk>"
    return Case(f"disk {name}", xml, says)


_IP: Final = "<ip address='192.168.222.1' netmask='255.255.255.0'/>"
_NO_BRIDGE: Final = "has no bridge"
_KEY: Final = "<secret type='passphrase' uuid='0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f'/>"
_BACKED: Final = f"<source file='{IMAGES}/base.img'/>"

CASES: Final = (
    _network("nat", f"<forward mode='nat'/><bridge name='virbr7'/>{_IP}", f"(NAT) {_OWN}"),
    _network("route", f"<forward mode='route'/><bridge name='virbr7'/>{_IP}", f"(routed) {_OWN}"),
    _network("open", f"<forward mode='open'/><bridge name='virbr7'/>{_IP}", f"(open) {_OWN}"),
    _network("isolated", f"<bridge name='virbr7'/>{_IP}", f"(isolated) {_OWN}"),
    _network("macvtap", "<forward mode='bridge'><interface dev='eth0'/></forward>", _NO_BRIDGE),
    _network("vepa", "<forward mode='vepa'><interface dev='eth0'/></forward>", _NO_BRIDGE),
    _network("private", "<forward mode='private'><interface dev='eth0'/></forward>", _NO_BRIDGE),
    _network("passthrough", "<forward mode='passthrough'><interface dev='eth0'/></forward>", _NO_BRIDGE),
    _network("hostdev", "<forward mode='hostdev' managed='yes'><pf dev='eth0'/></forward>", _NO_BRIDGE),
    _network(
        "openvswitch",
        "<forward mode='bridge'/><bridge name='br0'/><virtualport type='openvswitch'/>",
        "is Open vSwitch's",
    ),
    _network("not active", "<forward mode='bridge'/><bridge name='br0'/>", f"virsh net-start {NETWORK}"),
    Case("network missing", _card("type='network'><source network='none'/>"), "this host has no network none"),
    Case("card direct", _card("type='direct'><source dev='eth0' mode='bridge'/>"), "interface of type 'direct'"),
    Case("card user", _card("type='user'>"), "interface of type 'user'"),
    Case("card ethernet", _card("type='ethernet'>"), "interface of type 'ethernet'"),
    Case(
        "card openvswitch",
        _card("type='bridge'><source bridge='br0'/><virtualport type='openvswitch'/>"),
        "in an Open vSwitch bridge",
    ),
    Case(
        "hostdev",
        "<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='7' slot='0' function='0'/></source>"
        "</hostdev>",
        "<hostdev>",
    ),
    _disk("volume", "<source pool='default' volume='tried.img'/>", "a source of type 'volume'", kind="volume"),
    _disk(
        "network",
        "<source protocol='nbd' name='tried'><host name='127.0.0.1' port='10809'/></source>",
        "a source of type 'network'",
        kind="network",
    ),
    _disk("shareable", "<shareable/>", "<shareable/>"),
    _disk("transient", "<transient/>", "<transient/>"),
    _disk(
        "encryption",
        f"<driver name='qemu' type='qcow2'/><source file='{IMAGES}/tried.img'>"
        f"<encryption format='luks'>{_KEY}</encryption></source>",
        "<encryption>",
    ),
    _disk(
        "slices",
        f"<source file='{IMAGES}/tried.img'><slices><slice type='storage' offset='512' size='512'/></slices></source>",
        "<slices>",
    ),
    _disk("lun", "<source dev='/dev/sg0'/>", "device='lun'", kind="block", device="lun", bus="scsi"),
    _disk("copy_on_read", "<driver name='qemu' type='qcow2' copy_on_read='on'/>", "copy_on_read='on'"),
    _disk(
        "backing file",
        "<driver name='qemu' type='qcow2'/>"
        f"<backingStore type='file'><format type='raw'/>{_BACKED}<backingStore/></backingStore>"
        f"<source file='{IMAGES}/tried.img'/>",
        "has a backing file",
    ),
    _disk("floppy", "", "its floppy disk fda may be written to", device="floppy", bus="fdc"),
    _disk(
        "cdrom that is missing",
        f"<source file='{IMAGES}/none.iso'/><readonly/>",
        "none.iso, which the guest only reads, is not on this host",
        device="cdrom",
        bus="sata",
    ),
)


def play_refused(stage: LibvirtStage, number: int) -> RoundFacts:
    """The domain does not run: each of `CASES` is defined on host A, and looked at."""
    facts = RoundFacts(scenario=REFUSED, broken=[])
    host = stage.hosts[Host.A]
    try:
        if (host.domains() or {}).get(NAME) != "shut off":
            host.virsh("destroy", NAME)
        write_files(stage)
        host.write(CONFIG, toml(settings(Host.A, has_disk=True, has_network=stage.has_network)))
        for case in CASES:
            facts.broken += _tried(stage, host, case)
        facts.notes.append(f"{len(CASES)} things named")
        host.virsh("define", f"/etc/colo/{NAME}.xml")
    except RunInterruptedError:
        raise
    except LabError as error:
        facts.broken.append(str(error))
    return facts


def _tried(stage: LibvirtStage, host: LibvirtHost, case: Case) -> list[str]:
    xml = host.on_disk(f"/etc/colo/{NAME}.xml").read_text().replace("</devices>", f"{case.device}</devices>")
    if case.network:
        host.write(TRIED, case.network)
        host.virsh("net-define", TRIED)
    host.write(TRIED, xml)
    try:
        host.virsh("define", TRIED)
        stage.look()
        done = host.powered.ended(sys.executable, "-m", "pycolo", "check", CONFIG, timeout_s=CHECK_S)
    finally:
        if case.network:
            host.virsh("net-undefine", NETWORK)
    lines = done.stdout.splitlines() if done is not None else []
    found = [line for line in lines if line.startswith(case.level) and case.says in line]
    return [] if found else [f"{case.name}: not {case.level} with {case.says!r}: {' | '.join(lines[-3:])}"]
