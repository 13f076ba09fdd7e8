"""The node beside QEMU: which tap is moved where, in which step of a plan."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from pycolo.errors import ConfigError, ConnectError
from pycolo.vm import tapwiring
from pycolo.vm.tapwiring import Card, TapWiring
from support.guestworld import FACTS

TWO = replace(FACTS, netdevs=FACTS.netdevs | {"hn1": replace(FACTS.netdevs["hn0"], id="hn1", info="ifname=tap1,x=y")})


class Wire:
    """See `CardWire`."""

    def __init__(self, name: str, did: list[str]) -> None:
        self.node_tap = f"colo-{name}"
        self.is_left = False
        self.refuses = False
        self._name = name
        self._did = did

    def prepare(self, tap: str) -> None:
        self._did.append(f"prepare {self._name} {tap}")

    def attach(self) -> None:
        self._did.append(f"attach {self._name}")

    def hold_apart(self) -> None:
        self._did.append(f"hold apart {self._name}")

    def detach(self) -> None:
        self._did.append(f"detach {self._name}")

    def settle(self, tap: str) -> None:
        self._did.append(f"settle {self._name} {tap}")
        if self.refuses:
            raise ConfigError("card[0].bridge", "the bridge of this network", None)


class Hooks:
    """See `pycolo.vm.hooks.Network`."""

    def __init__(self, did: list[str]) -> None:
        self._did = did

    async def serve(self) -> None:
        self._did.append("hook serve")

    async def leave(self) -> None:
        self._did.append("hook retire")


@pytest.fixture
def did() -> list[str]:
    return []


@pytest.fixture
def wiring(did: list[str]) -> TapWiring:
    """Two cards; the second one's tap stands in the file."""
    hooks: Any = Hooks(did)
    return TapWiring([Card("hn0", None, Wire("0", did)), Card("hn1", "mytap", Wire("1", did))], hooks)


def test_every_card_is_moved(wiring: TapWiring, did: list[str]) -> None:
    asyncio.run(wiring.make_ready(TWO))
    assert did == ["prepare 0 tap0", "prepare 1 mytap"]
    for does, moves in (
        (wiring.insert(), "attach"),
        (wiring.insert_apart(), "hold apart"),
        (wiring.withdraw(), "detach"),
    ):
        did.clear()
        asyncio.run(does)
        assert did == [f"{moves} 0", f"{moves} 1"]


def test_what_the_users_own_commands_move_is_put_right_by_the_node(wiring: TapWiring, did: list[str]) -> None:
    """Served: the node's TAPs join last. Retired: they have left before anything else happens."""
    asyncio.run(wiring.serve())
    assert did == ["hook serve", "attach 0", "attach 1"]
    did.clear()
    asyncio.run(wiring.leave())
    assert did == ["hold apart 0", "hold apart 1", "hook retire"]
    did.clear()
    asyncio.run(wiring.serve_alone())
    assert did == ["hook serve"]


def test_the_taps_of_a_guest_that_serves_are_put_into_their_places(
    wiring: TapWiring, did: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(wiring.settle(TWO.netdevs))
    assert did == ["settle 0 tap0", "settle 1 mytap"]
    did.clear()
    wiring.cards[0].wire.refuses = True  # type: ignore[attr-defined]
    asyncio.run(wiring.settle(TWO.netdevs))
    assert did == ["settle 0 tap0", "settle 1 mytap"], "the other card is put into its place all the same"
    assert "card[0].bridge" in capsys.readouterr().out


def test_trial_frames_go_to_each_nodes_tap(wiring: TapWiring, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    monkeypatch.setattr(tapwiring, "send_trial", sent.append)
    asyncio.run(wiring.try_input())
    assert sent == ["colo-0", "colo-1"]


def test_what_an_earlier_process_has_left_at_any_card_is_left(wiring: TapWiring) -> None:
    assert not wiring.is_left
    wiring.cards[1].wire.is_left = True  # type: ignore[misc]
    assert wiring.is_left


@pytest.mark.parametrize(
    ("netdev", "said"),
    [("hn7", "hn0, hn1"), ("fd", "ifname")],
)
def test_a_tap_that_cannot_be_found_is_the_files_error(netdev: str, said: str) -> None:
    facts = replace(TWO, netdevs=TWO.netdevs | {"fd": replace(TWO.netdevs["hn0"], id="fd", info="fd=23")})
    with pytest.raises(ConfigError, match=said):
        Card(netdev, None, Wire("0", [])).find(facts.netdevs)
    Card(netdev, "tap7", Wire("0", [])).find(facts.netdevs)


def test_a_card_that_cannot_be_opened_leaves_nothing_open(wiring: TapWiring, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    closed: list[str] = []

    class Port:
        def __init__(self, name: str) -> None:
            self.name = name
            opened.append(name)

        def close(self) -> None:
            closed.append(self.name)

    def guest(spec: Any, option: str, *, may_go: bool) -> Port:
        if spec.target == "mytap":
            raise ConnectError("no such tap")
        return Port(spec.target)

    monkeypatch.setattr(tapwiring, "open_device", lambda spec, option: Port(spec.target))
    monkeypatch.setattr(tapwiring, "open_guest", guest)
    asyncio.run(wiring.make_ready(TWO))
    with pytest.raises(ConnectError):
        wiring.open()
    assert sorted(opened) == sorted(set(closed))
