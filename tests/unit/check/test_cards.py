"""Each card's tap and place on this host, and what the node may do there."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pycolo.check import Item, Level, Moment, cards
from pycolo.check.cards import Qemu, card_items, find_qemu, rights_items
from pycolo.config import PairConfig, parse
from pycolo.hostnet.facts import BridgePlace, Place, SwitchPlace, Vlan
from pycolo.hostnet.survey import Survey
from pycolo.link.hello import Role
from support.configs import changed, checkable
from support.taphost import TapHost, tap_host

SECONDARY = Moment(Role.SECONDARY)
COMMAND = ["qemu", "-netdev", "tap,id=hn0,ifname=tap0,script=no"]
ALL = (1 << 41) - 1


def config(tmp_path: Path, *tables: str, command: list[str] | None = None) -> PairConfig:
    given: dict[str, Any] = {"card": None, "network": None, "qemu.command": command or COMMAND}
    text = changed(checkable(tmp_path, given)) + "".join(
        f'[[card]]\nnetdev = "hn0"\n{one}\n' for one in tables or ("",)
    )
    return parse(text.encode(), "vm.toml")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[TapHost]:
    with tap_host(tmp_path / "state") as made:
        yield made


def said(config: PairConfig) -> list[Item]:
    return [item for item in card_items(config, SECONDARY, {}) if item.name.startswith("card")]


@pytest.mark.namespaces
@pytest.mark.tun
def test_a_tap_in_its_bridge_and_what_stands_in_its_way(host: TapHost, tmp_path: Path) -> None:
    (item,) = said(config(tmp_path))
    assert (item.name, item.level) == ("card hn0", Level.OK)
    assert item.text == "tap0, MTU 1500, vnet headers, in bridge br0"
    host.sh("ip link set tap0 down", "tc qdisc add dev tap0 root tbf rate 1mbit burst 10kb latency 50ms")
    assert [item.level for item in said(config(tmp_path))] == [Level.OK, Level.WARNING, Level.WARNING]
    host.sh("tc qdisc replace dev tap0 ingress")
    (item,) = said(config(tmp_path))
    assert (item.level, "tc filters" in item.text) == (Level.REFUSED, True)


BRIDGED = BridgePlace("br0", vlans=(Vlan(1, is_untagged=True), Vlan(10, is_pvid=True, is_untagged=True), Vlan(11)))


@pytest.mark.namespaces
@pytest.mark.tun
@pytest.mark.parametrize(
    ("place", "shown"),
    [
        (BRIDGED, "in bridge br0, VLAN 1 untagged, 10 untagged, 11"),
        (BridgePlace("br0", vlans=(Vlan(1, is_pvid=True, is_untagged=True),)), "in bridge br0"),
        (SwitchPlace("ovs0", {"tag": 12}), "in Open vSwitch bridge ovs0, VLAN 12"),
        (SwitchPlace("ovs0", {}), "in Open vSwitch bridge ovs0"),
    ],
)
def test_the_vlans_of_its_port_are_shown(
    host: TapHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Place, shown: str
) -> None:
    tap = host.link("tap0")
    assert tap is not None
    monkeypatch.setattr(cards, "survey", lambda card, number, name: Survey(tap, place, None, ()))
    (item,) = said(config(tmp_path))
    assert item.text == f"tap0, MTU 1500, vnet headers, {shown}"


@pytest.mark.namespaces
@pytest.mark.tun
def test_a_place_that_is_named_must_be_there(host: TapHost, tmp_path: Path) -> None:
    host.sh("ip link set tap0 nomaster")
    (item,) = said(config(tmp_path, 'bridge = "br0"'))
    assert item.text.endswith("in no bridge; bridge br0 is to be its place")
    for given in ('bridge = "br9"', ""):
        (item,) = said(config(tmp_path, given))
        assert (item.level, "card[0].bridge" in item.text) == (Level.REFUSED, True)


@pytest.mark.namespaces
@pytest.mark.tun
def test_a_tap_that_qemu_will_make_needs_its_place_only(host: TapHost, tmp_path: Path) -> None:
    later = ["qemu", "-netdev", "tap,id=hn0,ifname=tap5,script=no"]
    (item,) = said(config(tmp_path, 'bridge = "br0"', command=later))
    assert (item.level, item.text) == (Level.OK, "tap5 is made when QEMU starts; bridge br0 is to be its place")
    (item,) = said(config(tmp_path, command=later))
    assert (item.level, "give card.bridge" in item.text) == (Level.WARNING, True)
    (item,) = said(config(tmp_path, command=["qemu", "-netdev", "user,id=hn7"]))
    assert (item.level, "no netdev hn0" in item.text) == (Level.REFUSED, True)


@pytest.mark.namespaces
@pytest.mark.tun
def test_while_the_node_has_the_place_that_is_shown(host: TapHost, tmp_path: Path) -> None:
    given = config(tmp_path)
    wire = host.wire()
    wire.node_tap = cards.node_tap_name(given.pair, 0)
    wire.prepare("tap0")
    wire.attach()
    (item,) = said(given)
    assert item.text == f"{wire.node_tap} is in bridge br0, in the place of tap0"


@pytest.mark.namespaces
@pytest.mark.tun
def test_a_running_qemu_that_has_another_tap_is_refused(
    host: TapHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cards, "find_qemu", lambda *_: Qemu(7, 0, ["qemu", "-netdev", "tap,id=hn0,ifname=tap5"]))
    (item,) = said(config(tmp_path))
    assert (item.level, "no interface tap5" in item.text) == (Level.REFUSED, True)
    opened = ["tap0"]
    monkeypatch.setattr(cards, "taps_of_process", lambda pid: opened)
    monkeypatch.setattr(cards, "find_qemu", lambda *_: Qemu(7, 0, ["qemu", "-netdev", "tap,id=hn0,fd=7"]))
    (item,) = said(config(tmp_path))
    assert item.text.startswith("tap0, "), "by what the process has opened"
    opened.append("tap1")
    (item,) = said(config(tmp_path))
    assert item.level is Level.WARNING, "which of the two, is not known"


@pytest.mark.namespaces
@pytest.mark.tun
def test_the_tap_of_a_card_that_qemu_does_not_have_is_not_praised(
    host: TapHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU refuses such a card by what it says itself; two verdicts would contradict each other."""
    given = config(tmp_path, 'tap = "tap0"', command=["qemu", "-netdev", "tap,id=n0,ifname=tap0"])
    (item,) = said(given)
    assert (item.level, "qemu.command has no netdev hn0" in item.text) == (Level.REFUSED, True)
    monkeypatch.setattr(cards, "find_qemu", lambda *_: Qemu(7, 0, list(given.qemu.command)))
    assert said(given) == []
    host.sh("tc qdisc replace dev tap0 ingress")
    (item,) = said(given)
    assert (item.level, "tc filters" in item.text) == (Level.REFUSED, True), "it may be a netdev that was added later"


