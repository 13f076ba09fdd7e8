"""sd_notify: what arrives at the service manager's socket, and that nothing else ever happens."""

import asyncio
import os
import socket
from pathlib import Path
from uuid import uuid4

import pytest

from pycolo.node.servicemanager import STATUS_CHARACTERS_MAX, Notifier


async def is_well() -> bool:
    return True


@pytest.fixture
def manager(tmp_path: Path):
    """A service manager: its socket's path, and what has arrived there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(10)
        yield tmp_path / "notify", lambda: sock.recv(4096).decode().split("\n")


def test_what_becomes_of_the_node_arrives(manager):
    path, heard = manager
    notifier = Notifier(str(path))
    notifier.ready("primary, waiting")
    assert heard() == ["READY=1", "STATUS=primary, waiting"]
    notifier.status("protected")
    assert heard() == ["STATUS=protected"]
    notifier.alive()
    assert heard() == ["WATCHDOG=1"]
    notifier.stopping()
    assert heard() == ["STOPPING=1", "STATUS=stopping"]
    notifier.close()
    notifier.status("nothing is said after that")


def test_an_abstract_socket():
    name = f"colo-test-{uuid4()}"  # not of the PID: other runs have process numbers and not the network of their own
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        sock.settimeout(10)
        notifier = Notifier(f"@{name}")
        notifier.alive()
        assert sock.recv(100) == b"WATCHDOG=1"
        notifier.close()


def test_a_status_cannot_say_more_than_a_status(manager):
    path, heard = manager
    notifier = Notifier(str(path))
    notifier.status("one\nMAINPID=1\udc80" + "x" * 10_000)
    (line,) = heard()
    assert line.startswith("STATUS=one MAINPID=1?xxx")
    assert len(line) <= STATUS_CHARACTERS_MAX + len("STATUS=")
    notifier.close()


@pytest.mark.parametrize("address", [None, "", "/nowhere/notify", "/" + "x" * 500, "vsock:2:1"])
def test_without_a_manager_nothing_happens(address: str | None):
    notifier = Notifier(address, 1_000)
    notifier.ready("x")
    notifier.alive()
    notifier.stopping()
    notifier.close()
    notifier.close()


def test_a_manager_that_does_not_read_holds_nothing_up(manager):
    path, _ = manager
    notifier = Notifier(str(path))
    for _ in range(5_000):
        notifier.alive()
    notifier.close()


# ── the environment ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_environment_says_where_and_how_often_and_children_do_not_learn_it():
    own = str(os.getpid())
    environment = {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": own, "HOME": "/h"}
    notifier = Notifier.from_environment(environment)
    assert notifier.watchdog_interval_s == 5.0
    assert environment == {"HOME": "/h"}
    notifier.close()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"NOTIFY_SOCKET": "/n"},
        {"WATCHDOG_USEC": "10000000"},
        {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"},
        {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "9" * 5_000},
        {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "0"},
    ],
)
def test_without_a_watchdog_there_is_nothing_to_feed(variables: dict[str, str]):
    notifier = Notifier.from_environment(variables)
    assert notifier.watchdog_interval_s is None
    asyncio.run(notifier.watchdog(is_well))
    notifier.close()


# ── the watchdog ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_watchdog_hears_from_a_node_that_is_well(manager):
    path, heard = manager

    async def life(notifier: Notifier) -> list[list[str]]:
        task = asyncio.get_running_loop().create_task(notifier.watchdog(is_well))
        found = [await asyncio.to_thread(heard) for _ in range(3)]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return found

    notifier = Notifier(str(path), 20_000)
    assert asyncio.run(life(notifier)) == [["WATCHDOG=1"]] * 3
    notifier.close()


def test_the_watchdog_does_not_hear_from_one_that_is_not(manager):
    path, heard = manager
    asked = []

    async def life(notifier: Notifier) -> None:
        done = asyncio.Event()

        async def is_not_well() -> bool:
            asked.append(len(asked))
            if len(asked) == 5:
                done.set()
            return False

        task = asyncio.get_running_loop().create_task(notifier.watchdog(is_not_well))
        async with asyncio.timeout(30):
            await done.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        notifier.status("the end")

    notifier = Notifier(str(path), 2_000)
    asyncio.run(life(notifier))
    assert heard() == ["STATUS=the end"]
    notifier.close()
