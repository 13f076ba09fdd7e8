"""A domain's monitor through libvirt: it answers and tells as a QMP socket does."""

import asyncio
import json

import pytest

from pycolo.domain.connection import Connection
from pycolo.domain.host import DomainHost
from pycolo.domain.monitor import LentMonitor
from pycolo.errors import ConnectError, PeerError, QmpError, QmpTimeout, StateError
from support.standinlibvirt import StandInDaemon


def play(scene, daemon=None):
    daemon = daemon or StandInDaemon("vm1")
    events, closed = [], []

    async def limited():
        async with asyncio.timeout(20):
            one = LentMonitor(DomainHost("vm1", Connection("u", daemon.library)), "pair", events.append, closed.append)
            await scene(one, daemon, events, closed)

    asyncio.run(limited())


def test_commands_are_sent_as_they_are_and_answers_come_back():
    async def scene(one, daemon, events, closed):
        assert not one.is_connected
        await one.connect(5)
        assert (one.is_connected, one.version) == (True, "7.2.22")
        daemon.said["query-status"] = {"running": True}
        assert await one.execute("query-status") == {"running": True}
        await one.execute("migrate", {"uri": "fd:colo"})
        assert json.loads(daemon.asked[-1]) == {"execute": "migrate", "arguments": {"uri": "fd:colo"}}
        await one.pass_descriptor(7, "colo")
        assert (daemon.passed, json.loads(daemon.asked[-1])["execute"]) == ([7], "getfd")
        await one.close()
        assert not closed, "the node itself has closed it"
        with pytest.raises(ConnectError):
            await one.execute("query-status")

    play(scene)


def test_what_qemu_refuses_is_the_same_error_as_on_its_socket():
    async def scene(one, daemon, events, closed):
        await one.connect(5)
        daemon.said["stop"] = json.dumps(
            {"error": {"class": "GenericError", "desc": "Duplicate ID"}, "id": "libvirt-9"}
        )
        with pytest.raises(QmpError) as caught:
            await one.execute("stop")
        assert caught.value.description == "Duplicate ID"
        daemon.said["stop"] = "no JSON"
        with pytest.raises(PeerError, match="cannot be parsed"):
            await one.execute("stop")
        with pytest.raises(StateError, match="without out-of-band"):
            await one.execute("yank", oob=True)

    play(scene)


def test_events_come_in_their_order_with_qemus_own_time():
    async def scene(one, daemon, events, closed):
        await one.connect(5)
        daemon.tell("STOP")
        daemon.tell("MIGRATION", {"status": "colo"})
        await asyncio.sleep(0)
        assert [(event.name, dict(event.data), event.at_us) for event in events] == [
            ("STOP", {}, 1_700_000_000_250_000),
            ("MIGRATION", {"status": "colo"}, 1_700_000_000_250_000),
        ]
        await one.close()
        daemon.tell("RESUME")
        await asyncio.sleep(0)
        assert len(events) == 2

    play(scene)


def test_the_end_of_libvirtd_is_told_once_and_a_hanging_qemu_is_a_time_out():
    async def scene(one, daemon, events, closed):
        await one.connect(5)
        daemon.frozen.clear()
        with pytest.raises(QmpTimeout):
            await one.execute("query-status", timeout_s=0.02)
        daemon.die()
        daemon.frozen.set()
        await asyncio.sleep(0)
        assert closed == ["pair: domain vm1: libvirt (u) has ended, or was restarted"]
        assert not one.is_connected

    play(scene)


def test_the_next_qemu_of_a_domain_is_heard_while_the_last_ones_monitor_is_still_open():
    """libvirt takes one listener per domain: "event callback already tracked"."""
    heard = []

    async def limited():
        daemon = StandInDaemon("vm1")
        host = DomainHost("vm1", Connection("u", daemon.library))
        for number in (1, 2):
            one = LentMonitor(host, "pair", lambda event, number=number: heard.append(number), heard.append)
            await one.connect(5)
        daemon.tell("STOP")
        await asyncio.sleep(0)
        await one.close()
        daemon.tell("RESUME")
        await asyncio.sleep(0)

    asyncio.run(limited())
    assert heard == [1, 2, 1]


def test_a_domain_that_does_not_run_is_named_with_what_starts_it():
    daemon = StandInDaemon("vm1")
    daemon.domains["vm1"].is_on = False

    async def scene(one, daemon, events, closed):
        with pytest.raises(ConnectError, match="domain vm1 is shut off: virsh start vm1"):
            await one.connect(5)
        del daemon.domains["vm1"]
        with pytest.raises(PeerError, match="no domain with matching name"):
            await one.connect(5)

    play(scene, daemon)
