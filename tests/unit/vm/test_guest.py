"""The guest with a QEMU: what each command does, and which facts follow, whatever goes wrong and whenever.

Everything is real but the two QEMUs and the two nodes: see `support.guestworld`.
"""

import asyncio
from struct import pack

import pytest
from structlog.testing import capture_logs

from pycolo.errors import ConnectError, FailoverError, PeerError, QmpTimeout
from pycolo.failover.pairstates import Fact, Role
from pycolo.failover.plans import GO_ALONE, PREPARE_SECONDARY, PROTECT, TAKE_OVER
from pycolo.node.rowsfile import RowsFile
from pycolo.path.cores import new_rewriter
from pycolo.vm import guest, guestsearch, libvirtwatch, secondaryguest
from pycolo.vm.backstream import ColoMessage
from pycolo.vm.disknote import DiskNote, DiskNoteFile, DiskState, NotedDisk
from pycolo.vm.libvirtwatch import LibvirtWatch
from pycolo.vm.primaryguest import PrimaryGuest
from pycolo.vm.secondaryguest import LEAVE_COLO_S, SecondaryGuest
from support.guestworld import HANG, QemuStandIn, World, play, until

F = Fact

METHODS = {"ensure-running": "ensure_protected_running"}
"""Methods of other names than their steps."""

NO_READY = {"secondary": {"ready": HANG}}
"""A secondary that never says READY: a step that begins the copy is not overtaken by its end."""


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """Plays a scene: a function of the world."""
    monkeypatch.setattr(guest, "RETRY_S", 0.01)
    monkeypatch.setattr(guestsearch, "RETRY_S", 0.01)
    return lambda play_it, **faults: play(tmp_path, monkeypatch, play_it, faults)


def fails_at(monkeypatch, cls, step, *, is_done=False, times=1):
    """Let the step's handler fail; `is_done`: when all of its work is done."""
    name = METHODS.get(step, step.replace("-", "_"))
    do = getattr(cls, name)
    left = [times]

    async def fail(self):
        if not left[0]:
            return await do(self)
        left[0] -= 1
        if is_done:
            await do(self)
        raise PeerError(f"{step} is refused")

    monkeypatch.setattr(cls, name, fail)


def hangs_at(monkeypatch, cls, step):
    """Let the step's handler do its work and then hang; the event is set when it does."""
    name = METHODS.get(step, step.replace("-", "_"))
    do = getattr(cls, name)
    reached = asyncio.Event()

    async def hang(self):
        if not reached.is_set():
            await do(self)
            reached.set()
            await asyncio.Event().wait()
        await do(self)

    monkeypatch.setattr(cls, name, hang)
    return reached


def failures(said):
    """The lines that say that protecting has failed."""
    return [line["event"] for line in said if line["event"].startswith("protecting has failed")]


def names(plan, *but):
    return [step.name for step in plan.steps if step.name not in but]


def is_untouched(node):
    """The guest runs by itself; nothing of COLO is left in its QEMU and its network, and nothing of it in the node."""
    qemu, side = node.qemu, node.guest.primary
    assert (node.wiring.where, node.wiring.has_taps, qemu.mode, qemu.is_running) == ("its bridge", False, "none", True)
    assert (bool(side.paths), side._relay, side._outgoing._listening) == (False, None, None)
    assert node.guest.plan_status() is None


# ── protect ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_protected_pair(scene):
    async def play_it(world):
        await world.protected()
        assert world.a.guest.checkpoints.status()["phase"] != "disarmed"
        assert world.a.epoch.number == world.b.epoch.number == 7
        assert (world.a.qemu.mode, world.b.qemu.mode) == ("primary", "secondary")
        assert (world.a.facts, world.b.facts, world.b.answers) == ([], [], [])

    scene(play_it)


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("step", names(PROTECT, "first-checkpoint", "ensure-running"))
def test_a_step_that_fails_is_the_answer_and_all_is_undone(scene, monkeypatch, step, is_done):
    async def play_it(world):
        fails_at(monkeypatch, PrimaryGuest, step, is_done=is_done)
        world.a.guest.release()
        with capture_logs() as said:
            world.protect()
            await until(lambda: world.a.answers)
            await world.a.guest.settled()
        assert world.a.answers == [(F.PROTECT_FAILED, f"{step} is refused")]
        assert world.a.facts == []
        assert not failures(said), "the one who has the answer writes it down"
        is_untouched(world.a)
        monkeypatch.setattr(World, "faults", {})
        world.b.guest.discard()
        await world.b.guest.settled()
        world.a.answers.clear()
        await world.protected()

    scene(play_it, **NO_READY)


