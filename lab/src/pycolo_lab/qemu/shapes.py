"""Machines of all shapes under COLO, without nodes: pairs of QEMUs, formed one after another, whose memory is compared.

The pair is held together by the product's own parts: its probe, its relays, its cures. Nothing is compared but the two
guests' memory: whether it is the same is the question that no client's answer settles.

Memory is compared while LOADED is held: the primary stands still, and the secondary, which has run for a moment, is
stopped. A page that differs *and* has at the secondary what the primary had at the last comparison is stale: the change
was lost.
"""

import asyncio
import os
import random
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec

from pycolo.errors import PeerError, PycoloError
from pycolo.qmp.client import Qmp, QmpEvent
from pycolo.qmp.cures import Moment, Role
from pycolo.qmp.probe import Facts, probe
from pycolo.qmp.versions import colo_capabilities
from pycolo.transport.linksetup import RawLink
from pycolo.vm.backstream import ColoMessage
from pycolo.vm.curing import Curing
from pycolo.vm.relay import Relay, listen_for_stream
from pycolo_lab.errors import LabError
from pycolo_lab.qemu import ramcheck
from pycolo_lab.qemu.image import Image
from pycolo_lab.qemu.machine import READY, Qemu

STEP_S: Final = 180.0
"""Each step takes seconds at most, on a busy machine too."""

