"""The smallest file of a node whose guest is a domain, disks of a domain's definition, and what QEMU says of them."""

from pycolo.qmp.guestdisks import GuestDisk

FILE = """
pair = "vm1"
role = "primary"
state = "{place}/state"
[link]
listen = "10.0.0.1:9000"
peer = "10.0.0.2:9000"
insecure = true
[guest]
domain = "vm1"
[control]
socket = "{place}/control"
"""

VDA = """<disk type='file' device='disk'>
  <driver name='qemu' type='qcow2' discard='unmap' iothread='1'/>
  <source file='/images/a.qcow2' index='2'/><backingStore/>
  <target dev='vda' bus='virtio'/><alias name='virtio-disk0'/>
</disk>"""
SDA = """<disk type='block' device='disk'>
  <driver name='qemu' type='raw' cache='unsafe'/>
  <source dev='/dev/vg0/b' index='1'/>
  <target dev='sda' bus='scsi'/><alias name='scsi0-0-0-0'/>
</disk>"""
CDROM = """<disk type='file' device='cdrom'>
  <driver name='qemu' type='raw'/><source file='/iso/a.iso'/><target dev='sdb' bus='sata'/><readonly/>
</disk>"""
EMPTY = "<disk type='file' device='cdrom'><target dev='sdc' bus='sata'/><readonly/></disk>"
READ_ONLY = """<disk type='file' device='disk'>
  <driver name='qemu' type='raw'/><source file='/images/tools.img'/><target dev='vdb' bus='virtio'/><readonly/>
</disk>"""
SCSI = "<controller type='scsi' model='virtio-scsi'><driver queues='2' iothread='1'/></controller>"


def domain(*devices: str) -> str:
    return f"<domain type='kvm'><name>vm1</name><devices>{''.join(devices)}</devices></domain>"


def disk(name: str, device: str, **fields: object) -> GuestDisk:
    given = {
        "name": name,
        "device": device,
        "kind": "virtio-blk-pci",
        "place": "pci.0 03.0",
        "size_bytes": 4096,
        "used_bytes": 4096,
        "format": "replication",
        "file": "json:{}",
        "is_writable": True,
        "iothread": "",
        "has_generated_name": False,
        **fields,
    }
    return GuestDisk(**given)  # type: ignore[arg-type]