@pytest.mark.parametrize("step", names(PROTECT, "first-checkpoint", "ensure-running"))
def test_an_attempt_that_is_given_up_in_a_step_is_undone(scene, monkeypatch, step):
    async def play_it(world):
        reached = hangs_at(monkeypatch, PrimaryGuest, step)
        world.a.guest.release()
        world.protect()
        await until(reached.is_set)
        world.a.guest.cancel_protect("the link is lost")
        await world.a.guest.settled()
        assert world.a.answers == [(F.PROTECT_FAILED, "the link is lost")]
        is_untouched(world.a)

    scene(play_it, **NO_READY)


def test_one_that_waits_for_its_turn_is_dropped(scene, monkeypatch):
    async def play_it(world):
        world.a.qemu.faults["query-colo-status"] = HANG
        world.a.guest.release()
        world.protect()
        world.a.guest.cancel_protect("the link is lost")
        assert world.a.answers == [(F.PROTECT_FAILED, "the link is lost")]
        assert world.a.data is not None
        del world.a.qemu.faults["query-colo-status"]
        world.a.guest.retire(world.a.answer)
        await world.a.guest.settled()

    scene(play_it)


def test_without_a_qemu_there_is_nothing_to_protect(scene, monkeypatch):
    async def play_it(world):
        world.a.qemu.die()
        world.protect()
        await world.a.guest.settled()
        ((fact, why),) = world.a.answers
        assert fact is F.PROTECT_LACKS, "nothing was tried that could fail"
        assert "qmp.sock" in why

    scene(play_it)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_failure_for_want_of_libvirt_is_none_and_it_is_said_when_libvirt_answers(scene, monkeypatch, is_there):
    class Libvirt:
        is_there = False

        async def answers(self):
            return self.is_there

    async def play_it(world):
        libvirt = Libvirt()
        libvirt.is_there = is_there
        monkeypatch.setattr(libvirtwatch, "LOOK_S", 0.01)
        world.a.guest._libvirt = LibvirtWatch(libvirt, world.a)
        fails_at(monkeypatch, PrimaryGuest, "prepare-peer")
        world.protect()
        await until(lambda: world.a.answers)
        said = F.PROTECT_FAILED if is_there else F.PROTECT_LACKS
        assert world.a.answers == [(said, "prepare-peer is refused")]
        assert world.a.facts == []
        libvirt.is_there = True
        if not is_there:
            await until(lambda: world.a.facts)
            assert world.a.told() == {F.AVAILABLE}

    scene(play_it)


def test_the_others_refusal_is_the_reason(scene):
    async def play_it(world):
        world.protect()
        await until(lambda: world.a.answers)
        assert world.a.answers == [(F.PROTECT_FAILED, "the other node: no such machine")]
        assert world.b.answers == [(F.PREPARE_FAILED, "no such machine")]

    scene(play_it, secondary={"start": PeerError("no such machine")})


FATAL = {"accelerator": "tcg", "has_preload": False, "ram_bytes": 98312 << 10}


def test_what_is_known_to_be_fatal_is_refused_before_the_other_node_is_asked(scene, monkeypatch):
    monkeypatch.setattr(World, "found", FATAL)

    async def play_it(world):
        world.protect()
        await until(lambda: world.a.answers)
        ((fact, why),) = world.a.answers
        assert fact is F.PROTECT_FAILED
        assert "deadlocks" in why
        assert "--force" in why
        assert world.b.guest.secondary is None

    scene(play_it)


