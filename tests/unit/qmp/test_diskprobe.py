"""Asking a QEMU for its disks, and for the jobs that copy them."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from pycolo.errors import PeerError
from pycolo.qmp.diskprobe import probe_disks, why_not_in_step
from pycolo.qmp.guestdisks import guest_disks
from support.diskfacts import RECORDED


class Recorded:
    """Answers as a QEMU of that version has."""

    def __init__(self, version: str) -> None:
        self.blocks, self.devices = RECORDED[version]

    async def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        given = arguments or {}
        match command:
            case "query-block":
                return self.blocks
            case "qom-list":
                return [{"name": name} for name in (*self.devices[given["path"]], "realized")]
            case "qom-get":
                return self.devices[given["path"]][given["property"]]
        raise AssertionError(command)


@pytest.mark.parametrize("version", RECORDED)
def test_only_what_a_device_has_is_asked_of_it(version: str) -> None:
    assert asyncio.run(probe_disks(Recorded(version))) == guest_disks(*RECORDED[version])


def test_an_answer_that_cannot_be_parsed_is_an_error() -> None:
    qemu = Recorded("7.2")
    qemu.blocks = [{"qdev": "vda", "inserted": {"drv": "raw"}}]
    with pytest.raises(PeerError, match="query-block: the answer cannot be parsed"):
        asyncio.run(probe_disks(qemu))


GOOD = {"device": "mir-0", "ready": True, "io-status": "ok"}


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        ([GOOD], None),
        ([{"device": "backup"}, GOOD], None),
        ([{**GOOD, "actively-synced": True}], None),
        ([], "disk a: its copy on the other host has ended with an error"),
        ([{**GOOD, "device": "mir-1"}], "disk a: its copy on the other host has ended with an error"),
        ([{**GOOD, "io-status": "nospace"}], "disk a: its copy on the other host has an error (nospace)"),
        ([{**GOOD, "ready": False}], "disk a: its copy on the other host is behind"),
        ([{**GOOD, "actively-synced": False}], "disk a: its copy on the other host is behind"),
    ],
)
def test_a_checkpoint_needs_every_mirror(jobs: list[dict[str, Any]], expected: str | None) -> None:
    assert why_not_in_step(jobs, {"mir-0": "disk a"}) == expected


def test_a_guest_without_disks_needs_none() -> None:
    assert why_not_in_step([], {}) is None
