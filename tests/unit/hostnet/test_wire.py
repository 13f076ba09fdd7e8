"""A tap changes places with the node's TAP and back: nothing is lost of what it was, wherever that is broken off."""

import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from pycolo.errors import ConfigError, ConnectError, PycoloError, StateError
from pycolo.hostnet import execution, looking, recovery, wire
from pycolo.hostnet.facts import BridgePlace
from pycolo.hostnet.journal import Journal
from pycolo.hostnet.plan import Step
from pycolo.hostnet.wire import Wire, journal_path, node_tap_name
from pycolo.transport.ports import open_device
from pycolo.transport.portspec import parse_port
from support import netns
from support.taphost import (
    BROADCAST,
    CLIENT_MAC,
    GUEST_MAC,
    TapHost,
    awaited,
    drained,
    echo,
    inside,
    packet_socket,
    tap_host,
)

pytestmark = [pytest.mark.namespaces, pytest.mark.tun]

VLANS = (
    "bridge vlan del vid 1 dev tap0",
    "bridge vlan add vid 10 pvid untagged dev tap0",
    "bridge vlan add vid 100-110 dev tap0",
    f"bridge fdb add {CLIENT_MAC.hex(':')} dev tap0 master static vlan 10",
)
RICH_PORT = (
    # A kernel without VLAN filtering shows the rest all the same; the messages have a test of their own.
    f"if ip link set br0 type bridge vlan_filtering 1; then {'; '.join(VLANS)}; fi",
    "ip link set br0 type bridge mcast_snooping 1",
    "bridge link set dev tap0 isolated on neigh_suppress on cost 77 hairpin on priority 9 mcast_flood off",
    f"bridge fdb add {GUEST_MAC.hex(':')} dev tap0 master static",
    "bridge mdb add dev br0 port tap0 grp 239.1.2.3 permanent",
    "ip link set tap0 mtu 1400 txqueuelen 777",
)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[TapHost]:
    with tap_host(tmp_path / "state") as made:
        yield made


class Killed(BaseException):
    """What happens to a node in the middle of a plan."""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the steps that were carried out."""
    done: list[str] = []

    def carry_out(netlink: object, step: Step) -> None:
        execution.carry_out(netlink, step)  # type: ignore[arg-type]
        done.append(step.name)

    monkeypatch.setattr(wire, "carry_out", carry_out)
    return done


def killed_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The next wire's process ends when so many steps are done."""
    left = count

    def carry_out(netlink: object, step: Step) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        execution.carry_out(netlink, step)  # type: ignore[arg-type]

    monkeypatch.setattr(wire, "carry_out", carry_out)


def failing_once(name: str) -> Callable[[object, Step], None]:
    """Carries out steps, except the first with this name."""
    left = [name]

    def carry_out(netlink: object, step: Step) -> None:
        if step.name in left:
            left.remove(step.name)
            raise ConnectError(f"{step.name}: the kernel says no")
        execution.carry_out(netlink, step)  # type: ignore[arg-type]

    return carry_out


def life(one: Wire) -> None:
    """Everything that a node does with a card."""
    one.prepare("tap0")
    one.attach()
    one.hold_apart()
    one.attach()
    one.detach()


def restored(host: TapHost) -> list[str]:
    said: list[str] = []
    assert recovery.restore(host.state, said.append) == []
    return said


# ── places ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_nodes_tap_takes_the_place_with_its_settings_and_gives_it_back(host: TapHost) -> None:
    host.sh(*RICH_PORT)
    before, place = host.facts(), host.place("tap0")
    one = host.wire(bridge="br0")
    one.prepare("tap0")
    one.attach()
    node, tap = host.link(one.node_tap), host.link("tap0")
    assert node is not None
    assert tap is not None
    assert host.place(one.node_tap) == place
    assert (host.place("tap0"), tap.is_silenced, tap.has_ipv6, tap.is_up) == (None, True, False, True)
    assert (node.is_silenced, node.has_ipv6, node.is_up, node.mtu) == (False, False, True, 1400)
    assert node.mac.startswith("fe:")
    one.detach()
    assert host.facts() == before


def test_every_call_may_be_repeated(host: TapHost) -> None:
    before = host.facts()
    one = host.wire()
    for _ in range(2):
        one.prepare("tap0")
    for call in (one.attach, one.hold_apart, one.attach):
        call()
        once = host.facts(), host.place(one.node_tap), host.link(one.node_tap)
        call()
        assert (host.facts(), host.place(one.node_tap), host.link(one.node_tap)) == once
    for _ in range(2):
        one.detach()
    assert host.facts() == before