POLL_S: Final = 0.05
DELAY_MS: Final = 1_000_000_000
SETTLE_S: Final = 0.4
"""Between two checkpoints: the guest changes memory meanwhile."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """A machine, and what is done with it."""

    machine: str = "pc"
    vcpus: int = 1
    memory: str = "96M"
    cpu: str = "qemu64"
    devices: tuple[str, ...] = ()
    """Arguments of -device, in order."""
    formations: int = 1
    checkpoints: int = 5
    cures: bool = True
    preload: bool = True
    pages: int | None = None
    """How many pages are compared; None: all."""
    ends_with_failover: bool = True


class Formation(msgspec.Struct, kw_only=True):
    """One pair: what came of it."""

    checkpoints: int = 0
    stale_pages: int = 0
    compare_ms: float = 0.0
    pauses_ms: list[float] = []
    error: str | None = None

    @property
    def holds(self) -> bool:
        """Whether nothing was lost."""
        return self.error is None and self.stale_pages == 0


class _Guest:
    """One QEMU process."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.qmp = Qmp(directory / f"{name}.qmp", name, self._heard, lambda text: None)
        self.process: asyncio.subprocess.Process | None = None
        self.events: list[QmpEvent] = []

    def _heard(self, event: QmpEvent) -> None:
        self.events.append(event)

    @property
    def console(self) -> str:
        path = self.directory / f"{self.name}.serial"
        return path.read_text(errors="replace") if path.exists() else ""

    def last_words(self) -> str:
        said = (self.directory / f"{self.name}.log").read_text(errors="replace").strip().splitlines()
        return said[-1][:160] if said else "no output"

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def check(self) -> None:
        """Raise `LabError` when it has ended."""
        assert self.process is not None
        if not self.is_alive:
            raise LabError(f"QEMU {self.name} has ended ({self.process.returncode}): {self.last_words()}")

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait. Raises `LabError` when it does not come true or QEMU ends."""
        deadline = time.monotonic() + STEP_S
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise LabError(f"{self.name}: {what}: not within {STEP_S:.0f} s")
            await asyncio.sleep(POLL_S)

    async def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        self.check()
        return await self.qmp.execute(command, arguments, timeout_s=STEP_S)

    async def is_running(self) -> bool:
        return bool((await self.execute("query-status"))["running"])

    async def kill(self) -> None:
        await self.qmp.close()
        if self.process is not None and self.is_alive:
            self.process.kill()
            await self.process.wait()


class ShapeRun:
    """Tries one shape with one QEMU. `announce(text)` after each formation."""

    def __init__(
        self,
        shape: Shape,
        qemu: Qemu,
        image: Image,
        initramfs: bytes,
        directory: Path,
        announce: Callable[[str], None],
        seed: int = 1,
    ) -> None:
        self._shape = shape
        self._qemu = qemu
        self._image = image
        self._directory = directory
        self._announce = announce
        self._random = random.Random(seed)
        self._initramfs = directory / "initramfs.gz"
        self._initramfs.write_bytes(initramfs)

    async def run(self) -> list[Formation]:
        """All formations. Raises `LabError` when not even one guest boots."""
        found: list[Formation] = []
        primary = await self._start("primary", [])
        try:
            await primary.until(lambda: READY in primary.console, "the guest did not get ready")
            for number in range(self._shape.formations):
                is_last = number == self._shape.formations - 1
                found.append(await self._formation(primary, number, is_last=is_last))
                self._announce(_line(number, found[-1]))
                if (
                    found[-1].error is not None
                    and primary.process is not None
                    and primary.process.returncode is not None
                ):
                    break
        finally:
            await primary.kill()
        return found

    async def _start(self, name: str, more: list[str]) -> _Guest:
        guest, shape = _Guest(name, self._directory), self._shape
        serial = self._directory / f"{name}.serial"
        words = f"console=ttyS0 panic=-1 loglevel=4 nokaslr colo.writers={shape.vcpus}"
        command = [
            *self._qemu.command,
            *("-name", f"{name},debug-threads=on", "-machine", shape.machine, "-accel", "tcg", "-cpu", shape.cpu),
            *("-m", shape.memory, "-smp", str(shape.vcpus), "-display", "none", "-nodefaults"),
            *("-serial", f"file:{serial}", "-kernel", str(self._image.kernel), "-initrd", str(self._initramfs)),
            *("-append", words, "-netdev", "hubport,id=hn0,hubid=0"),
            *("-device", "virtio-net-pci,id=e0,netdev=hn0,romfile="),
            *(word for device in shape.devices for word in ("-device", device)),
            *("-qmp", f"unix:{guest.qmp.path},server=on,wait=off", *more),
        ]
        environment = {**os.environ, **({"LD_PRELOAD": str(self._image.preload)} if shape.preload else {})}
        with (self._directory / f"{name}.log").open("wb") as output:
            guest.process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, env=environment
            )
        try:
            await guest.qmp.connect(STEP_S)
        except PycoloError as error:
            raise LabError(f"{error}; {guest.last_words()}") from error
        return guest

    async def _formation(self, primary: _Guest, number: int, *, is_last: bool) -> Formation:
        found = Formation()
        secondary = await self._start(f"secondary-{number}", ["-incoming", "defer"])
        pair: _Pair | None = None
        try:
            pair = _Pair(self._shape, primary, secondary, self._directory, self._random)
            await pair.form()
            for _ in range(self._shape.checkpoints):
                await asyncio.sleep(SETTLE_S)
                await pair.checkpoint()
                found.checkpoints += 1
                secondary.check()
            if is_last and self._shape.ends_with_failover:
                await pair.fail_over()
        except (PycoloError, LabError) as error:
            found.error = str(error)
        finally:
            if pair is not None:
                found.stale_pages, found.compare_ms, found.pauses_ms = pair.stale_pages, pair.compare_ms, pair.pauses_ms
                await pair.close()
            await secondary.kill()
        if not is_last:
            await _leave_colo(primary)
        return found


class _Pair:
    """Two QEMUs and the stream between them."""

    def __init__(
        self, shape: Shape, primary: _Guest, secondary: _Guest, directory: Path, chance: random.Random
    ) -> None:
        self._shape = shape
        self._primary = primary
        self._secondary = secondary
        self._directory = directory
        self._chance = chance
        self._loop = asyncio.get_running_loop()
        self._relays: list[Relay] = []
        self._ended: str | None = None
        self._before: dict[int, bytes] = {}
        self._facts: Facts | None = None
        self.epochs = 0
        self.stale_pages = 0
        self.compare_ms = 0.0
        self.pauses_ms: list[float] = []

    # ── steps ──────────────────────────────────────────────────────────────────────────────────────────────

    async def form(self) -> None:
        """Until both are in COLO, and the secondary runs the first state."""
        primary, secondary = self._primary, self._secondary
        self._facts = await probe(primary.qmp, is_forced=True)
        curing = self._cures(primary, "primary")
        other = self._cures(secondary, "secondary")
        capabilities = [{"capability": k, "state": v} for k, v in colo_capabilities(self._facts.version).items()]
        for each in (primary, secondary):
            await each.execute("migrate-set-capabilities", {"capabilities": capabilities})
        incoming, relayed = self._directory / "incoming.sock", self._directory / "relay.sock"
        await secondary.execute("migrate-incoming", {"uri": f"unix:{incoming}"})
        listening = listen_for_stream(relayed)
        await curing.apply(Moment.BEFORE_MIGRATE)
        await primary.execute("migrate-set-parameters", {"x-checkpoint-delay": DELAY_MS})
        await primary.execute("migrate", {"uri": f"unix:{relayed}"})
        at_primary, _ = await self._loop.sock_accept(listening)
        listening.close()
        at_secondary = socket.socket(socket.AF_UNIX)
        at_secondary.connect(str(incoming))
        left, right = socket.socketpair()

        def heard(word: int) -> None:
            """At the primary's end."""
            match word:
                case ColoMessage.READY:
                    curing.at(Moment.READY_HELD)
                    self._compare()
                case ColoMessage.LOADED:
                    curing.at(Moment.LOADED_HELD)
                    self._compare()
                    self.epochs += 1

        def heard_first(word: int) -> None:
            """At the secondary's end."""
            match word:
                case ColoMessage.REPLY:
                    other.at(Moment.REPLY_HELD)
                case ColoMessage.READY | ColoMessage.LOADED:
                    other.loaded()

        self._relays = [
            Relay(at_primary, RawLink(left, "primary"), is_primary=True, on_message=heard, on_ended=self._end),
            Relay(
                at_secondary, RawLink(right, "secondary"), is_primary=False, on_message=heard_first, on_ended=self._end
            ),
        ]
        for relay in self._relays:
            relay.start()
        await self._until_running(lambda: True, "COLO did not begin")

    async def checkpoint(self) -> None:
        """One checkpoint. Raises `LabError`."""
        epoch, events = self.epochs, len(self._primary.events)
        await self._primary.execute("migrate-set-parameters", {"x-checkpoint-delay": DELAY_MS})
        await self._until_running(lambda: self.epochs > epoch, f"checkpoint {epoch + 1} did not end")
        self._note_pause(self._primary.events[events:])

    async def fail_over(self) -> None:
        """Kill the primary. Its successor must count on."""
        await self._primary.kill()
        ticks = self._secondary.console.count("tick")
        await self._secondary.execute("x-colo-lost-heartbeat")
        await self._secondary.until(
            lambda: self._secondary.console.count("tick") > ticks + 3, "the guest counts no more"
        )

    async def close(self) -> None:
        for relay in self._relays:
            await asyncio.to_thread(relay.close)

    # ── parts ──────────────────────────────────────────────────────────────────────────────────────────────

    def _cures(self, guest: _Guest, role: Role) -> Curing:
        assert self._facts is not None
        # Of these facts no cure follows.
        facts = self._facts if self._shape.cures else replace(self._facts, accelerator="kvm", version=(99, 0, 0))
        return Curing(guest, facts, role)

    async def _until_running(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + STEP_S
        while True:
            for guest in (self._secondary, self._primary):
                guest.check()
            if self._ended is not None:
                await asyncio.sleep(1.0)  # a QEMU that aborts has its last words then
                self._secondary.check()
                raise LabError(self._ended)
            if condition() and self._before_ready() and await self._primary.is_running():
                return
            if time.monotonic() > deadline:
                raise LabError(f"{what} within {STEP_S:.0f} s")
            await asyncio.sleep(POLL_S)

    def _before_ready(self) -> bool:
        return bool(self._before)

    def _end(self, text: str) -> None:
        self._ended = self._ended or text

    def _note_pause(self, events: list[QmpEvent]) -> None:
        stops = [event.at_us for event in events if event.name == "STOP"]
        runs = [event.at_us for event in events if event.name == "RESUME"]
        if stops and runs:
            self.pauses_ms.append((runs[-1] - stops[0]) / 1000 - self.compare_ms)

    def _compare(self) -> None:
        """In the relay's thread, the message being held."""
        began = time.monotonic()
        asyncio.run_coroutine_threadsafe(self._compare_memory(), self._loop).result(STEP_S)
        self.compare_ms = (time.monotonic() - began) * 1000

    async def _compare_memory(self) -> None:
        assert self._facts is not None
        await self._secondary.execute("stop")
        pages = ramcheck.choose(self._facts.ram_bytes, self._shape.pages, self._before, self._chance)
        ours = await ramcheck.read(self._primary, self._directory / "primary.ram", pages)
        theirs = await ramcheck.read(self._secondary, self._directory / "secondary.ram", pages)
        self.stale_pages += len(ramcheck.stale(self._before, ours, theirs))
        self._before = ours
        await self._secondary.execute("cont")


async def _leave_colo(primary: _Guest) -> None:
    """The secondary is gone: the primary goes on alone."""
    if not primary.is_alive:
        return
    try:
        if (await primary.execute("query-colo-status"))["mode"] != "none":
            await primary.execute("x-colo-lost-heartbeat")
        deadline = time.monotonic() + STEP_S
        while not await primary.is_running() and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
    except (PeerError, LabError):
        return


def _line(number: int, found: Formation) -> str:
    said = found.error or (f"{found.stale_pages} stale pages" if found.stale_pages else "ok")
    return f"formation {number + 1}: {found.checkpoints} checkpoints, {said}"
