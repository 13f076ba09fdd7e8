"""Which QEMU is cured of what, and when: the table, row by row."""

from dataclasses import replace

import pytest

from pycolo.qmp.cures import CURES, Action, Moment, cures_for, loses_whole_pages
from pycolo.qmp.judge import judge
from support.guestworld import FACTS

PC, Q35 = "pc-i440fx-7.2-machine", "pc-q35-7.2-machine"
KIB = 1 << 10

FLUSH_AT_READY = ("primary", Moment.READY_HELD, Action.FLUSH)
STANDS_STILL = [
    ("primary", Moment.BEFORE_MIGRATE, Action.STOP),
    FLUSH_AT_READY,
    ("primary", Moment.LOADED_HELD, Action.FLUSH),
]
RCBA = [("secondary", Moment.REPLY_HELD, Action.CLOSE_RCBA), ("secondary", Moment.ABORTED, Action.REOPEN_RCBA)]
VIRTIO = [("secondary", Moment.REPLY_HELD, Action.ENABLE_VIRTIO), ("secondary", Moment.ABORTED, Action.RENEW_VIRTIO)]
"""Of every pc and q35: a QEMU that does not need it is not known."""

TABLE = [
    # accelerator, version, machine, KiB of RAM -> the cures
    ("kvm", (7, 2, 22), PC, 262144, []),
    ("kvm", (11, 1, 3), Q35, 262144, []),
    ("kvm", (7, 2, 22), Q35, 262144, RCBA),
    ("kvm", (10, 0, 13), Q35, 262144, RCBA),
    ("tcg", (7, 2, 22), PC, 262152, [FLUSH_AT_READY]),
    ("tcg", (7, 2, 22), PC, 262144, STANDS_STILL),
    ("tcg", (7, 2, 22), Q35, 262144, [*STANDS_STILL, *RCBA]),
    ("tcg", (10, 0, 13), PC, 262144, [FLUSH_AT_READY]),
    ("tcg", (10, 0, 13), Q35, 262152, [FLUSH_AT_READY, *RCBA]),
    ("tcg", (11, 1, 3), Q35, 262144, [FLUSH_AT_READY]),
    ("tcg", (10, 0, 13), "microvm-machine", 262144, []),
]


@pytest.mark.parametrize(("accelerator", "version", "machine", "kib", "expected"), TABLE)
def test_the_cures_of_a_qemu(accelerator, version, machine, kib, expected):
    facts = replace(FACTS, accelerator=accelerator, version=version, machine=machine, ram_bytes=kib * KIB)
    found = [
        (cure.role, cure.moment, cure.action) for role in ("primary", "secondary") for cure in cures_for(facts, role)
    ]
    assert found == expected + (VIRTIO if machine in (PC, Q35) else [])


@pytest.mark.parametrize(("accelerator", "version", "machine", "kib", "expected"), TABLE)
def test_what_loses_memory_is_cured_or_refused(accelerator, version, machine, kib, expected):
    facts = replace(
        FACTS, accelerator=accelerator, version=version, machine=machine, ram_bytes=kib * KIB, has_preload=True
    )
    is_refused = any(finding.severity == "refuse" for finding in judge(facts, "primary", ["hn0"]))
    assert is_refused or not loses_whole_pages(facts) or any(cure[2] is Action.STOP for cure in expected)
    assert is_refused or accelerator == "kvm" or FLUSH_AT_READY in expected


def test_a_cure_of_the_secondary_that_is_undone_is_undone_for_the_same_qemus():
    mine = [cure for cure in CURES if cure.role == "secondary"]
    for done, undone in ((Action.CLOSE_RCBA, Action.REOPEN_RCBA), (Action.ENABLE_VIRTIO, Action.RENEW_VIRTIO)):
        assert len({cure.is_for for cure in mine if cure.action in (done, undone)}) == 1
