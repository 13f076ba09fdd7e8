"""What a guest is made of, and what speaks against it."""

import asyncio
import os
import socket
from dataclasses import replace

import msgspec
import pytest

from pycolo.check.guest import GUEST, asked_items, command_line, finding_items, guest_items, need_of
from pycolo.check.hosts import Need
from pycolo.check.table import Level
from pycolo.config import parse
from pycolo.config.sections import GuestOptions
from pycolo.qmp.judge import Finding
from pycolo.qmp.probe import Disk
from pycolo.qmp.topology import DevicePlace
from support.configs import changed, checkable
from support.fakeqmp import FakeQmp
from support.qemufacts import GOOD


def configuration(tmp_path, changes=None):
    return parse(changed(checkable(tmp_path, changes)).encode(), "vm1.toml")


def shown(tmp_path, facts, *, pid=0, is_pairs=False):
    return list(guest_items(configuration(tmp_path), facts, role="primary", pid=pid, is_pairs=is_pairs))


def test_it_is_shown_part_by_part(tmp_path):
    disk = Disk(device="hd0", driver="qcow2", file="/var/lib/vm/hd0", is_writable=False)
    items = shown(tmp_path, replace(GOOD, disks=(disk,)))
    text = "\n".join(item.text for item in items)
    for part in ("7.2.22", "pc-i440fx-7.2", "KVM", "1.0 GiB", "4 vCPUs", "52:54:00:12:34:56", "tap0", "hd0: qcow2"):
        assert part in text
    assert {item.where for item in items} == {GUEST}


def test_devices_are_shown_with_their_places_and_disks_with_their_sizes(tmp_path):
    places = (DevicePlace(device="virtio-net-pci", place="pci.0 03.0", id="e0"),)
    disk = Disk(device="hd0", driver="qcow2", file="/hd0", is_writable=False, size_bytes=5 << 30)
    two = {"hn0": replace(GOOD.netdevs["hn0"], queues=2)}
    texts = [item.text for item in shown(tmp_path, replace(GOOD, places=places, disks=(disk,), netdevs=two))]
    assert "virtio-net-pci at pci.0 03.0, e0" in texts
    assert "hd0: 5.0 GiB qcow2, read-only, /hd0" in texts
    deep = replace(disk, file='json:{"driver": "replication", "file": {"filename": "/a"}, "top": {"filename": "/b"}}')
    texts = [item.text for item in shown(tmp_path, replace(GOOD, disks=(deep, replace(disk, file="json:{}"))))]
    assert "hd0: 5.0 GiB qcow2, read-only, /a" in texts
    assert "hd0: 5.0 GiB qcow2, read-only, json:{}" in texts
    texts = [item.text for item in shown(tmp_path, replace(GOOD, places=places, disks=(disk,), netdevs=two))]
    assert any("2 queues" in text for text in texts)


@pytest.mark.parametrize(
    ("profile", "is_confined"),
    [("libvirt-0815 (enforce)", True), ("system_u:system_r:svirt_t:s0:c1", True), ("unconfined", False), ("", False)],
)
def test_a_qemu_that_is_confined_is_a_warning(tmp_path, monkeypatch, profile, is_confined):
    place = tmp_path / "proc" / "7" / "attr"
    place.mkdir(parents=True)
    (place / "current").write_bytes(profile.encode() + b"\n")
    monkeypatch.setattr("pycolo.check.guest._PROC", tmp_path / "proc")
    assert ("confined" in [item.name for item in shown(tmp_path, GOOD, pid=7)]) == is_confined


@pytest.mark.parametrize(("version", "words"), [((7, 2, 22), "return-path off"), ((11, 1, 3), "return-path on")])
def test_the_capabilities_of_the_version_are_shown(tmp_path, version, words):
    (item,) = [item for item in shown(tmp_path, replace(GOOD, version=version)) if item.name == "guest migration"]
    assert words in item.text


@pytest.mark.parametrize(("disks", "level"), [("", Level.REFUSED), ("[disks]\n", None)])
def test_a_writable_disk_is_refused_unless_it_is_copied(tmp_path, disks, level):
    disk = Disk(device="hd0", driver="qcow2", file="/hd0", is_writable=True, size_bytes=5 << 30)
    given = parse((changed(checkable(tmp_path)) + disks).encode(), "vm1.toml")
    items = guest_items(given, replace(GOOD, disks=(disk,)), role="primary", pid=0, is_pairs=False)
    assert [item.level for item in items if item.name == "writable-disk"] == ([level] if level else [])


