"""This node's end of the migration's stream, whichever way QEMU gets the other end."""

import asyncio
import os
import socket

import pytest

from pycolo.errors import PeerError
from pycolo.vm.outgoing import OutgoingStream
from support.descriptors import descriptors


class StandInMachine:
    """A QEMU that says hello in its stream."""

    def __init__(self, *, passes, fails=False):
        self.passes_descriptors = passes
        self.fails = fails

    async def migrate(self, uri, descriptor=None):
        if self.fails:
            raise PeerError("no")
        if descriptor is None:
            with socket.socket(socket.AF_UNIX) as end:
                end.connect(uri.removeprefix("unix:"))
                end.sendall(b"hello")
        else:
            assert uri == "fd:colo"
            os.write(descriptor, b"hello")


@pytest.mark.parametrize("passes", [False, True])
def test_what_qemu_writes_arrives_and_nothing_is_left(tmp_path, passes):
    async def scene():
        machine, stream = StandInMachine(passes=passes), OutgoingStream(tmp_path / "relay.sock")
        stream.open(machine)
        assert (tmp_path / "relay.sock").exists() is not passes
        end = await stream.begin(machine)
        stream.close()
        stream.close()
        with end:
            end.settimeout(5)
            assert end.recv(5) == b"hello"
            assert end.recv(5) == b"", "QEMU alone has the other end"
        assert list(tmp_path.iterdir()) == []

    asyncio.run(scene())


@pytest.mark.parametrize("passes", [False, True])
def test_a_migration_that_does_not_begin_leaves_nothing(tmp_path, passes):
    before = descriptors()

    async def scene():
        machine, stream = StandInMachine(passes=passes, fails=True), OutgoingStream(tmp_path / "relay.sock")
        stream.open(machine)
        with pytest.raises(PeerError):
            await stream.begin(machine)
        stream.close()

    asyncio.run(scene())
    assert descriptors() <= before
