"""The disks of a command line, and the secondary's form of it."""

import json
from pathlib import Path

import pytest

from pycolo.errors import ConfigError
from pycolo.qmp.diskwords import Nodes, command_disks, overlays_in, parsed, secondary_command

QCOW2 = '{"driver":"qcow2","node-name":"disk-a","file":{"driver":"file","filename":"/vm/a.qcow2"}}'
KEYS = "driver=raw,node-name=disk-b,file.driver=file,file.filename=/vm/b,,1.raw,discard=unmap"
COMMAND = [
    *("qemu-system-x86_64", "-machine", "q35", "-blockdev", QCOW2, "-blockdev", KEYS),
    *("-device", "virtio-blk-pci,drive=disk-a,id=vda,addr=4,iothread=io0,werror=stop"),
    *("-drive", "if=none,id=disk-c,file=/dev/vg/c,format=raw,cache=none,aio=native,discard=unmap"),
    *("-device", '{"driver":"scsi-hd","drive":"disk-b","bus":"scsi0.0"}', "-device", "ide-hd,drive=disk-c,bus=ide.0"),
    *("-blockdev", '{"driver":"raw","node-name":"r","read-only":true,"file":{"driver":"file","filename":"/vm/r"}}'),
    *("-device", "virtio-blk-pci,drive=r", "-drive", "if=none,id=cd,media=cdrom,file=/vm/x.iso"),
    *("-device", "ide-cd,drive=cd", "-device", "virtio-rng-pci", "-S"),
]


def written(command: list[str]) -> list[str]:
    disks = command_disks(command)
    return secondary_command(
        command, [(disk, Path("/copies") / disk.path.name, overlays_in(Path("/over"), disk.name)) for disk in disks]
    )


def values(command: list[str], option: str) -> list[str]:
    return [command[place + 1] for place, word in enumerate(command) if word == option]


def test_the_writable_disks_are_found_in_the_order_of_their_devices() -> None:
    found = command_disks(COMMAND)
    assert [(disk.name, str(disk.path), disk.format) for disk in found] == [
        ("disk-a", "/vm/a.qcow2", "qcow2"),
        ("disk-b", "/vm/b,1.raw", "raw"),
        ("disk-c", "/dev/vg/c", "raw"),
    ]


def test_a_command_line_without_disks_stays_as_it_is() -> None:
    plain = ["qemu-system-x86_64", "-device", "virtio-rng-pci", "-drive", "if=pflash,file=/fw,readonly=on"]
    assert command_disks(plain) == []
    assert written(plain) == plain


def test_a_replication_node_takes_the_disks_name() -> None:
    nodes = [json.loads(value) for value in values(written(COMMAND), "-blockdev")]
    parent, replication = nodes[0], nodes[1]
    assert parent == {
        "driver": "qcow2",
        "node-name": "colo-parent-0",
        "file": {"driver": "file", "filename": "/copies/a.qcow2"},
    }
    assert replication["driver"] == "replication"
    assert replication["mode"] == "secondary"
    assert replication["node-name"] == replication["top-id"] == "disk-a"
    active = replication["file"]
    assert active["file"]["filename"] == "/over/disk-a.active.qcow2"
    assert active["backing"]["file"]["filename"] == "/over/disk-a.hidden.qcow2"
    assert active["backing"]["backing"] == parent["node-name"]
    names = [node["node-name"] for node in nodes]
    assert names == ["colo-parent-0", "disk-a", "colo-parent-1", "disk-b", "colo-parent-2", "disk-c", "r"]


def test_options_of_an_image_are_kept() -> None:
    nodes = {node["node-name"]: node for node in map(json.loads, values(written(COMMAND), "-blockdev"))}
    assert nodes["colo-parent-1"]["discard"] == "unmap"
    assert nodes["colo-parent-1"]["file"]["filename"] == "/copies/b,1.raw"
    assert nodes["colo-parent-2"] == {
        "driver": "raw",
        "node-name": "colo-parent-2",
        "cache": {"direct": True},
        "discard": "unmap",
        "file": {
            "driver": "host_device",
            "filename": "/copies/c",
            "cache": {"direct": True},
            "discard": "unmap",
            "aio": "native",
        },
    }


def test_devices_keep_what_the_guest_sees() -> None:
    found = values(written(COMMAND), "-device")
    assert found[0] == "virtio-blk-pci,drive=disk-a,id=vda,addr=4,werror=report,rerror=report"
    assert json.loads(found[1]) == {
        "driver": "scsi-hd",
        "drive": "disk-b",
        "bus": "scsi0.0",
        "werror": "report",
        "rerror": "report",
    }
    assert found[3:] == ["virtio-blk-pci,drive=r", "ide-cd,drive=cd", "virtio-rng-pci"]


