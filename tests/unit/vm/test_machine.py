"""One QEMU under a node: which process it is, what it says, and that its end is told exactly once."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pycolo.config import QemuOptions
from pycolo.errors import ConnectError, PeerError, QmpError
from pycolo.qmp.client import Qmp, QmpEvent
from pycolo.qmp.probe import Facts
from pycolo.vm import machine as machines
from pycolo.vm.machine import Machine
from support import virtualloop
from support.fakeqmp import HANG, FakeQmp, Refusal
from support.guestworld import FACTS

pytestmark = pytest.mark.slow

DEADLINE_S = 20

LISTENER = """
import socket, sys, time
sock = socket.socket(socket.AF_UNIX)
sock.bind(sys.argv[1])
sock.listen(8)
print("ready", flush=True)
kept = []
while True:
    kept.append(sock.accept()[0])
    kept[-1].send(b'{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}}, "capabilities": ["oob"]}}\\n')
    while octets := kept[-1].recv(1 << 16):
        number = octets.split(b'"id"')[-1].split(b'"')[1].decode() if b'"id"' in octets else ""
        kept[-1].send(b'{"return": {}, "id": "' + number.encode() + b'"}\\n')
"""
"""A process that listens as QEMU does: says hello to one client at a time and agrees to everything."""


class Heard:
    """What a machine has told."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.gone: list[str] = []

    def on_event(self, event: QmpEvent) -> None:
        self.events.append(event.name)


def options(place: Path, command: list[str] | None = None, yank: Path | None = None) -> QemuOptions:
    return QemuOptions(
        qmp=place / "qmp.sock", directory=place, command=command or [], yank=yank, start_timeout_ms=20_000
    )


@asynccontextmanager
async def machine(given: QemuOptions) -> AsyncIterator[tuple[Machine, Heard]]:
    heard = Heard()
    made = Machine(given, "vm1", heard.on_event, heard.gone.append)
    try:
        yield made, heard
    finally:
        await made.release()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.002)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await scene()

    asyncio.run(limited())


@pytest.fixture
def listener(tmp_path: Path):
    """A process that was there before the node: only its socket is known."""
    command = [sys.executable, "-S", "-c", LISTENER, str(tmp_path / "qmp.sock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


# ── which process ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_process_behind_the_socket_is_known_without_being_told(
    tmp_path: Path, listener: "subprocess.Popen[bytes]"
) -> None:
    async def scene() -> None:
        async with machine(options(tmp_path)) as (one, heard):
            assert not one.is_there
            await one.connect(DEADLINE_S)
            assert one.is_there
            assert one.pid == listener.pid
            assert one.version == "7.2.22"
            assert heard.gone == []

    play(scene)


def test_its_end_is_told_once_whatever_is_heard_first(tmp_path: Path, listener: "subprocess.Popen[bytes]") -> None:
    async def scene() -> None:
        async with machine(options(tmp_path)) as (one, heard):
            await one.connect(DEADLINE_S)
            listener.kill()
            await until(lambda: heard.gone)
            await until(lambda: one.qmp is None)
            await asyncio.sleep(0.02)
            assert len(heard.gone) == 1
            assert str(listener.pid) in heard.gone[0]
            assert "\n" not in heard.gone[0]
            assert not one.is_there
            with pytest.raises(ConnectError):
                await one.execute("query-status")

    play(scene)


def test_a_monitor_that_ends_is_not_the_machines_end(tmp_path: Path) -> None:
    """The process lives: it is this one."""

    async def scene() -> None:
        async with FakeQmp(tmp_path / "qmp.sock") as fake, machine(options(tmp_path)) as (one, heard):
            await one.connect(DEADLINE_S)
            assert one.pid == os.getpid()
            fake.hang_up()
            await until(lambda: one.qmp is None)
            assert heard.gone == []
            assert not one.is_there
            await one.connect(DEADLINE_S)
            assert one.is_there
            assert heard.gone == []

    play(scene)


@pytest.mark.parametrize("ends", range(40))
def test_a_connection_that_is_made_as_the_wait_for_it_is_cancelled_is_closed(tmp_path: Path, ends: int) -> None:
    async def scene() -> None:
        async with FakeQmp(tmp_path / "qmp.sock"), machine(options(tmp_path)) as (one, _):
            before = asyncio.all_tasks()
            connecting = asyncio.ensure_future(one.connect(DEADLINE_S))
            for _ in range(ends):
                await asyncio.sleep(0)
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            if one.qmp is None:
                assert [task for task in asyncio.all_tasks() - before if task.get_name().endswith("QMP")] == []

    play(scene)


def test_a_stopped_process_is_no_end(tmp_path: Path, listener: "subprocess.Popen[bytes]") -> None:
    async def scene() -> None:
        async with machine(options(tmp_path)) as (one, heard):
            await one.connect(DEADLINE_S)
            listener.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.05)
            assert heard.gone == []
            await one.kill()
            assert listener.wait(DEADLINE_S) == -signal.SIGKILL
            assert heard.gone == [], "it was this node's doing"

    play(scene)