def test_a_tap_that_was_in_no_bridge_gets_the_place_when_its_host_has_taken_over(host: TapHost) -> None:
    host.sh("ip link set tap0 nomaster")
    one = host.wire(bridge="br0")
    one.prepare("tap0")
    one.hold_apart()
    assert host.place("tap0") is host.place(one.node_tap) is None
    one.attach()
    assert isinstance(host.place(one.node_tap), BridgePlace)
    one.detach()
    assert isinstance(host.place("tap0"), BridgePlace)


def test_a_secondary_that_ends_leaves_its_tap_as_it_was(host: TapHost) -> None:
    host.sh("ip link set tap0 nomaster")
    before = host.facts()
    one = host.wire(bridge="br0")
    one.prepare("tap0")
    one.hold_apart()
    one.detach()
    assert host.facts() == before


def test_apart_is_a_bridge_of_its_own_where_that_is_wanted(host: TapHost) -> None:
    before = host.facts()
    one = host.wire(private="colo-apart")
    one.prepare("tap0")
    one.attach()
    place, bridge = host.place("tap0"), host.link("colo-apart")
    assert isinstance(place, BridgePlace)
    assert place.bridge == "colo-apart"
    assert bridge is not None
    assert (bridge.has_ipv6, bridge.is_up, bridge.addresses) == (False, True, ())
    one.hold_apart()
    assert host.place("tap0") == place
    one.detach()
    assert host.facts() == before


def test_the_bridge_keeps_its_mac_when_it_was_the_taps(host: TapHost) -> None:
    host.sh("ip link set tap0 address 02:00:00:00:00:01")
    before = host.facts()
    assert before[2].mac == "02:00:00:00:00:01"  # type: ignore[attr-defined]
    one = host.wire()
    one.prepare("tap0")
    one.attach()
    assert host.facts()[2] == before[2]
    one.detach()
    assert host.facts() == before


def test_a_port_that_its_administrator_has_disabled_stays_so(host: TapHost) -> None:
    host.sh("until bridge link show dev tap0 | grep -q 'state forwarding'; do sleep 0.01; done")
    host.sh("bridge link set dev tap0 state 0")
    before, place = host.facts(), host.place("tap0")
    assert isinstance(place, BridgePlace)
    assert place.state == 0
    one = host.wire()
    one.prepare("tap0")
    one.attach()
    one.detach()
    assert host.facts() == before


def test_with_stp_the_place_is_taken_when_the_bridge_forwards(host: TapHost) -> None:
    host.sh("ip link set br0 type bridge stp_state 1 forward_delay 200")
    one = host.wire()
    one.prepare("tap0")
    port = open_device(parse_port(f"tap:{one.node_tap},vnet_hdr=on", "x"), "x")
    one.attach()
    with host.client() as client:
        os.write(port.fileno(), bytes(10) + echo(BROADCAST, GUEST_MAC, 1))
        assert awaited(client, echo(BROADCAST, GUEST_MAC, 1))
    port.close()


# ── broken off ──────────────────────────────────────────────────────────────────────────────────────────────


def test_killed_after_any_step_a_restore_puts_everything_back(
    host: TapHost, monkeypatch: pytest.MonkeyPatch, steps: list[str]
) -> None:
    host.sh(*RICH_PORT)
    before = host.facts()
    life(host.wire())
    assert host.facts() == before
    total = len(steps)
    assert total > 10
    for count in range(total):
        killed_after(monkeypatch, count)
        one = host.wire()
        with pytest.raises(Killed):
            life(one)
        one.close()
        restored(host)
        assert host.facts() == before, f"killed after {count} steps"
        assert list(host.state.glob("*.json")) == []


def test_killed_after_any_step_the_next_node_goes_on(
    host: TapHost, monkeypatch: pytest.MonkeyPatch, steps: list[str]
) -> None:
    host.sh(*RICH_PORT)
    before, place = host.facts(), host.place("tap0")
    life(host.wire())
    for count in range(len(steps)):
        killed_after(monkeypatch, count)
        one = host.wire()
        with pytest.raises(Killed):
            life(one)
        one.close()
        monkeypatch.setattr(wire, "carry_out", execution.carry_out)
        two = host.wire()
        two.prepare("tap0")
        two.attach()
        assert host.place(two.node_tap) == place, f"killed after {count} steps"
        two.detach()
        assert host.facts() == before


