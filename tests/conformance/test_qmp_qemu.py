"""QMP with a real QEMU: commands, events, a QEMU that stands still, one that is killed, one whose main loop hangs."""

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pycolo.errors import ConnectError, QmpError, QmpTimeout
from pycolo.qmp.client import Qmp
from pycolo.qmp.judge import compare, judge
from pycolo.qmp.probe import probe
from pycolo.qmp.yank import MIGRATION, chardev, yank

pytestmark = pytest.mark.qemu

LONG_S = 60.0
PC = ["-machine", "pc,accel=tcg", "-m", "65544K", "-netdev", "user,id=hn0", "-device", "virtio-net-pci,netdev=hn0"]


class Qemu:
    """A QEMU with two QMP sockets, paused at its first instruction; killed at the end of `async with`."""

    def __init__(self, *arguments, paused=True):
        self.arguments = [*arguments, *(["-S"] if paused else [])]
        self.events = []
        self.reasons = []

    async def __aenter__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="colo-qmp-")
        self.folder = Path(self._folder.name)
        self.qmp = Qmp(self.folder / "qmp", "vm1", self.events.append, self.reasons.append)
        self.line = Qmp(self.folder / "yank", "vm1", lambda event: None, lambda reason: None)
        await self.start()
        return self

    async def start(self):
        monitors = [
            part for name in ("qmp", "yank") for part in ("-qmp", f"unix:{self.folder}/{name},server=on,wait=off")
        ]
        self.process = await asyncio.create_subprocess_exec(
            "qemu-system-x86_64", "-nodefaults", "-nographic", "-monitor", "none", *monitors, *self.arguments,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip

    async def kill(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def __aexit__(self, *_):
        await self.qmp.close()
        await self.line.close()
        await self.kill()
        self._folder.cleanup()

    async def until(self, condition):
        while not condition():
            await asyncio.sleep(0.005)


def run(scenario, *arguments, **options):
    """`scenario(qemu)` with a connected QEMU and a deadline; no task may be left."""

    async def whole():
        async with asyncio.timeout(100), Qemu(*arguments, **options) as qemu:
            await qemu.qmp.connect(LONG_S)
            await scenario(qemu)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(whole())


# ── the connection ──────────────────────────────────────────────────────────────────────────────────────────


def test_stop_and_cont_give_their_events_with_the_time():
    async def scenario(qemu):
        begun = datetime.now(UTC)
        await qemu.qmp.execute("cont")
        await qemu.qmp.execute("stop")
        await qemu.qmp.execute("cont")
        await qemu.until(lambda: len(qemu.events) >= 3)
        assert [event.name for event in qemu.events] == ["RESUME", "STOP", "RESUME"]
        times = [datetime.fromtimestamp(event.at_us / 1e6, UTC) for event in qemu.events]
        assert times == sorted(times)
        assert begun - timedelta(seconds=1) <= times[0] <= times[-1] <= datetime.now(UTC) + timedelta(seconds=1)
        received = [event.received_ns for event in qemu.events]
        assert received == sorted(received)
        assert qemu.qmp.version[0].isdigit()

    run(scenario, *PC)


def test_a_refusal_of_qemu_is_told():
    async def scenario(qemu):
        with pytest.raises(QmpError, match=r"^vm1: object-add: QEMU says: .*network backend id.*info network") as error:
            await qemu.qmp.execute("object-add", {"qom-type": "filter-redirector", "id": "m", "netdev": "nope"})
        assert error.value.error_class == "GenericError"
        with pytest.raises(QmpError) as error:
            await qemu.qmp.execute("no-such-command")
        assert error.value.error_class == "CommandNotFound"

    run(scenario, "-machine", "none")


def test_many_commands_at_once_get_their_own_answers():
    async def scenario(qemu):
        paths = [f"/machine/unattached/device[{n}]" for n in range(100)]
        asked = [qemu.qmp.execute("qom-list", {"path": path}, timeout_s=LONG_S) for path in paths]
        found = await asyncio.gather(*asked, return_exceptions=True)
        alone = [await qemu.qmp.execute("qom-list", {"path": path}) for path in paths[:5]]
        assert found[:5] == alone

    run(scenario, *PC)


def test_killing_qemu_fails_what_is_outstanding_and_is_told_once():
    async def scenario(qemu):
        qemu.process.send_signal(signal.SIGSTOP)
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(qemu.qmp.execute("query-status", timeout_s=LONG_S)) for _ in range(5)]
        await asyncio.sleep(0.05)
        await qemu.kill()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(error) for error in found} == {ConnectError}
        assert len(qemu.reasons) == 1
        with pytest.raises(ConnectError):
            await qemu.qmp.connect(0.1)

    run(scenario, *PC)