# ── started here ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_machine_that_was_started_ends_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-c", "import sys; print('no such', sys.argv[1]); sys.exit(3)"]

    async def scene() -> None:
        async with machine(options(tmp_path, command)) as (one, heard):
            await one.start(["netdev"])
            await until(lambda: heard.gone)
            assert len(heard.gone) == 1
            assert heard.gone[0].endswith("its last line: no such netdev")
            with pytest.raises(ConnectError, match="no such netdev"):
                await one.connect(0.1)

    play(scene)


def test_the_last_words_of_a_machine_that_has_written_much(tmp_path: Path) -> None:
    """More than any memory holds; most of it is a hole in the file."""
    script = "import os; os.ftruncate(1, 1 << 42); os.write(1, bytes.fromhex('0a') + b'no such netdev')"

    async def scene() -> None:
        async with machine(options(tmp_path, [sys.executable, "-S", "-c", script])) as (one, heard):
            await one.start([])
            await until(lambda: heard.gone)
            assert heard.gone[0].endswith("its last line: no such netdev")

    play(scene)


def test_a_machine_that_ends_before_it_is_watched_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine: asyncio has taken its exit code by then, and there is no such process any more."""
    spawn = asyncio.create_subprocess_exec

    async def spawn_and_dawdle(*command: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await spawn(*command, **options)
        await process.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", spawn_and_dawdle)

    async def scene() -> None:
        async with machine(options(tmp_path, ["sh", "-c", "echo no such machine; exit 1"])) as (one, heard):
            await one.start([])
            with pytest.raises(ConnectError, match=r"has ended \(exit code 1\); its last line: no such machine"):
                await one.connect(1000)
            assert len(heard.gone) == 1
            assert one.is_over

    play(scene)


def test_a_machine_that_ends_before_its_second_socket_is_there_is_not_waited_for(tmp_path: Path) -> None:
    """QEMU opens its monitors one after the other, and may find something wrong in between."""
    briefly = LISTENER.replace("while True:", "for _ in range(1):").replace("while octets :=", "if octets :=")
    command = [sys.executable, "-S", "-c", briefly, str(tmp_path / "qmp.sock")]

    async def scene() -> None:
        async with machine(options(tmp_path, command, yank=tmp_path / "yank.sock")) as (one, heard):
            await one.start([])
            with pytest.raises(ConnectError, match="has ended"):
                await one.connect(1000)
            await until(lambda: heard.gone)

    play(scene)


def test_a_command_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    async def scene() -> None:
        async with machine(options(tmp_path, ["/nonexistent/qemu"])) as (one, heard):
            with pytest.raises(ConnectError, match="/nonexistent/qemu: No such file"):
                await one.start([])
            assert heard.gone == []

    play(scene)


def test_a_machine_that_is_killed_is_gone_when_kill_returns(tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-c", LISTENER, str(tmp_path / "qmp.sock")]

    async def scene() -> None:
        async with machine(options(tmp_path, command)) as (one, heard):
            await one.start([])
            await one.connect(DEADLINE_S)
            pid = one.pid
            await one.kill()
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
            assert heard.gone == []
            await one.kill()

    play(scene)


def test_a_machine_that_is_let_go_of_lives_on(tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-c", LISTENER, str(tmp_path / "qmp.sock")]

    async def scene() -> None:
        async with machine(options(tmp_path, command)) as (one, heard):
            await one.start([])
            await one.connect(DEADLINE_S)
            pid = one.pid
            await one.release()
            os.kill(pid, 0)
            os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.05)
            assert heard.gone == []

    play(scene)


def test_its_process_is_asked_for_what_it_does_not_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def probed(qmp: Qmp, *, is_forced: bool) -> Facts:
        assert is_forced
        return FACTS

    monkeypatch.setattr(machines, "probe", probed)
    monkeypatch.setattr(
        machines, "with_process", lambda facts, pid, known: replace(facts, has_vhost=pid == os.getpid())
    )

    async def scene() -> None:
        async with FakeQmp(tmp_path / "qmp.sock"), machine(options(tmp_path)) as (one, _):
            await one.connect(DEADLINE_S)
            assert (await one.probe(is_forced=True)).has_vhost

    play(scene)


@pytest.mark.parametrize("refusals", [0, 2])
def test_a_migration_waits_until_qemu_has_tidied_up(tmp_path: Path, refusals: int) -> None:
    async def scene() -> None:
        async with FakeQmp(tmp_path / "qmp.sock") as fake, machine(options(tmp_path)) as (one, _):
            await one.connect(DEADLINE_S)
            answers: list[Any] = [Refusal("GenericError", "duplicate yank instance")] * refusals + [{}]
            fake.answers["migrate"] = lambda arguments: answers.pop(0)
            await one.migrate("unix:relay.sock")
            assert fake.commands().count("migrate") == refusals + 1

    play(scene)


def test_a_migration_that_is_refused_for_another_reason_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        async with FakeQmp(tmp_path / "qmp.sock") as fake, machine(options(tmp_path)) as (one, _):
            await one.connect(DEADLINE_S)
            fake.answers["migrate"] = Refusal("GenericError", "There's a migration process in progress")
            with pytest.raises(QmpError, match="in progress"):
                await one.migrate("unix:relay.sock")
            assert fake.commands().count("migrate") == 1

    play(scene)


# ── what it says ────────────────────────────────────────────────────────────────────────────────────────────


def test_an_event_is_waited_for(tmp_path: Path) -> None:
    async def scene() -> None:
        async with FakeQmp(tmp_path / "qmp.sock") as fake, machine(options(tmp_path)) as (one, heard):
            await one.connect(DEADLINE_S)
            waits = [
                asyncio.ensure_future(one.wait_for(lambda event, name=name: event.name == name, DEADLINE_S, name))
                for name in ("RESUME", "STOP", "RESUME")
            ]
            await asyncio.sleep(0)
            for name in ("MIGRATION", "STOP", "RESUME"):
                fake.emit(name, {"status": name})
            found = await asyncio.gather(*waits)
            assert [event.name for event in found] == ["RESUME", "STOP", "RESUME"]
            assert heard.events == ["MIGRATION", "STOP", "RESUME"]

    play(scene)


def test_an_event_that_does_not_come_is_named(tmp_path: Path) -> None:
    async def scene() -> None:
        async with FakeQmp(tmp_path / "qmp.sock") as fake, machine(options(tmp_path)) as (one, _):
            await one.connect(DEADLINE_S)
            with pytest.raises(PeerError, match=r"no RESUME after COLO within 0\.02 s"):
                await one.wait_for(lambda event: event.name == "RESUME", 0.02, "RESUME after COLO")
            fake.emit("RESUME")
            await fake.until(lambda: True)

    play(scene)


def test_a_machine_that_has_ended_is_not_waited_for(tmp_path: Path, listener: "subprocess.Popen[bytes]") -> None:
    async def scene() -> None:
        async with machine(options(tmp_path)) as (one, _):
            await one.connect(DEADLINE_S)
            waiting = asyncio.ensure_future(one.wait_for(lambda event: True, 3600, "anything"))
            await asyncio.sleep(0)
            listener.kill()
            with pytest.raises(ConnectError):
                await waiting

    play(scene)


def test_another_part_may_look_after_it(tmp_path: Path, listener: "subprocess.Popen[bytes]") -> None:
    async def scene() -> None:
        async with machine(options(tmp_path)) as (one, before):
            await one.connect(DEADLINE_S)
            after = Heard()
            one.rebind(after.on_event, after.gone.append)
            listener.kill()
            await until(lambda: after.gone)
            assert before.gone == []

    play(scene)


# ── status and yank ─────────────────────────────────────────────────────────────────────────────────────────


def test_status_of_one_that_is_there_of_one_that_hangs_and_of_none(tmp_path: Path) -> None:
    async def scene() -> None:
        async with FakeQmp(tmp_path / "qmp.sock") as fake, machine(options(tmp_path)) as (one, _):
            absent = {"qmp": "absent", "version": "", "status": None, "colo": None, "pid": None}
            assert await one.status() == absent
            await one.connect(DEADLINE_S)
            fake.answers["query-status"] = {"status": "running", "running": True}
            fake.answers["query-colo-status"] = {"mode": "primary"}
            there = {"qmp": "connected", "version": "7.2.22", "status": "running", "colo": "primary"}
            assert await one.status() == there | {"pid": os.getpid()}
            fake.answers["query-colo-status"] = HANG
            assert await one.status() == there | {"pid": os.getpid(), "colo": None}

    virtualloop.run(scene())


def test_yank_goes_past_a_monitor_that_hangs(tmp_path: Path) -> None:
    async def scene() -> None:
        second = tmp_path / "yank.sock"
        async with FakeQmp(tmp_path / "qmp.sock") as fake, FakeQmp(second) as line:
            line.answers |= {"query-yank": [{"type": "migration"}], "yank": {}}
            async with machine(options(tmp_path, yank=second)) as (one, _):
                await one.connect(DEADLINE_S)
                fake.is_reading.clear()
                await one.yank()
                assert line.commands()[-2:] == ["query-yank", "yank"]
                assert line.received[-1]["arguments"] == {"instances": [{"type": "migration"}]}

    play(scene)


def test_without_a_second_socket_yank_does_nothing_and_a_missing_one_is_no_error(tmp_path: Path) -> None:
    async def scene() -> None:
        async with FakeQmp(tmp_path / "qmp.sock"):
            for yank in (None, tmp_path / "nobody.sock"):
                async with machine(options(tmp_path, yank=yank)) as (one, _):
                    await one.connect(0.2)
                    await one.yank()
                    assert one.is_there

    virtualloop.run(scene())


def test_a_socket_without_a_listener_is_one_line_and_watches_nothing(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "qmp.sock"))

        async def scene() -> None:
            async with machine(options(tmp_path)) as (one, heard):
                with pytest.raises(ConnectError, match=r"qmp\.sock"):
                    await one.connect(0.05)
                assert one.pid == 0
                with suppress(ConnectError):
                    await one.execute("query-status")
                assert heard.gone == []

        play(scene)