def test_force_is_known_to_both_nodes_and_what_it_overrides_stays(scene, monkeypatch):
    monkeypatch.setattr(World, "found", FATAL)

    async def play_it(world):
        world.a.findings.is_forced = True
        await world.protected()
        assert world.b.findings.is_forced, "it will protect the guest again when it has taken over"
        shown = [(note["code"], note["where"], note["overridden"]) for note in world.a.findings.to_status()]
        assert ("tcg", "this host", True) in shown
        assert ("tcg", "the other host", True) in shown

    scene(play_it)


@pytest.mark.parametrize(("version", "return_path"), [((7, 2, 22), False), ((10, 0, 13), False), ((11, 1, 3), True)])
def test_both_qemus_have_the_capabilities_of_their_version_and_the_primary_its_own_again(
    scene, monkeypatch, version, return_path
):
    monkeypatch.setattr(World, "found", {"version": version})

    async def play_it(world):
        await world.protected()
        wanted = {"events": True, "x-colo": True, "return-path": return_path}
        assert (world.a.qemu.capabilities, world.b.qemu.capabilities) == (wanted, wanted)
        world.a.guest.release()
        await world.a.guest.settled()
        assert world.a.qemu.capabilities == {"events": True, "x-colo": False, "return-path": False}

    scene(play_it)


def test_the_guest_stands_until_it_is_on_record_that_there_may_be_two(scene):
    async def play_it(world):
        world.a.commits = False
        world.a.guest.release()
        world.protect()
        await until(lambda: world.a.answers)
        await asyncio.sleep(0.1)
        assert world.a.answers == [(F.SYNCHRONISED, "")]
        assert not world.a.qemu.is_running
        world.a.guest.committed()
        await world.a.guest.settled()
        assert world.a.qemu.is_running
        assert world.a.qemu.mode == "primary"

    scene(play_it)


def test_and_runs_alone_when_that_cannot_be(scene):
    async def play_it(world):
        world.a.commits = False
        world.a.guest.release()
        with capture_logs() as said:
            world.protect()
            await until(lambda: world.a.answers)
            world.a.guest.cancel_protect("the disk is full")
            world.a.guest.release()
            await world.a.guest.settled()
        assert world.a.answers == [(F.SYNCHRONISED, "")]
        assert len(failures(said)) == 1, "the answer was another one: nothing else says it"
        is_untouched(world.a)

    scene(play_it)


@pytest.mark.parametrize("is_committed", [False, True])
def test_a_copy_that_breaks_before_it_counts_is_a_broken_pair(scene, is_committed):
    async def play_it(world):
        world.a.commits = False
        world.protect()
        await until(lambda: world.a.answers)
        world.a.qemu.event("COLO_EXIT", reason="error")
        if is_committed:
            world.a.guest.committed()
        await until(lambda: F.COLO_BROKEN in world.a.told())
        world.a.guest.release()
        await world.a.guest.settled()
        is_untouched(world.a)

    scene(play_it)


# ── prepare ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("step", names(PREPARE_SECONDARY))
def test_a_secondary_that_cannot_be_prepared_says_why_and_leaves_nothing(scene, monkeypatch, step):
    async def play_it(world):
        fails_at(monkeypatch, SecondaryGuest, step, is_done=True)
        world.protect()
        await until(lambda: world.a.answers)
        await world.b.guest.settled()
        assert world.b.answers == [(F.PREPARE_FAILED, f"{step} is refused")]
        assert world.a.answers == [(F.PROTECT_FAILED, f"the other node: {step} is refused")]
        assert world.b.guest.secondary is None
        assert world.b.pid == 0
        assert "kill" in QemuStandIn.made[-1].done

    scene(play_it)


