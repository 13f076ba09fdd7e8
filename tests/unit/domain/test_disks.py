"""The disks of a domain's definition: whose image is where, the secondary's form, and what is refused."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from pycolo.domain.disks import (
    DiskImage,
    disk_refusals,
    image_of,
    named,
    read_only_paths,
    secondary_disks,
    with_images,
    writable_disks,
)
from pycolo.errors import PeerError
from support.domaindisks import CDROM, EMPTY, READ_ONLY, SCSI, SDA, VDA, disk, domain


def test_writable_disks_are_those_that_are_neither_read_only_nor_cdroms() -> None:
    first, second = writable_disks(domain(VDA, CDROM, EMPTY, READ_ONLY, SDA))
    assert first == ("vda", "virtio-disk0", "file", DiskImage(Path("/images/a.qcow2"), "qcow2"), True)
    assert second == ("sda", "scsi0-0-0-0", "block", DiskImage(Path("/dev/vg0/b"), "raw"), False)
    assert read_only_paths(domain(VDA, CDROM, EMPTY, READ_ONLY)) == ("/iso/a.iso", "/images/tools.img")


def test_qemus_disks_get_libvirts_names_and_images_and_keep_what_qemu_says_else() -> None:
    given = [disk("libvirt-2-format", "virtio-disk0", node="libvirt-2-format"), disk("#block1", "sata0-0-1")]
    first, second = named(given, domain(VDA))
    assert (first.name, first.file, first.format, first.node) == (
        "vda",
        "/images/a.qcow2",
        "qcow2",
        "libvirt-2-format",
    )
    assert second == given[1], "of a disk that the definition does not say writable, nothing more is known"


def test_a_copy_is_where_the_definition_here_says_then_in_the_folder_then_at_the_same_path() -> None:
    told = disk("vda", "virtio-disk0", file="/images/a.qcow2", format="qcow2")
    own = domain(VDA.replace("/images/a.qcow2", "/srv/vm1.raw").replace("'qcow2'", "'raw'"))
    assert image_of(told, own, Path("/pool")) == (Path("/srv/vm1.raw"), "raw")
    assert image_of(told, domain(SDA), Path("/pool")) == (Path("/pool/a.qcow2"), "qcow2")
    assert image_of(told, None, None) == (Path("/images/a.qcow2"), "qcow2")


def test_a_definition_gets_this_hosts_images_and_stays_as_it_is_else() -> None:
    images = {"vda": DiskImage(Path("/dev/vg1/vm1"), "raw")}
    made = ET.fromstring(with_images(domain(VDA, CDROM, SDA), images))
    first, cdrom, second = made.findall("devices/disk")
    assert first.get("type") == "block"
    assert first.find("source").attrib == {"dev": "/dev/vg1/vm1"}  # type: ignore[union-attr]
    assert first.find("driver").attrib == {  # type: ignore[union-attr]
        "name": "qemu",
        "type": "raw",
        "discard": "unmap",
        "iothread": "1",
    }
    assert [writable_disks(domain(ET.tostring(second, "unicode"))), cdrom.find("source").get("file")] == [  # type: ignore[union-attr]
        writable_disks(domain(SDA)),
        "/iso/a.iso",
    ]


def test_the_secondary_has_no_iothread_and_reports_errors_to_its_guest() -> None:
    images = {"vda": DiskImage(Path("/b/a.qcow2"), "qcow2"), "sda": DiskImage(Path("/b/b.raw"), "raw")}
    made = ET.fromstring(secondary_disks(domain(VDA, SDA, CDROM, SCSI), images))
    first, second, cdrom = made.findall("devices/disk")
    for element, path in ((first, "/b/a.qcow2"), (second, "/b/b.raw")):
        driver = element.find("driver")
        assert driver is not None
        assert (driver.get("iothread"), driver.get("error_policy"), driver.get("rerror_policy")) == (
            None,
            "report",
            "report",
        )
        assert element.find("source").attrib == {"file": path}  # type: ignore[union-attr]
        assert element.find("backingStore") is None
    assert cdrom.find("driver").attrib == {"name": "qemu", "type": "raw"}  # type: ignore[union-attr]
    assert made.find("devices/controller/driver").attrib == {"queues": "2"}  # type: ignore[union-attr]


def test_a_mapping_of_iothreads_goes_too() -> None:
    mapped = VDA.replace(" iothread='1'/>", "><iothreads><iothread id='1'/></iothreads></driver>")
    made = ET.fromstring(secondary_disks(domain(mapped), {"vda": DiskImage(Path("/b"), "raw")}))
    assert made.find("devices/disk/driver/iothreads") is None


def test_a_disk_that_would_be_written_to_without_being_copied_is_refused() -> None:
    with pytest.raises(PeerError, match="disk sda of the primary's domain is not among those that are copied"):
        secondary_disks(domain(VDA, SDA), {"vda": DiskImage(Path("/b"), "raw")})
    assert "iothread" in secondary_disks(domain(READ_ONLY, SCSI), {}), "nothing is copied, so nothing changes"


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        (VDA.replace("type='file'", "type='network'"), "source of type 'network'"),
        (VDA.replace("type='file'", "type='volume'"), "source of type 'volume'"),
        (VDA.replace("device='disk'", "device='lun'"), "device='lun'"),
        (VDA.replace("bus='virtio'", "bus='usb'"), "a bus of type 'usb'"),
        (VDA.replace("discard=", "copy_on_read='on' discard="), "copy_on_read"),
        (VDA.replace("<backingStore/>", "<shareable/>"), "<shareable/>"),
        (VDA.replace("<backingStore/>", "<transient/>"), "<transient/>"),
        (VDA.replace("<backingStore/>", "<encryption format='luks'/>"), "<encryption>"),
        (VDA.replace("index='2'/>", "><encryption format='luks'/></source>"), "<encryption>"),
        (VDA.replace("index='2'/>", "><slices><slice type='storage'/></slices></source>"), "<slices>"),
        (VDA.replace("index='2'/>", "><dataStore type='file'/></source>"), "<dataStore>"),
        (VDA.replace("<backingStore/>", "<mirror type='file'/>"), "virsh blockjob vm1 vda --abort"),
        (
            VDA.replace("<backingStore/>", "<backingStore type='file'><source file='/base'/></backingStore>"),
            "virsh blockpull vm1 vda --wait",
        ),
    ],
)
def test_what_cannot_be_copied_is_refused_by_name(xml: str, words: str) -> None:
    (why,) = disk_refusals(domain(xml))
    assert why.startswith("its disk vda ")
    assert words in why
    read_only = xml.replace("</disk>", "<readonly/></disk>")
    assert disk_refusals(domain(read_only)) == (), "it is not copied"


def test_a_floppy_disk_that_may_be_written_to_is_refused_and_no_other() -> None:
    floppy = "<disk type='file' device='floppy'>{}<target dev='fda' bus='fdc'/></disk>"
    (why,) = disk_refusals(domain(floppy.format("<source file='/images/a.img'/>")))
    assert "floppy disk fda" in why
    assert disk_refusals(domain(floppy.format("<source file='/images/a.img'/><readonly/>"))) == ()
    assert disk_refusals(domain(floppy.format(""))) == (), "the drive is empty"


def test_usual_disks_are_not_refused() -> None:
    assert disk_refusals(domain(VDA, SDA, CDROM, EMPTY, READ_ONLY, SCSI)) == ()
