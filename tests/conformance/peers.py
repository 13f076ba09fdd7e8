"""QEMU or `colo proxy` as a process with the other ends of its chardevs, fed in lock step.

Nothing sleeps to see what happens: after each step a *fence* goes through every path that the step may have used
(a datagram pair of a connection of its own, an INIT on the notify socket), and what came out before the fence came
back is what the step did.
"""

import contextlib
import itertools
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Self

from conformance.frames import Connection, Udp, Vnet

START_SECONDS = 60
ANSWER_SECONDS = 30
TRY_SECONDS = 0.5
"""How long a frame may take before another is tried, where the first may have come too early."""

INIT, INIT_ANSWER = b"COLO_USERSPACE_PROXY_INIT", b"COLO_COMPARE_GET_XEN_INIT"
DO_CHECKPOINT, CHECKPOINT_DONE = b"DO_CHECKPOINT", b"COLO_CHECKPOINT"

FENCE = Connection(n=0xFFFFF, guest_port=7)


class Program(Enum):
    """Who is under test."""

    QEMU = "qemu-system-x86_64"
    COLO = "colo proxy"

    def __str__(self) -> str:
        return "qemu" if self is Program.QEMU else "colo"

    def command(self, folder: Path) -> list[str]:
        if self is Program.COLO:
            return [sys.executable, "-m", "pycolo", "proxy"]
        qmp = ["-qmp", f"unix:{folder}/qmp,server=on,wait=off"]
        return ["qemu-system-x86_64", "-machine", "none", "-nodefaults", "-nographic", "-monitor", "none", *qmp]


class PeerError(AssertionError):
    """The process under test said no, died, or did not answer in time."""


# ── one socket ──────────────────────────────────────────────────────────────────────────────────────────────


class Channel:
    """The other end of a chardev socket: frames behind a length word, and a vnet word where that is on.

    `vnet_len`: what the vnet word says that is sent, `arriving_vnet_len` what it says that arrives; None: no such word.
    """

    def __init__(self, path: Path, vnet_len: int | None = None, arriving_vnet_len: int | None = None) -> None:
        self.path = path
        self.vnet_len = vnet_len
        self.arriving_vnet_len = arriving_vnet_len
        self._buffer = bytearray()
        self._socket = self._connected()

    def _connected(self) -> socket.socket:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            end.connect(os.fspath(self.path))
        except OSError:
            end.close()
            raise
        return end

    def reconnect(self) -> None:
        """Close the connection and make another."""
        self.close()
        self._buffer.clear()
        self._socket = self._connected()

    def close(self) -> None:
        self._socket.close()

    def send(self, *frames: bytes) -> None:
        word = b"" if self.vnet_len is None else struct.pack(">I", self.vnet_len)
        self.send_bytes(b"".join(struct.pack(">I", len(octets)) + word + octets for octets in frames))

    def send_bytes(self, octets: bytes) -> None:
        self._socket.settimeout(ANSWER_SECONDS)
        try:
            self._socket.sendall(octets)
        except OSError as error:
            raise PeerError(f"{self.path.name} takes nothing: {error}") from error

    def read(self, seconds: float) -> bytes | None:
        """The next frame, or None when none is complete within `seconds`."""
        until = time.monotonic() + seconds
        while (octets := self._take()) is None:
            self._socket.settimeout(max(until - time.monotonic(), 0.0001))
            try:
                chunk = self._socket.recv(1 << 16)
            except (TimeoutError, BlockingIOError):
                return None
            if not chunk:
                raise PeerError(f"{self.path.name} was closed by the other side")
            self._buffer += chunk
        return octets

    def is_closed(self) -> bool:
        """Whether the other side closes the connection, within ANSWER_SECONDS."""
        self._socket.settimeout(ANSWER_SECONDS)
        try:
            while self._socket.recv(1 << 16):
                pass
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        return True

    def _take(self) -> bytes | None:
        words = 4 if self.arriving_vnet_len is None else 8
        if len(self._buffer) < words:
            return None
        (length,) = struct.unpack_from(">I", self._buffer)
        if self.arriving_vnet_len is not None:
            (vnet_len,) = struct.unpack_from(">I", self._buffer, 4)
            assert vnet_len == self.arriving_vnet_len, f"{self.path.name}: vnet_hdr_len {vnet_len}"
        if len(self._buffer) < words + length:
            return None
        octets = bytes(self._buffer[words : words + length])
        del self._buffer[: words + length]
        return octets


