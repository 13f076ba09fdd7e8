"""The probe reads what a QEMU says, changes nothing, and refuses what it cannot read."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycolo.errors import PeerError, QmpError, QmpTimeout
from pycolo.qmp.client import Qmp
from pycolo.qmp.judge import judge
from pycolo.qmp.probe import PROBE_FILTER_ID, network_lines, probe
from support import virtualloop
from support.fakeqmp import HANG, FakeQmp, Refusal

INFO = """hub 0
 \\ hn1
virtio-net-pci.0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56
 \\ hn0: index=0,type=tap,ifname=tap0,script=no,downscript=no
filters:
  - colo-a: type=filter-redirector,netdev=hn0,status=on,index=0,type=x
net1: index=0,type=nic,model=e1000,macaddr=52:54:00:12:34:57
 \\ mq0: index=0,type=tap,ifname=tap1
net1: index=1,type=nic,
 \\ mq0: index=1,type=tap,ifname=tap1
lonely: index=0,type=nic,model=rtl8139,macaddr=52:54:00:12:34:58
unused: index=0,type=user,net=10.0.2.0,restrict=off
"""

BLOCKS = """              Block Name    PSize              Offset               Used              Total
                  pc.ram    4 KiB  0x0000000000000000 0x0000000006002000 0x0000000006002000
