"""What refuses COLO and what it is warned of, fact by fact."""

import re
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.qmp.devices import ACCEPTED
from pycolo.qmp.judge import ACTIVE_MIGRATIONS, compare, judge
from pycolo.qmp.probe import Disk, Facts
from pycolo.qmp.topology import DevicePlace
from support.qemufacts import GOOD, NIC, TAP

DISK = Disk(device="hd0", driver="qcow2", file="/var/lib/vm/hd0", is_writable=True)

WAITING = replace(GOOD, status="inmigrate", is_running=False)


def netdev(**changed):
    return {"netdevs": {"hn0": replace(TAP, **changed)}}


TCG = {"accelerator": "tcg", "vcpus": 1, "has_preload": True, "ram_bytes": 98312 << 10}

FATAL = [
    *(("tcg", {**TCG, "has_preload": False, "version": version}) for version in ((7, 2, 22), (10, 0, 13), (11, 1, 3))),
    ("untested-machine", {"machine": "microvm-machine"}),
    ("untested-device", {"devices": ("e1000", "intel-hda")}),
    ("vhost", netdev(refusal="Vhost is not supported")),
    ("other-proxy", {"proxies": ("comp0 (colo-compare)",)}),
    ("writable-firmware", {"disks": (replace(DISK, device="pflash1"),)}),
    *(("untested-version", {"version": version}) for version in ((9, 2, 0), (10, 1, 3), (11, 0, 0))),
    *(("broken-version", {"version": version}) for version in ((10, 0, 6), (10, 1, 2))),
]
"""Known to be fatal, or feared to be: `--force` overrides these, and nothing else."""

REFUSED = [
    ("no-x-colo", {"capabilities": {"return-path": False}}),
    ("no-migrate", {"commands": GOOD.commands - {"migrate"}}),
    ("no-x-colo-lost-heartbeat", {"commands": GOOD.commands - {"x-colo-lost-heartbeat"}}),
    ("no-machine", {"machine": "none-machine"}),
    ("no-netdev", {"netdevs": {"other": TAP}}),
    ("no-netdev", {"netdevs": {}}),
    ("no-tap", netdev(type="user")),
    ("no-nic", {"nics": (replace(NIC, netdev=None),)}),
    *(("migration-active", {"migration": status}) for status in sorted(ACTIVE_MIGRATIONS)),
    ("migration-blocked", {"migration_blockers": ("Migration is disabled when using\n feature 'invtsc'",)}),
    ("writable-disk", {"disks": (DISK,)}),
    ("outside-state", {"devices": ("virtio-rng-pci", "tpm-tis")}),
    *FATAL,
]

WARNED = [
    ("no-yank", {"commands": GOOD.commands - {"yank"}}),
    ("several-nics", {"nics": (NIC, replace(NIC, name="net1", netdev="hn1"))}),
    ("tcg", {**TCG, "has_preload": None}),
    ("tcg-smp", {**TCG, "vcpus": 5}),
    ("tcg-ram", {**TCG, "ram_bytes": 96 << 20}),
    ("replicated-disk", {"disks": (replace(DISK, driver="quorum"),)}),
    ("replicated-disk", {"disks": (replace(DISK, driver="replication"),)}),
]

NOT_FOUND = [
    ("tcg", TCG),
    ("tcg", {"has_preload": False}),
    ("tcg-ram", TCG),
    ("tcg-ram", {"ram_bytes": 96 << 20}),
    *(("tcg-ram", {**TCG, "ram_bytes": 96 << 20, "version": version}) for version in ((10, 0, 13), (11, 1, 3))),
    ("tcg-smp", {"vcpus": 8}),
    ("tcg-smp", {**TCG, "vcpus": 4}),
    ("writable-disk", {"disks": (replace(DISK, is_writable=False),)}),
    *(("untested-version", {"version": version}) for version in ((10, 0, 13), (11, 1, 3))),
    ("migration-active", {"migration": "completed"}),
    ("migration-active", {"migration": "failed"}),
    ("untested-machine", {"machine": "pc-q35-10.0-machine"}),
    ("untested-device", {"devices": tuple(sorted(ACCEPTED))}),
]