def test_whichever_step_fails_all_is_as_before_and_the_error_names_it(
    host: TapHost, monkeypatch: pytest.MonkeyPatch, steps: list[str]
) -> None:
    one = host.wire()
    one.prepare("tap0")
    prepared = host.facts()
    del steps[:]
    one.attach()
    names = list(steps)
    one.hold_apart()
    one.detach()
    for failing in names:
        one = host.wire()
        one.prepare("tap0")
        monkeypatch.setattr(wire, "carry_out", failing_once(failing))
        with pytest.raises(ConnectError, match=failing):
            one.attach()
        assert host.facts() == prepared
        monkeypatch.setattr(wire, "carry_out", execution.carry_out)
        one.detach()


def test_a_restore_leaves_a_tap_alone_that_is_another_by_now(host: TapHost) -> None:
    one = host.wire()
    one.prepare("tap0")
    one.attach()
    one.close()
    host.close_tap("tap0")
    host.add_tap("tap0")
    said = restored(host)
    assert "tap0: made anew since the node moved it: left as it is" in said
    assert host.place("tap0") is None
    assert host.link("colo-vm1") is None


def test_a_restore_without_the_tap_removes_what_is_the_nodes(host: TapHost) -> None:
    one = host.wire()
    one.prepare("tap0")
    one.attach()
    one.close()
    host.close_tap("tap0")
    assert "tap0: gone: nothing to put back" in restored(host)
    assert host.link("colo-vm1") is None
    assert restored(host) == [f"{host.state}: no card to put back"]


def test_a_restore_elsewhere_changes_nothing(host: TapHost) -> None:
    """The same names in another network namespace, or after a restart of the host, are other devices."""
    one = host.wire()
    one.prepare("tap0")
    one.attach()
    one.close()
    moved = host.facts()
    other = netns.made()
    try:
        with inside(other.path):
            (error,) = recovery.restore(host.state, lambda _line: None)
    finally:
        other.close()
    assert "of another network namespace" in str(error)
    assert (host.facts(), one.is_left) == (moved, True)
    journal = Journal(journal_path(host.state, 0))
    record = journal.read()
    assert record is not None
    journal.write(msgspec.structs.replace(record, boot="an earlier one"))
    assert not one.is_left
    assert restored(host) == ["tap0: the host was started anew since: nothing to put back"]
    assert host.facts() == moved
    journal.write(record)
    restored(host)


def test_a_restore_is_refused_while_the_node_lives(host: TapHost) -> None:
    one = host.wire()
    one.prepare("tap0")
    one.attach()
    now = host.facts()
    with pytest.raises(StateError, match="held by a node that runs"):
        restored(host)
    assert host.facts() == now
    one.close()
    restored(host)


def test_a_new_qemus_tap_is_another_tap(host: TapHost) -> None:
    one = host.wire(bridge="br0")
    one.prepare("tap0")
    one.attach()
    host.close_tap("tap0")
    host.add_tap("tap0", "br0")
    before = host.facts()
    one.prepare("tap0")
    node = host.link(one.node_tap)
    assert node is not None
    assert node.is_silenced
    assert host.place(one.node_tap) is None
    one.attach()
    one.detach()
    assert host.facts()[:3] == before[:3]


def test_without_the_tap_the_node_leaves_the_place_and_takes_it_no_more(host: TapHost) -> None:
    one = host.wire()
    one.prepare("tap0")
    one.attach()
    host.close_tap("tap0")
    one.hold_apart()
    assert host.place(one.node_tap) is None
    host.add_tap("tap0", "br0")
    now = host.facts()
    with pytest.raises(ConnectError, match="tap0: the guest's tap is gone, or was made anew"):
        one.attach()
    one.hold_apart()
    assert host.facts() == now
    one.detach()
    assert host.facts()[:3] == now[:3]


def test_what_an_earlier_node_has_left_is_known_without_preparing(host: TapHost) -> None:
    before = host.facts()
    one = host.wire()
    one.hold_apart()
    one.detach()
    assert not one.is_left
    one.prepare("tap0")
    one.attach()
    one.close()
    two = host.wire()
    assert two.is_left
    two.detach()
    assert not two.is_left
    assert host.facts() == before