@pytest.mark.parametrize("step", names(PREPARE_SECONDARY))
def test_one_that_is_thrown_away_in_a_step_leaves_nothing(scene, monkeypatch, step):
    async def play_it(world):
        reached = hangs_at(monkeypatch, SecondaryGuest, step)
        world.protect()
        await until(reached.is_set)
        world.b.guest.discard()
        await world.b.guest.settled()
        assert world.b.guest.secondary is None
        assert "kill" in QemuStandIn.made[-1].done
        assert (await world.b.guest.guest_status())["qmp"] == "absent"
        world.a.guest.cancel_protect("the other node is gone")
        await world.a.guest.settled()
        is_untouched(world.a)

    scene(play_it)


# ── going alone ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("step", names(GO_ALONE))
def test_going_alone_is_tried_until_it_is_done(scene, monkeypatch, step, is_done):
    async def play_it(world):
        await world.protected()
        fails_at(monkeypatch, PrimaryGuest, step, is_done=is_done, times=3)
        world.a.guest.unlinked()
        world.a.guest.release()
        world.a.guest.release()
        await world.a.guest.settled()
        is_untouched(world.a)
        assert world.a.guest.checkpoints.status()["phase"] == "disarmed"

    scene(play_it)


def test_a_protection_waits_until_the_last_one_is_taken_away(scene, monkeypatch):
    async def play_it(world):
        await world.protected()
        fails_at(monkeypatch, PrimaryGuest, "leave-colo", times=5)
        world.a.answers.clear()
        world.b.guest.discard()
        world.a.guest.release()
        world.protect()
        await until(lambda: world.a.answers)
        assert world.a.answers == [(F.SYNCHRONISED, "")]
        await world.a.guest.settled()
        assert world.a.qemu.mode == "primary"

    scene(play_it)


def test_a_guest_that_is_found_goes_onto_the_network_when_it_may_serve(scene):
    async def play_it(world):
        world.a.wiring.where, world.a.wiring.is_left = "apart", True
        world.a.qemu.is_running = False
        world.a.guest.release()
        await world.a.guest.settled()
        assert world.a.is_on_lan
        is_untouched(world.a)

    scene(play_it)


def test_another_qemu_may_come_where_one_has_ended(scene):
    async def play_it(world):
        world.a.guest.release()
        await world.a.guest.settled()
        QemuStandIn.absent.add("primary")
        world.a.qemu.die()
        assert world.a.told() == {F.GUEST_GONE}
        world.a.wiring.where = "apart"
        await asyncio.sleep(0.05)
        assert not world.a.came
        QemuStandIn.absent.clear()
        await until(lambda: world.a.came)
        await world.a.guest.settled()
        assert world.a.is_on_lan
        await world.protected()

    scene(play_it)


def test_one_that_comes_to_a_node_that_must_not_serve_stays_off_the_network(scene):
    async def play_it(world):
        world.a.wiring.where = "apart"
        world.a.guest.halt()
        world.a.qemu.die()
        await until(lambda: world.a.came)
        await world.a.guest.settled()
        assert not world.a.is_on_lan
        world.a.guest.release()
        await world.a.guest.settled()
        assert world.a.is_on_lan

    scene(play_it)


# ── taking over ─────────────────────────────────────────────────────────────────────────────────────────────


async def takes_over(world):
    world.b.moment, world.b.is_next = Role.PRIMARY, True
    world.b.guest.unlinked()
    world.b.guest.switch(world.b.answer)
    await world.b.guest.settled()


def test_the_secondary_serves_and_can_be_protected(scene):
    async def play_it(world):
        await world.protected()
        qemu = world.b.qemu
        world.a.qemu.die()
        await takes_over(world)
        assert world.b.answers == [(F.SERVED, "")]
        assert (world.b.is_on_lan, world.b.guest.secondary, world.b.qemu) == (True, None, qemu)
        assert (await world.b.guest.snapshot())["mode"] == "serving"
        assert not qemu.capabilities["x-colo"], "with it an ordinary migration or save of the guest would hang"
        world.b.guest.release()  # a lease that is had again
        await world.b.guest.settled()
        is_untouched(world.b)

    scene(play_it)