def test_a_qemu_that_stands_still_costs_the_time_and_works_again_afterwards():
    async def scenario(qemu):
        loop = asyncio.get_running_loop()
        qemu.process.send_signal(signal.SIGSTOP)
        start = loop.time()
        with pytest.raises(QmpTimeout, match="query-status"):
            await qemu.qmp.execute("query-status", timeout_s=0.3)
        assert 0.3 <= loop.time() - start < 20
        qemu.process.send_signal(signal.SIGCONT)
        assert "qemu" in await qemu.qmp.execute("query-version", timeout_s=LONG_S)
        assert qemu.qmp.is_connected
        assert qemu.reasons == []

    run(scenario, *PC)


def test_closing_does_not_wait_for_a_qemu_that_stands_still():
    async def scenario(qemu):
        qemu.process.send_signal(signal.SIGSTOP)
        with pytest.raises(QmpTimeout):
            await qemu.qmp.execute("query-status", timeout_s=0.05)
        async with asyncio.timeout(20):
            await qemu.qmp.close()
        with pytest.raises(QmpTimeout, match="no greeting"):
            await qemu.qmp.connect(0.2)
        qemu.process.send_signal(signal.SIGCONT)
        await qemu.qmp.connect(LONG_S)
        assert await qemu.qmp.execute("query-status")

    run(scenario, *PC)


def test_a_second_client_of_one_socket_is_told_what_is_wrong():
    async def scenario(qemu):
        second = Qmp(qemu.qmp.path, "vm1", lambda event: None, lambda reason: None)
        with pytest.raises(QmpTimeout, match="does another program use this socket"):
            await second.connect(0.2)
        await qemu.qmp.close()
        await second.connect(LONG_S)
        await second.close()

    run(scenario, "-machine", "none")


def test_the_next_qemu_at_the_same_path_is_found():
    async def scenario(qemu):
        await qemu.kill()
        await qemu.until(lambda: not qemu.qmp.is_connected)
        await qemu.qmp.close()
        await qemu.start()
        await qemu.qmp.connect(LONG_S)
        assert "qemu" in await qemu.qmp.execute("query-version", timeout_s=LONG_S)

    run(scenario, "-machine", "none")


# ── yank ────────────────────────────────────────────────────────────────────────────────────────────────────


def socket_chardev(name, path, wait):
    address = {"type": "unix", "data": {"path": str(path)}}
    return {"id": name, "backend": {"type": "socket", "data": {"addr": address, "server": True, "wait": wait}}}


def test_yank_frees_a_chardev_and_leaves_out_what_is_not_there():
    async def scenario(qemu):
        await qemu.qmp.execute("chardev-add", socket_chardev("colo-lan-in", qemu.folder / "lan", wait=False))
        await qemu.line.connect(LONG_S)
        with socket.socket(socket.AF_UNIX) as end:
            end.setblocking(False)
            end.connect(str(qemu.folder / "lan"))
            wanted = [chardev("colo-lan-in"), chardev("nope"), MIGRATION, chardev("colo-lan-in")]

            async def yanked():
                while True:  # until QEMU has accepted the connection there is nothing to shut down
                    assert await yank(qemu.line, wanted) == (chardev("colo-lan-in"),)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.2):
                            return await asyncio.get_running_loop().sock_recv(end, 1)

            assert await yanked() == b""
        assert await yank(qemu.line, [chardev("nope"), MIGRATION]) == ()

    run(scenario, "-machine", "none")


