"""The end of a secondary's exports."""

import asyncio

import pytest

from pycolo.errors import PeerError, QmpError
from pycolo.vm.diskexports import end_exports
from support.diskhosts import DiskMachine

NODES = ["colo-hidden-0", "colo-parent-0"]


def ended(machine: DiskMachine) -> list[str]:
    asyncio.run(end_exports(machine, NODES))  # type: ignore[arg-type]
    return machine.commands


def test_what_is_flushed_cannot_be_written_to_any_more() -> None:
    assert ended(DiskMachine()) == ["nbd-server-stop", *["human-monitor-command"] * len(NODES)]


def test_a_server_that_was_stopped_before_is_no_error() -> None:
    machine = DiskMachine()
    machine.answers["nbd-server-stop"] = QmpError("vm1", "nbd-server-stop", "GenericError", "NBD server not running")
    assert len(ended(machine)) == 3


def test_one_that_may_still_take_writes_keeps_the_guest_from_serving() -> None:
    machine = DiskMachine()
    machine.answers["nbd-server-stop"] = PeerError("no answer")
    with pytest.raises(PeerError):
        ended(machine)
    assert machine.commands == ["nbd-server-stop"]
