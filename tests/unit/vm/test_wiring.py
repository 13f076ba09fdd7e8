"""The wiring over QMP: in an order in which no frame goes round or is lost, and what is there already stays."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pycolo.errors import PeerError
from pycolo.vm import wiring
from pycolo.vm.commandline import CHARDEVS, FILTERS
from support.fakenet import Network
from support.fakeqmp import Refusal

PLACE = Path("/run/colo/vm1")
CHARDEV_IDS = ["colo-lan-in", "colo-lan-out", "colo-guest-in", "colo-guest-out"]
FILTER_IDS = ["colo-f-lan-in", "colo-f-guest-out", "colo-f-lan-out", "colo-f-guest-in"]
TAKING_OUT = {"colo-f-lan-in", "colo-f-guest-in"}


class Machine:
    """What `wiring` asks of a `pycolo.vm.machine.Machine`; frames can be sent through what it has put in."""

    def __init__(self, chardevs: tuple[str, ...] = (), filters: tuple[str, ...] = ()) -> None:
        self.chardevs = list(chardevs)
        self.filters = list(filters)
        self.commands: list[tuple[str, str]] = []
        self.arguments: list[dict[str, Any]] = []
        self.refused: str | None = None
        self.says_headers = True

    async def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        given = arguments or {}
        if command == "query-chardev":
            return [{"label": "compat_monitor0"}, *({"label": name} for name in self.chardevs)]
        if command == "qom-list":
            assert given == {"path": "/objects"}
            return [{"name": "type"}, {"name": "somebodys"}, *({"name": name} for name in self.filters)]
        if command == "qom-get":
            assert given["property"] == "vnet_hdr_support"
            return self.says_headers
        name = given.get("id", given.get("path", ""))
        if command == self.refused:
            raise PeerError(f"{command} {name}: refused")
        self.commands.append((command, name))
        self.arguments.append(given)
        match command:
            case "chardev-add":
                self.chardevs.append(name)
            case "chardev-remove":
                self.chardevs.remove(name)
            case "object-add":
                self.filters.append(name)
            case "object-del":
                self.filters.remove(name)
        return {}


def done(machine: Machine, command: str) -> list[str]:
    return [name for one, name in machine.commands if one == command]


def test_four_sockets_that_qemu_listens_on() -> None:
    machine = Machine()
    asyncio.run(wiring.add_chardevs(machine, PLACE))
    assert done(machine, "chardev-add") == CHARDEV_IDS
    for given in machine.arguments:
        address = {"type": "unix", "data": {"path": f"{PLACE}/{given['id'].removeprefix('colo-')}.sock"}}
        assert given["backend"] == {"type": "socket", "data": {"addr": address, "server": True, "wait": False}}


@pytest.mark.parametrize("there", [("colo-lan-in",), ("colo-lan-out", "colo-guest-out"), tuple(CHARDEV_IDS)])
def test_sockets_that_are_there_stay(there: tuple[str, ...]) -> None:
    machine = Machine(chardevs=there)
    asyncio.run(wiring.add_chardevs(machine, PLACE))
    assert done(machine, "chardev-add") == [name for name in CHARDEV_IDS if name not in there]


@pytest.mark.parametrize("there", [(), ("colo-guest-in",), tuple(CHARDEV_IDS)])
def test_sockets_are_removed_where_they_are(there: tuple[str, ...]) -> None:
    machine = Machine(chardevs=there)
    asyncio.run(wiring.remove_chardevs(machine))
    assert done(machine, "chardev-remove") == list(there)
    assert machine.chardevs == []


def test_filters_are_added_in_list_order_on_the_netdev() -> None:
    machine = Machine()
    asyncio.run(wiring.add_filters(machine, "hn7"))
    assert done(machine, "object-add") == FILTER_IDS
    assert machine.arguments == [
        {"qom-type": "filter-redirector", "netdev": "hn7", "vnet_hdr_support": True, **own}
        for own in (
            {"id": "colo-f-lan-in", "queue": "tx", "outdev": "colo-lan-in"},
            {"id": "colo-f-guest-out", "queue": "tx", "indev": "colo-guest-out"},
            {"id": "colo-f-lan-out", "queue": "rx", "indev": "colo-lan-out"},
            {"id": "colo-f-guest-in", "queue": "rx", "outdev": "colo-guest-in"},
        )
    ]


@pytest.mark.parametrize("there", [("colo-f-lan-in",), ("colo-f-lan-out", "colo-f-guest-in"), tuple(FILTER_IDS)])
def test_filters_that_are_there_stay(there: tuple[str, ...]) -> None:
    machine = Machine(filters=there)
    asyncio.run(wiring.add_filters(machine, "hn0"))
    assert done(machine, "object-add") == [name for name in FILTER_IDS if name not in there]


@pytest.mark.parametrize("there", [("colo-f-lan-in",), ("colo-f-lan-out", "colo-f-guest-in"), tuple(FILTER_IDS)])
def test_filters_that_say_nothing_of_vnet_headers_are_made_anew(there: tuple[str, ...]) -> None:
    machine = Machine(filters=there)
    machine.says_headers = False
    asyncio.run(wiring.add_filters(machine, "hn0"))
    assert sorted(done(machine, "object-del")) == sorted(there)
    assert done(machine, "object-add") == machine.filters == FILTER_IDS


@pytest.mark.parametrize("there", [(), ("colo-f-lan-in", "colo-f-lan-out"), tuple(FILTER_IDS)])
def test_what_takes_frames_out_goes_first(there: tuple[str, ...]) -> None:
    machine = Machine(filters=there)
    asyncio.run(wiring.remove_filters(machine))
    gone = done(machine, "object-del")
    assert sorted(gone) == sorted(there)
    is_out = [name in TAKING_OUT for name in gone]
    assert is_out == sorted(is_out, reverse=True)


def test_a_restarted_node_gets_its_injecting_filters_anew_and_in_their_places() -> None:
    """Those that divert frames stay: none passes the node by meanwhile."""
    machine = Machine(filters=tuple(FILTER_IDS))
    assert asyncio.run(wiring.renew_filters(machine, "hn0"))
    assert machine.commands == [
        ("object-del", "colo-f-guest-out"),
        ("object-add", "colo-f-guest-out"),
        ("object-del", "colo-f-lan-out"),
        ("object-add", "colo-f-lan-out"),
    ]
    wired = Wired([one.properties("hn0") for one in FILTERS])
    for command, given in zip([name for name, _ in machine.commands], machine.arguments, strict=True):
        if command == "object-del":
            wired.network.remove(given["id"])
        else:
            assert not isinstance(wired.network.add({**given}), Refusal)
    assert [one.id for one in wired.network.filters] == FILTER_IDS
    wired.check()


@pytest.mark.parametrize("there", [(), tuple(FILTER_IDS[:3])])
def test_a_guest_that_is_not_wired_whole_is_left_alone(there: tuple[str, ...]) -> None:
    machine = Machine(filters=there)
    assert not asyncio.run(wiring.renew_filters(machine, "hn0"))
    assert machine.commands == []


def test_objects_of_the_users_are_not_ours() -> None:
    machine = Machine(filters=("colo-f-lan-in", "colo-probe", "f0"))
    assert asyncio.run(wiring.find_filters(machine)) == {"colo-f-lan-in"}


def test_a_command_that_is_refused_ends_it() -> None:
    machine = Machine()
    machine.refused = "object-add"
    with pytest.raises(PeerError, match="colo-f-lan-in"):
        asyncio.run(wiring.add_filters(machine, "hn0"))
    assert machine.filters == []


def test_filters_are_switched_on_again_and_a_refusal_names_the_filter() -> None:
    machine = Machine(filters=tuple(FILTER_IDS))
    asyncio.run(wiring.switch_filters_on(machine))
    assert sorted(done(machine, "qom-set")) == sorted(f"/objects/{name}" for name in FILTER_IDS)
    assert all(given["property"] == "status" and given["value"] == "on" for given in machine.arguments)
    machine.refused = "qom-set"
    with pytest.raises(PeerError, match=r"colo-f-.* cannot be switched on"):
        asyncio.run(wiring.switch_filters_on(machine))


def test_the_nodes_ends_are_the_four_sockets() -> None:
    ends = wiring.ports(PLACE)
    assert {name: port.target for name, port in ends.items()} == {
        "lan_in": f"{PLACE}/lan-in.sock",
        "lan_out": f"{PLACE}/lan-out.sock",
        "guest_in": f"{PLACE}/guest-in.sock",
        "guest_out": f"{PLACE}/guest-out.sock",
    }
    assert all(port.vnet_hdr for port in ends.values())


# ── where frames go ─────────────────────────────────────────────────────────────────────────────────────────


class Socket:
    """In place of a chardev of the fake QEMU: keeps what is sent to it, and brings what the test gives it."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.bring: Any = None

    def send(self, octets: bytes) -> None:
        self.sent.append(octets)

    def handle(self, on_frame: Any, on_closed: Any) -> None:
        self.bring = on_frame


