"""The primary's disks: copied, watched, asked about at each checkpoint, and let go."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pycolo.errors import CheckpointError, ConnectError, PeerError, QmpError
from pycolo.link.codec import Channel
from pycolo.qmp.diskrules import HostImage, writable
from pycolo.qmp.guestdisks import GuestDisk, guest_disks
from pycolo.vm import primarydisks
from pycolo.vm.primarydisks import PrimaryDisks
from support.diskfacts import RECORDED
from support.diskhosts import DiskHost, DiskMachine, event
from support.qemufacts import GOOD

DEADLINE_S = 20
DISKS = [disk for disk in writable(guest_disks(*RECORDED["7.2"])) if disk.name in ("disk-a", "drive-b")]


def job(number: int, *, ready: bool = True, offset: int = 5) -> dict[str, Any]:
    return {"device": f"colo-mirror-{number}", "ready": ready, "io-status": "ok", "offset": offset, "len": 10}


class World:
    """A primary's node, with a QEMU that connects to whatever it is told to."""

    def __init__(self, place: Path, **options: Any) -> None:
        self.host = DiskHost(place, **options)
        self.machine = DiskMachine()
        self.lost: list[str] = []
        self.ends: list[socket.socket] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.jobs = [job(0), job(1)]
        self.is_mirrored = False
        self.machine.answers = {
            "query-block-jobs": lambda _: self.jobs if self.is_mirrored else [],
            "blockdev-mirror": self._mirror,
            "blockdev-add": self._connect,
        }
        self.host.peer = {"open-disk": self._open_disk}
        self.disks = PrimaryDisks(self.host, lambda: self.machine, self.lost.append)  # type: ignore[arg-type,return-value]
        self.disks._disks = list(DISKS)

    def _open_disk(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self.ends.append(self.host.arrive(Channel.DISK))
        return {}

    def _mirror(self, arguments: dict[str, Any]) -> Any:
        self.is_mirrored = True
        return {}

    async def _connect(self, arguments: dict[str, Any]) -> Any:
        """QEMU answers when it has the other QEMU's greeting."""
        reader, writer = await asyncio.open_unix_connection(arguments["server"]["path"])
        self.ends[-1].sendall(b"greeting")
        assert await reader.readexactly(8) == b"greeting"
        self.writers.append(writer)
        return {}

    async def close(self) -> None:
        await self.disks.cut()
        for end in self.ends:
            end.close()
        for writer in self.writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def play(world: World, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                await work()
        finally:
            await world.close()

    asyncio.run(run())


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(primarydisks, "LOOK_S", 0.001)
    return World(tmp_path)


def test_every_disk_is_copied_and_each_write_waits_for_the_other_host(world: World) -> None:
    play(world, world.disks.copy)
    nodes = world.machine.arguments("blockdev-add")
    assert [(node["node-name"], node["export"]) for node in nodes] == [
        ("colo-nbd-0", "disk-a"),
        ("colo-nbd-1", "drive-b"),
    ]
    assert world.machine.arguments("blockdev-mirror")[1] == {
        "job-id": "colo-mirror-1",
        "device": "drive-b",
        "target": "colo-nbd-1",
        "filter-node-name": "colo-mirror-top-1",
        "sync": "full",
        "copy-mode": "write-blocking",
        "on-target-error": "report",
    }
    assert list(Path(world.host.config.qemu.directory).glob("*.sock")) == []


class NamingDomain:
    """A domain of libvirt, which has names of its own for the disks."""

    async def named(self, disks: Any) -> list[GuestDisk]:
        return list(disks)


def test_a_qemu_of_libvirts_gets_its_end_of_the_connection_passed(world: World) -> None:
    world.disks._domain = NamingDomain()  # type: ignore[assignment]
    world.machine.passes_descriptors = True

    async def connect(arguments: dict[str, Any]) -> dict[str, Any]:
        assert arguments["server"] == {"type": "fd", "str": arguments["node-name"]}
        with socket.socket(fileno=world.machine.passed[arguments["node-name"]]) as qemus:
            qemus.setblocking(False)
            world.ends[-1].sendall(b"greeting")
            assert await asyncio.get_running_loop().sock_recv(qemus, 8) == b"greeting"
        return {}

    world.machine.answers["blockdev-add"] = connect
    play(world, world.disks.copy)
    assert list(world.machine.passed) == ["colo-nbd-0", "colo-nbd-1"]
    mirrored = [mirror["device"] for mirror in world.machine.arguments("blockdev-mirror")]
    assert mirrored == [disk.node for disk in DISKS]


def test_a_copy_may_be_slowed_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(primarydisks, "LOOK_S", 0.001)
    world = World(tmp_path, copy_limit_mib=3)
    play(world, world.disks.copy)
    assert [mirror["speed"] for mirror in world.machine.arguments("blockdev-mirror")] == [3 << 20] * 2


def test_it_lasts_until_all_are_in_step(world: World) -> None:
    world.jobs = [job(0), job(1, ready=False)]

    async def work() -> None:
        copying = asyncio.ensure_future(world.disks.copy())
        while world.machine.commands.count("query-block-jobs") < 3:
            await asyncio.sleep(0.001)
        assert not copying.done()
        assert [(entry["name"], entry["state"]) for entry in world.disks.status()] == [
            ("disk-a", "in step"),
            ("drive-b", "copying"),
        ]
        world.jobs = [job(0), job(1)]
        await copying

    play(world, work)


def test_a_copy_that_ends_with_an_error_is_named(world: World) -> None:
    world.jobs = [job(0)]
    with pytest.raises(PeerError, match="disk drive-b: it could not be copied to the other host"):
        play(world, world.disks.copy)


def test_a_copy_that_stands_still_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(primarydisks, "STALL_S", 0.01)
    world.jobs = [job(0), job(1, ready=False)]
    with pytest.raises(PeerError, match="stands still at 0 MiB"):
        play(world, world.disks.copy)


def test_a_checkpoint_needs_all_of_them(world: World) -> None:
    async def work() -> None:
        world.is_mirrored = True
        await world.disks.require_in_step()
        world.jobs = [job(0)]
        with pytest.raises(CheckpointError, match=r"disk drive-b .*has ended with an error"):
            await world.disks.require_in_step()
        world.machine.answers["query-block-jobs"] = ConnectError("no QEMU")
        with pytest.raises(CheckpointError, match="QEMU does not say"):
            await world.disks.require_in_step()
        asked = world.disks.ask
        assert asked is not None
        with pytest.raises(CheckpointError):
            await asyncio.wrap_future(asked())

    play(world, work)


def test_a_guest_without_disks_is_asked_nothing(world: World) -> None:
    world.disks._disks = []

    async def work() -> None:
        assert world.disks.ask is None
        await world.disks.copy()
        await world.disks.require_in_step()

    play(world, work)
    assert world.machine.asked == []


def test_a_connection_that_ends_is_news_at_once(world: World) -> None:
    """A disk that is not written to has a mirror that stays ready."""

    async def work() -> None:
        await world.disks.copy()
        world.ends[1].close()
        while not world.lost:
            await asyncio.sleep(0.001)

    play(world, work)
    text = "disk drive-b: the other node has closed the connection for its writes"
    assert world.lost == [text]
    assert [(entry["state"], entry["why"]) for entry in world.disks.status()[2:]] == [("lost", text)]


def test_what_the_node_cuts_itself_is_no_news(world: World) -> None:
    async def work() -> None:
        await world.disks.copy()
        await world.disks.cut()
        world.disks.heard_event(event("BLOCK_JOB_COMPLETED", device="colo-mirror-0", error="Input/output error"))

    play(world, work)
    assert world.lost == []


def test_a_job_that_ends_is_news(world: World) -> None:
    async def work() -> None:
        await world.disks.copy()
        world.disks.heard_event(event("BLOCK_JOB_COMPLETED", device="a backup of the user's"))
        assert world.lost == []
        world.disks.heard_event(event("BLOCK_JOB_COMPLETED", device="colo-mirror-0", error="No space left on device"))

    play(world, work)
    assert len(world.lost) == 1
    assert world.lost[0].endswith("its copy on the other host has ended: No space left on device")


def test_a_full_disk_of_this_host_ends_the_pair_before_the_next_checkpoint(world: World) -> None:
    """QEMU names the node that the mirror has put above the disk's; and one error comes for each write."""
    said = {"node-name": "colo-mirror-top-1", "device": "", "reason": "No space left on device"}
    world.disks.heard_event(event("BLOCK_IO_ERROR", action="report", **said))
    assert world.lost == []
    world.disks.heard_event(event("BLOCK_IO_ERROR", action="stop", **said))
    world.disks.heard_event(event("BLOCK_IO_ERROR", action="stop", **said))
    text = f"{DISKS[1].shown}: an error on this host (No space left on device), for which QEMU has stopped the guest"
    assert world.lost == [text, text]
    assert [entry["why"] for entry in world.disks.status()] == [text], "once for a protection"


def test_jobs_are_cancelled_when_their_connections_are_closed(world: World) -> None:
    """With one to a host that hangs, cancelling hangs as well, and the guest with it."""

    def cancel(arguments: dict[str, Any]) -> Any:
        assert arguments["force"] is True
        assert not world.disks._links, "cut before"
        world.jobs = [one for one in world.jobs if one["device"] != arguments["device"]]
        if arguments["device"].endswith("1"):
            raise QmpError("vm1", "block-job-cancel", "DeviceNotActive", "it has ended just now")
        return {}

    async def work() -> None:
        await world.disks.copy()
        world.jobs = [*world.jobs, {"device": "a backup of the user's"}]
        world.machine.answers["block-job-cancel"] = cancel
        world.machine.answers["query-named-block-nodes"] = [
            {"node-name": name} for name in ("disk-a", "colo-nbd-0", "colo-nbd-1", "colo-parent-0")
        ]
        await world.disks.drop()
        await world.disks.drop()

    play(world, work)
    deleted = [arguments["node-name"] for arguments in world.machine.arguments("blockdev-del")]
    assert deleted == ["colo-nbd-0", "colo-nbd-1"] * 2, "the second time QEMU would list none"
    assert world.disks.status() == [], "nothing was lost"


def test_what_does_not_fit_is_refused_before_anything_is_touched(world: World) -> None:
    images = [
        HostImage(name="disk-a", path="/c/a", size_bytes=512, free_bytes=1 << 40, overlay_free_bytes=1 << 40),
        HostImage(name="drive-b", path="/c/b", size_bytes=0, free_bytes=1 << 40, overlay_free_bytes=1 << 40),
    ]
    world.host.peer["disks"] = lambda arguments: {"images": msgspec.to_builtins(images)}
    with pytest.raises(PeerError, match=r"disk disk-a .* and /c/a on the secondary's host 512") as caught:
        play(world, world.disks.agree)
    assert "drive-b" not in str(caught.value)
    assert world.host.ordered == ["disks"]
    assert set(world.machine.commands) == {"query-named-block-nodes"}, "asked, and nothing changed"


def test_the_guests_disks_are_found_and_judged(world: World) -> None:
    blocks, devices = RECORDED["7.2"]
    world.machine.answers |= {
        "query-block": blocks,
        "qom-list": lambda arguments: [{"name": name} for name in devices[arguments["path"]]],
        "qom-get": lambda arguments: devices[arguments["path"]][arguments["property"]],
    }
    with pytest.raises(PeerError, match="no command blockdev-mirror"):
        play(world, lambda: world.disks.probe(GOOD))


def test_what_an_earlier_attempt_has_left_is_removed_first(world: World) -> None:
    left = [job(0, ready=False)]

    def cancel(arguments: dict[str, Any]) -> Any:
        left.clear()
        return {}

    world.machine.answers["query-block-jobs"] = lambda _: world.jobs if world.is_mirrored else left
    world.machine.answers["block-job-cancel"] = cancel
    world.machine.answers["query-named-block-nodes"] = [{"node-name": "colo-nbd-3"}]
    play(world, world.disks.copy)
    commands = world.machine.commands
    assert commands.index("block-job-cancel") < commands.index("blockdev-del") < commands.index("blockdev-add")


# ── only what has changed ───────────────────────────────────────────────────────────────────────────────────


class Resuming(World):
    """Its QEMU has notes of the session "old" for both disks, and the other node says what `answer` does."""

    def __init__(self, place: Path, answer: dict[str, Any]) -> None:
        super().__init__(place)
        self.told: dict[str, Any] = {}
        self.answer = answer
        self.bitmaps = {disk.node: {"colo-old-0": 65536, "colo-old-1": 3 * 65536} for disk in DISKS}
        self.backups: dict[str, dict[str, Any]] = {}
        self.machine.answers |= {
            "query-named-block-nodes": self._nodes,
            "block-dirty-bitmap-add": lambda said: self.bitmaps[said["node"]].update({said["name"]: 0}) or {},
            "block-dirty-bitmap-merge": self._merge,
            "block-dirty-bitmap-remove": lambda said: self.bitmaps[said["node"]].pop(said["name"]) and {},
            "blockdev-backup": self._backup,
            "job-dismiss": lambda said: self.backups.pop(said["id"]) and {},
            "query-block-jobs": lambda _: [*self.backups.values(), *(self.jobs if self.is_mirrored else [])],
            "query-status": {"running": True},
            "block-job-cancel": self._cancel,
        }
        self.host.peer["disks"] = self._hear

    def _hear(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self.told = arguments
        room = {"size_bytes": 0, "free_bytes": 1 << 40, "overlay_free_bytes": 1 << 40}
        images = [HostImage(name=disk.name, path=f"/c/{disk.name}", **room) for disk in DISKS]
        return {"images": msgspec.to_builtins(images), **self.answer}

    def _cancel(self, _: dict[str, Any]) -> Any:
        self.is_mirrored = False
        return {}

    def _nodes(self, _: dict[str, Any]) -> Any:
        return [
            {
                "node-name": node,
                "dirty-bitmaps": [{"name": name, "count": count, "recording": True} for name, count in found.items()],
            }
            for node, found in self.bitmaps.items()
        ]

    def _merge(self, said: dict[str, Any]) -> Any:
        (base,) = said["bitmaps"]
        self.bitmaps[said["node"]][said["target"]] = self.bitmaps[said["node"]][base]
        return {}

    def _backup(self, said: dict[str, Any]) -> Any:
        moved = self.bitmaps[said["device"]][said["bitmap"]]
        self.bitmaps[said["device"]][said["bitmap"]] = 0
        self.backups[said["job-id"]] = {
            "device": said["job-id"],
            "status": "concluded",
            "offset": moved,
            "len": moved,
        }
        return {}

    async def protect(self) -> None:
        await self.disks.agree()
        await self.disks.copy()


def modes(world: World) -> list[str]:
    return [mirror["sync"] for mirror in world.machine.arguments("blockdev-mirror")]


@pytest.fixture
def resuming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resuming:
    monkeypatch.setattr(primarydisks, "LOOK_S", 0.001)
    return Resuming(tmp_path, {"resumes": "old"})


def test_only_what_has_changed_is_copied_to_images_that_are_still_a_copy(resuming: Resuming) -> None:
    play(resuming, resuming.protect)
    assert resuming.told["noted"] == ["old"]
    assert resuming.told["copy"] not in ("", "old")
    assert modes(resuming) == ["none", "none"]
    assert [(disk["state"], disk["is_incremental"], disk["copied_bytes"]) for disk in resuming.disks.status()] == [
        ("in step", True, 3 * 65536)
    ] * 2
    assert all(found.keys() == {"colo-old-0", "colo-old-1"} for found in resuming.bitmaps.values()), (
        "what it began with counts until the second checkpoint"
    )


def test_two_checkpoints_later_the_new_session_counts(resuming: Resuming) -> None:
    async def work() -> None:
        await resuming.protect()
        for _ in range(2):
            await resuming.disks.require_in_step()
        await resuming.disks.drop()
        resuming.disks._disks = list(DISKS)
        await resuming.disks.agree()

    play(resuming, work)
    assert len(resuming.told["noted"]) == 2
    assert resuming.told["noted"][0] != "old", "that with the least to copy is first"


@pytest.mark.parametrize("answer", [{}, {"resumes": ""}, {"resumes": "unknown"}, {"resumes": 5}])
def test_everything_is_copied_unless_the_other_node_vouches_for_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    monkeypatch.setattr(primarydisks, "LOOK_S", 0.001)
    world = Resuming(tmp_path, answer)
    play(world, world.protect)
    assert modes(world) == ["full", "full"]
    assert all(found == {} for found in world.bitmaps.values()), "the old notes are about images that are gone"
    assert all("is_incremental" not in disk for disk in world.disks.status())


def test_a_qemu_that_cannot_do_it_copies_everything(resuming: Resuming) -> None:
    resuming.machine.answers["blockdev-backup"] = QmpError("vm1", "blockdev-backup", "GenericError", "not supported")
    play(resuming, resuming.protect)
    assert modes(resuming) == ["full", "full"]
    assert all(found == {} for found in resuming.bitmaps.values())


def test_what_an_attempt_has_noted_for_itself_does_not_stay(resuming: Resuming) -> None:
    def fail(said: dict[str, Any]) -> Any:
        resuming.backups[said["job-id"]] = {
            "device": said["job-id"],
            "status": "concluded",
            "offset": 0,
            "len": 1,
            "error": "Input/output error",
        }
        return {}

    resuming.machine.answers["blockdev-backup"] = fail

    async def work() -> None:
        with pytest.raises(PeerError, match="Input/output error"):
            await resuming.protect()
        await resuming.disks.drop()

    play(resuming, work)
    assert resuming.backups == {}
    assert all(found.keys() == {"colo-old-0", "colo-old-1"} for found in resuming.bitmaps.values())


STATES = ["running", "paused", "io-error", "internal-error", "guest-panicked", "shutdown", "watchdog", "postmigrate"]


@pytest.mark.parametrize("state", STATES)
def test_a_guest_is_stopped_before_qemu_stops_it_unless_it_stands_for_a_reason_of_its_own(
    tmp_path: Path, state: str
) -> None:
    """QEMU aborts when it is to make a checkpoint in such a state."""
    world = World(tmp_path)
    states = [state]

    def stop(_: dict[str, Any]) -> dict[str, Any]:
        if states[-1] == "running":
            states.append("paused")
        return {}

    world.machine.answers |= {"stop": stop, "query-status": lambda _: {"status": states[-1]}}

    async def work() -> None:
        assert world.disks.stand_still is not None
        await world.disks.stand_still()

    if state in ("running", "paused"):
        play(world, work)
    else:
        with pytest.raises(CheckpointError, match=f"cannot be stopped for it: it is in {state}$"):
            play(world, work)
    assert world.machine.commands[:2] == ["stop", "query-status"]


@pytest.mark.parametrize("command", ["stop", "query-status"])
@pytest.mark.parametrize("error", [ConnectError("it is gone"), PeerError("no answer within 10 s")])
def test_no_checkpoint_is_made_with_a_guest_that_may_run(tmp_path: Path, command: str, error: Exception) -> None:
    world = World(tmp_path)
    world.machine.answers[command] = error

    async def work() -> None:
        assert world.disks.stand_still is not None
        await world.disks.stand_still()

    with pytest.raises(CheckpointError, match=f"QEMU has not stopped its guest: {error}"):
        play(world, work)


def test_a_guest_without_copied_disks_is_left_to_qemu(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.disks._disks = []
    assert world.disks.stand_still is None