# ── traffic ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_frames_pass_by_the_node_only_while_it_has_the_place(host: TapHost) -> None:
    one = host.wire()
    one.prepare("tap0")
    port = open_device(parse_port(f"tap:{one.node_tap},vnet_hdr=on", "x"), "x")
    with host.client() as client, packet_socket("tap0", bypass=True) as node:
        host.guest_says(echo(BROADCAST, GUEST_MAC, 1))
        assert awaited(client, echo(BROADCAST, GUEST_MAC, 1))
        one.attach()
        host.guest_says(echo(BROADCAST, GUEST_MAC, 2))
        assert awaited(node, echo(BROADCAST, GUEST_MAC, 2)), "the packet socket hears the guest"
        os.write(port.fileno(), bytes(10) + echo(BROADCAST, GUEST_MAC, 3))
        assert awaited(client, echo(BROADCAST, GUEST_MAC, 3)), "and what passes is what the node says"
        drained(port.fileno(), 10)
        host.guest_hears()
        client.send(echo(GUEST_MAC, CLIENT_MAC, 4))
        assert awaited_at(port.fileno(), echo(GUEST_MAC, CLIENT_MAC, 4)), "the bridge knows where the guest is"
        assert host.guest_hears() == []
        node.send(echo(GUEST_MAC, CLIENT_MAC, 5))
        assert host.guest_hears() == [echo(GUEST_MAC, CLIENT_MAC, 5)]
        one.detach()
        host.guest_says(echo(BROADCAST, GUEST_MAC, 6))
        assert awaited(client, echo(BROADCAST, GUEST_MAC, 6))
        client.send(echo(GUEST_MAC, CLIENT_MAC, 7))
        assert awaited_at(host.taps["tap0"], echo(GUEST_MAC, CLIENT_MAC, 7))
    port.close()


def awaited_at(fd: int, frame: bytes) -> bool:
    while select.select([fd], [], [], 20)[0]:
        if frame in drained(fd, 10):
            return True
    return False


def arp_request(of: str) -> bytes:
    head = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1)
    addresses = GUEST_MAC + socket.inet_aton("10.77.0.2") + bytes(6) + socket.inet_aton(of)
    return BROADCAST + GUEST_MAC + b"\x08\x06" + head + addresses + bytes(18)


def solicitation(of: str) -> bytes:
    """A neighbour solicitation of a guest that already has an address."""
    target = socket.inet_pton(socket.AF_INET6, of)
    source = socket.inet_pton(socket.AF_INET6, "fd77::2")
    group = bytes.fromhex("ff0200000000000000000001ff") + target[-3:]
    body = struct.pack(">BBHI", 135, 0, 0, 0) + target + b"\x01\x01" + GUEST_MAC
    pseudo = source + group + struct.pack(">II", len(body), 58) + body
    total = sum(struct.unpack(f">{len(pseudo) // 2}H", pseudo))
    total = (total & 0xFFFF) + (total >> 16)
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    body = body[:2] + struct.pack(">H", total) + body[4:]
    return (
        b"\x33\x33"
        + group[-4:]
        + GUEST_MAC
        + b"\x86\xdd"
        + struct.pack(">IHBB", 6 << 28, len(body), 58, 255)
        + source
        + group
        + body
    )


QUESTIONS = {"arp": arp_request("10.77.0.254"), "ipv6": solicitation("fd77::fe")}


class ReadOnly:
    """/proc/sys as the node's systemd unit has it."""

    def write_text(self, _text: str, encoding: str) -> None:
        raise OSError(30, f"Read-only file system ({encoding})")


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("apart", [None, "colo-apart"])
@pytest.mark.parametrize("has_ipv6", [False, True])
def test_the_hosts_own_stack_never_answers_on_that_tap(
    host: TapHost, monkeypatch: pytest.MonkeyPatch, question: str, apart: str | None, has_ipv6: bool
) -> None:
    """It answers over the bridge, so the question is a right one."""
    if has_ipv6:
        monkeypatch.setattr(looking, "ipv6_switch", lambda _name: ReadOnly())
        monkeypatch.setattr(looking, "has_ipv6", lambda _name: True)
    asked = QUESTIONS[question]
    host.guest_hears()
    host.guest_says(asked)
    assert awaited_answer(host), "the host answers over its bridge"
    one = host.wire(private=apart)
    one.prepare("tap0")
    for call in (one.attach, one.hold_apart):
        call()
        host.guest_hears()
        with packet_socket("tap0", bypass=True) as node:
            host.guest_says(asked)
            assert awaited(node, asked)  # the tap has had it, and with it the host's stack
            node.send(echo(GUEST_MAC, CLIENT_MAC, 1))
            assert host.guest_hears() == [echo(GUEST_MAC, CLIENT_MAC, 1)], "nothing but the node's frame"
    one.detach()
    host.guest_hears()
    host.guest_says(asked)
    assert awaited_answer(host)


