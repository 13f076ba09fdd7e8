"""From what is there to what is wanted: the steps, as data.

A plan is made from facts alone, and from whatever is there: also from what a node has left that was killed between two
steps. So every step may be repeated, and the way back after a failure is the plan to what was there before.

::

               HOST ───► READY ───────────────► NODE
                │          │                     ▲
    a new start │          └──────► APART ◄──────┘
    after kill  └─ from any of them, or between two of them, to any other

    target   guest's tap                        node's TAP
    HOST     in its place                       gone
    READY    in its place                       there, silenced, in no place
    APART    silenced, in no place              there, silenced, in no place
    NODE     silenced, in no place              has the tap's place

"In no place" is a bridge without other ports where the caller says so (`private`): libvirt needs one. At any moment at
most one of the two devices is in the place and not silenced: no frame goes both ways, and after a kill none goes past
the node. The step `SWITCH` is the only one without traffic, and is as short as the kernel permits: everything that can
be done beforehand has been, and its messages are one batch.
"""

from collections.abc import Iterator
from enum import Enum
from typing import Final, NamedTuple

from pycolo.hostnet.facts import BridgePlace, Home, Place, Seen, SwitchPlace

SWITCH: Final = "switch"


class Target(Enum):
    """What can be wanted."""

    HOST = "host"
    READY = "ready"
    APART = "apart"
    NODE = "node"


# ── actions ─────────────────────────────────────────────────────────────────────────────────────────────────


class MakeNodeTap(NamedTuple):
    """Make the node's TAP if it is not there; like the guest's in MTU."""

    name: str
    mac: str
    like: str


class Silence(NamedTuple):
    """Nothing but a packet socket uses the device."""

    name: str


class Unsilence(NamedTuple):
    """The host uses the device again."""

    name: str


class SetIpv6(NamedTuple):
    """The host's IPv6 on the device."""

    name: str
    is_on: bool


class Join(NamedTuple):
    """The device becomes a port with these settings; without entries of the forwarding table."""

    name: str
    place: BridgePlace


class AwaitForwarding(NamedTuple):
    """With STP a bridge lets a new port's frames pass after a while."""

    name: str
    bridge: str


class MoveAddresses(NamedTuple):
    """The forwarding table's entries at one port move to another, and `place`'s own with them."""

    out: str
    into: str
    place: BridgePlace


class Leave(NamedTuple):
    """The device is in no bridge."""

    name: str


class Swap(NamedTuple):
    """In Open vSwitch one device leaves and the other one joins, in one transaction."""

    out: str | None
    into: str | None
    place: SwitchPlace


class MakePrivateBridge(NamedTuple):
    """A bridge without address, IPv6, STP and other ports."""

    name: str


class DeletePrivateBridge(NamedTuple):
    """That bridge is gone, unless it has ports or was not made by `MakePrivateBridge`."""

    name: str


class RaiseUp(NamedTuple):
    """The device is up: QEMU leaves a tap that it makes down, and a device that is down carries no frame."""

    name: str


class SetQueue(NamedTuple):
    """The device's txqueuelen."""

    name: str
    queue: int


class Delete(NamedTuple):
    """The device is gone."""

    name: str


Action = (
    MakeNodeTap
    | Silence
    | Unsilence
    | SetIpv6
    | Join
    | AwaitForwarding
    | MoveAddresses
    | Leave
    | Swap
    | MakePrivateBridge
    | DeletePrivateBridge
    | RaiseUp
    | SetQueue
    | Delete
)


class Step(NamedTuple):
    """`name`: in words, for errors and for the user."""

    name: str
    actions: tuple[Action, ...]


# ── plans ───────────────────────────────────────────────────────────────────────────────────────────────────


class Names(NamedTuple):
    """The node's TAP, its MAC, and the bridge for a tap that is apart."""

    node: str
    mac: str
    private: str | None = None


def plan(seen: Seen, home: Home, names: Names, place: Place | None, target: Target) -> tuple[Step, ...]:
    """The steps from `seen` to `target`. `place`: what the node's TAP gets in NODE and the guest's tap in HOST and
    READY; None: no place.
    """
    steps: list[Step] = []
    if target is not Target.HOST:
        steps.append(Step(f"make {names.node}", (MakeNodeTap(names.node, names.mac, home.tap),)))
    match target:
        case Target.NODE:
            assert place is not None
            steps += _to_node(seen, home, names, place)
        case Target.APART:
            steps += _to_apart(seen, home, names)
        case Target.HOST | Target.READY:
            steps += _to_host(seen, home, names, place)
    if target is Target.HOST and seen.node is not None:
        steps.append(Step(f"delete {names.node}", (Delete(names.node),)))
    if target in (Target.HOST, Target.READY) and names.private is not None:
        steps.append(Step(f"delete {names.private}", (DeletePrivateBridge(names.private),)))
    return tuple(steps)


def is_in(found: Place | None, wanted: Place | None) -> bool:
    """Whether a device is in that bridge already; with which settings is not asked."""
    if found is None or wanted is None:
        return found is wanted
    return type(found) is type(wanted) and found.bridge == wanted.bridge