def test_yank_works_while_the_main_loop_hangs_on_a_connection_made_before():
    async def scenario(qemu):
        await qemu.qmp.execute("chardev-add", socket_chardev("colo-lan-in", qemu.folder / "lan", wait=False))
        await qemu.line.connect(LONG_S)
        loop = asyncio.get_running_loop()
        # Waits for a client inside the command: everything else of QEMU's main loop waits too.
        hang = loop.create_task(
            qemu.qmp.execute("chardev-add", socket_chardev("h", qemu.folder / "hang", wait=True), timeout_s=LONG_S)
        )
        await qemu.until((qemu.folder / "hang").exists)
        with pytest.raises(QmpTimeout):
            await qemu.qmp.execute("query-status", timeout_s=0.2)
        with pytest.raises(QmpTimeout):
            await qemu.line.execute("query-status", timeout_s=0.2)
        assert await yank(qemu.line, [chardev("colo-lan-in")], LONG_S) == (chardev("colo-lan-in"),)
        # And this is why the connection must be there before.
        await qemu.line.close()
        with pytest.raises(QmpTimeout):
            await qemu.line.connect(0.5)
        with socket.socket(socket.AF_UNIX) as end:
            end.connect(str(qemu.folder / "hang"))
            await hang
            assert await qemu.qmp.execute("query-status", timeout_s=LONG_S)

    run(scenario, "-machine", "none")


# ── the probe ───────────────────────────────────────────────────────────────────────────────────────────────


def probed(*arguments, then=None, **options):
    """Facts of a QEMU; `then(qemu)` comes before."""
    found = []

    async def scenario(qemu):
        if then is not None:
            await then(qemu)
        found.append(await probe(qemu.qmp, LONG_S))
        await probe(qemu.qmp, LONG_S)  # it has left nothing that is in the way of another
        assert found[0] == await probe(qemu.qmp, LONG_S)

    run(scenario, *arguments, **options)
    return found[0]


def refusals(findings):
    """But for that of a netdev which needs no rights here: a node wants a tap."""
    return codes(findings, "refuse") - {"no-tap"}


def codes(findings, severity):
    return {finding.code for finding in findings if finding.severity == severity}


def test_facts_of_a_pc():
    async def cont(qemu):
        await qemu.qmp.execute("cont")

    facts = probed(
        *PC, "-smp", "2", "-drive", "if=none,id=dd,driver=null-co,size=1M", "-device", "virtio-blk-pci,drive=dd",
        "-drive", "if=none,id=ro,driver=null-co,size=1M,read-only=on", "-device", "virtio-blk-pci,drive=ro",
        "-object", "iothread,id=io0", then=cont,
    )  # fmt: skip
    assert facts.version >= (7, 2, 0)
    assert facts.machine.startswith("pc-i440fx-")
    assert facts.cpu_type.endswith("-x86_64-cpu")
    assert (facts.accelerator, facts.status, facts.is_running, facts.vcpus) == ("tcg", "running", True, 2)
    assert facts.ram_bytes == 65544 << 10
    assert {"migrate", "x-colo-lost-heartbeat", "yank", "migrate-set-parameters"} <= facts.commands
    assert {"filter-redirector", "filter-mirror", "filter-rewriter"} <= facts.object_types
    assert facts.capabilities["x-colo"] is False
    assert (facts.migration, facts.migration_blockers) == ("none", ())
    assert [(nic.model, nic.netdev) for nic in facts.nics] == [("virtio-net-pci", "hn0")]
    netdev = facts.netdevs["hn0"]
    assert (netdev.type, netdev.queues, netdev.refusal) == ("user", 1, None)
    assert netdev.vnet_header is None, "only a TAP device on this host says whether its frames have one"
    assert [(disk.device, disk.is_writable) for disk in facts.disks] == [("dd", True), ("ro", False)]
    findings = judge(facts, "primary", ["hn0"])
    assert refusals(findings) == {"writable-disk"}
    assert "tcg" in codes(findings, "warn")
    assert codes(findings, "warn").isdisjoint({"tcg-ram", "tcg-smp"})


def test_a_plain_pc_is_not_refused():
    async def cont(qemu):
        await qemu.qmp.execute("cont")

    facts = probed(*PC, then=cont)
    assert refusals(judge(facts, "primary", ["hn0"])) == set()


