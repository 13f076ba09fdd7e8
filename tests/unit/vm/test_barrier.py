"""What has happened before a COLO message passes, on both nodes, with the real coordinator and no process."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from pycolo.checkpoint.epoch import Epoch
from pycolo.checkpoint.parts import Flow
from pycolo.config.sections import CheckpointOptions
from pycolo.errors import CheckpointError, StateError
from pycolo.qmp.cures import Moment
from pycolo.vm import barrier
from pycolo.vm.backstream import ColoMessage
from pycolo.vm.barrier import PrimaryBarrier, SecondaryBarrier
from pycolo.vm.checkpointdriver import CheckpointDriver

DEADLINE_S = 20
DONE = {"released_frames": 1, "released_bytes": 2, "discarded_frames": 3}


class Path:
    """A data path that writes down what it is asked to do, and does it at once."""

    guest_name = "card hn1 tap1"

    def __init__(self) -> None:
        self.did: list[tuple[Any, ...]] = []
        self.has_ended = False
        self.is_loading = False
        self.unread = 0
        """The guest needs so many looks to read its input."""

    def ask(self, question: Callable[[], Any]) -> "Future[Any]":
        future: Future[Any] = Future()
        if self.has_ended:
            future.set_exception(StateError("data path", "ended", "running"))
        else:
            future.set_result(question())
        return future

    def post(self, action: Callable[[], None]) -> None:
        action()

    def send_offsets(self, epoch: int) -> None:
        self.did.append(("offsets", epoch))

    def start_comparing(self, epoch: int, trusted: Callable[[], int]) -> None:
        self.did.append(("compare", epoch, trusted()))

    def commit(self, epoch: int) -> dict[str, int]:
        self.did.append(("commit", epoch))
        return DONE

    def hold_input(self) -> bool:
        self.did.append(("hold input",))
        return not self.is_loading

    def is_input_read(self) -> bool:
        self.unread = max(0, self.unread - 1)
        return not self.unread

    def give_up_input(self) -> int:
        self.did.append(("give up input",))
        return 7

    def hold(self) -> None:
        self.did.append(("hold",))

    def loaded(self, epoch: int) -> None:
        self.did.append(("loaded", epoch))


class Cures:
    """Writes down at which moments cures are due."""

    def __init__(self, did: list[tuple[Any, ...]]) -> None:
        self._did = did
        self.fails = False

    def at(self, moment: Moment) -> None:
        if self.fails:
            raise CheckpointError(moment.value, "no")
        self._did.append(("cure", moment))

    def loaded(self) -> None:
        self._did.append(("cured",))


class Primary:
    """As much of the primary's node as a barrier needs, and the host of its checkpoints."""

    def __init__(self, epoch: int = 6) -> None:
        self.loop = asyncio.get_running_loop()
        self.epoch = Epoch(epoch)
        self.path = Path()
        self.broken: list[str] = []
        self.suspicions: list[str] = []
        self.asked = 0
        self.may_be_protected = True
        self.stands_for = ""
        options = CheckpointOptions(min_distance_ms=0, max_interval_ms=0, timeout_ms=5_000)
        self.checkpoints = CheckpointDriver(options, self, self.epoch)
        self.curing = Cures(self.path.did)
        self.barrier = PrimaryBarrier(
            [self.path],  # type: ignore[list-item]
            self.epoch,
            self.checkpoints,
            self.synchronise,
            self.until_ns,
            self.curing,  # type: ignore[arg-type]
            lambda: Flow(1, 2),
            self.stand_still,
        )

    # the node

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        self.loop.call_soon_threadsafe(function, *arguments)

    def until_ns(self) -> int:
        return 77

    async def synchronise(self) -> None:
        if not self.may_be_protected:
            raise StateError("synchronise", "linked", "protecting")
        self.epoch.begin()
        self.checkpoints.heard_ready()

    async def stand_still(self) -> None:
        if self.stands_for:
            raise CheckpointError("requested", self.stands_for)
        self.path.did.append(("stand still",))

    # the checkpoints' host

    async def ask_hypervisor(self) -> None:
        self.asked += 1

    ram_bytes = 0

    def stream(self) -> tuple[int, int] | None:
        return None

    def memory_sample(self) -> None:
        return None

    def checkpoint_overdue(self, text: str) -> None:
        self.suspicions.append(text)

    def pair_broken(self, text: str) -> None:
        self.broken.append(text)

    # the test

    async def hears(self, *words: int) -> None:
        """In another thread, as the relay's: each passes, or this raises."""
        for word in words:
            follow = await asyncio.to_thread(self.barrier.guard, word)
            self.path.did.append(("passed", int(word)))
            if follow is not None:
                follow()
        await asyncio.sleep(0)

    async def protected(self) -> None:
        await self.hears(ColoMessage.READY)
        self.checkpoints.arm()
        self.path.did.clear()


