"""A guest with a QEMU that serves only when its node is promoted."""

import asyncio
from types import SimpleNamespace

import pytest

from pycolo.errors import StateError
from pycolo.vm import pausable
from pycolo.vm.pausable import PausableGuest


class Side:
    """The primary's QEMU; `machine` is itself."""

    def __init__(self, done, *, pid=7):
        self.machine = self
        self.done = done
        self.pid = pid
        self.is_over = False

    @property
    def is_there(self):
        return self.pid > 0 and not self.is_over

    async def execute(self, command):
        self.done.append(command)

    async def start(self, extra):
        self.done.append("start")
        self.pid = 8

    def watch(self, pid):
        self.done.append("watch")
        self.pid = pid

    async def connect(self, timeout_s):
        self.done.append("connect")
        if self.fails:
            raise StateError("connect", "hanging", "greeting")

    async def kill(self):
        self.done.append("kill")

    async def end(self):
        self.is_over = True
        self.done.append("end")

    fails = False


class Guest:
    """What is used of `VmGuest`."""

    def __init__(self, done, side):
        self.done = done
        self.primary = side
        self.secondary = None
        self.domain = None
        self.is_paused = False
        self.looking = asyncio.Lock()
        self.fresh = Side(done, pid=0)
        self.disks = SimpleNamespace(settling=self)
        self.is_settled = True

    async def over(self):
        if not self.is_settled:
            raise StateError("disks", "not settled since the takeover", "settled")

    def new_primary(self):
        return self.fresh

    def welcome(self, side):
        self.done.append("welcome")

    def release(self):
        assert not self.is_paused
        self.done.append("release")

    async def settled(self):
        self.done.append("settled")

    async def snapshot(self):
        return {}


@pytest.fixture
def network(monkeypatch):
    class Network:
        def __init__(self, config, role, term):
            """No hook."""

        async def leave(self):
            """Off the network."""

    monkeypatch.setattr(pausable, "Network", Network)
    monkeypatch.setattr(pausable, "qmp_arguments", lambda config: [])


def with_guest(*, has_qemu=True, command=("qemu",)):
    done = []
    side = Side(done, pid=7 if has_qemu else 0)
    guest = Guest(done, side)
    options = SimpleNamespace(command=list(command), start_timeout_ms=1000)
    host = SimpleNamespace(
        config=SimpleNamespace(qemu=options),
        role=None,
        term=None,
        note_pid=lambda pid: done.append(f"pid {pid}"),
        guest_came=lambda: done.append("came"),
    )
    return guest, PausableGuest(guest, host), done


@pytest.mark.usefixtures("network")
def test_a_running_guest_is_stopped_and_goes_on_when_it_is_promoted_again():
    guest, it, done = with_guest()
    it.hold_back()
    asyncio.run(it.resume())
    assert done == ["cont", "release", "settled", "came"]
    asyncio.run(it.resume())  # it serves: nothing to do
    asyncio.run(it.pause())
    assert done[4:] == ["stop"]
    assert guest.is_paused


@pytest.mark.usefixtures("network")
def test_where_there_is_no_qemu_one_is_started():
    guest, it, done = with_guest(has_qemu=False)
    it.hold_back()
    assert not it.is_there
    asyncio.run(it.resume())
    assert done == ["start", "connect", "welcome", "cont", "release", "settled", "came"]
    assert it.is_there
    assert guest.primary is guest.fresh


@pytest.mark.usefixtures("network")
def test_none_is_started_from_images_that_lack_what_is_in_overlays():
    guest, it, done = with_guest(has_qemu=False)
    guest.is_settled = False
    it.hold_back()
    with pytest.raises(StateError, match="not settled"):
        asyncio.run(it.resume())
    assert done == []
    assert guest.is_paused


@pytest.mark.usefixtures("network")
def test_a_domain_is_started_by_libvirt():
    guest, it, done = with_guest(has_qemu=False, command=())

    async def begin():
        done.append("virsh start")
        return 12

    guest.domain = SimpleNamespace(begin=begin)
    it.hold_back()
    asyncio.run(it.resume())
    assert done == ["virsh start", "watch", "connect", "welcome", "cont", "release", "settled", "came"]
    assert guest.primary.pid == 12


@pytest.mark.usefixtures("network")
def test_a_promotion_during_a_takeover_begins_no_second_guest():
    """The node was demoted before, so it is paused; its guest is still the secondary's (seen: the guest was lost)."""
    guest, it, done = with_guest()
    guest.primary, guest.secondary = None, object()
    it.hold_back()
    asyncio.run(it.resume())
    assert done == []
    assert not guest.is_paused, "the takeover serves, and the pair can be protected again"


@pytest.mark.usefixtures("network")
def test_a_qemu_that_is_started_is_not_searched_for_meanwhile():
    """The search took the new QEMU's monitor, which serves one client: the start failed after its time limit (seen)."""

    async def play():
        guest, it, done = with_guest(has_qemu=False)
        it.hold_back()
        async with asyncio.TaskGroup() as tasks, guest.looking:
            tasks.create_task(it.resume())
            for _ in range(5):
                await asyncio.sleep(0)
            assert done == [], "a search is under way"
            guest.primary = Side(done, pid=9)
        assert done[0] == "cont", "the search has found one"

    asyncio.run(play())


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("command", [(), ("qemu",)])
def test_a_qemu_that_cannot_be_started_is_an_error_and_leaves_nothing_behind(command):
    guest, it, done = with_guest(has_qemu=False, command=command)
    guest.fresh.fails = True
    it.hold_back()
    with pytest.raises(StateError):
        asyncio.run(it.resume())
    assert done == (["start", "connect", "kill"] if command else [])
    assert guest.is_paused, "the next promotion tries again"


@pytest.mark.usefixtures("network")
def test_the_end_switches_it_off_once():
    _, it, done = with_guest()
    asyncio.run(it.end())
    asyncio.run(it.end())
    assert done == ["end", "pid 0"]
