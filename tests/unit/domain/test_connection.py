"""Calls of libvirt: each has a thread and a time-out, and libvirtd may be gone at any moment."""

import asyncio
import threading

import pytest

from pycolo.domain.connection import UNANSWERED_MAX, Connection, DomainTimeout
from pycolo.errors import ConnectError, PeerError
from support.standinlibvirt import StandInDaemon

URI = "qemu:///system"


def play(scene):
    async def limited():
        async with asyncio.timeout(20):
            await scene()

    asyncio.run(limited())


def test_one_connection_serves_all_calls_and_another_one_after_libvirtd_was_restarted():
    daemon = StandInDaemon("vm1")

    async def scene():
        one, told = Connection(URI, daemon.library), []
        end = one.on_lost(told.append)
        for _ in range(3):
            assert await one.call("ask", lambda connection, library: connection.lookupByName("vm1").isActive())
        assert len(daemon.connections) == 1
        daemon.die()
        await asyncio.sleep(0)
        assert told == [f"libvirt ({URI}) has ended, or was restarted"]
        with pytest.raises(ConnectError, match=r"^ask: libvirt \(qemu:///system\) cannot be reached: [^\n]*$"):
            await one.call("ask", lambda connection, library: None)
        daemon.come_back()
        assert await one.call("ask", lambda connection, library: 5) == 5
        end()
        end()
        daemon.die()
        await asyncio.sleep(0)
        assert len(told) == 1

    play(scene)


def test_a_refusal_is_told_on_one_line_and_ends_nothing():
    daemon = StandInDaemon("vm1")
    daemon.refused.add("create")

    async def scene():
        one = Connection(URI, daemon.library)
        with pytest.raises(PeerError, match=r"^domain vm1: start: internal error: create is refused$"):
            await one.call("domain vm1: start", lambda connection, library: connection.createXML("<name>x</name>"))
        assert await one.call("ask", lambda connection, library: 1) == 1

    play(scene)


def test_a_call_that_hangs_keeps_no_other_from_its_answer_and_they_are_bounded():
    daemon = StandInDaemon("vm1")
    hanging = threading.Event()

    async def scene():
        one = Connection(URI, daemon.library)
        await one.call("open", lambda connection, library: None)
        for _ in range(UNANSWERED_MAX - 1):
            with pytest.raises(DomainTimeout, match="has not answered within"):
                await one.call("hang", lambda connection, library: hanging.wait(20), 0.001)
        assert await one.call("ask", lambda connection, library: 1) == 1
        with pytest.raises(DomainTimeout):
            await one.call("hang", lambda connection, library: hanging.wait(20), 0.001)
        with pytest.raises(DomainTimeout, match=f"libvirt owes {UNANSWERED_MAX} answers"):
            await one.call("ask", lambda connection, library: 1)
        hanging.set()
        while one._unanswered:
            await asyncio.sleep(0.002)
        assert await one.call("ask", lambda connection, library: 2) == 2

    try:
        play(scene)
    finally:
        hanging.set()


def test_an_answer_after_the_node_has_ended_harms_nobody():
    daemon = StandInDaemon("vm1")
    late, before = threading.Event(), threading.active_count()

    async def scene():
        with pytest.raises(DomainTimeout):
            await Connection(URI, daemon.library).call("hang", lambda connection, library: late.wait(20), 0.01)

    play(scene)
    late.set()
    for thread in threading.enumerate():
        if thread.name == "libvirt call":
            thread.join(20)
    assert threading.active_count() <= before
