"""Plans on a network that is a few values: from anywhere, broken off anywhere, to any target, and never both ways."""

from itertools import product

import msgspec
import pytest

from pycolo.hostnet import plan as plans
from pycolo.hostnet.facts import BridgePlace, Home, Link, Place, Seen, SwitchPlace
from pycolo.hostnet.plan import Names, Step, Target, plan

BRIDGE = BridgePlace("br0", {"cost": 7})
SWITCH = SwitchPlace("ovs0", {"tag": 10})
TAP = Link(index=3, name="tap0", mac="fe:00:00:00:00:01", mtu=1500, queue=1000, is_up=True, kind="tun", has_ipv6=True)
HOME = Home(tap="tap0", index=3, queue=1000, has_ipv6=True, place=BRIDGE)
NAMES = Names("colo-vm1", "fe:00:00:00:00:02")


class World:
    """The host: which devices there are, where, and whether they are silenced."""

    def __init__(self, seen: Seen) -> None:
        self.links = {"tap0": seen.tap, "colo-vm1": seen.node}
        self.places = {"tap0": seen.tap_place, "colo-vm1": seen.node_place}
        self.bridges: set[str] = set()

    def seen(self) -> Seen:
        return Seen(self.links["tap0"], self.places["tap0"], self.links["colo-vm1"], self.places["colo-vm1"])

    def change(self, name: str, **changes: object) -> None:
        link = self.links[name]
        assert link is not None, name
        self.links[name] = msgspec.structs.replace(link, **changes)

    def carry_out(self, step: Step) -> None:
        for action in step.actions:
            self.act(action)
            assert not all(self.is_open(name) for name in self.links), f"{step.name}: a frame would go both ways"

    def is_open(self, name: str) -> bool:
        link, place = self.links[name], self.places[name]
        is_apart = isinstance(place, BridgePlace) and place.bridge == "apart"
        return link is not None and not link.is_silenced and place is not None and not is_apart

    def act(self, action: plans.Action) -> None:
        match action:
            case plans.MakeNodeTap(name, mac):
                if self.links[name] is None:
                    self.links[name] = msgspec.structs.replace(TAP, name=name, mac=mac, index=9, is_silenced=True)
            case plans.Silence(name):
                self.change(name, is_silenced=True)
            case plans.Unsilence(name):
                self.change(name, is_silenced=False)
            case plans.SetIpv6(name, is_on):
                self.change(name, has_ipv6=is_on)
            case plans.RaiseUp(name):
                assert not self.is_open(name), "frames pass a device as soon as it is up"
                self.change(name, is_up=True)
            case plans.SetQueue(name, queue):
                self.change(name, queue=queue)
            case plans.Delete(name):
                self.links[name] = self.places[name] = None
            case plans.MakePrivateBridge(name):
                self.bridges.add(name)
            case plans.DeletePrivateBridge(name):
                self.bridges.discard(name)
            case _:
                self.move(action)

    def move(self, action: plans.Action) -> None:
        match action:
            case plans.Join(name, place):
                assert self.places[name] is None
                assert place.bridge != "apart" or "apart" in self.bridges
                self.change(name)
                self.places[name] = place
            case plans.Leave(name):
                self.change(name)
                assert isinstance(self.places[name], BridgePlace)
                self.places[name] = None
            case plans.Swap(out, into, place):
                if out is not None:
                    self.places[out] = None
                if into is not None:
                    assert self.places[into] in (None, place)
                    self.places[into] = place
            case plans.AwaitForwarding(name, bridge):
                place = self.places[name]
                assert isinstance(place, BridgePlace)
                assert place.bridge == bridge
            case plans.MoveAddresses(_, into, place):
                assert self.places[into] == place
            case _:
                raise AssertionError(action)


def check(world: World, target: Target, place: Place | None, private: str | None) -> None:
    tap, node = world.links["tap0"], world.links["colo-vm1"]
    assert tap is not None
    assert tap.is_up or target in (Target.HOST, Target.READY)
    apart = BridgePlace(private) if private else None
    match target:
        case Target.HOST | Target.READY:
            assert (world.places["tap0"], tap.is_silenced, tap.has_ipv6, tap.queue) == (place, False, True, 1000)
            assert (node is None) is (target is Target.HOST)
            assert node is None or node.is_silenced
            assert world.places["colo-vm1"] is None
            assert world.bridges == set()
        case Target.APART:
            assert (world.places["tap0"], tap.is_silenced, tap.has_ipv6) == (apart, True, False)
            assert node is not None
            assert (world.places["colo-vm1"], node.is_silenced) == (None, True)
        case Target.NODE:
            assert (world.places["tap0"], tap.is_silenced, tap.has_ipv6) == (apart, True, False)
            assert node is not None
            assert (world.places["colo-vm1"], node.is_silenced) == (place, False)


@pytest.mark.parametrize("is_up", [True, False])
@pytest.mark.parametrize("private", [None, "apart"])
@pytest.mark.parametrize("place", [BRIDGE, SWITCH], ids=["bridge", "openvswitch"])
def test_from_anywhere_broken_off_anywhere_to_any_target(place: Place, private: str | None, is_up: bool) -> None:
    tap = msgspec.structs.replace(TAP, is_up=is_up)
    names = NAMES._replace(private=private)
    for first, second, third in product(Target, repeat=3):
        done, is_whole = 0, False
        while not is_whole:
            world = World(Seen(tap, place, None, None))
            for step in plan(world.seen(), HOME, names, place, first):
                world.carry_out(step)
            check(world, first, place, private)
            steps = plan(world.seen(), HOME, names, place, second)
            for step in steps[:done]:
                world.carry_out(step)
            is_whole, done = done >= len(steps), done + 1
            for step in plan(world.seen(), HOME, names, place, third):
                world.carry_out(step)
            check(world, third, place, private)


@pytest.mark.parametrize("place", [BRIDGE, SWITCH], ids=["bridge", "openvswitch"])
def test_what_is_as_wanted_is_not_switched_again(place: Place) -> None:
    world = World(Seen(TAP, place, None, None))
    steps = plan(world.seen(), HOME, NAMES, place, Target.READY)
    assert [step.name for step in steps] == ["make colo-vm1"]
    assert plan(world.seen(), HOME, NAMES, place, Target.HOST) == ()


def test_the_switch_of_a_linux_bridge_is_one_batch_that_ends_with_the_tap_outside() -> None:
    world = World(Seen(TAP, BRIDGE, None, None))
    steps = plan(world.seen(), HOME, NAMES, BRIDGE, Target.NODE)
    (switch,) = [step for step in steps if step.name.startswith(plans.SWITCH)]
    assert steps[-1] is switch
    assert [type(action) for action in switch.actions] == [
        plans.Silence,
        plans.MoveAddresses,
        plans.Unsilence,
        plans.Leave,
    ]


@pytest.mark.parametrize("target", [Target.HOST, Target.READY])
def test_a_tap_that_is_another_by_now_is_not_touched(target: Target) -> None:
    other = msgspec.structs.replace(TAP, index=77)
    node = msgspec.structs.replace(TAP, name="colo-vm1", index=9)
    world = World(Seen(other, None, node, BRIDGE))
    for step in plan(world.seen(), HOME, NAMES, BRIDGE, target):
        world.carry_out(step)
    assert (world.links["tap0"], world.places["tap0"], world.places["colo-vm1"]) == (other, None, None)
