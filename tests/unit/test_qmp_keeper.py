"""A keeper comes back after every loss, says each reason once, and ends when it is told to."""

import asyncio
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from pycolo.qmp.client import Qmp
from pycolo.qmp.keeper import QmpKeeper
from support.fakeqmp import FakeQmp


@asynccontextmanager
async def kept(path, told, **options):
    qmp = Qmp(path, "vm1", lambda event: None, lambda reason: None)
    times = {"attempt_s": 0.05, "pause_min_s": 0.01, "pause_max_s": 0.04, **options}
    keeper = QmpKeeper(qmp, lambda is_up, text: told.append((is_up, text)), **times)
    task = asyncio.get_running_loop().create_task(keeper.keep_connected())
    try:
        yield qmp
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not qmp.is_connected
        assert [found for found in asyncio.all_tasks() if found.get_name() == "vm1: QMP"] == []


async def until(condition):
    while not condition():
        await asyncio.sleep(0.002)


def run(scenario):
    async def bounded():
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(bounded())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "qmp.sock"


def test_each_reason_is_told_once_until_there_is_a_connection(path):
    async def scenario():
        told = []
        async with kept(path, told) as qmp:
            await until(lambda: told)
            await asyncio.sleep(0.4)  # several attempts, one reason
            assert len(told) == 1
            assert told[0][0] is False
            assert "there is no such socket" in told[0][1]
            path.touch()  # another reason
            await until(lambda: len(told) == 2)
            assert told[1][0] is False
            path.unlink()
            async with FakeQmp(path):
                await until(lambda: qmp.is_connected)
            await until(lambda: len(told) >= 5)  # connected, lost, and the first reason anew
            assert [is_up for is_up, _ in told[:5]] == [False, False, True, False, False]
            assert "7.2.22" in told[2][1]
            assert "QEMU closed the connection" in told[3][1]
            assert all("\n" not in text and text.startswith("vm1: ") for _, text in told)

    run(scenario)


def test_a_loss_is_always_told_and_followed_by_another_attempt(path):
    async def scenario():
        told = []
        async with FakeQmp(path) as fake, kept(path, told, attempt_s=10) as qmp:
            for n in range(1, 6):
                await until(lambda n=n: fake.connections == n and qmp.is_connected)
                fake.hang_up()
            await until(lambda: len(told) >= 11)
            assert [is_up for is_up, _ in told[:11]] == [True, False] * 5 + [True]

    run(scenario)


def test_attempts_become_rarer(path):
    async def scenario():
        times = []
        qmp = Qmp(path, "vm1", lambda event: None, lambda reason: None)
        loop = asyncio.get_running_loop()
        connect = qmp.connect

        async def counted(timeout_s):
            times.append(loop.time())
            await connect(0.0)

        qmp.connect = counted
        keeper = QmpKeeper(qmp, lambda is_up, text: None, pause_min_s=0.01, pause_max_s=0.08)
        task = loop.create_task(keeper.keep_connected())
        await until(lambda: len(times) == 7)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        pauses = [after - before for before, after in pairwise(times)]
        for pause, least in zip(pauses, [0.01, 0.02, 0.04, 0.08, 0.08, 0.08], strict=True):
            assert pause >= least * 0.99

    run(scenario)


def test_a_qemu_that_hangs_is_told_and_tried_again(path):
    async def scenario():
        told = []
        async with FakeQmp(path, greeting=None) as fake, kept(path, told) as qmp:
            await until(lambda: told)
            assert "no greeting" in told[0][1]
            fake.greeting = {"QMP": {"version": {}, "capabilities": []}}
            await until(lambda: qmp.is_connected)

    run(scenario)


def test_it_ends_while_connected_and_while_connecting(path):
    async def scenario():
        async with FakeQmp(path), kept(path, [], attempt_s=10) as qmp:
            await until(lambda: qmp.is_connected)
        async with FakeQmp(path, greeting=None) as fake, kept(path, [], attempt_s=10):
            await until(lambda: fake.connections)

    run(scenario)
