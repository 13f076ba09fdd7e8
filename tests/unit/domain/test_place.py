"""libvirt is told where a tap is, in the order in which no frame passes and no restart of libvirtd moves it back."""

import asyncio
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from pycolo.config import GuestOptions
from pycolo.domain import place
from pycolo.domain.connection import Connection
from pycolo.domain.host import DomainHost
from pycolo.domain.place import DomainWire
from pycolo.errors import ConnectError
from support.standinlibvirt import StandInDaemon


class StandInWire:
    """A card's wire: where the tap is, as the kernel has it."""

    node_tap = "colo-vm1"
    is_left = False
    home_bridge = None

    def __init__(self, world):
        self.world = world

    def prepare(self, tap):
        self.home_bridge = "br0"

    def attach(self):
        self.world.bridge = "cop-vm1"

    hold_apart = attach

    def detach(self):
        self.world.bridge = "br0"

    def settle(self, tap):
        self.world.bridge = "br0"


class World:
    def __init__(self, monkeypatch):
        self.bridge = "br0"
        self.daemon = StandInDaemon("vm1")
        self.did = []
        monkeypatch.setattr(place, "Netlink", self.netlink)
        monkeypatch.setattr(place, "find_link", lambda netlink, name: SimpleNamespace(master=1 if self.bridge else 0))
        monkeypatch.setattr(place, "name_of", lambda netlink, index: self.bridge)
        monkeypatch.setattr(place, "carry_out", self.carry_out)
        monkeypatch.setattr(place, "RETRY_S", 0.01)
        update = self.daemon.domains["vm1"].updateDeviceFlags

        def updated(xml, flags=0):
            assert self.bridge == "", "the kernel refuses a port of another bridge"
            update(xml, flags)
            self.bridge = xml.split('bridge="')[1].split('"')[0]
            self.did.append(f"libvirt: {self.bridge}")
            return 0

        self.daemon.domains["vm1"].updateDeviceFlags = updated

    @contextmanager
    def netlink(self):
        yield None

    def carry_out(self, netlink, step):
        self.did.append(step.name)
        self.bridge = "" if "leaves" in step.name else step.name.split()[-1]

    @property
    def believed(self):
        return self.daemon.domains["vm1"].xml.split("<source bridge='")[1].split("'")[0]

    def wire(self):
        host = DomainHost("vm1", Connection("u", self.daemon.library))
        return DomainWire(StandInWire(self), host, "hostnet0", "cop-vm1")


def play(world, scene):
    async def limited():
        async with asyncio.timeout(20):
            await scene(world.wire())

    asyncio.run(limited())


async def until(condition):
    while not condition():
        await asyncio.sleep(0.002)


def test_libvirt_follows_the_tap_out_and_home_again(monkeypatch):
    world = World(monkeypatch)

    async def scene(wire):
        await asyncio.to_thread(wire.prepare, "vnet0")
        await asyncio.to_thread(wire.attach)
        assert (world.believed, world.bridge) == ("cop-vm1", "cop-vm1")
        world.did.clear()
        await asyncio.to_thread(wire.hold_apart)
        assert world.did == [], "it is known already"
        await asyncio.to_thread(wire.detach)
        assert (world.believed, world.bridge) == ("br0", "br0")
        assert world.did == ["vnet0 leaves cop-vm1", "libvirt: br0"], "before it is put home, while it is silent"

    play(world, scene)


def test_without_libvirtd_the_tap_moves_all_the_same_and_libvirt_is_told_later(monkeypatch):
    world = World(monkeypatch)
    world.daemon.die()

    async def scene(wire):
        await asyncio.to_thread(wire.prepare, "vnet0")
        await asyncio.to_thread(wire.attach)
        assert (world.believed, world.bridge) == ("br0", "cop-vm1")
        world.daemon.come_back()
        await until(lambda: world.believed == "cop-vm1")
        await until(lambda: world.bridge == "cop-vm1")

    play(world, scene)


def test_what_libvirt_refuses_leaves_the_tap_where_it_was(monkeypatch):
    world = World(monkeypatch)
    world.daemon.refused.add("update")

    async def scene(wire):
        await asyncio.to_thread(wire.prepare, "vnet0")
        await asyncio.to_thread(wire.attach)
        assert (world.believed, world.bridge) == ("br0", "cop-vm1")
        assert world.did[:2] == ["vnet0 leaves cop-vm1", "vnet0 joins cop-vm1"]
        world.daemon.refused.clear()
        await until(lambda: world.believed == "cop-vm1")

    play(world, scene)


def test_a_node_that_ends_while_libvirt_hangs_leaves_the_tap_where_it_was(monkeypatch, logged):
    world, may_answer = World(monkeypatch), threading.Event()

    def hangs(xml, flags=0):
        assert may_answer.wait(20)
        return -1

    world.daemon.domains["vm1"].updateDeviceFlags = hangs

    async def scene(wire):
        await asyncio.to_thread(wire.prepare, "vnet0")
        asyncio.get_running_loop().run_in_executor(None, wire.attach)
        await until(lambda: world.bridge == "")

    try:
        play(world, scene)
    finally:
        may_answer.set()
    assert (world.bridge, world.did[-1]) == ("cop-vm1", "vnet0 joins cop-vm1")
    assert logged() == []


def test_libvirt_is_told_without_a_node_too(monkeypatch):
    world = World(monkeypatch)
    monkeypatch.setattr(place, "Connection", lambda uri: Connection(uri, world.daemon.library))
    world.bridge = "cop-vm1"
    world.daemon.domains["vm1"].xml = world.daemon.domains["vm1"].xml.replace("br0", "cop-vm1")
    guest = GuestOptions(domain="vm1")
    place.tell_home(guest, "hostnet0", "vnet0", "br0")
    assert (world.believed, world.bridge, world.daemon.connections) == ("br0", "br0", [])
    place.tell_home(guest, "hostnet0", "vnet0", "br0")
    assert world.did == ["vnet0 leaves cop-vm1", "libvirt: br0"], "once"
    world.daemon.die()
    with pytest.raises(ConnectError, match="cannot be reached"):
        place.tell_home(guest, "hostnet0", "vnet0", "cop-vm1")


@pytest.mark.parametrize("change", ["another tap", "no domain"])
def test_a_tap_of_the_same_name_that_is_another_guests_by_now_is_left_alone(monkeypatch, change):
    world = World(monkeypatch)

    async def scene(wire):
        await asyncio.to_thread(wire.prepare, "vnet7" if change == "another tap" else "vnet0")
        if change == "no domain":
            world.daemon.domains["vm1"].is_on = False
        await asyncio.to_thread(wire.attach)
        await asyncio.to_thread(wire.detach)
        assert world.did == []

    play(world, scene)
