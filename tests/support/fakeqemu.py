"""A QEMU for tests of `pycolo.vm`: a process of its own that does over QMP what the node relies on, and starts at once.

    python fakeqemu.py PLACE -netdev tap,id=hn0,ifname=tap0 [--bridge BRIDGE] [-qmp unix:PATH,…]… [-incoming defer]

It speaks the QMP of QEMU 7.2 (the second `-qmp` is for yank), reads and writes the tap `tap0` of its network namespace,
migrates into COLO, makes checkpoints over the migration stream, and leaves COLO. Its guest is `Guest`. It ends with the
test, which listens at `PLACE/life.sock`. What a real QEMU does is described in QEMU's own `migration/colo.c`.

`PLACE/faults.json` is a list of ``{"at": …, "do": …, "skip": n}``. `at` is a QMP command, or a COLO message behind
"before", "after" (it was sent) or "heard". `do` is one of: "refuse" and "late" (commands only; the main loop hangs for
a second), "die", "hang" (the main loop, until `yank`), "cut" (the migration stream), "slow" (before STATE only: much
memory, a piece at a time). Each is done once, and is out of the file then. `PLACE/test.sock` answers each connection
with one JSON object that says how things stand.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from support.fakenet import Tap
from support.fakeqmp import HANG, FakeQmp, Refusal
from support.segments import Flow, Tcp, frame, mss, read, udp

RAM_COPY_S: Final = 0.01
"""What the first copy of the memory takes, while the guest runs."""

LATE_S: Final = 1.0

SLOW_PIECES: Final = 20
SLOW_PIECE_BYTES: Final = 64 << 10
SLOW_PIECE_S: Final = 0.1
"""A state that takes two seconds to copy, of which something moves all the time."""

UDP_HEADERS: Final = 14 + 20 + 8
SEQ_MASK: Final = 0xFFFFFFFF

READY, REQUEST, REPLY, STATE, RECEIVED, LOADED, FIRST_STATE = 0, 1, 2, 3, 5, 6, 100
NAMES: Final = {
    READY: "READY", REQUEST: "REQUEST", REPLY: "REPLY", STATE: "STATE", RECEIVED: "RECEIVED", LOADED: "LOADED",
    FIRST_STATE: "FIRST_STATE",
}  # fmt: skip

CAPABILITIES: Final = ("x-colo", "events", "return-path", "xbzrle")

INFO_NETWORK: Final = """\
net0: index=0,type=nic,model=virtio-net-pci,macaddr=02:00:00:00:00:01
 \\ hn0: index=0,type=tap,ifname=tap0,script=no,downscript=no
"""


class CutError(Exception):
    """The migration stream has ended, or is to end."""


# ── the guest ───────────────────────────────────────────────────────────────────────────────────────────────


class Guest:
    """Counts questions. Everything it knows is in `state`, which is JSON: its memory.

    A UDP datagram "ID WORD" is answered with "ID NUMBER LAST". The number is one higher than the last; LAST is the
    random text of the last question with the word "draw", which each guest draws for itself. A question that comes
    again gets the same answer again. On TCP it answers b"re:" and what was asked, with a random initial sequence
    number.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self.state: dict[str, Any] = {"number": 0, "last": "-", "id": 0, "answer": "", "tcp": {}}

    def take(self, octets: bytes) -> None:
        """A frame from its card."""
        if octets[12:14] != b"\x08\x00":
            return
        if octets[23] == 17:
            self._count(octets)
        elif octets[23] == 6:
            self._stream(read(octets))

    def _count(self, octets: bytes) -> None:
        flow = Flow(client_port=struct.unpack_from(">H", octets, 34)[0])
        asked, word = octets[UDP_HEADERS:].decode().split()[:2]
        state = self.state
        if int(asked) > state["id"]:
            state["number"] += 1
            if word == "draw":
                state["last"] = f"{os.getpid()}-{os.urandom(4).hex()}"
            state["id"] = int(asked)
            state["answer"] = f"{asked} {state['number']} {state['last']}"
        if int(asked) == state["id"]:
            self._send(udp(state["answer"].encode(), flow))

    def _stream(self, segment: Tcp) -> None:
        known = self.state["tcp"]
        key = str(segment.flow.client_port)
        if "S" in segment.flags:
            isn = int.from_bytes(os.urandom(4), "big")
            if key not in known:
                known[key] = [(isn + 1) & SEQ_MASK, segment.end, isn, ""]
            isn = known[key][2]
            self._say(Tcp(isn, "SA", ack=segment.end, options=mss(1460), flow=segment.flow))
            return
        if key not in known or not segment.data:
            return
        next_seq, expected, at, said = known[key]
        if segment.seq == expected:
            said = "re:" + segment.data.decode()
            at, next_seq, expected = next_seq, (next_seq + len(said)) & SEQ_MASK, segment.end
            known[key] = [next_seq, expected, at, said]
        if said:
            self._say(Tcp(at, "PA", said.encode(), ack=expected, flow=segment.flow))

    def _say(self, segment: Tcp) -> None:
        self._send(frame(segment))


