"""What one host lacks, and what two hosts do not have in common."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.check.hostfacts import HostFacts, LinkCard
from pycolo.check.hosts import (
    CLOCK_S_MAX,
    LATENCY_S_MAX,
    LINK_MBIT_S_MIN,
    RESERVE_BYTES,
    Distance,
    Need,
    host_items,
    kvm_item,
    pair_items,
    room_item,
)
from pycolo.check.table import Level, worst

GIB = 1 << 30
HOST = HostFacts(
    hostname="alpha",
    kernel="6.1.0",
    cpu_model="EPYC",
    cpu_flags=("aes", "avx2", "sse2"),
    cpus=4,
    memory_bytes=16 * GIB,
    available_bytes=8 * GIB,
    is_clock_steered=True,
    qemu="7.2.22 (Debian)",
    has_kvm=True,
    link=LinkCard(name="eth1", mbit_s=10_000, mtu_bytes=9000),
)
NEAR = Distance(0.0002, 0.0)


def changed(**fields):
    return HostFacts(**{**{name: getattr(HOST, name) for name in HOST.__struct_fields__}, **fields})


def levels(items):
    return {item.name: item.level for item in items}


def test_a_good_host_has_nothing_to_say_against_it():
    assert worst(list(host_items(HOST))) is Level.OK
    assert worst(list(pair_items(HOST, HOST, NEAR, None))) is Level.OK


def test_facts_that_are_unknown_are_no_warning():
    assert worst(list(host_items(HostFacts()))) is Level.OK


def test_a_clock_that_runs_free_is_a_warning():
    assert levels(host_items(changed(is_clock_steered=False)))["clock"] is Level.WARNING


@given(st.integers(1, 400_000))
def test_a_slow_card_is_a_warning(mbit_s):
    level = levels(host_items(changed(link=LinkCard(name="eth1", mbit_s=mbit_s, mtu_bytes=1500))))["link card"]
    assert (level is Level.WARNING) == (mbit_s < LINK_MBIT_S_MIN)


@given(st.integers(0, 64 * GIB), st.integers(1, 64 * GIB))
def test_room_for_a_secondary(available, ram):
    item = room_item(changed(available_bytes=available), Need(ram, uses_kvm=False))
    if available >= 2 * ram + RESERVE_BYTES:
        assert item.level is Level.OK
    elif available >= ram + RESERVE_BYTES:
        assert item.level is Level.WARNING
    else:
        assert item.level is Level.REFUSED


@pytest.mark.parametrize(("has_kvm", "level"), [(None, Level.REFUSED), (False, Level.REFUSED), (True, Level.OK)])
def test_a_guest_with_kvm_needs_it_there_too(has_kvm, level):
    item = kvm_item(changed(has_kvm=has_kvm), Need(GIB, uses_kvm=True))
    assert item is not None
    assert item.level is level
    assert kvm_item(changed(has_kvm=has_kvm), Need(GIB, uses_kvm=False)) is None


@pytest.mark.parametrize(
    ("fields", "name", "level"),
    [
        ({"qemu": "10.0.13 (Debian)"}, "QEMU", Level.REFUSED),
        ({"libvirt": "9.0.0"}, "libvirt", Level.WARNING),
        ({"kernel": "6.12"}, "kernel", Level.OK),
        ({"cpu_flags": ("aes", "sse2")}, "processors", Level.WARNING),
    ],
)
def test_what_differs(fields, name, level):
    for own, other in ((HOST, changed(**fields)), (changed(**fields), HOST)):
        assert levels(pair_items(own, other, NEAR, Need(GIB, uses_kvm=True)))[name] is level


def test_software_emulation_does_not_care_for_the_processor():
    items = pair_items(HOST, changed(cpu_flags=()), NEAR, Need(GIB, uses_kvm=False))
    assert levels(items)["processors"] is Level.OK


def test_an_unknown_program_is_not_compared():
    assert "QEMU" not in levels(pair_items(HOST, changed(qemu=""), NEAR, None))


@given(st.floats(0, 10), st.floats(-100, 100))
def test_clocks_and_latency(latency_s, offset_s):
    found = levels(pair_items(HOST, HOST, Distance(latency_s, offset_s), None))
    assert (found["link latency"] is Level.WARNING) == (latency_s > LATENCY_S_MAX)
    assert (found["clocks"] is Level.WARNING) == (abs(offset_s) - latency_s > CLOCK_S_MAX)


def test_the_other_clocks_direction_is_said():
    for offset_s, word in ((5.0, "ahead"), (-5.0, "behind")):
        items = {item.name: item.text for item in pair_items(HOST, HOST, Distance(0.001, offset_s), None)}
        assert word in items["clocks"]


# ── what one host runs and the other is to start ────────────────────────────────────────────────────────────

SHAPE = ("-device virtio-net-pci", "-m 1048576K")


def together(**starts):
    runs = changed(guest_shape=SHAPE, guest_media_bytes=(GIB,))
    other = changed(shape=SHAPE, media_bytes=(GIB,))
    other = HostFacts(**{name: getattr(other, name) for name in other.__struct_fields__} | starts)
    return [{item.name: item for item in pair_items(*hosts, NEAR, None)} for hosts in ((runs, other), (other, runs))]


def test_the_command_that_starts_the_copy_is_compared_with_the_guest():
    for items in together():
        assert (items["command lines"].level, items["read-only disks"].level) == (Level.OK, Level.OK)
    here, there = together(shape=("-device e1000", "-m 1048576K"))
    assert here["command lines"].level is Level.WARNING
    assert "the guest here has -device virtio-net-pci, qemu.command there -device e1000" in here["command lines"].text
    assert "the guest there has -device virtio-net-pci" in there["command lines"].text


def test_another_disk_is_refused_and_one_that_cannot_be_read_is_not_compared():
    for items in together(media_bytes=(2 * GIB,)):
        assert items["read-only disks"].level is Level.REFUSED
    for items in together(media_bytes=(0,)):
        assert "read-only disks" not in items
    for items in together(shape=()):
        assert not {"read-only disks", "command lines"} & items.keys(), "the secondary's QEMU is started by hand"


def test_a_disk_that_is_almost_full_is_a_warning():
    assert levels(host_items(changed(state_free_bytes=GIB)))["space"] is Level.OK
    assert levels(host_items(changed(state_free_bytes=1 << 20)))["space"] is Level.WARNING


def test_a_gateway_that_differs_between_the_hosts_is_a_warning():
    here = changed(gateways={"default": "52:54:00:00:00:01, 192.168.122.1/24", "only": "52:54:00:00:00:09, 10.0.0.1/8"})
    there = changed(gateways={"default": "52:54:00:00:00:02, 192.168.122.1/24"})
    (found,) = [item for item in pair_items(here, there, NEAR, None) if item.level is not Level.OK]
    assert (found.level, found.name) == (Level.WARNING, "network default")
    assert "52:54:00:00:00:01, 192.168.122.1/24 here, 52:54:00:00:00:02, 192.168.122.1/24 there" in found.text
    assert "virsh net-edit default" in found.text
    assert worst(list(pair_items(here, here, NEAR, None))) is Level.OK
