"""Places of devices and blocks of memory, as QEMU shows them: seen with 7.2, 10.0 and 11.1."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.qmp.topology import PROPERTIES, device_places, ram_blocks

FOUND = {
    "/machine/peripheral/rp1": ("pcie-root-port", {"parent_bus": "/machine/q35/pcie.0", "addr": 16, "port": 0}),
    "/machine/peripheral-anon/device[0]": ("virtio-net-pci", {"parent_bus": "/machine/peripheral/rp1/rp1", "addr": 0}),
    "/machine/peripheral/xh": ("qemu-xhci", {"parent_bus": "/machine/q35/pcie.0", "addr": 27}),
    "/machine/peripheral-anon/device[1]": ("usb-tablet", {"parent_bus": "/machine/peripheral/xh/xh.0", "port": ""}),
    "/machine/peripheral/sc": ("virtio-scsi-pci", {"parent_bus": "/machine/q35/pcie.0", "addr": 32}),
    "/machine/peripheral/hd": (
        "scsi-hd",
        {"parent_bus": "/machine/peripheral/sc/virtio-backend/sc.0", "channel": 0, "scsi-id": 1, "lun": 2},
    ),
    "/machine/peripheral-anon/device[10]": ("i6300esb", {}),
}

BLOCKS = """              Block Name    PSize              Offset               Used              Total
                  pc.ram    4 KiB  0x0000000000000000 0x0000000006002000 0x0000000006002000
    /rom@etc/acpi/tables    4 KiB  0x0000000007140000 0x0000000000020000 0x0000000000200000
0000:00:02.0:00.0/virtio-net-pci.rom    4 KiB  0x0000000007100000 0x0000000000040000 0x0000000000040000
              later.qemu    2 MiB  0x0000000007100000 0x0000000000200000 0x0000000000200000 0x00007f3a80000000  rw
"""


def test_a_place_is_the_way_from_the_machines_bus():
    assert [(str(one), one.id) for one in device_places(FOUND)] == [
        ("i6300esb at no bus", ""),
        ("pcie-root-port at pcie.0 02.0", "rp1"),
        ("virtio-net-pci at pcie.0 02.0/00.0", ""),
        ("qemu-xhci at pcie.0 03.3", "xh"),
        ("usb-tablet at pcie.0 03.3", ""),
        ("virtio-scsi-pci at pcie.0 04.0", "sc"),
        ("scsi-hd at pcie.0 04.0/channel=0,scsi-id=1,lun=2", "hd"),
    ]


def test_ids_count_for_nothing():
    other = {
        path.replace("/xh", "/usb"): (kind, {key: str(value).replace("/xh", "/usb") if key == "parent_bus" else value
                                             for key, value in properties.items()})
        for path, (kind, properties) in FOUND.items()
    }  # fmt: skip
    assert [str(one) for one in device_places(other)] == [str(one) for one in device_places(FOUND)]


def test_the_order_in_which_qemu_lists_them_counts_for_nothing():
    some = list(FOUND.items())[:4]
    assert len({device_places(dict(order)) for order in permutations(some)}) == 1


def test_devices_behind_themselves_are_refused():
    loop = {"/machine/peripheral/a": ("x", {"parent_bus": "/machine/peripheral/a/bus"})}
    with pytest.raises(ValueError, match="behind itself"):
        device_places(loop)


@given(
    st.dictionaries(
        st.sampled_from([f"/machine/peripheral/{name}" for name in "abcd"]),
        st.tuples(
            st.text(max_size=3),
            st.dictionaries(
                st.sampled_from(PROPERTIES),
                st.none() | st.integers(-2, 300) | st.sampled_from(["", "/machine/pci.0", "/machine/peripheral/a/bus"]),
            ),
        ),
    )
)
def test_anything_that_qemu_may_say_is_a_place_or_refused(found):
    try:
        places = device_places(found)
    except ValueError:
        return
    assert len(places) == len(found)


def test_a_block_has_its_name_and_the_most_that_it_may_have():
    assert ram_blocks(BLOCKS) == {
        "pc.ram": 0x6002000,
        "/rom@etc/acpi/tables": 0x200000,
        "0000:00:02.0:00.0/virtio-net-pci.rom": 0x40000,
        "later.qemu": 0x200000,
    }


@given(st.text() | st.text(st.sampled_from(" \n0x1afkKMiB.")))
def test_any_text_of_the_monitor_is_read(text):
    assert len(ram_blocks(text)) <= len(text.splitlines())
