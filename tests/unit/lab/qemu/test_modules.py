"""Kernel modules out of packages as Debian 12 and 13 build them."""

import lzma

import pytest

from pycolo_lab.errors import LabError
from pycolo_lab.qemu.modules import modules_of

DEPENDS = {
    "virtio_ring": "",
    "virtio": "virtio_ring",
    "virtio_pci_modern_dev": "",
    "virtio_pci": "virtio_pci_modern_dev,virtio,virtio_ring",
    "failover": "",
    "net_failover": "failover",
    "virtio_net": "virtio,virtio_ring,net_failover",
}


def image(name, depends):
    """As much of a module as is read."""
    return b"\x7fELF\0license=GPL\0depends=" + depends.encode() + b"\0name=" + name.encode() + b"\0"


def package(folder, *, top, suffix, packed, built_in=()):
    root = folder / top / "modules" / "6.1.0-cloud-amd64"
    (root / "kernel" / "drivers").mkdir(parents=True)
    (root / "modules.builtin").write_text("".join(f"kernel/drivers/{name}.ko\n" for name in built_in))
    for name, depends in DEPENDS.items():
        if name not in built_in:
            left = ",".join(one for one in depends.split(",") if one not in built_in)
            path = root / "kernel" / "drivers" / f"{name.replace('_', '-')}{suffix}"
            path.write_bytes(packed(image(name, left)))
    return folder


@pytest.fixture(params=["12", "13"])
def kernel(request, tmp_path):
    if request.param == "12":
        return package(tmp_path, top="lib", suffix=".ko", packed=bytes)
    built_in = ("virtio", "virtio_ring", "virtio_pci", "virtio_pci_modern_dev")
    return package(tmp_path, top="usr/lib", suffix=".ko.xz", packed=lzma.compress, built_in=built_in)


def test_each_comes_once_and_after_what_it_depends_on(kernel):
    found = modules_of(kernel, ("virtio_pci", "virtio_net"))
    order = list(found)
    assert order[-1] == "virtio_net"
    for name, content in found.items():
        depends = content.partition(b"depends=")[2].partition(b"\0")[0].decode()
        assert content == image(name, depends)
        assert all(order.index(needed) < order.index(name) for needed in depends.split(",") if needed)


def test_what_is_built_in_is_not_loaded(tmp_path):
    kernel = package(tmp_path, top="lib", suffix=".ko", packed=bytes, built_in=("virtio", "virtio_ring", "failover"))
    assert list(modules_of(kernel, ("virtio_net",))) == ["net_failover", "virtio_net"]


def test_what_a_kernel_lacks_is_named(kernel):
    with pytest.raises(LabError, match=r"kernel 6.1.0-cloud-amd64 has no module e1000"):
        modules_of(kernel, ("e1000",))


def test_a_package_without_modules_is_refused_in_words(tmp_path):
    with pytest.raises(LabError, match=r"holds no modules"):
        modules_of(tmp_path, ("virtio_net",))