def codes(findings, severity=None):
    return [finding.code for finding in findings if severity in (None, finding.severity)]


@pytest.mark.parametrize("role", ["primary", "secondary"])
def test_what_is_as_it_should_be_gives_no_finding(role):
    assert judge(GOOD if role == "primary" else WAITING, role, ["hn0"]) == []


@pytest.mark.parametrize("role", ["primary", "secondary"])
@pytest.mark.parametrize(("code", "changed"), REFUSED)
def test_refused(role, code, changed):
    found = judge(replace(GOOD if role == "primary" else WAITING, **changed), role, ["hn0"])
    assert codes(found, "refuse") == [code]


@pytest.mark.parametrize("role", ["primary", "secondary"])
@pytest.mark.parametrize(("code", "changed"), WARNED)
def test_warned(role, code, changed):
    found = judge(replace(GOOD if role == "primary" else WAITING, **changed), role, ["hn0"])
    assert code in codes(found, "warn")
    assert codes(found, "refuse") == []


@pytest.mark.parametrize(("code", "changed"), NOT_FOUND)
def test_not_found(code, changed):
    assert code not in codes(judge(replace(GOOD, **changed), "primary", ["hn0"]))


@pytest.mark.parametrize(("code", "changed"), REFUSED)
def test_only_what_is_fatal_may_be_forced(code, changed):
    (found,) = [one for one in judge(replace(GOOD, **changed), "primary", ["hn0"]) if one.severity == "refuse"]
    assert found.may_be_forced == ((code, changed) in FATAL)


def test_on_a_version_where_it_was_not_seen_it_is_a_warning():
    changed = {**TCG, "has_preload": False, "version": (11, 0, 0)}
    assert codes(judge(replace(GOOD, **changed), "primary", ["hn0"]), "warn") == ["tcg"]


def test_memory_that_is_lost_and_cannot_be_cured_is_refused():
    facts = replace(GOOD, **TCG, machine="microvm-machine")
    facts = replace(facts, ram_bytes=96 << 20)
    found = judge(facts, "primary", ["hn0"])
    assert codes(found, "refuse") == ["untested-machine", "tcg-ram"]
    assert all(finding.may_be_forced for finding in found if finding.severity == "refuse")


@pytest.mark.parametrize("machine", [GOOD.machine, "microvm-machine"])
@given(mebibytes=st.integers(1, 1 << 20))
def test_the_way_out_of_a_size_that_loses_memory_leads_out(machine, mebibytes):
    """libvirt gives its QEMUs whole MiB, whatever <memory> says: 262152 KiB are 257 MiB (seen with 9.0)."""
    facts = replace(GOOD, **TCG, machine=machine)
    facts = replace(facts, ram_bytes=mebibytes << 20)
    (found,) = [one for one in judge(facts, "primary", ["hn0"]) if one.code == "tcg-ram"]
    (kibibytes,) = re.findall(r"-m ([0-9]+)K", found.text)
    better = replace(facts, ram_bytes=int(kibibytes) << 10)
    assert "tcg-ram" not in codes(judge(better, "primary", ["hn0"]))
    (found,) = [one for one in judge(facts, "primary", ["hn0"], is_domain=True) if one.code == "tcg-ram"]
    assert "-m " not in found.text
    assert "QEMU 10.0" in found.text
    for way in ({"version": (10, 0, 0)}, {"accelerator": "kvm"}):
        assert "tcg-ram" not in codes(judge(replace(facts, **way), "primary", ["hn0"], is_domain=True))


def test_a_primary_runs_and_a_secondary_waits():
    assert codes(judge(replace(GOOD, status="paused", is_running=False), "primary", ["hn0"])) == ["not-running"]
    assert codes(judge(WAITING, "primary", ["hn0"])) == ["not-running"]
    assert codes(judge(GOOD, "secondary", ["hn0"])) == ["not-incoming"]


def test_a_missing_yank_socket_is_warned_of():
    assert codes(judge(GOOD, "primary", ["hn0"], has_yank_socket=False), "warn") == ["no-yank-socket"]