CHECKPOINT = (ColoMessage.REPLY, ColoMessage.RECEIVED, ColoMessage.LOADED)


def play(scene: Callable[[Primary], Any], epoch: int = 6) -> None:
    async def limited() -> None:
        async with asyncio.timeout(DEADLINE_S):
            primary = Primary(epoch)
            try:
                await scene(primary)
            finally:
                await primary.checkpoints.close()

    asyncio.run(limited())


def test_ready_passes_when_the_pair_is_whole_and_compared() -> None:
    async def scene(primary: Primary) -> None:
        await primary.hears(ColoMessage.READY)
        assert primary.path.did == [("offsets", 7), ("compare", 7, 77), ("passed", ColoMessage.READY)]
        assert primary.checkpoints.status()["phase"] == "synchronised"

    play(scene)


def test_ready_never_passes_when_protecting_was_given_up() -> None:
    async def scene(primary: Primary) -> None:
        primary.may_be_protected = False
        with pytest.raises(StateError):
            await primary.hears(ColoMessage.READY)
        assert primary.path.did == []
        assert primary.epoch.number == 6

    play(scene)


def test_a_guest_that_stands_for_an_error_of_its_disk_never_hears_of_the_checkpoint() -> None:
    async def scene(primary: Primary) -> None:
        await primary.protected()
        primary.stands_for = "it is in io-error"
        with pytest.raises(CheckpointError, match="it is in io-error"):
            await primary.hears(ColoMessage.REPLY)
        assert primary.path.did == [("hold input",)]

    play(scene)


@pytest.mark.rule("E1")
def test_a_checkpoint_passes_message_by_message() -> None:
    async def scene(primary: Primary) -> None:
        await primary.protected()
        for epoch in (8, 9):
            await primary.hears(*CHECKPOINT)
            assert primary.path.did == [
                ("hold input",),
                ("stand still",),
                ("passed", ColoMessage.REPLY),
                ("offsets", epoch),
                ("passed", ColoMessage.RECEIVED),
                ("cure", Moment.LOADED_HELD),
                ("commit", epoch),
                ("passed", ColoMessage.LOADED),
            ]
            assert primary.epoch.number == epoch, "counted before LOADED passes"
            primary.path.did.clear()
        assert not primary.checkpoints._coordinator.unexpected
        moments = primary.barrier._moments
        seen = [moments.replied_us, moments.reply_passed_us, moments.received_us, moments.loaded_us]
        assert seen[0] > 0
        assert [*seen, moments.committed_us] == sorted([*seen, moments.committed_us])
        assert moments.flow == Flow(1, 2)
        assert moments.clock_us > 0

    play(scene)


@pytest.mark.rule("E1")
@pytest.mark.parametrize("words", [(ColoMessage.LOADED,), (*CHECKPOINT, ColoMessage.LOADED)])
def test_loaded_without_a_reply_never_passes_and_releases_nothing(words: tuple[int, ...]) -> None:
    async def scene(primary: Primary) -> None:
        await primary.protected()
        with pytest.raises(CheckpointError, match="out of step"):
            await primary.hears(*words)
        assert primary.path.did.count(("passed", ColoMessage.LOADED)) == len(words) // 4
        assert sum(did[0] == "commit" for did in primary.path.did) == len(words) // 4
        assert len(primary.suspicions) == 1

    play(scene)


@pytest.mark.rule("E4")
def test_a_primary_that_has_lost_its_disk_meanwhile_is_not_made_to_stop() -> None:
    """QEMU has stopped the guest for a full disk after REQUEST: upon REPLY it would abort."""

    async def scene(primary: Primary) -> None:
        await primary.protected()
        primary.checkpoints.heard_colo_end("disk disk-a: an error on this host")
        with pytest.raises(CheckpointError, match="was lost before the primary has stopped"):
            await primary.hears(ColoMessage.REPLY)
        assert ("passed", ColoMessage.REPLY) not in primary.path.did

    play(scene)


@pytest.mark.rule("E4")
def test_loaded_of_an_aborted_checkpoint_never_passes() -> None:
    """COLO_EXIT came over QMP, and overtook LOADED in the stream: what is held stays held."""

    async def scene(primary: Primary) -> None:
        await primary.protected()
        await primary.hears(ColoMessage.REPLY, ColoMessage.RECEIVED)
        primary.checkpoints.heard_colo_end("QEMU has left COLO after an error")
        with pytest.raises(CheckpointError):
            await primary.hears(ColoMessage.LOADED)
        assert not [did for did in primary.path.did if did[0] == "commit"]
        assert primary.broken == ["QEMU has left COLO after an error"]
        assert primary.epoch.number == 7

    play(scene)