def _to_node(seen: Seen, home: Home, names: Names, place: Place) -> Iterator[Step]:
    tap, node = home.tap, names.node
    yield from _no_ipv6(seen, tap)
    is_there = is_in(seen.node_place, place)
    if not is_there:
        yield from _out_of(seen.node_place, node)
    if isinstance(place, BridgePlace):
        if not is_there:
            yield Step(f"{node} joins {place.where}", (Silence(node), Join(node, place)))
        yield Step(f"{place.where} forwards from {node}", (AwaitForwarding(node, place.bridge),))
        actions: tuple[Action, ...] = (Silence(tap), MoveAddresses(tap, node, place), Unsilence(node))
        yield Step(f"{SWITCH}: {node} in the place of {tap}", (*actions, *_leaving(seen.tap_place, tap, names)))
    else:
        out = tap if is_in(seen.tap_place, place) else None
        swap = Swap(out, node, place)
        yield Step(f"{SWITCH}: {node} in the place of {tap}", (Silence(tap), swap, Unsilence(node)))
        if out is None:
            yield from _out_of(None if _is_private(seen.tap_place, names) else seen.tap_place, tap)
    yield from _up(seen, tap)
    yield from _into_private(seen, home, names)


def _to_apart(seen: Seen, home: Home, names: Names) -> Iterator[Step]:
    tap, node = home.tap, names.node
    if seen.tap is not None:
        yield from _no_ipv6(seen, tap)
        silences: tuple[Action, ...] = (Silence(node), Silence(tap), *_leaving(seen.tap_place, tap, names))
        yield Step(f"{tap} in no bridge", silences)
        if isinstance(seen.tap_place, SwitchPlace):
            yield from _out_of(seen.tap_place, tap)
        yield from _up(seen, tap)
    else:
        yield Step(f"{node} silenced", (Silence(node),))
    yield from _out_of(seen.node_place, node)
    yield from _into_private(seen, home, names)


def _to_host(seen: Seen, home: Home, names: Names, place: Place | None) -> Iterator[Step]:
    tap, node = home.tap, names.node
    if seen.tap is None or seen.tap.index != home.index:  # another QEMU's by now, or gone: not ours to touch
        if seen.node is not None:
            yield Step(f"{node} silenced", (Silence(node),))
            yield from _out_of(seen.node_place, node)
        return
    is_there = is_in(seen.tap_place, place)
    if not is_there or seen.tap.is_silenced or seen.node_place is not None:
        yield from _change_back(seen, names, place, tap)
    if seen.tap.queue != home.queue:
        yield Step(f"txqueuelen of {tap} as before", (SetQueue(tap, home.queue),))
    if seen.tap.has_ipv6 != home.has_ipv6 and home.has_ipv6 is not None:
        yield Step(f"IPv6 on {tap} as before", (SetIpv6(tap, home.has_ipv6),))


def _change_back(seen: Seen, names: Names, place: Place | None, tap: str) -> Iterator[Step]:
    node = names.node
    is_there = is_in(seen.tap_place, place)
    if not is_there:
        yield from _out_of(seen.tap_place, tap)
    silence_node: tuple[Action, ...] = (Silence(node),) if seen.node is not None else ()
    if place is not None and not is_there:
        yield from _up(seen, tap)
    if isinstance(place, BridgePlace):
        if not is_there:
            yield Step(f"{tap} joins {place.where}", (Silence(tap), Join(tap, place)))
        if not is_there or (seen.tap is not None and seen.tap.is_silenced):
            yield Step(f"{place.where} forwards from {tap}", (AwaitForwarding(tap, place.bridge),))
        leave = (Leave(node),) if isinstance(seen.node_place, BridgePlace) else ()
        actions: tuple[Action, ...] = (*silence_node, MoveAddresses(node, tap, place), Unsilence(tap), *leave)
        yield Step(f"{SWITCH}: {tap} back in its place", actions)
        if isinstance(seen.node_place, SwitchPlace):
            yield from _out_of(seen.node_place, node)
    elif isinstance(place, SwitchPlace):
        out = node if is_in(seen.node_place, place) else None
        yield Step(f"{SWITCH}: {tap} back in its place", (*silence_node, Swap(out, tap, place), Unsilence(tap)))
        if out is None:
            yield from _out_of(seen.node_place, node)
    else:
        yield Step(f"{tap} as before", (*silence_node, Unsilence(tap)))
        yield from _out_of(seen.node_place, node)


def _up(seen: Seen, tap: str) -> Iterator[Step]:
    if seen.tap is not None and not seen.tap.is_up:
        yield Step(f"{tap} up", (RaiseUp(tap),))


def _no_ipv6(seen: Seen, tap: str) -> Iterator[Step]:
    if seen.tap is not None and seen.tap.has_ipv6:
        yield Step(f"no IPv6 of the host on {tap}", (SetIpv6(tap, is_on=False),))


def _is_private(place: Place | None, names: Names) -> bool:
    return isinstance(place, BridgePlace) and place.bridge == names.private


def _leaving(place: Place | None, name: str, names: Names) -> tuple[Action, ...]:
    """Within a batch: out of a Linux bridge, unless it is the one for taps that are apart."""
    return (Leave(name),) if isinstance(place, BridgePlace) and not _is_private(place, names) else ()


def _out_of(place: Place | None, name: str) -> Iterator[Step]:
    match place:
        case BridgePlace():
            yield Step(f"{name} leaves {place.where}", (Leave(name),))
        case SwitchPlace():
            yield Step(f"{name} leaves {place.where}", (Swap(name, None, place),))


def _into_private(seen: Seen, home: Home, names: Names) -> Iterator[Step]:
    if names.private is not None and seen.tap is not None and not _is_private(seen.tap_place, names):
        join = Join(home.tap, BridgePlace(names.private))
        yield Step(f"{home.tap} joins {names.private}", (MakePrivateBridge(names.private), join))