@given(changes=st.lists(st.sampled_from(REFUSED + WARNED), max_size=6), role=st.sampled_from(["primary", "secondary"]))
def test_refusals_come_first_and_each_text_is_one_line_that_says_what_to_do(changes, role):
    facts = GOOD
    for _, changed in changes:
        facts = replace(facts, **changed)
    found = judge(facts, role, ["hn0"], has_yank_socket=False)
    severities = [finding.severity for finding in found]
    assert severities == sorted(severities, key=["refuse", "warn"].index)
    for finding in found:
        assert "\n" not in finding.text
        assert 20 < len(finding.text) < 400


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ("-m 98312K", {**TCG, "ram_bytes": 96 << 20}),
        ("colo qemu-args --preload", {**TCG, "has_preload": False}),
        ("vhost=off", netdev(refusal="Vhost is not supported")),
        ("known: a, b", {"netdevs": {"b": TAP, "a": TAP}}),
        ("of type user", netdev(type="user")),
        ("/var/lib/vm/hd0", {"disks": (DISK,)}),
        ("frames of net1", {"nics": (NIC, replace(NIC, name="net1", netdev="hn1"))}),
    ],
)
def test_a_text_names_what_is_meant(words, changed):
    assert any(words in finding.text for finding in judge(replace(GOOD, **changed), "primary", ["hn0"]))


# ── two QEMUs ───────────────────────────────────────────────────────────────────────────────────────────────

READ_ONLY = replace(DISK, is_writable=False, size_bytes=1 << 30)
PLACE = DevicePlace(device="virtio-net-pci", place="pci.0 03.0")
BLOCKS = {"pc.ram": 1 << 30, "0000:00:03.0/virtio-net-pci.rom": 1 << 18}
WHOLE = replace(GOOD, disks=(READ_ONLY,), places=(PLACE,), ram_blocks=BLOCKS)
WHOLE_WAITING = replace(WHOLE, status="inmigrate", is_running=False)

DIFFERENT = [
    ("different-version", {"version": (7, 2, 21)}),
    ("different-machine", {"machine": "pc-i440fx-7.1-machine"}),
    ("different-ram", {"ram_bytes": 2 << 30}),
    ("different-vcpus", {"vcpus": 2}),
    ("different-cpu", {"cpu_type": "qemu64-x86_64-cpu"}),
    ("different-accelerator", {"accelerator": "tcg"}),
    ("different-nics", {"nics": (replace(NIC, mac="52:54:00:12:34:57"),)}),
    ("different-nics", {"nics": ()}),
    ("different-devices", {"devices": ("virtio-net-pci", "virtio-rng-pci")}),
    ("different-devices", {"devices": ()}),
    ("different-vnet-header", netdev(vnet_header=False)),
    ("different-places", {"places": (replace(PLACE, place="pci.0 04.0"),)}),
    ("different-memory-blocks", {"ram_blocks": BLOCKS | {"0000:00:03.0/virtio-net-pci.rom": 1 << 19}}),
    ("different-memory-blocks", {"ram_blocks": {"pc.ram": 1 << 30}}),
    ("different-disks", {"disks": (replace(READ_ONLY, size_bytes=2 << 30),)}),
]


def test_what_a_node_of_an_older_version_does_not_tell_is_not_compared():
    for older in ({"places": None}, {"ram_blocks": None}, {"disks": (replace(READ_ONLY, size_bytes=0),)}):
        assert compare(WHOLE, replace(WHOLE_WAITING, **older)) == []


def test_of_things_that_differ_the_first_are_named():
    blocks = {f"rom{number}": 1 << 16 for number in range(5)}
    (found,) = compare(WHOLE, replace(WHOLE_WAITING, ram_blocks=BLOCKS | blocks))
    assert "rom0 (none in the primary, 64 KiB in the secondary)" in found.text
    assert found.text.count("rom") == 4, "three blocks, and romfile="
    assert "and 2 more" in found.text


def test_two_of_a_kind_are_a_pair():
    assert compare(GOOD, WAITING) == []
    # What is each host's own: names, sockets, the state of the migration.
    own = replace(WAITING, vm="other", nics=(replace(NIC, netdev="x"),), netdevs={"x": TAP}, migration="setup")
    assert compare(GOOD, own) == []


