"""TAP devices and packet sockets, in a network namespace of the test's own."""

import os
import socket
import threading

import pytest

from pycolo.core import BATCH_BUFFER_BYTES
from pycolo.errors import ConnectError
from pycolo.transport.ports import open_device
from pycolo.transport.portspec import parse_port
from support.nodes import wait_for
from support.segments import batch, unbatch

MARKER = b"\x88\xb5" + b"pycolo" * 10
"""An ethertype for local experiments (IEEE 802), so that the kernel's own frames are told from ours."""
FRAME = b"\xff" * 6 + b"\x02\0\0\0\0\x01" + MARKER


def opened(stack, text):
    port = open_device(parse_port(text, "--lan"), "--lan")
    stack.callback(port.close)
    return port


def read_one(port, has_vnet):
    """The next of our own frames."""
    buf = bytearray(BATCH_BUFFER_BYTES)

    def found():
        end = port.read_batch(buf, 0)
        return [octets for octets in unbatch(bytes(buf[:end]), has_vnet=has_vnet) if octets[12:14] == MARKER[:2]]

    (octets,) = wait_for(found, "the frame")
    return octets


def write_one(port, has_vnet):
    octets = batch([bytes(port.vnet_len) + FRAME], port.vnet_len if has_vnet else None)
    assert port.write_batch(octets, 0, len(octets)) == len(octets)


def write_until_read(source, target):
    """What reaches `target`; the kernel lets a veth pair's frames through some time after both ends are up."""

    def found():
        write_one(source, False)
        buf = bytearray(BATCH_BUFFER_BYTES)
        return [octets for octets in unbatch(bytes(buf[: target.read_batch(buf, 0)])) if octets[12:14] == MARKER[:2]]

    return wait_for(found, "the frame")[0]


@pytest.mark.namespaces
@pytest.mark.tun
@pytest.mark.parametrize("vnet", ["on", "off"])
def test_a_tap_device_is_made_in_its_namespace_and_gives_and_takes_frames(stack, namespace, vnet):
    has_vnet = vnet == "on"
    tap = opened(stack, f"tap:guest0,netns={namespace.path},vnet_hdr={vnet}")
    namespace.run("ip", "link", "set", "guest0", "up")
    guest = opened(stack, f"packet:guest0,netns={namespace.path},vnet_hdr={vnet}")
    assert "guest0" not in dict(socket.if_nameindex()).values(), "it is in the other namespace"
    write_one(tap, has_vnet)
    assert read_one(guest, has_vnet) == FRAME
    write_one(guest, has_vnet)
    assert read_one(tap, has_vnet) == FRAME
    assert tap.counters()["frames_out"] == 1
    assert tap.service(0) is None
    assert not tap.take_reset()


@pytest.mark.namespaces
def test_a_packet_socket_does_not_hear_itself_and_survives_its_interface_being_down(stack, namespace):
    namespace.run("ip", "link", "add", "name", "one", "type", "veth", "peer", "name", "two")
    for name in ("one", "two"):
        namespace.run("ip", "link", "set", name, "up")
    one, two = (opened(stack, f"packet:{name},netns={namespace.path},vnet_hdr=off") for name in ("one", "two"))
    assert write_until_read(one, two) == FRAME
    own = bytearray(BATCH_BUFFER_BYTES)
    assert FRAME not in unbatch(bytes(own[: one.read_batch(own, 0)]))
    namespace.run("ip", "link", "set", "one", "down")
    for _ in range(3):
        one.read_batch(own, 0)
    before = one.counters()["dropped"]
    octets = batch([FRAME] * 100)
    assert one.write_batch(octets, 0, len(octets)) == len(octets)
    assert one.counters()["dropped"] == before + 100
    namespace.run("ip", "link", "set", "one", "up")
    assert write_until_read(two, one) == FRAME


@pytest.mark.namespaces
def test_a_deleted_interface_is_an_error_that_names_the_port(stack, namespace):
    namespace.run("ip", "link", "add", "name", "one", "type", "veth", "peer", "name", "two")
    namespace.run("ip", "link", "set", "one", "up")
    port = opened(stack, f"packet:one,netns={namespace.path}")
    namespace.run("ip", "link", "del", "one")
    buf = bytearray(BATCH_BUFFER_BYTES)

    def is_gone():
        try:
            port.read_batch(buf, 0)
        except ConnectError as error:
            return str(error).startswith("--lan one: the device is gone")
        return False

    wait_for(is_gone, "the error")


@pytest.mark.namespaces
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("packet:nothing", "No such device"),
        ("packet:nothing,netns=/proc/self/cmdline", "cannot enter the network namespace"),
        ("tap:x,netns=/nowhere", "No such file or directory"),
        ("tap:a/b", "Invalid argument"),
    ],
)
def test_a_device_that_cannot_be_opened_is_one_line(namespace, text, said):
    """In a thread of its own: it must be back in its own namespace afterwards."""
    lines = []

    def attempt():
        before = os.stat("/proc/thread-self/ns/net").st_ino
        spec = text if "netns" in text else f"{text},netns={namespace.path}"
        with pytest.raises(ConnectError) as caught:
            open_device(parse_port(spec, "--lan"), "--lan")
        lines.append(str(caught.value))
        assert os.stat("/proc/thread-self/ns/net").st_ino == before

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert len(lines) == 1
    assert lines[0].startswith("--lan ")
    assert said in lines[0]
    assert "\n" not in lines[0]