def test_a_secondary_waits_for_the_primarys_state():
    facts = probed(*PC, "-incoming", "defer", paused=False)
    assert facts.status == "inmigrate"
    assert refusals(judge(facts, "secondary", ["hn0"])) == set()
    assert refusals(judge(facts, "primary", ["hn0"])) == {"not-running"}
    assert compare(facts, facts) == []
    other = probed("-machine", "pc,accel=tcg", "-m", "64M", "-device", "e1000")
    findings = judge(other, "secondary", ["hn0"])
    assert ("tcg-ram" in codes(findings, "warn")) == (other.version[:2] < (10, 0)), "the cure costs time there"
    assert refusals(findings) == {"not-incoming", "no-netdev"}
    assert codes(compare(facts, other), "refuse") == {"different-ram", "different-nics", "different-devices"}


def test_q35_is_a_machine_like_pc():
    facts = probed(
        "-machine", "q35,accel=tcg", "-m", "65544K", "-netdev", "user,id=hn0", "-device", "virtio-net-pci,netdev=hn0"
    )
    findings = judge(facts, "primary", ["hn0"])
    assert refusals(findings) == {"not-running"}
    assert codes(findings, "warn") <= {"tcg", "no-yank-socket"}


def test_no_machine_at_all():
    facts = probed("-machine", "none")
    assert (facts.vcpus, facts.ram_bytes, facts.nics, facts.cpu_type) == (0, 0, (), "")
    assert refusals(judge(facts, "primary", ["hn0"])) == {"no-machine", "no-netdev", "not-running"}


def test_what_cannot_migrate_and_what_migrates_already():
    async def migrate(qemu):
        await qemu.qmp.execute(
            "migrate-set-capabilities", {"capabilities": [{"capability": "return-path", "state": True}]}
        )

    blocked = probed(
        *PC, "-object", "memory-backend-ram,id=mb,size=1M,share=on", "-device", "ivshmem-plain,memdev=mb", then=migrate
    )
    assert len(blocked.migration_blockers) == 1
    findings = judge(blocked, "primary", ["hn0"])
    assert refusals(findings) == {"not-running", "migration-blocked", "outside-state"}
    assert blocked.capabilities["return-path"], "which the node sets as the version needs it"

    async def stuck(qemu):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(qemu.folder / "mig"))
            listener.listen(1)
            await qemu.qmp.execute("migrate-set-parameters", {"max-bandwidth": 1})
            await qemu.qmp.execute("migrate", {"uri": f"unix:{qemu.folder}/mig"})
            facts = await probe(qemu.qmp, LONG_S)
            assert refusals(judge(facts, "primary", ["hn0"])) == {"not-running", "migration-active"}

    run(stuck, *PC)


@pytest.mark.tun
@pytest.mark.parametrize("vnet", ["on", "off"])
def test_a_tap_tells_whether_frames_have_a_vnet_header(vnet):
    tap = f"tap,id=hn0,script=no,downscript=no,ifname=cq{os.getpid() % 10**8},vnet_hdr={vnet}"
    facts = probed("-machine", "pc,accel=tcg", "-netdev", tap, "-device", "virtio-net-pci,netdev=hn0")
    netdev = facts.netdevs["hn0"]
    assert (netdev.type, netdev.vnet_header, netdev.refusal) == ("tap", vnet == "on", None)
    assert "ifname=cq" in netdev.info


@pytest.mark.tun
def test_a_tap_with_several_queues_is_warned_of():
    tap = f"tap,id=hn0,script=no,downscript=no,ifname=cm{os.getpid() % 10**8},queues=2"
    card = ("-netdev", tap, "-device", "virtio-net-pci,netdev=hn0,mq=on")
    facts = probed("-machine", "pc,accel=tcg", "-m", "65544K", *card)
    assert facts.netdevs["hn0"].queues == 2
    assert len(facts.nics) == 1
    findings = judge(facts, "primary", ["hn0"])
    assert codes(findings, "refuse") == {"not-running"}
    assert "multiqueue" in codes(findings, "warn")