"""

COMMANDS = ("migrate", "yank", "x-colo-lost-heartbeat", "query-kvm", "qom-get")
ONLY_REDIRECTOR = "filter redirector needs 'indev' or 'outdev' at least one property set"


def refused(arguments):
    words = {"hn0": "Vhost is not supported", "mq0": "multiqueue is not supported"}
    return Refusal("GenericError", words.get(arguments["netdev"], ONLY_REDIRECTOR))


def qom_get(arguments):
    match arguments["property"]:
        case "type":
            return "pc-i440fx-7.2-machine" if arguments["path"] == "/machine" else "qemu64-x86_64-cpu"
        case "parent_bus":
            return "/machine/i440fx/pci.0"
        case "addr":
            return Refusal("GenericError", "no")


def monitor(arguments):
    return {"info network": INFO, "info ramblock": BLOCKS}[arguments["command-line"]]


def qom_list(arguments):
    if arguments["path"] == "/machine/peripheral/e0":
        return [{"name": "parent_bus", "type": "link<bus>"}, {"name": "addr", "type": "int32"}]
    found = {
        "/objects": [
            {"name": "comp0", "type": "child<colo-compare>"},
            {"name": "colo-f-lan-in", "type": "child<filter-redirector>"},
            {"name": "pc.ram", "type": "child<memory-backend-ram>"},
        ],
        "/machine/peripheral": [
            {"name": "type", "type": "string"},
            {"name": "e0", "type": "child<virtio-net-pci>"},
            {"name": "agent", "type": "child<virtserialport>"},
        ],
        "/machine/peripheral-anon": [{"name": "device[0]", "type": "child<i6300esb>"}],
    }
    return found.get(arguments["path"], [])


def qom_list_of_none(arguments):
    return Refusal("DeviceNotFound", "no such path") if arguments["path"] == "/objects" else []


ANSWERS = {
    "query-version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "Debian"},
    "query-commands": [{"name": name} for name in COMMANDS],
    "qom-list-types": [{"name": "filter-redirector"}],
    "query-status": {"status": "running", "running": True},
    "query-kvm": {"enabled": True, "present": True},
    "query-cpus-fast": [{"qom-path": "/machine/unattached/device[0]"}],
    "query-memory-size-summary": {"base-memory": 1 << 30, "plugged-memory": 1 << 20},
    "query-migrate": {"status": "completed", "blocked-reasons": ["because"]},
    "query-migrate-capabilities": [{"capability": "x-colo", "state": True}],
    "human-monitor-command": monitor,
    "object-add": refused,
    "qom-get": qom_get,
    "qom-list": qom_list,
    "query-block": [
        {"device": "hd0", "inserted": {"drv": "qcow2", "file": "/x", "ro": False, "image": {"virtual-size": 1024}}},
        {"device": "", "qdev": "/machine/peripheral/d1", "inserted": {"drv": "raw", "file": "/y", "ro": True}},
        {"device": "cd0"},
    ],
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "qmp.sock"


def probed(path, answers, timeout_s=30.0, *, is_forced=False):
    """Facts from a QEMU that answers so, and every message that it got."""

    async def whole():
        async with asyncio.timeout(60), FakeQmp(path) as fake:
            fake.answers |= answers
            qmp = Qmp(path, "vm1", lambda event: None, lambda reason: None)
            await qmp.connect(30)
            try:
                return await probe(qmp, timeout_s, is_forced=is_forced), fake.received
            finally:
                await qmp.close()

    return virtualloop.run(whole())


def test_everything_is_read(path):
    facts, _ = probed(path, ANSWERS)
    assert (facts.vm, facts.version, facts.package) == ("vm1", (7, 2, 22), "Debian")
    assert (facts.machine, facts.cpu_type, facts.accelerator) == ("pc-i440fx-7.2-machine", "qemu64-x86_64-cpu", "kvm")
    assert (facts.status, facts.is_running, facts.vcpus, facts.is_tcg) == ("running", True, 1, False)
    assert facts.ram_bytes == (1 << 30) + (1 << 20)
    assert facts.commands == frozenset(COMMANDS)
    assert facts.capabilities == {"x-colo": True}
    assert (facts.migration, facts.migration_blockers) == ("completed", ("because",))
    assert [(disk.device, disk.is_writable, disk.size_bytes) for disk in facts.disks] == [
        ("hd0", True, 1024),
        ("/machine/peripheral/d1", False, 0),
    ]
    assert {name: (found.refusal, found.queues) for name, found in facts.netdevs.items()} == {
        "hn0": ("Vhost is not supported", 1),
        "mq0": ("multiqueue is not supported", 2),
        "unused": (None, 1),
    }
    assert facts.netdevs["hn0"].vnet_header is None, "no such tap here"
    assert facts.devices == ("i6300esb", "virtio-net-pci", "virtserialport")
    assert "virtio-net-pci at pci.0" in map(str, facts.places)
    assert (facts.ram_blocks, facts.proxies) == (
        {"pc.ram": 0x6002000},
        ("colo-f-lan-in (filter-redirector)", "comp0 (colo-compare)"),
    )
    found = {finding.code for finding in judge(facts, "primary", ["hn0"]) if finding.severity == "refuse"}
    assert found == {"vhost", "migration-blocked", "writable-disk", "other-proxy"}


def test_it_changes_nothing(path):
    _, received = probed(path, ANSWERS)
    other = [m for m in received if not m["execute"].startswith(("query-", "qom-get", "qom-list"))]
    assert {m["execute"] for m in other} == {"qmp_capabilities", "human-monitor-command", "object-add"}
    assert {m["arguments"]["command-line"] for m in other if m["execute"] == "human-monitor-command"} == {
        "info network",
        "info ramblock",
    }
    for message in other:
        if message["execute"] == "object-add":  # which QEMU always refuses
            assert not {"indev", "outdev"} & message["arguments"].keys()


@pytest.mark.parametrize("version", [(6, 0, 0), (8, 2, 1), (10, 1, 0), (10, 0, 6), (11, 0, 0)])
def test_a_qemu_of_an_unknown_version_is_asked_for_nothing_else(path, version):
    answers = ANSWERS | {"query-version": {"qemu": dict(zip(("major", "minor", "micro"), version, strict=True))}}
    asked = []

    async def refused_at():
        async with asyncio.timeout(60), FakeQmp(path) as fake:
            fake.answers |= answers
            qmp = Qmp(path, "vm1", lambda event: None, lambda reason: None)
            await qmp.connect(30)
            try:
                await probe(qmp)
            finally:
                asked.extend(fake.commands())
                await qmp.close()

    with pytest.raises(PeerError, match=f"vm1 cannot be protected: QEMU {'.'.join(map(str, version))} .*--force"):
        virtualloop.run(refused_at())
    assert asked == ["qmp_capabilities", "query-version"]
    facts, received = probed(path, answers, is_forced=True)
    assert facts.version == version
    assert {message["execute"] for message in received} > set(asked)


def test_a_filter_that_is_taken_against_all_expectation_is_removed(path):
    facts, received = probed(path, ANSWERS | {"object-add": {}, "object-del": {}})
    assert facts.netdevs["hn0"].refusal is None
    deleted = [m["arguments"]["id"] for m in received if m["execute"] == "object-del"]
    assert deleted == [PROBE_FILTER_ID] * 3


def test_an_older_or_smaller_qemu_is_read_too(path):
    answers = ANSWERS | {
        "query-commands": [{"name": "migrate"}],
        "qom-list-types": [],
        "query-migrate": {},
        "query-cpus-fast": [],
        "query-memory-size-summary": {"base-memory": 5},
        "query-version": {"qemu": {"major": 6, "minor": 0, "micro": 0}},
    }
    facts, received = probed(path, answers, is_forced=True)
    asked = {message["execute"] for message in received}
    assert not asked & {"query-kvm", "object-add"}
    assert (facts.accelerator, facts.migration, facts.cpu_type) == ("tcg", "none", "")
    assert (facts.ram_bytes, facts.package, facts.netdevs["hn0"].vnet_header) == (5, "", None)


def test_without_a_machine_there_are_no_objects(path):
    facts, _ = probed(path, ANSWERS | {"qom-list": qom_list_of_none})
    assert (facts.proxies, facts.places) == ((), ())


def test_a_question_that_is_refused_or_not_answered_is_named(path):
    with pytest.raises(QmpError, match="vm1: query-block: QEMU says: no"):
        probed(path, ANSWERS | {"query-block": Refusal("GenericError", "no")})
    with pytest.raises(QmpTimeout, match=r"vm1: query-status: no answer from QEMU within 0\.2 s"):
        probed(path, ANSWERS | {"query-status": HANG}, timeout_s=0.2)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(command=st.sampled_from(sorted(ANSWERS)), answer=JSON)
def test_an_answer_that_cannot_be_read_is_one_line_that_names_the_question(path, command, answer):
    said = "vm1: "
    try:
        probed(path, ANSWERS | {command: answer})
    except PeerError as error:
        said = str(error)
    assert "\n" not in said
    assert said.startswith("vm1: ")


def test_netdevs_and_devices_are_told_apart():
    nics, netdevs = network_lines(INFO)
    assert [(nic.name, nic.model, nic.mac, nic.netdev) for nic in nics] == [
        ("virtio-net-pci.0", "virtio-net-pci", "52:54:00:12:34:56", "hn0"),
        ("net1", "e1000", "52:54:00:12:34:57", "mq0"),
        ("lonely", "rtl8139", "52:54:00:12:34:58", None),
    ]
    assert netdevs == {
        "hn0": ("tap", "ifname=tap0,script=no,downscript=no", 1),
        "mq0": ("tap", "ifname=tap1", 2),
        "unused": ("user", "net=10.0.2.0,restrict=off", 1),
    }


@given(text=st.text() | st.text(st.sampled_from(" \\\n:,=index0type nicab-")))
def test_any_text_of_the_monitor_is_read(text):
    nics, netdevs = network_lines(text)
    assert len(nics) + len(netdevs) <= len(text.splitlines())
