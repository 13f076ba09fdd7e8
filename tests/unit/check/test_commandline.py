"""What a check reads in a QEMU's command line."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.check.commandline import (
    File,
    Option,
    files,
    has_netdev,
    options,
    read_only_media,
    shape,
    size_of_image,
    start_traps,
    tap_of,
    traps,
)

GUEST = [
    *("qemu-system-x86_64", "-M", "q35", "-m", "1G", "-smp", "2", "-nodefaults", "--enable-kvm"),
    *("-netdev", "tap,id=hn0,ifname=tap7,script=no", "-device", "virtio-net-pci,netdev=hn0,mac=52:54:00:00:00:01"),
    *("-drive", "if=none,id=d0,file=/var/lib/vm/d0.img,readonly=on", "-kernel", "/boot/vmlinuz", "-S"),
]


def test_options_are_told_from_their_values():
    found = options(GUEST)
    assert found[:2] == [Option("-machine", "q35"), Option("-m", "1G")]
    assert Option("-nodefaults", "") in found
    assert Option("-enable-kvm", "") in found
    assert found[-1] == Option("-S", "")


def test_a_card_finds_its_tap():
    assert tap_of(GUEST, "hn0") == "tap7"
    assert tap_of(GUEST, "hn1") is None
    assert tap_of(["qemu", "-netdev", "tap,id=hn0,fd=7"], "hn0") is None
    assert tap_of(["qemu", "-netdev", "user,id=hn0,ifname=x"], "hn0") is None
    assert tap_of(["qemu", "-netdev", '{"type":"tap","id":"hn0","ifname":"tap7"}'], "hn0") == "tap7"
    assert has_netdev(GUEST, "hn0")
    assert not has_netdev(GUEST, "hn1")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["-chardev", "socket,id=a,path=/x,server=on,wait=on"], "wait=on"),
        (["-chardev", "socket,id=a,path=/x,server=on"], "wait=on"),
        (["-serial", "unix:/x,server"], "wait=on"),
        (["-qmp", "tcp:127.0.0.1:1,server"], "wait=on"),
        (["-snapshot"], "-snapshot"),
        (["-drive", "file=/x,snapshot=on"], "-snapshot"),
        (["-daemonize"], "-daemonize"),
        (["-incoming", "defer"], "-incoming"),
        (["-netdev", "tap,id=n,vhost=on"], "vhost"),
        (["-netdev", "tap,id=n,vhost=off"], None),
        (["-chardev", "socket,id=a,path=/x,server=on,wait=off"], None),
        (["-qmp", "unix:/x,server,nowait"], None),
        (["-chardev", "socket,id=a,path=/x"], None),
        (["-netdev", "stream,id=n,server=on,addr.type=unix"], None),
        (["-vnc", ":0,websocket=on"], None),
    ],
)
def test_a_trap_is_found_and_nothing_else(words, name):
    assert [one.name for one in start_traps(["qemu", *words])] == ([name] if name else [])


def test_what_only_matters_at_a_start_is_no_trap_of_a_guest_that_runs():
    assert not list(traps(["qemu", "-daemonize", "-incoming", "defer"]))


@pytest.mark.parametrize(
    "other",
    [
        ["-m", "1048576K"],
        ["-m", "size=1G"],
        ["-m", "1024"],
        ["-device", "virtio-net-pci,mac=52:54:00:00:00:01,netdev=net7,id=e0"],
    ],
)
def test_what_is_alike_has_one_shape(other):
    changed = list(GUEST)
    at = changed.index(other[0])
    changed[at : at + 2] = other
    assert shape(changed) == shape(GUEST)


@pytest.mark.parametrize(
    "other", [["-m", "2G"], ["-smp", "4"], ["-device", "virtio-net-pci,netdev=hn0,mac=52:54:00:00:00:02"]]
)
def test_what_is_not_has_another(other):
    changed = list(GUEST)
    at = changed.index(other[0])
    changed[at : at + 2] = other
    assert shape(changed) != shape(GUEST)


def test_files_are_those_of_this_host():
    assert list(files(GUEST)) == [
        File("-drive", Path("/var/lib/vm/d0.img"), is_medium=True),
        File("-kernel", Path("/boot/vmlinuz")),
    ]
    assert not list(files(["qemu", "-drive", "file=nbd:x", "-cdrom", "relative.iso"]))


@pytest.mark.parametrize(
    ("words", "is_writable"),
    [
        (["-drive", "file=/a"], True),
        (["-drive", "file=/a,readonly=on"], False),
        (["-drive", "file=/a,readonly"], False),
        (["-drive", "file=/a,media=cdrom"], False),
        (["-cdrom", "/a"], False),
        (["-hda", "/a"], True),
        (["-blockdev", "driver=file,node-name=f,filename=/a"], True),
        (["-blockdev", "driver=file,node-name=f,filename=/a,read-only=on"], False),
        (["-blockdev", '{"driver":"file","filename":"/a","read-only":true}'], False),
        (["-blockdev", '{"driver":"file","filename":"/a","read-only":false}'], True),
    ],
)
def test_a_medium_is_writable_or_each_hosts_own_copy(words, is_writable):
    (file,) = files(["qemu", *words])
    assert (file.path, file.is_medium, file.is_writable) == (Path("/a"), True, is_writable)
    assert read_only_media(["qemu", *words]) == ([] if is_writable else [Path("/a")])


def test_an_image_is_as_large_as_the_guest_sees_it(tmp_path):
    raw, qcow2 = tmp_path / "raw", tmp_path / "qcow2"
    raw.write_bytes(bytes(5 << 10))
    qcow2.write_bytes(b"QFI\xfb" + bytes(20) + struct.pack(">Q", 7 << 30) + bytes(100))
    assert (size_of_image(raw), size_of_image(qcow2)) == (5 << 10, 7 << 30)
    assert size_of_image(tmp_path / "none") == 0


@given(
    st.lists(st.text(max_size=12) | st.sampled_from(["-m", "-netdev", "-drive", "{}", "[]", '{"id":1}', "-blockdev"]))
)
def test_any_words_are_read(words):
    list(start_traps(words))
    shape(words)
    read_only_media(words)
    list(files(words))
    tap_of(words, "hn0")