@pytest.mark.parametrize("is_running", [False, True])
@pytest.mark.parametrize("is_qemu", [False, True])
def test_the_record_names_qemu_and_its_socket_is_left_alone_while_a_node_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_running: bool, is_qemu: bool
) -> None:
    given = config(tmp_path)
    given.state.mkdir(exist_ok=True)
    (given.state / "node.json").write_text(json.dumps({"role": "primary", "pid": 7}))
    lines = {
        7: ["qemu", "-qmp", f"unix:{given.qemu.qmp},server=on" if is_qemu else "unix:/x"],
        9: ["qemu", "-machine", "pc"],
    }
    asked: list[Path] = []
    monkeypatch.setattr(cards, "command_line", lambda pid: lines.get(pid, []))
    monkeypatch.setattr(cards, "owner_of_path", lambda path, timeout_s: (asked.append(path), (9, 0))[1])
    found = find_qemu(given, Moment(Role.PRIMARY, 1 if is_running else None))
    assert found.pid == (7 if is_qemu else 0 if is_running else 9)
    assert bool(asked) is (not is_qemu and not is_running)
    assert found.words == (COMMAND if found.pid == 0 else lines[found.pid])


def test_a_relay_at_the_monitors_socket_is_not_taken_for_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = config(tmp_path)
    monkeypatch.setattr(cards, "command_line", lambda pid: ["python3", "-m", "relay", str(given.qemu.qmp)])
    monkeypatch.setattr(cards, "owner_of_path", lambda path, timeout_s: (9, 0))
    assert find_qemu(given, Moment(Role.PRIMARY, None))[::2] == (0, COMMAND)


# ── what may be done ────────────────────────────────────────────────────────────────────────────────────────


def rights(tmp_path: Path, held: int, qemu: Qemu, *, is_node: bool = True) -> list[Item]:
    (tmp_path / "7").mkdir(exist_ok=True)
    (tmp_path / "7" / "status").write_text(f"Name:\tcolo\nUid:\t0\t0\t0\t0\nCapEff:\t{held:016x}\n")
    (tmp_path / "tun").touch()
    return list(rights_items(7, qemu, is_node=is_node, proc=tmp_path, tun=tmp_path / "tun"))


@pytest.mark.parametrize("missing", [12, 13])
def test_a_node_needs_both_capabilities(tmp_path: Path, missing: int) -> None:
    held = ALL & ~(1 << missing)
    (item,) = rights(tmp_path, held, Qemu(0, 0, []))
    assert item.level is Level.REFUSED
    assert {12: "CAP_NET_ADMIN", 13: "CAP_NET_RAW"}[missing] in item.text
    (item,) = rights(tmp_path, held, Qemu(0, 0, []), is_node=False)
    assert item.level is Level.WARNING, "the unit may grant the node what this check has not"


@pytest.mark.parametrize(
    ("uid", "permitted", "held", "is_seen"),
    [
        (0, ALL, ALL, True),
        (64, ALL, ALL, True),
        (0, 1 << 12, ALL & ~(1 << 19), True),
        (64, 1 << 12, ALL & ~(1 << 19), False),
        (0, ALL, ALL & ~(1 << 19), False),
    ],
)
def test_a_qemu_of_another_user_or_with_more_rights_is_seen_with_ptrace_only(
    tmp_path: Path, uid: int, permitted: int, held: int, is_seen: bool
) -> None:
    (tmp_path / "9").mkdir()
    (tmp_path / "9" / "status").write_text(f"CapPrm:\t{permitted:016x}\n")
    items = rights(tmp_path, held, Qemu(9, uid, []))
    assert [item.level for item in items] == ([Level.OK] if is_seen else [Level.OK, Level.WARNING])


def test_the_tun_device_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (item,) = rights_items(7, Qemu(0, 0, []), is_node=True, proc=tmp_path, tun=tmp_path / "none")
    assert (item.level, "modprobe tun" in item.text) == (Level.REFUSED, True)