def patience_of(monkeypatch, qemu, *, hangs):
    """The time limits of the commands with which it leaves COLO. `hangs`: it answers none before it is yanked."""
    given, execute = [], qemu.execute

    async def limited(command, arguments=None, **options):
        if "timeout_s" in options:
            given.append(options["timeout_s"])
            if hangs and "yank" not in qemu.done:
                raise QmpTimeout("vm1", command, options["timeout_s"], "no answer")
        return await execute(command, arguments, **options)

    monkeypatch.setattr(qemu, "execute", limited)
    return given


@pytest.mark.parametrize("hangs", [False, True])
def test_a_qemu_that_does_not_leave_colo_in_time_is_yanked_and_serves(scene, monkeypatch, hangs):
    async def play_it(world):
        await world.protected()
        qemu = world.b.qemu
        given = patience_of(monkeypatch, qemu, hangs=hangs)
        world.a.qemu.die()
        await takes_over(world)
        assert set(given) == {LEAVE_COLO_S}, "nothing is being loaded"
        assert ("yank" in qemu.done, world.b.answers) == (hangs, [(F.SERVED, "")])
        assert qemu.mode == "none"

    scene(play_it)


def test_a_qemu_that_loads_a_state_has_as_long_again_as_was_copied(scene, monkeypatch):
    async def play_it(world):
        await world.protected()
        qemu, relay = world.b.qemu, world.b.guest.secondary._relay
        given = patience_of(monkeypatch, qemu, hangs=False)
        world.a.qemu.ask_for_checkpoint()
        await until(lambda: "heard of the stream" in qemu.done)
        qemu.stop_for_checkpoint()
        await until(lambda: world.b.guest.secondary._replied_us is not None)
        before, began_us = relay.progress, world.b.guest.secondary._replied_us
        await asyncio.sleep(0.05)
        world.a.qemu.send_state()
        await until(lambda: relay.progress != before)
        copied_s = (relay.progress[1] - began_us) / 1e6
        world.a.qemu.die()
        await takes_over(world)
        assert copied_s >= 0.05
        assert given[0] == pytest.approx(LEAVE_COLO_S + copied_s)

    scene(play_it)


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("step", names(TAKE_OVER))
def test_a_takeover_is_not_serving_before_all_is_done(scene, monkeypatch, step, is_done):
    async def play_it(world):
        await world.protected()
        world.a.qemu.die()
        fails_at(monkeypatch, SecondaryGuest, step, is_done=is_done)
        await takes_over(world)
        if TAKE_OVER.step(step).is_required:
            assert world.b.answers == [(F.SERVE_FAILED, f"{step} is refused")]
            assert world.b.guest.secondary is not None
            await takes_over(world)
        assert world.b.answers[-1] == (F.SERVED, "")
        assert world.b.is_on_lan

    scene(play_it)


def test_a_host_that_does_not_come_onto_the_network_has_not_taken_over(scene):
    async def play_it(world):
        await world.protected()
        world.b.wiring.faults["serve"] = FailoverError("primary", "network.serve", "no route")
        await takes_over(world)
        ((fact, why),) = world.b.answers
        assert fact is F.SERVE_FAILED
        assert "network.serve" in why
        assert (await world.b.guest.snapshot())["mode"] != "serving"

    scene(play_it)


def test_a_takeover_in_a_checkpoint_ends_its_hold(scene):
    """The primary dies between REPLY and LOADED: the guest stands, and its path holds everything."""

    async def play_it(world):
        await world.protected()
        world.b.qemu._stream.write(pack(">II", ColoMessage.REPLY, ColoMessage.RECEIVED))
        held = asyncio.Event()

        async def look():
            while (await world.b.guest.snapshot())["mode"] != "held":
                await asyncio.sleep(0.002)
            held.set()

        await look()
        world.a.qemu.die()
        await takes_over(world)
        assert world.b.answers == [(F.SERVED, "")]
        assert (await world.b.guest.snapshot())["mode"] == "serving"

    scene(play_it)