@pytest.mark.parametrize(("code", "changed"), DIFFERENT)
def test_a_difference_is_refused_both_ways(code, changed):
    ours, theirs = WHOLE, WHOLE_WAITING
    for found in (compare(ours, replace(theirs, **changed)), compare(replace(ours, **changed), theirs)):
        assert codes(found, "refuse") == [code]
        assert "\n" not in found[0].text


def test_devices_that_an_older_node_has_not_told_are_not_compared():
    assert compare(GOOD, replace(WAITING, devices=None)) == []
    assert judge(replace(GOOD, devices=None), "primary", ["hn0"]) == []


def test_another_build_of_the_same_version_is_warned_of():
    assert codes(compare(GOOD, replace(GOOD, package="own")), "warn") == ["different-package"]
    assert codes(compare(GOOD, replace(GOOD, package="own", version=(8, 0, 0)))) == ["different-version"]


def test_a_card_that_uses_no_vnet_headers_may_have_either_tap():
    nics = {"nics": (replace(NIC, model="e1000"),)}
    one, other = replace(GOOD, **nics), replace(GOOD, **nics, **netdev(vnet_header=False))
    assert compare(one, other) == []


def test_an_unknown_vnet_header_is_no_difference():
    assert compare(GOOD, replace(GOOD, **netdev(vnet_header=None))) == []


def test_the_table_knows_every_fact():
    """A new fact comes with a rule, or with a word here on why it has none."""
    without_rule = {"vm", "object_types"}  # its name; what an older node expects
    judged = {name for _, changed in REFUSED + WARNED + DIFFERENT for name in changed}
    judged |= {"has_vhost"}  # below
    assert judged | {"status", "is_running", "package"} | without_rule == {field.name for field in fields(Facts)}


# ── its network ─────────────────────────────────────────────────────────────────────────────────────────────

SECOND = replace(NIC, name="net1", netdev="hn1")


@pytest.mark.parametrize(
    ("found", "nics", "code"),
    [
        (TAP, (NIC,), None),
        (replace(TAP, refusal="multiqueue is not supported"), (NIC,), None),
        (replace(TAP, refusal="QEMU's next version refuses for another reason"), (NIC,), None),
        (replace(TAP, refusal="Vhost is not supported"), (NIC,), "vhost"),
        (replace(TAP, queues=2), (NIC,), "multiqueue"),
        (replace(TAP, type="user"), (NIC,), "no-tap"),
        (TAP, (), "no-nic"),
        (TAP, (NIC, SECOND), "several-nics"),
    ],
)
def test_a_card_needs_a_tap_that_the_node_can_count(found, nics, code):
    facts = replace(GOOD, netdevs={"hn0": found}, nics=nics)
    codes = [one.code for one in judge(facts, "primary", ["hn0"])]
    assert [one for one in codes if one in NETWORK] == ([code] if code else [])


def test_several_queues_are_a_warning_and_with_vhost_the_rest_is_one_as_well():
    """QEMU refuses filters on several queues before it looks for vhost: its process is asked then."""
    queues = {"netdevs": {"hn0": replace(TAP, queues=2, refusal="multiqueue is not supported")}}
    for has_vhost, expected in ((None, {"multiqueue"}), (False, {"multiqueue"}), (True, {"multiqueue", "vhost"})):
        found = judge(replace(GOOD, **queues, has_vhost=has_vhost), "primary", ["hn0"])
        assert {one.code for one in found} == expected
        assert all(one.may_be_forced for one in found if one.severity == "refuse")


def test_every_card_is_judged_and_no_other_nic_is_left():
    facts = replace(GOOD, netdevs={"hn0": TAP, "hn1": TAP}, nics=(NIC, SECOND))
    codes = [one.code for one in judge(facts, "primary", ["hn0", "hn1"])]
    assert not set(codes) & NETWORK
    codes = [one.code for one in judge(facts, "primary", ["hn0", "hn9"])]
    assert {"no-netdev", "several-nics"} <= set(codes)


NETWORK = {"vhost", "multiqueue", "no-tap", "no-nic", "several-nics", "no-netdev"}
