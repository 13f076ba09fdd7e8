"""What a cure does to a QEMU: the ports it writes, and what it leaves as it was."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycolo.errors import PeerError, PycoloError, QmpError
from pycolo.qmp.cures import Moment
from pycolo.vm.curing import BUS_MASTER, COMMAND, PAM_PC, PAM_Q35, RCBA, VIRTIO_VENDOR, Curing
from support.guestworld import FACTS

Q35 = replace(FACTS, machine="pc-q35-7.2-machine", accelerator="tcg", ram_bytes=1 << 30)
PC = replace(Q35, machine="pc-i440fx-7.2-machine")
KVM = replace(PC, accelerator="kvm")

SELECTED = 0x80001234
"""What the guest has written to 0xcf8 just before it was stopped."""

IS_ON = 0xFED1C001

CARD, DISK = 0x3 << 11 | COMMAND, 1 << 16 | COMMAND
"""The command registers of 00:03.0, and of 01:00.0 behind a bridge."""

COMMANDS = (CARD, DISK)

LINE = re.compile(r"(?P<way>[io])/(?P<size>[bw]) 0x(?P<port>[0-9a-f]+)(?: 0x(?P<value>[0-9a-f]+))?")


class Qemu:
    """The ports 0xcf8 to 0xcff of a QEMU, and the configuration space behind them."""

    def __init__(self) -> None:
        self.address = SELECTED
        self.space = bytearray(2 << 16)  # buses 0 and 1
        self.pci: list[dict[str, Any]] = []
        self.disabled: set[int] = set()
        self.space[RCBA : RCBA + 4] = IS_ON.to_bytes(4, "little")
        self.space[PAM_PC] = self.space[PAM_Q35] = 0x31
        self.is_running = False
        self.done: list[str] = []
        self.writes: list[tuple[int, int]] = []
        self.fails_at = ""
        self.says: str | None = None

    @property
    def rcba(self) -> int:
        return int.from_bytes(self.space[RCBA : RCBA + 4], "little")

    async def execute(self, command: str, arguments: Any = None) -> Any:
        self.done.append(command)
        if command == self.fails_at:
            raise QmpError("vm1", command, "GenericError", "no")
        if command == "query-pci":
            return [{"bus": 0, "devices": self.pci}]
        if command != "human-monitor-command":
            self.is_running = command == "cont"
            return {}
        assert not self.is_running, "the guest uses the ports itself"
        found = LINE.fullmatch(arguments["command-line"])
        assert found is not None
        if self.says is not None:
            return self.says
        port, count = int(found["port"], 16), {"b": 1, "w": 4}[found["size"]]
        if found["way"] == "o":
            self._write(port, count, int(found["value"], 16))
            return ""
        letter = {1: "b", 4: "l"}[count]
        return f"port{letter}[{port:#06x}] = {self._read(port, count):#0{2 + count * 2}x}\r\n"

    def _write(self, port: int, count: int, value: int) -> None:
        if port == 0xCF8:
            assert count == 4, "shorter writes do not reach it"
            self.address = value
            return
        at = self._at(port)
        self.writes.append((at, value))
        self.space[at : at + count] = value.to_bytes(count, "little")
        if at in COMMANDS:
            self.command(at, value)

    def command(self, at: int, value: int) -> None:
        """As hw/virtio/virtio-pci.c: what bus mastering is switched to decides, and no load."""
        self.space[at] = value
        (self.disabled.discard if value & BUS_MASTER else self.disabled.add)(at)

    def _read(self, port: int, count: int) -> int:
        if port == 0xCF8:
            return self.address
        at = self._at(port)
        return int.from_bytes(self.space[at : at + count], "little")

    def _at(self, port: int) -> int:
        assert self.address & 1 << 31, "not enabled"
        return (self.address & 0x1FFFC) + port - 0xCFC


def play(scene: Callable[[Qemu, Curing], Coroutine[Any, Any, None]], facts: Any = Q35, role: Any = "secondary") -> Qemu:
    qemu = Qemu()

    async def run() -> None:
        await scene(qemu, Curing(qemu, facts, role))

    asyncio.run(run())
    assert qemu.address == SELECTED, "the guest finds its register selected"
    return qemu


def test_rcba_is_closed_for_the_load() -> None:
    async def scene(qemu: Qemu, curing: Curing) -> None:
        await curing.apply(Moment.REPLY_HELD)
        assert qemu.rcba == IS_ON & ~1

    play(scene)


def test_rcba_is_opened_again_when_nothing_was_loaded_while_the_guest_stands_still() -> None:
    async def scene(qemu: Qemu, curing: Curing) -> None:
        await curing.apply(Moment.REPLY_HELD)
        qemu.is_running = True
        await curing.apply(Moment.ABORTED)
        assert qemu.rcba == IS_ON
        assert qemu.is_running

    play(scene)


@pytest.mark.parametrize("has_loaded", [True, False])
def test_rcba_that_a_load_has_set_is_left_alone(has_loaded: bool) -> None:
    async def scene(qemu: Qemu, curing: Curing) -> None:
        await curing.apply(Moment.REPLY_HELD)
        if has_loaded:
            curing.loaded()
        else:  # loaded, but LOADED was lost
            qemu.space[RCBA] |= 1
        before, qemu.is_running = qemu.rcba, True
        await curing.apply(Moment.ABORTED)
        assert qemu.rcba == before
        assert qemu.is_running
        assert ("stop" in qemu.done) == (not has_loaded)

    play(scene)


def test_rcba_that_the_guest_has_not_switched_on_is_not_touched() -> None:
    async def scene(qemu: Qemu, curing: Curing) -> None:
        qemu.space[RCBA] = 0
        await curing.apply(Moment.REPLY_HELD)
        await curing.apply(Moment.ABORTED)
        assert qemu.writes == []

    assert "stop" not in play(scene).done


def test_a_guest_whose_rcba_cannot_be_opened_again_runs_on() -> None:
    async def scene(qemu: Qemu, curing: Curing) -> None:
        await curing.apply(Moment.REPLY_HELD)
        qemu.fails_at = "human-monitor-command"
        with pytest.raises(PeerError):
            await curing.apply(Moment.ABORTED)
        assert qemu.is_running

    play(scene)


@pytest.mark.parametrize(("facts", "register"), [(PC, PAM_PC), (Q35, PAM_Q35)])
@pytest.mark.parametrize("moment", [Moment.READY_HELD, Moment.LOADED_HELD])
def test_a_flush_writes_the_pam_register_and_changes_nothing(facts: Any, register: int, moment: Moment) -> None:
    async def scene(qemu: Qemu, curing: Curing) -> None:
        before = bytes(qemu.space)
        await curing.apply(moment)
        assert qemu.writes == [(register, 0x31)]
        assert qemu.space == before

    play(scene, facts, "primary")


def test_a_guest_that_would_lose_memory_stands_still_for_the_copy() -> None:
    async def scene(qemu: Qemu, curing: Curing) -> None:
        await curing.apply(Moment.BEFORE_MIGRATE)

    assert play(scene, PC, "primary").done == ["stop"]


@pytest.mark.parametrize("role", ["primary", "secondary"])
def test_a_qemu_without_faults_is_not_asked_anything(role: Any) -> None:
    async def scene(qemu: Qemu, curing: Curing) -> None:
        for moment in Moment:
            await curing.apply(moment)
            await asyncio.to_thread(curing.at, moment)

    assert play(scene, replace(KVM, machine="virt-7.2-machine"), role).done == []


def test_a_cure_that_fails_is_an_error_in_the_relays_thread() -> None:
    async def scene(qemu: Qemu, curing: Curing) -> None:
        await asyncio.to_thread(curing.at, Moment.REPLY_HELD)
        assert qemu.rcba == IS_ON & ~1
        qemu.fails_at = "human-monitor-command"
        with pytest.raises(PycoloError, match="human-monitor-command"):
            await asyncio.to_thread(curing.at, Moment.REPLY_HELD)

    play(scene)


@pytest.mark.parametrize("answer", ["unknown command: 'i'", "portl[0x0cf8] = a lot"])
def test_an_answer_that_is_no_value_is_an_error_that_shows_it(answer: str) -> None:
    async def scene(qemu: Qemu, curing: Curing) -> None:
        qemu.says = answer
        with pytest.raises(PeerError, match="instead of a value"):
            await curing.apply(Moment.REPLY_HELD)

    play(scene)


# ── virtio devices ──────────────────────────────────────────────────────────────────────────────────────────


def pci(bus: int, slot: int, vendor: int = VIRTIO_VENDOR, **more: Any) -> dict[str, Any]:
    return {"bus": bus, "slot": slot, "function": 0, "id": {"vendor": vendor, "device": 0x1041}, **more}


def with_virtio(qemu: Qemu, *, is_numbered: bool = True) -> None:
    behind = {"bus": {"number": 0, "secondary": int(is_numbered)}, "devices": [pci(int(is_numbered), 0)]}
    qemu.pci = [pci(0, 0, 0x8086), pci(0, 3), pci(0, 4, 0x1B36, pci_bridge=behind)]
    for at in COMMANDS:
        qemu.command(at, 0x07)


COMMAND_VALUES = st.tuples(st.sampled_from([0x00, 0x03, 0x07]), st.sampled_from([0x00, 0x03, 0x07]))


@given(COMMAND_VALUES, COMMAND_VALUES)
def test_whatever_the_secondarys_guest_has_done_a_loaded_device_works(own: Any, loaded: Any) -> None:
    async def scene(qemu: Qemu, curing: Curing) -> None:
        with_virtio(qemu)
        for at, value in zip(COMMANDS, own, strict=True):
            qemu.command(at, value)
        await curing.apply(Moment.REPLY_HELD)
        for at, value in zip(COMMANDS, loaded, strict=True):
            qemu.space[at] = value
        curing.loaded()
        assert not qemu.disabled

    play(scene, PC)


@given(COMMAND_VALUES)
def test_nothing_loaded_nothing_changed(own: Any) -> None:
    async def scene(qemu: Qemu, curing: Curing) -> None:
        with_virtio(qemu)
        for at, value in zip(COMMANDS, own, strict=True):
            qemu.command(at, value)
        await curing.apply(Moment.REPLY_HELD)
        qemu.is_running = True
        await curing.apply(Moment.ABORTED)
        assert qemu.is_running
        for at, value in zip(COMMANDS, own, strict=True):
            assert qemu.space[at] == value
            assert (at in qemu.disabled) == (not value & BUS_MASTER)

    play(scene, PC)


def test_a_survivor_caught_between_two_looks_has_its_devices() -> None:
    async def scene(qemu: Qemu, curing: Curing) -> None:
        with_virtio(qemu)
        await curing.apply(Moment.REPLY_HELD)
        curing.loaded()
        qemu.command(CARD, 0x03)
        await curing.apply(Moment.REPLY_HELD)  # too soon after the first one
        assert CARD in qemu.disabled
        qemu.space[CARD] = 0x07
        curing.loaded()
        await curing.apply(Moment.ABORTED)
        assert not qemu.disabled

    play(scene, PC)


def test_behind_a_bridge_without_a_number_nothing_is_touched() -> None:
    async def scene(qemu: Qemu, curing: Curing) -> None:
        with_virtio(qemu, is_numbered=False)
        qemu.command(0x0 << 11 | COMMAND, 0x03)  # the host bridge's, which bus 0, device 0 would be
        qemu.writes.clear()
        await curing.apply(Moment.REPLY_HELD)
        assert qemu.writes == []

    play(scene, PC)