def test_a_q35_that_takes_over_in_a_checkpoint_has_its_registers_again(scene, monkeypatch):
    monkeypatch.setattr(World, "found", {"machine": "pc-q35-7.2-machine"})

    async def play_it(world):
        await world.protected()
        world.b.qemu.rcba = 0xFED1C001
        world.b.qemu._stream.write(pack(">I", ColoMessage.REPLY))
        await until(lambda: world.b.qemu.rcba == 0xFED1C000)
        world.a.qemu.die()
        await takes_over(world)
        assert world.b.answers == [(F.SERVED, "")]
        assert world.b.qemu.rcba == 0xFED1C001
        assert world.b.qemu.is_running

    scene(play_it)


def test_a_guest_that_dies_in_its_takeover_leaves_a_primary_without_a_guest(scene, monkeypatch):
    async def play_it(world):
        await world.protected()
        reached = hangs_at(monkeypatch, SecondaryGuest, "leave-colo")
        world.b.moment = Role.PRIMARY
        world.b.guest.switch(world.b.answer)
        await until(reached.is_set)
        QemuStandIn.absent.add("primary")
        world.b.qemu.die()
        assert F.GUEST_GONE in world.b.told()
        world.b.guest.release()
        await world.b.guest.settled()
        assert world.b.guest.secondary is None
        assert world.b.guest.primary is not None
        assert world.b.came == 0
        QemuStandIn.absent.clear()
        await until(lambda: world.b.came)

    scene(play_it)


# ── disks ───────────────────────────────────────────────────────────────────────────────────────────────────


NOTED = NotedDisk(name="vda", image="/i", format="raw", active="/a", hidden="/h")


def test_a_takeover_that_another_process_has_begun_ends_the_exports_before_the_guest_goes_on(scene, monkeypatch):
    """That process was killed right behind the record; nothing else says that the guest writes into overlays."""

    async def play_it(world):
        await world.protected()
        noted = DiskNoteFile(world.b.config.state)
        nodes = [{"node-name": name, "drv": "qcow2"} for name in ("colo-active-0", "colo-hidden-0")]
        qemu = world.b.qemu
        monkeypatch.setattr(QemuStandIn, "do_query_named_block_nodes", lambda qemu, flat: nodes, raising=False)
        monkeypatch.setattr(QemuStandIn, "do_query_block_exports", lambda qemu: [{"node-name": "img"}], raising=False)
        world.b.config.state.mkdir(exist_ok=True)
        world.b.guest.disks.settling._note.write(DiskNote(state=DiskState.FOLLOWING, disks=(NOTED,)))
        done = len(qemu.done)
        found = world.b.guest.new_primary()
        found.machine = qemu
        world.b.guest.primary, world.b.guest.secondary = found, None
        world.b.guest.release()
        await world.b.guest.settled()
        told = qemu.done[done:]
        assert told.index("nbd-server-stop") < told.index("x-colo-lost-heartbeat")
        note = noted.read()
        assert note is not None
        assert note.state is DiskState.SETTLING

    scene(play_it)


@pytest.mark.parametrize("step", ["connect-qmp", "listen-for-migration"])
def test_a_preparation_that_fails_notes_what_its_disks_are_like(scene, monkeypatch, step):
    """They are as they were, so the next copy may begin with them; and their overlays are removed."""
    fails_at(monkeypatch, SecondaryGuest, step)

    async def play_it(world):
        ended = []

        async def discard():
            ended.append("kill" in QemuStandIn.made[-1].done)

        world.b.guest.disks.copies.discard = discard
        world.protect()
        await world.a.guest.settled()
        await world.b.guest.settled()
        assert ended == [True]

    scene(play_it)


def test_a_secondarys_node_begins_with_no_qemu_of_an_earlier_life(scene, monkeypatch):
    """One of which no record knows would keep the images locked, and each copy would be refused for that."""
    ended = []
    monkeypatch.setattr(secondaryguest, "end_waiting_qemus", ended.append)

    async def play_it(world):
        world.b.guest.discard()
        await world.b.guest.settled()
        assert ended == [world.b.config.qemu.qmp]

    scene(play_it)


# ── rows of translated connections ──────────────────────────────────────────────────────────────────────────


def rows(node):
    return node.place / "rows"


