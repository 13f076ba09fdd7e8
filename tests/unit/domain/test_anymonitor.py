"""A domain's monitor with libvirtd and without: the node asks on, and libvirtd gets QEMU's socket back."""

import asyncio
import os

import pytest

from pycolo.domain import anymonitor
from pycolo.domain.anymonitor import DomainMonitor, socket_of
from pycolo.domain.connection import Connection
from pycolo.domain.host import DomainHost
from pycolo.errors import ConnectError
from support.fakeqmp import FakeQmp
from support.standinlibvirt import StandInDaemon


class World:
    """One domain, its libvirtd, and the socket that QEMU serves whoever has it."""

    def __init__(self, tmp_path, monkeypatch):
        self.daemon = StandInDaemon("vm1")
        self.path = tmp_path / "monitor.sock"
        self.events, self.closed = [], []
        self.pid = os.getpid()
        monkeypatch.setattr(DomainHost, "pid", lambda host: self.pid)
        monkeypatch.setattr(anymonitor, "socket_of", lambda pid: self.path)
        monkeypatch.setattr(anymonitor, "LOOK_S", 0.01)

    def monitor(self):
        host = DomainHost("vm1", Connection("u", self.daemon.library))
        return DomainMonitor(host, "pair", lambda event: self.events.append(event.name), self.closed.append)


def play(world, scene):
    async def limited():
        async with asyncio.timeout(20):
            async with FakeQmp(world.path) as qemu:
                qemu.answers["query-status"] = {"running": True}
                await scene(qemu)

    asyncio.run(limited())


async def until(condition):
    while not condition():
        await asyncio.sleep(0.002)


def test_libvirtd_may_go_and_come_back_while_commands_are_asked(tmp_path, monkeypatch):
    world = World(tmp_path, monkeypatch)
    world.daemon.said["query-status"] = {"running": True}

    async def scene(qemu):
        one = world.monitor()
        await one.connect(5)
        assert await one.execute("query-status") == {"running": True}
        assert not qemu.received
        world.daemon.die()
        assert await one.execute("query-status") == {"running": True}
        assert "query-status" in [asked["execute"] for asked in qemu.received], "QEMU itself was asked"
        assert one.is_connected
        world.daemon.come_back()
        await until(lambda: world.daemon.listeners)
        before = len(qemu.received)
        assert await one.execute("query-status") == {"running": True}
        assert len(qemu.received) == before, "libvirtd has the monitor again"
        assert not world.closed
        world.daemon.tell("STOP")
        await until(lambda: world.events == ["STOP"])
        await one.close()

    play(world, scene)


def test_a_node_that_starts_without_libvirtd_finds_the_guest_all_the_same(tmp_path, monkeypatch):
    world = World(tmp_path, monkeypatch)
    world.daemon.die()

    async def scene(qemu):
        one = world.monitor()
        await one.connect(5)
        assert await one.execute("query-status") == {"running": True}
        await one.close()
        assert not one.is_connected
        world.pid = 0
        with pytest.raises(ConnectError):
            await world.monitor().connect(5)

    monkeypatch.setattr(anymonitor, "socket_of", lambda pid: world.path if pid else None)
    play(world, scene)


def test_the_end_of_qemu_is_told_once_also_when_libvirtd_is_gone(tmp_path, monkeypatch):
    world = World(tmp_path, monkeypatch)

    async def scene(qemu):
        one = world.monitor()
        await one.connect(5)
        world.pid = 0
        world.daemon.die()
        await until(lambda: world.closed)
        assert not one.is_connected
        with pytest.raises(ConnectError):
            await one.execute("query-status")
        await asyncio.sleep(0.03)
        assert len(world.closed) == 1
        await one.close()

    play(world, scene)


def test_where_a_qemu_of_libvirt_has_its_monitor(tmp_path):
    words = [b"qemu", b"-object", b'{"qom-type":"secret","id":"masterKey0","file":"/l/q/domain-1-vm1/master-key.aes"}']
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cmdline").write_bytes(b"\0".join(words))
    assert str(socket_of(7, tmp_path)) == "/l/q/domain-1-vm1/monitor.sock"
    (tmp_path / "8").mkdir()
    (tmp_path / "8" / "cmdline").write_bytes(b"qemu\0-S\0")
    assert socket_of(8, tmp_path) is None
    assert socket_of(9, tmp_path) is None
