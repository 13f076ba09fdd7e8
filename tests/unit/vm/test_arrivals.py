"""A connection that is waited for has one owner, whatever happens in whatever order."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pycolo.errors import PeerError
from pycolo.vm.arrivals import Accepting, accepted, arrived
from pycolo.vm.relay import listen_for_stream
from support.descriptors import descriptors

DEADLINE_S = 20
TURNS = range(8)


class Made:
    """Counts how often it was closed."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("comes", TURNS)
@pytest.mark.parametrize("ends", TURNS)
@pytest.mark.parametrize("asks", [0, 3])
@pytest.mark.parametrize("is_refused", [False, True])
def test_what_comes_is_the_callers_or_closed(comes: int, ends: int, asks: int, *, is_refused: bool) -> None:
    """It comes, the question is answered, and the task is cancelled, each after some turns of the event loop."""
    made = Made()

    async def asking() -> None:
        await turns(asks)
        if is_refused:
            raise PeerError("no")

    async def waiting(arrival: "asyncio.Future[Made]") -> Made:
        return await arrived(arrival, asking(), DEADLINE_S)

    async def scene() -> object:
        arrival: asyncio.Future[Made] = asyncio.get_running_loop().create_future()
        task = asyncio.get_running_loop().create_task(waiting(arrival))
        await turns(1)
        for turn in TURNS:
            if turn == comes:
                if arrival.done():
                    made.close()
                else:
                    arrival.set_result(made)
            if turn == ends:
                task.cancel()
            await turns(1)
        return (await asyncio.gather(task, return_exceptions=True))[0]

    owner = asyncio.run(scene())
    assert made.closed == (owner is not made)


def test_what_does_not_come_is_not_waited_for_longer() -> None:
    async def scene() -> None:
        arrival: asyncio.Future[Made] = asyncio.get_running_loop().create_future()
        with pytest.raises(TimeoutError):
            await arrived(arrival, turns(1), 0.01)
        assert arrival.cancelled()

    asyncio.run(scene())


# ── sockets ─────────────────────────────────────────────────────────────────────────────────────────────────


async def listened(place: Path, work: Callable[[socket.socket], Awaitable[None]]) -> None:
    listening = listen_for_stream(place / "s")
    try:
        async with asyncio.timeout(DEADLINE_S):
            await work(listening)
    finally:
        listening.close()


async def connected(place: Path, after: int) -> socket.socket:
    await turns(after)
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(place / "s"))
    return sock


@pytest.mark.parametrize("comes", TURNS)
@pytest.mark.parametrize("ends", [*TURNS, None])
def test_a_connection_that_is_accepted_is_the_callers_or_closed(tmp_path: Path, comes: int, ends: int | None) -> None:
    async def waiting(listening: socket.socket) -> socket.socket:
        return await accepted(listening, turns(2), DEADLINE_S)

    async def work(listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(waiting(listening))
        await turns(1)
        coming = loop.create_task(connected(tmp_path, comes))
        if ends is not None:
            await turns(ends)
            task.cancel()
        (end,) = await asyncio.gather(task, return_exceptions=True)
        with await coming:
            if ends is None:
                assert isinstance(end, socket.socket)
            if isinstance(end, socket.socket):
                end.close()

    before = descriptors()
    asyncio.run(listened(tmp_path, work))
    assert descriptors() <= before


def test_a_descriptor_that_is_used_again_is_not_that_of_the_one_who_accepted(tmp_path: Path) -> None:
    """After `close` the listening socket may be closed, and its number be another's whom the loop watches."""

    async def work(listening: socket.socket) -> None:
        Accepting(listening, lambda made: made.close()).close()
        number = listening.detach()
        os.close(number)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert number in (ours.fileno(), theirs.fileno())
            ours.setblocking(False)
            theirs.sendall(b"x")
            assert await asyncio.get_running_loop().sock_recv(ours, 1) == b"x"

    asyncio.run(listened(tmp_path, work))


def test_one_connection_is_taken(tmp_path: Path) -> None:
    async def work(listening: socket.socket) -> None:
        made: list[socket.socket] = []
        Accepting(listening, made.append)
        with await connected(tmp_path, 0), await connected(tmp_path, 0):
            await turns(5)
            (one,) = made
            one.close()

    asyncio.run(listened(tmp_path, work))