# ── one process ─────────────────────────────────────────────────────────────────────────────────────────────


class Peer:
    """A process in a folder of its own. Used as a context manager.

    `chardevs` are its sockets, all servers; the test has the other ends in `channels`, except of those that are
    `left_to_others`. `joined`: chardevs that connect to sockets of another process instead, by name.
    """

    def __init__(
        self,
        program: Program,
        chardevs: Sequence[str],
        arguments: Sequence[str],
        vnet_len: int | None = None,
        joined: Mapping[str, Path] | None = None,
        left_to_others: Sequence[str] = (),
    ) -> None:
        self.program = program
        self.vnet_len = vnet_len
        self._left_to_others = left_to_others
        self._joined = joined or {}
        self._chardevs = [name for name in chardevs if name not in self._joined]
        self._arguments = arguments
        self.channels: dict[str, Channel] = {}
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            self.folder = Path(tempfile.mkdtemp(prefix="colo-conformance-"))
            undo.callback(shutil.rmtree, self.folder)
            self._start(undo)
            for name in self._chardevs:
                self._wait_for_socket(name)
                if name not in self._left_to_others:
                    self.channels[name] = self._connect(name)
                    undo.callback(self.channels[name].close)
            self._cleanup = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def _start(self, undo: contextlib.ExitStack) -> None:
        sockets = []
        for name in self._chardevs:
            sockets += ["-chardev", f"socket,id={name},path={self.folder}/{name},server=on,wait=off"]
        for name, path in self._joined.items():
            sockets += ["-chardev", f"socket,id={name},path={path}"]
        log = undo.enter_context((self.folder / "log").open("wb"))
        self._process = subprocess.Popen(
            [*self.program.command(self.folder), *sockets, *self._arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        undo.callback(self._stop)

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_for_socket(self, name: str) -> None:
        until = time.monotonic() + START_SECONDS
        while not (self.folder / name).exists():
            if self._process.poll() is not None or time.monotonic() > until:
                raise self.failure(f"no socket {name}")
            time.sleep(0.01)

    def _connect(self, name: str) -> Channel:
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                return Channel(self.folder / name, self.vnet_len, self.arriving_vnet_len(name))
            except OSError as error:  # bound, and does not listen yet
                if self._process.poll() is not None or time.monotonic() > until:
                    raise self.failure(f"no socket {name}: {error}") from error
            time.sleep(0.01)

    def arriving_vnet_len(self, name: str) -> int | None:
        """What the vnet word says in what comes from a chardev: what it said when it went in."""
        return self.vnet_len

    def failure(self, what: str) -> PeerError:
        """What happened, with what the process said."""
        said = (self.folder / "log").read_text(errors="replace").strip()[-2000:]
        state = self._process.poll()
        return PeerError(f"{self.program.value}: {what}; exit status {state}; it said: {said or 'nothing'}")

    def dies(self) -> bool:
        """Whether the process ends of itself, and not well, within ANSWER_SECONDS."""
        try:
            return self._process.wait(ANSWER_SECONDS) != 0
        except subprocess.TimeoutExpired:
            return False

    def read(self, name: str, seconds: float = ANSWER_SECONDS) -> bytes:
        octets = self.channels[name].read(seconds)
        if octets is None:
            raise self.failure(f"nothing came from {name} within {seconds} s")
        return octets

    def read_frames(self, name: str, count: int) -> list[bytes]:
        """The next `count` frames, which must come."""
        return [self.read(name) for _ in range(count)]

    def read_until(self, name: str, last: bytes, seconds: float = ANSWER_SECONDS) -> list[bytes]:
        """The frames before `last`, which must come within `seconds`."""
        frames = []
        until = time.monotonic() + seconds
        while (octets := self.read(name, until - time.monotonic())) != last:
            frames.append(octets)
        return frames

    def qmp(self, command: str) -> None:
        """One QMP command, which must succeed."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
            end.settimeout(ANSWER_SECONDS)
            end.connect(os.fspath(self.folder / "qmp"))
            with end.makefile("rw", encoding="utf-8") as stream:
                stream.readline()
                for name in ("qmp_capabilities", command):
                    stream.write(json.dumps({"execute": name}) + "\n")
                    stream.flush()
                    answer = json.loads(stream.readline())
                    if "return" not in answer:
                        raise self.failure(f"{name}: {answer}")


def fences(vnet_len: int | None) -> Iterator[bytes]:
    """Datagrams that occur nowhere else."""
    for number in itertools.count():
        fence = Udp(b"fence %d" % number)
        yield (fence if vnet_len is None else Vnet(fence, vnet_len)).on(FENCE)


# ── colo-compare ────────────────────────────────────────────────────────────────────────────────────────────


class Compare(Peer):
    """A colo-compare with a notify_dev. `options` are properties of the object."""

    def __init__(
        self,
        program: Program,
        vnet_len: int | None = None,
        left_to_others: Sequence[str] = (),
        **options: object,
    ) -> None:
        # Far above what a test takes, also on a busy machine: only the tests of the timeout want it.
        properties = {"compare_timeout": 60_000, **options}
        if vnet_len is not None:
            properties["vnet_hdr_support"] = "on"
        written = "".join(f",{name}={value}" for name, value in properties.items())
        compare = (
            f"colo-compare,id=c0,primary_in=pri,secondary_in=sec,outdev=out,notify_dev=notify,iothread=iot0{written}"
        )
        arguments = ["-object", "iothread,id=iot0", "-object", compare]
        super().__init__(program, ("pri", "sec", "out", "notify"), arguments, vnet_len, left_to_others=left_to_others)
        self._fences = fences(vnet_len)

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            if not self._left_to_others:
                self.wait_until_it_answers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def arriving_vnet_len(self, name: str) -> int | None:
        """Messages to notify_dev have the vnet word, messages from it have not."""
        return None if name == "notify" else self.vnet_len

    def wait_until_it_answers(self) -> None:
        """A frame for an outdev that is not connected yet is lost: try until one comes."""
        until = time.monotonic() + START_SECONDS
        while True:
            fence = self._send_fence()
            with contextlib.suppress(PeerError):
                self.read_until("out", fence, TRY_SECONDS)
                break
            if self._process.poll() is not None or time.monotonic() > until:
                raise self.failure("no frame comes out")
        # Several frames that were tried may come together, and QEMU then sends the last one first: what is behind
        # the next one comes before the one after it.
        self.settle()
        self.settle()

    def _send_fence(self) -> bytes:
        fence = next(self._fences)
        self.channels["sec"].send(fence)
        self.channels["pri"].send(fence)
        return fence

    def feed(self, side: str, *frames: bytes) -> tuple[list[bytes], int]:
        """Frames into "pri" or "sec": what they made come out, and how many checkpoints they made it ask for."""
        self.channels[side].send(*frames)
        return self.settle()

    def tell(self, message: bytes) -> tuple[list[bytes], int]:
        """A message on the notify socket: what it made come out."""
        self.channels["notify"].send(message)
        self.asked()
        return self.settle()

    def settle(self) -> tuple[list[bytes], int]:
        """Wait until all that was sent has been dealt with; what came out, and how many checkpoints it asked for."""
        frames = self.read_until("out", self._send_fence())
        return frames, self.asked()

    def asked(self) -> int:
        """How many checkpoints it has asked for since the last call; all messages before this one are dealt with."""
        self.channels["notify"].send(INIT)
        messages = self.read_until("notify", INIT_ANSWER)
        assert set(messages) <= {DO_CHECKPOINT}, messages
        return len(messages)

    def wait_for_request(self, seconds: float = ANSWER_SECONDS) -> None:
        """Until it asks for a checkpoint."""
        message = self.read("notify", seconds)
        assert message == DO_CHECKPOINT, message


# ── filter-rewriter ─────────────────────────────────────────────────────────────────────────────────────────


class Rewriter(Peer):
    """A filter-rewriter between four sockets: cin (from the client) → cout, sin (from the guest) → sout.

    QEMU's is a filter of a netdev: redirectors on either side of it, and nothing behind the netdev.
    """

    def __init__(
        self,
        program: Program,
        vnet_len: int | None = None,
        joined: Mapping[str, Path] | None = None,
        left_to_others: Sequence[str] = (),
    ) -> None:
        vnet = "" if vnet_len is None else ",vnet_hdr_support=on"
        chardevs = ["cin", "cout", "sin", "sout"]
        if program is Program.QEMU:
            arguments = _rewriter_of_qemu(vnet)
        else:
            wires = "client_in=cin,guest_out=cout,guest_in=sin,client_out=sout,notify_dev=notify"
            arguments = ["-object", f"filter-rewriter,id=rew0,{wires}{vnet}"]
            chardevs.append("notify")
        super().__init__(program, chardevs, arguments, vnet_len, joined, left_to_others)
        self._fences = fences(vnet_len)

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            for side in (side for side, out in _OUT.items() if {side, out} <= set(self.channels)):
                self._wait_until_it_answers(side)
        except BaseException:
            self.__exit__()
            raise
        return self

    def arriving_vnet_len(self, name: str) -> int | None:
        """A redirector of QEMU says what its netdev has, and this netdev has no vnet header."""
        if name == "notify" or self.vnet_len is None:
            return None
        return 0 if self.program is Program.QEMU else self.vnet_len

    def _wait_until_it_answers(self, side: str) -> None:
        until = time.monotonic() + START_SECONDS
        while True:
            fence = next(self._fences)
            self.channels[side].send(fence)
            with contextlib.suppress(PeerError):
                self.read_until(_OUT[side], fence, TRY_SECONDS)
                return
            if self._process.poll() is not None or time.monotonic() > until:
                raise self.failure(f"no frame comes out of {_OUT[side]}")

    def feed(self, side: str, *frames: bytes) -> tuple[list[bytes], list[bytes]]:
        """Frames into "cin" or "sin": what comes out towards the guest, and what towards the client."""
        self.channels[side].send(*frames)
        found = {}
        for way in (side, *(other for other in _OUT if other != side)):
            fence = next(self._fences)
            self.channels[way].send(fence)
            found[way] = self.read_until(_OUT[way], fence)
        return found["cin"], found["sin"]

    def checkpoint(self) -> None:
        """Tell it that the secondary has become a copy of the primary."""
        if self.program is Program.QEMU:
            self.qmp("xen-colo-do-checkpoint")
        else:
            self.channels["notify"].send(CHECKPOINT_DONE, INIT)
            self.read_until("notify", INIT_ANSWER)


_OUT = {"cin": "cout", "sin": "sout"}


def _rewriter_of_qemu(vnet: str) -> list[str]:
    ports = free_udp_ports(2)
    netdevs = [
        f"socket,id=nd0,udp=127.0.0.1:{ports[0]},localaddr=127.0.0.1:{ports[1]}",
        "hubport,id=hp0,hubid=0,netdev=nd0",
        "hubport,id=hp1,hubid=0",
    ]
    filters = [
        "filter-redirector,id=f0,netdev=nd0,queue=tx,indev=cin",
        "filter-redirector,id=f1,netdev=nd0,queue=rx,outdev=sout",
        "filter-rewriter,id=rew0,netdev=nd0,queue=all",
        "filter-redirector,id=f2,netdev=nd0,queue=tx,outdev=cout",
        "filter-redirector,id=f3,netdev=nd0,queue=rx,indev=sin",
    ]
    arguments = []
    for text in netdevs:
        arguments += ["-netdev", text]
    for text in filters:
        arguments += ["-object", text + vnet]
    return arguments


def free_udp_ports(count: int) -> list[int]:
    """Different ports that are free at the moment; below those that Linux gives out by itself."""
    chance = random.SystemRandom()
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            end = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            with contextlib.suppress(OSError):
                end.bind(("127.0.0.1", chance.randrange(10_000, 32_768)))
                ports.append(int(end.getsockname()[1]))
        return ports
