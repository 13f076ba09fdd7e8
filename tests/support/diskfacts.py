"""What QEMU says of the disks of one guest (q35), recorded: query-block and the devices' properties.

Only keys that are read are kept. `RECORDED`: version → (answer to query-block, QOM path → properties).
"""

from typing import Any, Final

RECORDED: Final[dict[str, tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]]] = {
    "7.2": (
        [
            {
                "device": "drive-b",
                "qdev": "/machine/peripheral-anon/device[0]/virtio-backend",
                "inserted": {
                    "node-name": "#block623",
                    "drv": "qcow2",
                    "ro": False,
                    "file": "/vm/b.qcow2",
                    "image": {"virtual-size": 67108864, "actual-size": 200704},
                },
            },
            {
                "device": "virtio0",
                "qdev": "/machine/peripheral-anon/device[1]/virtio-backend",
                "inserted": {
                    "node-name": "#block833",
                    "drv": "qcow2",
                    "ro": False,
                    "file": "/vm/c.qcow2",
                    "image": {"virtual-size": 67108864, "actual-size": 200704},
                },
            },
            {
                "device": "",
                "qdev": "/machine/peripheral/vda/virtio-backend",
                "inserted": {
                    "node-name": "disk-a",
                    "drv": "qcow2",
                    "ro": False,
                    "file": "/vm/a.qcow2",
                    "image": {"virtual-size": 67108864, "actual-size": 200704},
                },
            },
            {
                "device": "",
                "qdev": "sda",
                "inserted": {
                    "node-name": "disk-d",
                    "drv": "qcow2",
                    "ro": False,
                    "file": "/vm/d.qcow2",
                    "image": {"virtual-size": 67108864, "actual-size": 200704},
                },
            },
            {
                "device": "",
                "qdev": "hda",
                "inserted": {
                    "node-name": "disk-e",
                    "drv": "qcow2",
                    "ro": False,
                    "file": "/vm/e.qcow2",
                    "image": {"virtual-size": 67108864, "actual-size": 200704},
                },
            },
            {
                "device": "",
                "qdev": "/machine/peripheral/vdr/virtio-backend",
                "inserted": {
                    "node-name": "disk-r",
                    "drv": "raw",
                    "ro": True,
                    "file": "/vm/g.raw",
                    "image": {"virtual-size": 33554432, "actual-size": 4096},
                },
            },
            {
                "device": "",
                "qdev": "cd0",
                "inserted": {
                    "node-name": "cdrom",
                    "drv": "raw",
                    "ro": True,
                    "file": "/vm/cd.iso",
                    "image": {"virtual-size": 4194304, "actual-size": 4096},
                },
            },
        ],
        {
            "/machine/peripheral-anon/device[0]": {
                "type": "virtio-blk-pci",
                "parent_bus": "/machine/q35/pcie.0",
                "addr": 40,
                "iothread": "",
                "drive": "drive-b",
            },
            "/machine/peripheral-anon/device[1]": {
                "type": "virtio-blk-pci",
                "parent_bus": "/machine/q35/pcie.0",
                "addr": 8,
                "iothread": "",
                "drive": "virtio0",
            },
            "/machine/peripheral/vda": {
                "type": "virtio-blk-pci",
                "parent_bus": "/machine/q35/pcie.0",
                "addr": 32,
                "iothread": "/objects/io0",
                "drive": "disk-a",
            },
            "/machine/peripheral/sda": {
                "type": "scsi-hd",
                "parent_bus": "/machine/peripheral/scsi0/virtio-backend/scsi0.0",
                "scsi-id": 1,
                "lun": 0,
                "channel": 0,
                "drive": "disk-d",
            },
            "/machine/peripheral/hda": {
                "type": "ide-hd",
                "parent_bus": "/machine/unattached/device[15]/ide.0",
                "unit": 0,
                "drive": "disk-e",
            },
            "/machine/peripheral/vdr": {
                "type": "virtio-blk-pci",
                "parent_bus": "/machine/q35/pcie.0",
                "addr": 64,
                "iothread": "",
                "drive": "disk-r",
            },
            "/machine/peripheral/cd0": {
                "type": "ide-cd",
                "parent_bus": "/machine/unattached/device[15]/ide.1",
                "unit": 0,
                "drive": "cdrom",
            },
        },
    ),
    "11.1": (
        [
            {
                "device": "drive-b",
                "qdev": "/machine/peripheral-anon/device[0]/virtio-backend",
                "inserted": {
                    "node-name": "#block671",
                    "drv": "qcow2",
                    "ro": False,
                    "file": "/vm/b.qcow2",
                    "image": {"virtual-size": 67108864, "actual-size": 200704},
                },
            },
            {
                "device": "virtio0",
                "qdev": "/machine/peripheral-anon/device[1]/virtio-backend",
                "inserted": {
                    "node-name": "#block850",
                    "drv": "qcow2",
                    "ro": False,
                    "file": "/vm/c.qcow2",
                    "image": {"virtual-size": 67108864, "actual-size": 200704},
                },
            },
            {
                "device": "",
                "qdev": "/machine/peripheral/vda/virtio-backend",
                "inserted": {
                    "node-name": "disk-a",
                    "drv": "qcow2",
                    "ro": False,
                    "file": "/vm/a.qcow2",
                    "image": {"virtual-size": 67108864, "actual-size": 200704},
                },
            },
            {
                "device": "",
                "qdev": "sda",
                "inserted": {
                    "node-name": "disk-d",
                    "drv": "qcow2",
                    "ro": False,
                    "file": "/vm/d.qcow2",
                    "image": {"virtual-size": 67108864, "actual-size": 200704},
                },
            },
            {
                "device": "",
                "qdev": "hda",
                "inserted": {
                    "node-name": "disk-e",
                    "drv": "qcow2",
                    "ro": False,
                    "file": "/vm/e.qcow2",
                    "image": {"virtual-size": 67108864, "actual-size": 200704},
                },
            },
            {
                "device": "",
                "qdev": "/machine/peripheral/vdr/virtio-backend",
                "inserted": {
                    "node-name": "disk-r",
                    "drv": "raw",
                    "ro": True,
                    "file": "/vm/g.raw",
                    "image": {"virtual-size": 33554432, "actual-size": 4096},
                },
            },
            {
                "device": "",
                "qdev": "cd0",
                "inserted": {
                    "node-name": "cdrom",
                    "drv": "raw",
                    "ro": True,
                    "file": "/vm/cd.iso",
                    "image": {"virtual-size": 4194304, "actual-size": 4096},
                },
            },
        ],
        {
            "/machine/peripheral-anon/device[0]": {
                "type": "virtio-blk-pci",
                "parent_bus": "/machine/q35/pcie.0",
                "addr": 40,
                "iothread": "",
                "drive": "drive-b",
                "iothread-vq-mapping": [],
            },
            "/machine/peripheral-anon/device[1]": {
                "type": "virtio-blk-pci",
                "parent_bus": "/machine/q35/pcie.0",
                "addr": 8,
                "iothread": "",
                "drive": "virtio0",
                "iothread-vq-mapping": [],
            },
            "/machine/peripheral/vda": {
                "type": "virtio-blk-pci",
                "parent_bus": "/machine/q35/pcie.0",
                "addr": 32,
                "iothread": "/objects/io0",
                "drive": "disk-a",
                "iothread-vq-mapping": [],
            },
            "/machine/peripheral/sda": {
                "type": "scsi-hd",
                "parent_bus": "/machine/peripheral/scsi0/virtio-backend/scsi0.0",
                "scsi-id": 1,
                "lun": 0,
                "channel": 0,
                "drive": "disk-d",
            },
            "/machine/peripheral/hda": {
                "type": "ide-hd",
                "parent_bus": "/machine/unattached/device[12]/ide.0",
                "unit": 0,
                "drive": "disk-e",
            },
            "/machine/peripheral/vdr": {
                "type": "virtio-blk-pci",
                "parent_bus": "/machine/q35/pcie.0",
                "addr": 64,
                "iothread": "",
                "drive": "disk-r",
                "iothread-vq-mapping": [],
            },
            "/machine/peripheral/cd0": {
                "type": "ide-cd",
                "parent_bus": "/machine/unattached/device[12]/ide.1",
                "unit": 0,
                "drive": "cdrom",
            },
        },
    ),
}