def test_a_takeover_keeps_its_rows_until_the_guest_ends(scene):
    async def play_it(world):
        rows(world.b).write_bytes(b"of an earlier takeover")
        await world.protected()
        assert not rows(world.b).exists()
        await takes_over(world)
        await until(rows(world.b).exists)  # the data path's thread writes it
        world.b.guest.retire(world.b.answer)
        await world.b.guest.settled()
        assert not rows(world.b).exists()

    scene(play_it)


@pytest.mark.parametrize("is_wired", [False, True])
def test_a_node_that_is_started_again_uses_them_if_its_guest_is_wired(scene, is_wired):
    async def play_it(world):
        rows_file = RowsFile(rows(world.a), "vm1", lambda: 3)
        rows_file.write(new_rewriter(keeps_copies=True))
        world.a.wiring.is_left = is_wired
        world.a.guest.release()
        await world.a.guest.settled()
        assert world.a.wiring.opened == int(is_wired)
        is_untouched(world.a)  # the file held no connection, so the node was not needed

    scene(play_it)


@pytest.mark.parametrize("content", ["damaged", "of a later term"])
def test_rows_that_cannot_be_used_do_not_keep_a_guest_from_serving(scene, content):
    async def play_it(world):
        RowsFile(rows(world.a), "vm1", lambda: 4).write(new_rewriter(keeps_copies=True))
        if content == "damaged":
            rows(world.a).write_bytes(b"?" * 20_000)
        world.a.wiring.is_left = True
        world.a.guest.release()
        await world.a.guest.settled()
        assert not world.a.wiring.opened
        assert world.a.is_on_lan
        is_untouched(world.a)

    scene(play_it)


def test_another_guest_has_other_connections(scene):
    async def play_it(world):
        world.a.guest.release()
        await world.a.guest.settled()
        RowsFile(rows(world.a), "vm1", lambda: 3).write(new_rewriter(keeps_copies=True))
        world.a.qemu.die()
        await until(lambda: world.a.came)
        await world.a.guest.settled()
        assert not rows(world.a).exists()

    scene(play_it)


# ── the end of a guest ──────────────────────────────────────────────────────────────────────────────────────


def test_a_primary_that_retires_is_dead_and_off_the_network(scene):
    async def play_it(world):
        await world.protected()
        qemu = world.a.qemu
        world.a.answers.clear()
        world.a.guest.halt()
        world.a.guest.unlinked()
        world.a.guest.retire(world.a.answer)
        await world.a.guest.settled()
        assert world.a.answers == [(F.RETIRED, "")]
        assert (qemu.done[-1], world.a.is_on_lan, world.a.guest.primary) == ("kill", False, None)
        assert (await world.a.guest.snapshot())["counters"] == {}

    scene(play_it)


def test_one_that_cannot_leave_the_network_is_not_retired(scene):
    async def play_it(world):
        world.a.guest.release()
        await world.a.guest.settled()
        world.a.wiring.faults["leave"] = ConnectError("tap0: the kernel refuses")
        world.a.guest.retire(world.a.answer)
        await world.a.guest.settled()
        assert [fact for fact, _ in world.a.answers] == [F.RETIRE_FAILED]
        world.a.wiring.faults.clear()
        world.a.guest.retire(world.a.answer)
        await world.a.guest.settled()
        assert world.a.answers[-1] == (F.RETIRED, "")
        assert not world.a.is_on_lan

    scene(play_it)


@pytest.mark.parametrize("step", names(PROTECT, "first-checkpoint", "ensure-running"))
def test_retiring_waits_for_no_plan(scene, monkeypatch, step):
    async def play_it(world):
        reached = hangs_at(monkeypatch, PrimaryGuest, step)
        world.protect()
        await until(reached.is_set)
        qemu = world.a.qemu
        world.a.guest.retire(world.a.answer)
        await world.a.guest.settled()
        assert [fact for fact, _ in world.a.answers] == [F.PROTECT_FAILED, F.RETIRED]
        assert "kill" in qemu.done

    scene(play_it, **NO_READY)