def test_all_other_words_keep_their_order() -> None:
    def others(command: list[str]) -> list[str]:
        kept = []
        skipped = False
        for word in command:
            if not skipped and word not in ("-blockdev", "-device", "-drive"):
                kept.append(word)
            skipped = not skipped and word in ("-blockdev", "-device", "-drive")
        return kept

    assert others(written(COMMAND)) == others(COMMAND)
    assert values(written(COMMAND), "-drive") == ["if=none,id=cd,media=cdrom,file=/vm/x.iso"]


def test_a_protocol_node_of_its_own_goes_into_the_parent() -> None:
    command = [
        *("-blockdev", '{"driver":"file","node-name":"storage","filename":"/vm/a"}'),
        *("-blockdev", '{"driver":"raw","node-name":"format","file":"storage"}'),
        *("-device", "virtio-blk-pci,drive=format"),
    ]
    nodes = [json.loads(value) for value in values(written(command), "-blockdev")]
    assert nodes[0] == {
        "driver": "raw",
        "node-name": "colo-parent-0",
        "file": {"driver": "file", "filename": "/copies/a"},
    }
    assert [node["node-name"] for node in nodes] == ["colo-parent-0", "format"]


DEVICE = ("-device", "virtio-blk-pci,drive=x")
NBD = '{"driver":"raw","node-name":"x","file":{"driver":"nbd","export":"x"}}'
BACKED = '{"driver":"qcow2","node-name":"x","backing":"base","file":{"driver":"file","filename":"/x"}}'


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (DEVICE, "-blockdev node-name=x or -drive id=x"),
        (("-drive", "if=virtio,file=/x"), "format=…"),
        (("-drive", "if=virtio,file=/x,format=raw,index=2"), "without index"),
        (("-drive", "file=/x,format=raw"), "-drive with if=virtio, or with if=none"),
        (("-drive", "if=ide,file=/x,format=raw"), "-drive with if=virtio, or with if=none"),
        (("-drive", "if=none,id=x,file=/x", *DEVICE), "format=…"),
        (("-drive", "if=none,id=x,file=/x,format=raw,snapshot=on", *DEVICE), "without snapshot"),
        (("-drive", "if=none,id=x,file=/x,format=raw,cache=writethrough", *DEVICE), "cache=writeback, none, unsafe"),
        (("-blockdev", NBD, *DEVICE), "an image in a file or on a device of this host"),
        (("-blockdev", BACKED, *DEVICE), "without a backing file"),
        (("-drive", "if=virtio,format=raw,file=file:/x"), "with ./ in front"),
        (("-drive", "if=virtio,format=raw,file=nbd:h:1"), "with ./ in front"),
        (("-drive", "if=virtio,format=raw,file=json:{}"), "with ./ in front"),
        (("-blockdev", '{"driver":"raw","node-name":"x","file":"y"}', *DEVICE), "-blockdev node-name=y"),
        (("-blockdev", "{", *DEVICE), "JSON"),
        (("-blockdev", "driver=raw,node-name=x,file=y,file.driver=file", *DEVICE), "do not contradict"),
    ],
)
def test_what_cannot_be_copied_is_refused(words: tuple[str, ...], expected: str) -> None:
    with pytest.raises(ConfigError, match=r"qemu\.command") as caught:
        command_disks(["qemu-system-x86_64", *words])
    assert expected in str(caught.value)


def test_key_value_pairs_are_qemus() -> None:
    assert parsed("virtio-blk-pci,drive=a,share-rw", "driver") == {
        "driver": "virtio-blk-pci",
        "drive": "a",
        "share-rw": "on",
    }
    assert parsed("/a,,b,format=raw", "file") == {"file": "/a,b", "format": "raw"}
    assert parsed("qcow2,file.driver=file", "driver", is_nested=True) == {"driver": "qcow2", "file": {"driver": "file"}}


def test_names_fit_into_qemus() -> None:
    names = Nodes(15)
    used = (names.parent, names.active, names.hidden, names.export, names.target, names.job, names.filter)
    assert len(set(used)) == len(used)
    assert all(len(name) <= 31 for name in used)


def test_a_drive_without_a_device_gets_one_where_qemu_makes_it() -> None:
    """QEMU makes the devices of -drive if=virtio after all of -device, and names the drives in their order."""
    command = [
        *("qemu", "-drive", "if=virtio,file=/vm/a,format=raw", "-device", "virtio-rng-pci"),
        *("-drive", "if=virtio,file=/vm/c,format=qcow2,readonly=on", "-drive", "if=virtio,file=/vm/b,format=qcow2"),
        *("-drive", "if=virtio,id=mine,file=/vm/d,format=qcow2", "-device", "virtio-balloon-pci"),
    ]
    assert [disk.name for disk in command_disks(command)] == ["virtio0", "virtio2", "mine"]
    changed = written(command)
    assert values(changed, "-device") == [
        "virtio-rng-pci",
        "virtio-balloon-pci",
        *(f"virtio-blk-pci,drive={name},werror=report,rerror=report" for name in ("virtio0", "virtio2", "mine")),
    ]
    assert values(changed, "-drive") == ["if=virtio,file=/vm/c,format=qcow2,readonly=on"]