@pytest.mark.parametrize("is_domain", [False, True])
def test_what_is_advised_can_be_done_where_libvirt_starts_the_guest(tmp_path, is_domain):
    given = configuration(tmp_path)
    if is_domain:
        given = msgspec.structs.replace(given, guest=GuestOptions(domain="vm1"))
    facts = replace(GOOD, accelerator="tcg", has_preload=True, ram_bytes=96 << 20)
    items = guest_items(given, facts, role="primary", pid=0, is_pairs=False)
    (item,) = [item for item in items if item.name == "tcg-ram"]
    assert ("-m 98312K" in item.text, "libvirt" in item.text) == (not is_domain, is_domain)


def test_a_card_without_a_netdev_is_shown(tmp_path):
    card = replace(GOOD.nics[0], netdev=None)
    assert any("not connected" in item.text for item in shown(tmp_path, replace(GOOD, nics=(card,))))


def test_findings_keep_their_weight_and_say_whether_they_can_be_overridden():
    found = list(
        finding_items(
            [
                Finding("refuse", "a", "no"),
                Finding("refuse", "b", "no", may_be_forced=True),
                Finding("warn", "c", "hm"),
            ]
        )
    )
    assert [item.level for item in found] == [Level.REFUSED, Level.REFUSED, Level.WARNING]
    assert ["--force" in item.text for item in found] == [False, True, False]


def test_colo_by_another_program_is_refused_and_by_this_node_is_not(tmp_path):
    facts = replace(GOOD, migration="colo")
    names = [item.name for item in shown(tmp_path, facts)]
    assert "another manager" in names
    names = [item.name for item in shown(tmp_path, facts, is_pairs=True)]
    assert "another manager" not in names


def test_a_guest_that_is_prepared_for_colo_by_another_program_is_a_warning(tmp_path):
    facts = replace(GOOD, capabilities={"x-colo": True})
    for is_pairs in (False, True):
        found = [item.level for item in shown(tmp_path, facts, is_pairs=is_pairs) if item.name == "another manager"]
        assert found == ([] if is_pairs else [Level.WARNING])


def test_the_process_tells_what_qemu_does_not(tmp_path, monkeypatch):
    place = tmp_path / "proc" / "7"
    place.mkdir(parents=True)
    words = ["qemu", "-snapshot", "-chardev", "socket,id=a,path=/x,server=on,wait=on"]
    (place / "cmdline").write_bytes(b"\0".join(word.encode() for word in words) + b"\0")
    assert command_line(7, tmp_path / "proc") == words
    monkeypatch.setattr("pycolo.check.guest._PROC", tmp_path / "proc")
    monkeypatch.setattr("pycolo.check.guest.command_line", lambda pid: words)
    levels = {item.name: item.level for item in shown(tmp_path, GOOD, pid=7)}
    assert (levels["-snapshot"], levels["wait=on"]) == (Level.REFUSED, Level.WARNING)


def test_a_process_that_is_gone_tells_nothing(tmp_path):
    assert command_line(0) == []
    assert command_line(1 << 30, tmp_path) == []
    assert command_line(os.getpid())


def test_what_the_other_host_must_offer():
    assert need_of(GOOD) == Need(1 << 30, uses_kvm=True)
    assert need_of(replace(GOOD, accelerator="tcg")) == Need(1 << 30, uses_kvm=False)


# ── without a node ──────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_qemu_there_is_none(tmp_path):
    (item,) = asyncio.run(asked_items(configuration(tmp_path), "primary"))
    assert (item.level, item.where) == (Level.OK, GUEST)
    assert "no QEMU runs" in item.text


def test_a_monitor_that_is_in_use_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr("pycolo.check.guest.CONNECT_S", 0.2)
    config = configuration(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(config.qemu.qmp))
        silent.listen(8)
        (item,) = asyncio.run(asked_items(config, "primary"))
    assert item.level is Level.WARNING
    assert "in use" in item.text


def test_a_qemu_that_answers_nonsense_is_refused(tmp_path):
    config = configuration(tmp_path)

    async def run():
        async with FakeQmp(config.qemu.qmp) as fake:
            fake.answers["query-version"] = {"qemu": "x"}
            return await asked_items(config, "primary")

    (item,) = asyncio.run(run())
    assert item.level is Level.REFUSED
