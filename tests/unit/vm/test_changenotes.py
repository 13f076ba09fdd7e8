"""What is noted of a guest's writes: enough, whenever the other host loses what it had not put on its disk."""

import asyncio
import random

import pytest

from pycolo.errors import PeerError
from pycolo.qmp.diskbitmaps import WORK, bitmap_name
from pycolo.vm.changenotes import ChangeNotes
from support.dirtymachine import NODE, DirtyMachine

BLOCKS = 24
STEPS = 60


def notes_of(machine: DirtyMachine) -> ChangeNotes:
    return ChangeNotes(lambda: machine)  # type: ignore[arg-type,return-value]


async def checkpoint(machine: DirtyMachine, notes: ChangeNotes, *, is_first: bool = False) -> None:
    if not is_first:
        machine.secondary_stops()
    await notes.pass_checkpoint(1.0)


@pytest.mark.parametrize("seed", range(40))
def test_copying_what_is_noted_makes_the_disks_the_same(seed: int) -> None:
    """Whatever is written, however many checkpoints are made, and whenever the secondary dies, again and again.

    Its token stands for its images: a full copy makes a new one there, and the primary offers what it has of it.
    """

    async def play() -> None:
        rng = random.Random(seed)
        machine = DirtyMachine()
        notes = notes_of(machine)
        held: set[str] = set()  # the tokens that the other host has noted with its images
        incremental = 0
        for session in range(12):
            offered = [token for token in await notes.found([NODE]) if token in held]
            token = f"t{session}"
            if offered:
                base = (await notes.found([NODE]))[offered[0]][0]
                machine.copy_changes(base.bitmap)
                held = {token, offered[0]}
                incremental += 1
                await notes.forget(but=[offered[0]])
            else:
                await notes.forget()
                machine.copy_all()
                held = {token}
            assert machine.copy == machine.disk
            notes.begin(token, {NODE: 1 << 30})
            if rng.random() < 0.9:
                await checkpoint(machine, notes, is_first=True)
                for _ in range(rng.randrange(STEPS)):
                    if rng.random() < 0.2:
                        await checkpoint(machine, notes)
                    else:
                        machine.write(rng.randrange(BLOCKS))
                if rng.random() < 0.3:  # it stops for a checkpoint that is never made
                    machine.secondary_stops()
            machine.secondary_dies(rng)
            for _ in range(rng.randrange(5)):
                machine.write(rng.randrange(BLOCKS))
            if rng.random() < 0.3:
                notes = notes_of(machine)  # the node is started again
        assert incremental, "shown for something"

    asyncio.run(play())


def test_before_the_second_checkpoint_nothing_can_be_relied_on() -> None:
    """The secondary may not have put on its disk what it had when the first state was there."""

    async def play() -> None:
        machine = DirtyMachine()
        notes = notes_of(machine)
        machine.copy_all()
        notes.begin("t", {NODE: 1 << 30})
        await checkpoint(machine, notes, is_first=True)
        assert await notes.found([NODE]) == {}
        await checkpoint(machine, notes)
        assert list(await notes.found([NODE])) == ["t"]

    asyncio.run(play())


def test_a_bitmap_that_could_not_be_emptied_is_the_last() -> None:
    """QEMU may still empty it, when the guest runs again: the other one counts, and is never emptied any more."""

    async def play() -> None:
        machine = DirtyMachine()
        notes = notes_of(machine)
        machine.copy_all()
        notes.begin("t", {NODE: 1 << 30})
        await checkpoint(machine, notes, is_first=True)
        await checkpoint(machine, notes)
        clear = machine.answers["block-dirty-bitmap-clear"]
        machine.answers["block-dirty-bitmap-clear"] = PeerError("no answer")
        await checkpoint(machine, notes)
        machine.write(1)
        machine.bitmaps[bitmap_name("t", 0)].clear()  # late
        machine.answers["block-dirty-bitmap-clear"] = clear
        machine.write(2)
        await checkpoint(machine, notes)
        base = (await notes.found([NODE]))["t"][0]
        assert machine.bitmaps[base.bitmap] == {1, 2}

    asyncio.run(play())


def test_without_a_session_nothing_is_noted() -> None:
    machine = DirtyMachine()
    asyncio.run(notes_of(machine).pass_checkpoint(1.0))
    assert machine.asked == []


def test_what_is_forgotten_is_only_what_this_project_has_made() -> None:
    machine = DirtyMachine()
    kept, gone = bitmap_name("t", 0), bitmap_name("s", 0)
    machine.bitmaps = {"the user's": {1}, kept: {2}, gone: {3}, WORK: {4}}
    notes = notes_of(machine)
    asyncio.run(notes.forget_work())
    assert machine.bitmaps.keys() == {"the user's", kept, gone}
    asyncio.run(notes.forget(but=["t"]))
    assert machine.bitmaps.keys() == {"the user's", kept}
    asyncio.run(notes.forget())
    assert machine.bitmaps.keys() == {"the user's"}