@pytest.mark.rule("E1")
def test_loaded_never_passes_when_the_data_path_has_ended() -> None:
    async def scene(primary: Primary) -> None:
        await primary.protected()
        await primary.hears(ColoMessage.REPLY, ColoMessage.RECEIVED)
        primary.path.has_ended = True
        with pytest.raises(CheckpointError, match="has not committed"):
            await primary.hears(ColoMessage.LOADED)
        assert len(primary.broken) == 1
        assert primary.checkpoints.status()["aborted"] == 1

    play(scene)


def test_the_secondary_counts_what_its_guest_has_loaded_and_nothing_else() -> None:
    path, epoch = Path(), Epoch(6)
    barrier = SecondaryBarrier([path], epoch, Cures([]))  # type: ignore[list-item, arg-type]
    for word in (ColoMessage.READY, *CHECKPOINT, *CHECKPOINT[:2]):
        barrier.guard(word)
    assert path.did == [("loaded", 7), ("hold",), ("loaded", 8), ("hold",)]
    assert epoch.number == 8


def test_the_secondary_is_cured_when_it_is_held_and_before_reply_passes() -> None:
    path = Path()
    curing = Cures(path.did)
    barrier = SecondaryBarrier([path], Epoch(6), curing)  # type: ignore[arg-type]
    for word in (ColoMessage.READY, *CHECKPOINT):
        barrier.guard(word)
    assert path.did == [("cured",), ("loaded", 7), ("hold",), ("cure", Moment.REPLY_HELD), ("cured",), ("loaded", 8)]
    curing.fails = True
    with pytest.raises(CheckpointError):
        barrier.guard(ColoMessage.REPLY)


def test_loaded_never_passes_when_the_primary_cannot_be_cured() -> None:
    async def scene(primary: Primary) -> None:
        await primary.protected()
        await primary.hears(ColoMessage.REPLY, ColoMessage.RECEIVED)
        primary.curing.fails = True
        with pytest.raises(CheckpointError, match="LOADED is held: no"):
            await primary.hears(ColoMessage.LOADED)
        assert not [did for did in primary.path.did if did[0] == "commit"]

    play(scene)


def test_both_nodes_count_alike() -> None:
    async def scene(primary: Primary) -> None:
        theirs = Epoch(6)
        secondary = SecondaryBarrier([Path()], theirs, Cures([]))  # type: ignore[list-item, arg-type]

        async def pass_both(*words: int) -> None:
            for word in words:
                secondary.guard(word)
                await primary.hears(word)

        await pass_both(ColoMessage.READY)
        primary.checkpoints.arm()
        for _ in range(3):
            await pass_both(*CHECKPOINT)
            assert theirs.number == primary.epoch.number

    play(scene)


# ── the input ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.rule("E1")
def test_request_passes_when_every_card_of_the_secondary_is_held_and_read() -> None:
    paths = [Path(), Path()]
    paths[1].unread = 5
    SecondaryBarrier(paths, Epoch(6), Cures([])).request()  # type: ignore[arg-type]
    assert [path.did for path in paths] == [[("hold input",)], [("hold input",)]]
    assert [path.unread for path in paths] == [0, 0]


def test_request_waits_for_the_offsets_of_the_checkpoint_before() -> None:
    path = Path()
    path.is_loading = True
    asked = threading.Event()

    def look(question: Callable[[], Any]) -> "Future[Any]":
        asked.set()
        return Path.ask(path, question)

    path.ask = look  # type: ignore[method-assign]
    passing = threading.Thread(target=SecondaryBarrier([path], Epoch(6), Cures([])).request)  # type: ignore[list-item]
    passing.start()
    assert asked.wait(DEADLINE_S)
    assert passing.is_alive()
    path.is_loading = False
    passing.join(DEADLINE_S)
    assert not passing.is_alive()


def test_request_never_passes_when_those_offsets_do_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(barrier, "PATH_ANSWER_S", 0.01)
    path = Path()
    path.is_loading = True
    with pytest.raises(CheckpointError):
        SecondaryBarrier([path], Epoch(6), Cures([])).request()  # type: ignore[list-item]


@pytest.mark.parametrize("is_primary", [True, False])
def test_what_a_guest_does_not_read_is_thrown_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_primary: bool
) -> None:
    monkeypatch.setattr(barrier, "READ_S", 0.01)
    path = Path()
    path.unread = 1_000_000
    if is_primary:

        async def scene(primary: Primary) -> None:
            await primary.protected()
            primary.path.unread = 1_000_000
            await primary.hears(ColoMessage.REPLY)
            assert primary.path.did[:2] == [("hold input",), ("give up input",)]

        play(scene)
    else:
        SecondaryBarrier([path], Epoch(6), Cures([])).request()  # type: ignore[list-item]
        assert path.did == [("hold input",), ("give up input",)]
    whose = "primary" if is_primary else "secondary"
    assert f"card hn1 tap1: the {whose}'s guest does not read it: 7 frames are lost to it" in capsys.readouterr().out
