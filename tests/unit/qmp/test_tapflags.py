"""The flags of a TAP device, as the kernel shows them."""

import fcntl
import os
import struct

import pytest

from pycolo.qmp.tapflags import tap_has_vnet

IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
TUNSETIFF = 0x400454CA


@pytest.mark.parametrize(("text", "has"), [("0x5002\n", True), ("0x1002\n", False), ("", None), ("none", None)])
def test_what_the_kernel_writes(tmp_path, text, has):
    (tmp_path / "vnet0").write_text(text)
    assert tap_has_vnet("vnet0", f"{tmp_path}/{{}}") is has


def test_what_is_not_there_is_not_known(tmp_path):
    assert tap_has_vnet("vnet0", f"{tmp_path}/{{}}") is None


@pytest.mark.tun
@pytest.mark.parametrize("has", [True, False])
def test_a_device_of_this_host(has):
    fd = os.open("/dev/net/tun", os.O_RDWR)
    try:
        flags = IFF_TAP | IFF_NO_PI | (IFF_VNET_HDR if has else 0)
        name = struct.unpack("16s", fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"colo-f%d", flags))[:16])[0]
        assert tap_has_vnet(name.rstrip(b"\0").decode()) is has
    finally:
        os.close(fd)
