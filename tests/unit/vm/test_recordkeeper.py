"""The record of a node with a QEMU: what was kept is what the next life begins with."""

import asyncio
from pathlib import Path

import pytest

from pycolo.failover.pair import Record
from pycolo.failover.pairstates import Role as PairRole
from pycolo.link.hello import Role
from pycolo.vm.recordkeeper import StateKeeper
from pycolo.vm.statefile import NodeRecord, StateFile

FIRST = NodeRecord(role=Role.SECONDARY)
PROTECTED = Record(PairRole.PRIMARY, 7, was_protected=True, is_wished=True)


def keeper(place: Path) -> StateKeeper:
    return StateKeeper(StateFile(place), FIRST)


def kept(place: Path, *records: Record) -> list[str]:
    """Why each record was not kept; "" for one that was."""

    async def play() -> list[str]:
        own = keeper(place)
        answers: list[str] = []
        for record in records:
            own.keep(record, answers.append)
        await own.close()
        await asyncio.sleep(0)
        return answers

    return asyncio.run(play())


def test_a_new_node_begins_with_the_role_of_its_file(tmp_path: Path) -> None:
    async def play() -> None:
        own = keeper(tmp_path)
        assert own.pair_record == Record(PairRole.SECONDARY)
        assert (own.pid, own.epoch.number) == (0, 0)
        await own.close()

    asyncio.run(play())


def test_the_last_record_is_what_the_next_life_begins_with(tmp_path: Path) -> None:
    assert kept(tmp_path, Record(PairRole.SECONDARY, 6), PROTECTED) == ["", ""]

    async def play() -> None:
        own = keeper(tmp_path)
        assert own.pair_record == PROTECTED
        await own.close()

    asyncio.run(play())


def test_epoch_and_qemu_are_kept_with_the_pairs_part(tmp_path: Path) -> None:
    async def first() -> None:
        own = keeper(tmp_path)
        own.note_pid(12)
        own.epoch.meet(1 << 40)
        own.keep(PROTECTED, lambda why: None)
        await own.close()

    async def second() -> None:
        own = keeper(tmp_path)
        assert (own.pid, own.epoch.number, own.pair_record) == (12, 1 << 40, PROTECTED)
        own.note_pid(0)
        await own.close()

    asyncio.run(first())
    asyncio.run(second())
    assert StateFile(tmp_path).read(FIRST).pid == 0
    assert StateFile(tmp_path).read(FIRST).term == 7


def test_a_disk_that_takes_nothing_is_an_answer_and_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "state").mkdir()

    async def play() -> None:
        own = keeper(tmp_path / "state")
        (tmp_path / "state" / "node.new").mkdir()  # in the way of the file that is written
        answers: list[str] = []
        own.keep(PROTECTED, answers.append)
        own.note_pid(9)
        await own.close()
        await asyncio.sleep(0)
        assert len(answers) == 1
        assert "cannot be written" in answers[0]
        assert "\n" not in answers[0]

    asyncio.run(play())
    assert "cannot be written" in capsys.readouterr().out