def awaited_answer(host: TapHost) -> bool:
    while select.select([host.taps["tap0"]], [], [], 20)[0]:
        if any(frame.startswith(GUEST_MAC) for frame in host.guest_hears()):
            return True
    return False


def test_nothing_is_sent_to_the_guest_but_by_the_node(host: TapHost) -> None:
    one = host.wire()
    one.prepare("tap0")
    one.attach()
    host.guest_hears()
    with packet_socket("tap0") as other, pytest.raises(OSError, match="No buffer space"):
        other.send(echo(GUEST_MAC, CLIENT_MAC, 1))
    assert host.guest_hears() == []
    one.detach()


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("lines", "tap", "card", "said"),
    [
        ((), "tap9", {}, r"card\[0\]: the tap tap9: this host \(this network namespace\) has no such interface"),
        ((), "lan", {}, r"lan: not a TAP device \(veth\)"),
        ((), "tap0", {"bridge": "br1"}, r"card\[0\]\.bridge: expected br0, where tap0 is, found 'br1'"),
        ((), "tap0", {"vlan": 5}, r"card\[0\]\.vlan: expected none: tap0 is in no VLAN of its own, found 5"),
        (("ip link set tap0 nomaster",), "tap0", {}, r"card\[0\]\.bridge is missing: it names the bridge of this"),
        (("ip link set tap0 nomaster",), "tap0", {"bridge": "lan"}, r"a Linux bridge or Open vSwitch bridge of this"),
        (("ip link set tap0 nomaster",), "tap0", {"bridge": "br0", "vlan": 5}, "no VLAN, since br0 has vlan_filtering"),
        (
            ("tc qdisc add dev tap0 ingress",),
            "tap0",
            {},
            r"tap0: it has tc filters \(qdisc ingress; .*tc qdisc del dev",
        ),
        (("ip addr add fd99::1/64 dev tap0",), "tap0", {}, r"tap0: the host has an IPv6 address on it \(fd99::1/64\)"),
        (
            ("ip link add colo-vm1 type dummy || ip link add colo-vm1 type veth",),
            "tap0",
            {},
            "colo-vm1: this interface",
        ),
        (("ip link add link client name mtap0 type macvtap",), "mtap0", {}, "mtap0: a macvtap, which is in no bridge"),
    ],
)
def test_what_cannot_be_moved_is_refused_and_nothing_changes(
    host: TapHost, lines: tuple[str, ...], tap: str, card: dict[str, object], said: str
) -> None:
    if lines:
        host.sh(*lines)
    before = host.facts()
    one = host.wire(**card)
    with pytest.raises((ConnectError, ConfigError), match=said) as caught:
        one.prepare(tap)
    assert "\n" not in str(caught.value)
    assert host.facts() == before
    assert not one.is_left
    two = host.wire(**card)
    with pytest.raises(PycoloError, match=said):  # the lock is free again
        two.prepare(tap)


def test_a_wire_that_is_not_prepared_moves_nothing(host: TapHost) -> None:
    with pytest.raises(StateError, match="not prepared"):
        host.wire().attach()


def test_what_is_bypassed_is_said(host: TapHost) -> None:
    host.sh("tc qdisc add dev tap0 root tbf rate 1mbit burst 10kb latency 50ms", "ip addr add 10.1.1.1/24 dev tap0")
    one = host.wire()
    one.prepare("tap0")
    assert one.bypassed() == [
        "tap0: its tc qdisc tbf is bypassed",
        "tap0: its address 10.1.1.1/24 is not reached any longer",
    ]
    one.detach()


@pytest.mark.parametrize(
    ("pair", "number", "name"),
    [("vm1", 0, "colo-vm1"), ("vm1", 1, "colo-vm1.1"), ("0123456789", 0, "colo-0123456789")],
)
def test_the_nodes_tap_has_the_pairs_name(pair: str, number: int, name: str) -> None:
    assert node_tap_name(pair, number) == name


def test_long_names_of_pairs_are_told_apart() -> None:
    names = {node_tap_name(f"webserver-{one}", number) for one in range(50) for number in range(4)}
    assert len(names) == 200
    assert all(len(name) <= 15 for name in names)