class Wired:
    """The fake QEMU's netdev, with filters in the order of the given properties."""

    def __init__(self, given: list[dict[str, Any]]) -> None:
        self.guest: list[bytes] = []
        self.lan: list[bytes] = []
        self.network = Network(self.guest.append, self.lan.append)
        self.sockets = {chardev.id: Socket() for chardev in CHARDEVS}
        self.network.chardevs = self.sockets  # type: ignore[assignment]
        for properties in given:
            answer = self.network.add(dict(properties))
            assert not isinstance(answer, Refusal), answer

    def check(self) -> None:
        """Each frame comes to the node, each of the node's to its end, and none twice."""
        self.network.send(b"from the tap", "tx")
        self.network.send(b"from the guest", "rx")
        self.sockets["colo-guest-out"].bring(b"to the guest")
        self.sockets["colo-lan-out"].bring(b"to the tap")
        assert self.sockets["colo-lan-in"].sent == [b"from the tap"]
        assert self.sockets["colo-guest-in"].sent == [b"from the guest"]
        assert self.guest == [b"to the guest"]
        assert self.lan == [b"to the tap"]


def test_no_frame_goes_round() -> None:
    Wired([one.properties("hn0") for one in FILTERS]).check()


@pytest.mark.parametrize("count", range(1, 4))
def test_while_filters_are_added_no_frame_comes_back_to_the_node(count: int) -> None:
    wired = Wired([one.properties("hn0") for one in FILTERS[:count]])
    for name, socket in wired.sockets.items():
        if socket.bring is not None:
            socket.bring(b"injected")
            assert wired.guest + wired.lan == [b"injected"], name
            wired.guest.clear()
            wired.lan.clear()
            assert not any(other.sent for other in wired.sockets.values())