# ── faults ──────────────────────────────────────────────────────────────────────────────────────────────────


class Faults:
    """What the test wants to go wrong."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self, at: str) -> str | None:
        """What is to be done now."""
        try:
            known = json.loads(self._path.read_text())
        except FileNotFoundError:
            return None
        for fault in known:
            if fault["at"] != at:
                continue
            if fault.get("skip", 0):
                fault["skip"] -= 1
                self._write(known)
                return None
            known.remove(fault)
            self._write(known)
            return str(fault["do"])
        return None

    def _write(self, known: list[dict[str, Any]]) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(known))
        fresh.replace(self._path)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


# ── the migration stream ────────────────────────────────────────────────────────────────────────────────────


class Stream:
    """One end of it. Forward: kind, length, octets. Back: words of four bytes."""

    def __init__(self, machine: "Machine", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._machine = machine
        self._reader = reader
        self._writer = writer

    async def say(self, kind: int, state: Any = None) -> None:
        """To the other QEMU; `state` goes forward."""
        octets = b"" if state is None else json.dumps(state).encode()
        head = (
            struct.pack(">I", kind)
            if kind in (READY, REPLY, RECEIVED, LOADED)
            else struct.pack(">II", kind, len(octets))
        )
        if await self._fault("before", kind) == "slow":
            padding = b" " * SLOW_PIECES * SLOW_PIECE_BYTES
            self._writer.write(struct.pack(">II", kind, len(octets + padding)) + octets)
            await self._write_slowly(padding)
        else:
            self._writer.write(head + octets)
        with suppress(ConnectionError):
            await self._writer.drain()
        await self._fault("after", kind)

    async def _write_slowly(self, padding: bytes) -> None:
        for at in range(0, len(padding), SLOW_PIECE_BYTES):
            await asyncio.sleep(SLOW_PIECE_S)
            self._writer.write(padding[at : at + SLOW_PIECE_BYTES])

    async def word(self, expected: int) -> None:
        octets = await self._read(4)
        if octets != struct.pack(">I", expected):
            raise CutError(f"{octets!r} in place of {NAMES[expected]}")
        await self._fault("heard", expected)

    async def hear(self) -> tuple[int, Any]:
        kind, length = struct.unpack(">II", await self._read(8))
        octets = await self._read(length)
        return kind, json.loads(octets) if octets else None

    async def _read(self, count: int) -> bytes:
        try:
            octets = await self._reader.readexactly(count)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise CutError("the stream has ended") from error
        await self._machine.awake.wait()
        return octets

    async def _fault(self, when: str, kind: int) -> str | None:
        fault = self._machine.faults.take(f"{when} {NAMES[kind]}")
        match fault:
            case "die":
                die()
            case "hang":
                self._machine.hang()
                await self._machine.awake.wait()
            case "cut":
                self._writer.close()
                raise CutError("the test has cut it")
        if self._reader.at_eof():
            raise CutError("the stream has ended")
        return fault

    def shut_down(self) -> None:
        """As `yank` does it."""
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


# ── QEMU ────────────────────────────────────────────────────────────────────────────────────────────────────


class Machine:
    """Run state, migration, QMP commands (`do_…`)."""

    def __init__(self, place: Path, qmp: list[Path], bridge: str | None, *, is_incoming: bool) -> None:
        self.place = place
        self.faults = Faults(place / "faults.json")
        self.awake = asyncio.Event()
        self.awake.set()
        self.qmp = FakeQmp(qmp[0])
        self.yank_qmp = FakeQmp(qmp[1]) if len(qmp) > 1 else None
        self.status = "inmigrate" if is_incoming else "running"
        self.is_running = not is_incoming
        self.mode = "none"
        self.migration: str | None = None
        self.capabilities = dict.fromkeys(CAPABILITIES, False)
        self.tap = Tap()
        if bridge is not None:  # else QEMU has `script=no`, and leaves its tap down
            self.tap.put(bridge)
        self.guest = Guest(self.tap.send)
        self.tap.on_frame = self.guest.take
        self._deferred: list[Callable[[], Any]] = []
        self._stream: Stream | None = None
        self._is_cancelled = False
        self._wants_checkpoint = asyncio.Event()
        self._lost_heartbeat = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """For ever."""
        commands = {name.removeprefix("do_").replace("__", "_"): name for name in dir(self) if name.startswith("do_")}
        known = {command.replace("_", "-"): getattr(self, name) for command, name in commands.items()}
        known["migrate_cancel"] = known.pop("migrate-cancel")
        for command, do in known.items():
            self.qmp.answers[command] = partial(self._command, command, do)
        self._known = sorted(known)
        async with self.qmp:
            if self.yank_qmp is not None:
                self.yank_qmp.answers |= {"query-yank": self._query_yank, "yank": self._yank}
                await self.yank_qmp.__aenter__()
            tests = await asyncio.start_unix_server(self._tell, str(self.place / "test.sock"))
            async with tests:
                self._run_or_rest()
                reader, _ = await asyncio.open_unix_connection(str(self.place / "life.sock"))
                await reader.read()
                os._exit(0)  # the test has ended

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json.dumps(self.facts()).encode() + b"\n")
        with suppress(ConnectionError):
            await writer.drain()
        writer.close()

    def facts(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "status": self.status,
            "running": self.is_running,
            "mode": self.mode,
            "migration": self.migration,
            "capabilities": [name for name, is_on in self.capabilities.items() if is_on],
            "guest": self.guest.state,
            "hung": not self.awake.is_set(),
            "commands": self.qmp.commands(),
            "received": self.qmp.received,
        }

    def _spawn(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            print("fakeqemu:", repr(task.exception()), flush=True)
            os.abort()

    # ── hanging ─────────────────────────────────────────────────────────────────────────────────────────────

    def hang(self) -> None:
        """The main loop does nothing any more."""
        self.awake.clear()
        self.qmp.is_reading.clear()
        self._run_or_rest()

    def _wake(self) -> None:
        self.awake.set()
        self.qmp.is_reading.set()
        self._run_or_rest()
        deferred, self._deferred = self._deferred, []
        for do in deferred:
            self.qmp.answer_first(do())

    def _query_yank(self, arguments: Any) -> Any:
        return [{"type": "migration"}] if self._stream is not None else []

    def _yank(self, arguments: dict[str, Any]) -> Any:
        if {"type": "migration"} in arguments["instances"]:
            if self._stream is None:
                return Refusal("DeviceNotFound", "Instance migration not found")
            self._stream.shut_down()
            self._wake()
        return {}

    def _command(self, name: str, do: Callable[..., Any], arguments: dict[str, Any] | None) -> Any:
        carry_out = partial(do, **{key.replace("-", "_"): value for key, value in (arguments or {}).items()})
        match self.faults.take(name):
            case "refuse":
                return Refusal("GenericError", f"{name} is refused by the test")
            case "die":
                die()
            case "hang":
                self.hang()
            case "late":
                self.hang()
                asyncio.get_running_loop().call_later(LATE_S, self._wake)
        if not self.awake.is_set():
            self._deferred.append(carry_out)
            return HANG
        return carry_out()

    # ── run state ───────────────────────────────────────────────────────────────────────────────────────────

    def event(self, name: str, **data: Any) -> None:
        now = datetime.now(UTC)
        self.qmp.emit(name, data, int(now.timestamp()), now.microsecond)

    def _run_or_rest(self) -> None:
        """Whether the guest gets its frames."""
        self.tap.read(is_on=self.is_running and self.awake.is_set())

    def stop(self, status: str) -> None:
        if self.is_running:
            self.is_running = False
            self.event("STOP")
        self.status = status
        self._run_or_rest()

    def resume(self) -> None:
        if self.is_running:
            return
        self.is_running, self.status = True, "running"
        self.event("RESUME")
        self._run_or_rest()

    # ── the primary's migration ─────────────────────────────────────────────────────────────────────────────

    def _migrates(self, status: str) -> None:
        self.migration = status
        if self.capabilities["events"]:
            self.event("MIGRATION", status=status)

    async def _send_state(self, path: str) -> None:
        self._is_cancelled = False
        self._wants_checkpoint.clear()
        self._lost_heartbeat.clear()
        try:
            reader, writer = await asyncio.open_unix_connection(path)
        except OSError:
            self._migrates("failed")
            return
        self._stream = stream = Stream(self, reader, writer)
        self._migrates("active")
        try:
            await asyncio.sleep(RAM_COPY_S)
            if self._is_cancelled:
                raise CutError("cancelled")
            self.stop("finish-migrate")
            await stream.say(FIRST_STATE, self.guest.state)
            self._migrates("colo")
            self.mode = "primary"
            await stream.word(READY)
            self.resume()
            while True:
                await self._until(self._wants_checkpoint, stream)
                self._wants_checkpoint.clear()
                await self._checkpoint(stream)
        except CutError:
            await self._leave(stream, "primary")

    async def _until(self, event: asyncio.Event, stream: Stream) -> None:
        """An idle primary does not notice that its stream has ended, but hears of a lost heartbeat."""
        waits = [asyncio.ensure_future(one.wait()) for one in (event, self._lost_heartbeat)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
        if self._lost_heartbeat.is_set():
            raise CutError("x-colo-lost-heartbeat")

    async def _checkpoint(self, stream: Stream) -> None:
        await stream.say(REQUEST)
        await stream.word(REPLY)
        self.stop("colo")
        await stream.say(STATE, self.guest.state)
        await stream.word(RECEIVED)
        await stream.word(LOADED)
        self.resume()

    async def _leave(self, stream: Stream, mode: str) -> None:
        """QEMU waits for x-colo-lost-heartbeat, standing or running as it was."""
        if self.mode == "none":
            self._migrates("cancelled" if self._is_cancelled else "failed")
        else:
            is_asked = self._lost_heartbeat.is_set()
            self.event("COLO_EXIT", mode=mode, reason="request" if is_asked else "error")
            await self._lost_heartbeat.wait()
            await self.awake.wait()
            self.stop("colo")
            self.mode = "none"
            self._migrates("completed")
        self._stream = None
        await stream.close()
        self.resume()

    # ── the secondary's migration ───────────────────────────────────────────────────────────────────────────

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._server is not None
        self._server.close()
        self._spawn(self._receive_state(Stream(self, reader, writer)))

    async def _receive_state(self, stream: Stream) -> None:
        self._stream = stream
        self._migrates("active")
        try:
            _, state = await stream.hear()
        except CutError:
            os._exit(1)  # as QEMU: load of migration failed
        try:
            self.guest.state = state
            self._migrates("colo")
            self.mode = "secondary"
            self.resume()
            await stream.say(READY)
            while True:
                await self._load(stream)
        except CutError:
            await self._leave(stream, "secondary")

    async def _load(self, stream: Stream) -> None:
        await stream.hear()
        self.stop("colo")
        await stream.say(REPLY)
        _, state = await stream.hear()
        await stream.say(RECEIVED)
        self.guest.state = state
        self.resume()
        await stream.say(LOADED)

    # ── QMP: what it is ─────────────────────────────────────────────────────────────────────────────────────

    def do_query_version(self) -> Any:
        return {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "a fake"}

    def do_query_commands(self) -> Any:
        return [{"name": name} for name in (*self._known, "yank", "query-yank", "qmp_capabilities")]

    def do_qom_list_types(self, implements: str) -> Any:
        return [{"name": "filter-redirector"}]

    def do_query_status(self) -> Any:
        return {"status": self.status, "running": self.is_running, "singlestep": False}

    def do_query_kvm(self) -> Any:
        return {"enabled": True, "present": True}

    def do_query_cpus_fast(self) -> Any:
        return [{"cpu-index": 0, "qom-path": "/machine/unattached/device[0]", "thread-id": 1, "target": "x86_64"}]

    def do_query_memory_size_summary(self) -> Any:
        return {"base-memory": 96 << 20, "plugged-memory": 0}

    def do_query_block(self) -> Any:
        return []

    def do_query_pci(self) -> Any:
        return []

    def do_qom_list(self, path: str) -> Any:
        if path.startswith("/machine/"):  # no device was added
            return [{"name": "type", "type": "string"}]
        return [{"name": "type", "type": "string"}]

    def do_qom_get(self, path: str, property: str) -> Any:  # noqa: A002
        return "pc-i440fx-7.2-machine" if path == "/machine" else "qemu64-x86_64-cpu"

    def do_human_monitor_command(self, command_line: str) -> Any:
        return INFO_NETWORK if command_line == "info network" else ""

    def do_object_add(self, **arguments: Any) -> Any:
        """As the node asks whether a netdev takes a filter: one without its `indev` and `outdev`."""
        assert arguments == {"qom_type": "filter-redirector", "id": arguments["id"], "netdev": "hn0"}
        return Refusal("GenericError", "filter redirector needs 'indev' or 'outdev' at least one property set")

    # ── QMP: running, migrating ─────────────────────────────────────────────────────────────────────────────

    def do_stop(self) -> Any:
        self.stop("paused")
        return {}

    def do_cont(self) -> Any:
        if self.status == "inmigrate":
            return Refusal("GenericError", "the guest waits for an incoming migration")
        self.resume()
        return {}

    def do_quit(self) -> Any:
        asyncio.get_running_loop().call_later(0.01, os._exit, 0)
        return {}

    def do_announce_self(self, **arguments: Any) -> Any:
        return {}

    def do_query_migrate(self) -> Any:
        return {} if self.migration is None else {"status": self.migration}

    def do_query_migrate_capabilities(self) -> Any:
        return [{"capability": name, "state": is_on} for name, is_on in self.capabilities.items()]

    def do_migrate_set_capabilities(self, capabilities: list[dict[str, Any]]) -> Any:
        if self._stream is not None:
            return Refusal("GenericError", "There's a migration process in progress")
        self.capabilities |= {one["capability"]: one["state"] for one in capabilities}
        return {}

    def do_migrate_set_parameters(self, **parameters: int) -> Any:
        if "x_checkpoint_delay" in parameters and self.mode == "primary":
            self._wants_checkpoint.set()
        return {}

    def do_migrate(self, uri: str) -> Any:
        if self._stream is not None:
            return Refusal("GenericError", "There's a migration process in progress")
        self._migrates("setup")
        self._spawn(self._send_state(uri.removeprefix("unix:")))
        return {}

    def do_migrate_cancel(self) -> Any:
        self._is_cancelled = True
        if self._stream is not None:
            self._stream.shut_down()
        return {}

    def do_migrate_incoming(self, uri: str) -> Any:
        if self.status != "inmigrate":
            return Refusal("GenericError", "'-incoming' was not specified on the command line")
        path = uri.removeprefix("unix:")
        with suppress(FileNotFoundError):
            os.unlink(path)

        async def listen() -> None:
            self._server = await asyncio.start_unix_server(self._accept, sock=listener)

        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(1)
        self._spawn(listen())
        return {}

    def do_query_colo_status(self) -> Any:
        return {"mode": self.mode, "last-mode": "none", "reason": "none"}

    def do_x_colo_lost_heartbeat(self) -> Any:
        if self.mode == "none":
            return Refusal("GenericError", "VM is not in COLO mode")
        self._lost_heartbeat.set()
        if self._stream is not None:
            self._stream.shut_down()
        return {}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("place", type=Path)
    parser.add_argument("--bridge")
    parser.add_argument("-netdev")
    parser.add_argument("-qmp", action="append", default=[])
    parser.add_argument("-incoming")
    given = parser.parse_args()
    paths = [Path(one.removeprefix("unix:").partition(",")[0]) for one in given.qmp]

    async def live() -> None:
        await Machine(given.place, paths, given.bridge, is_incoming=given.incoming == "defer").run()

    asyncio.run(live())


if __name__ == "__main__":
    main()
