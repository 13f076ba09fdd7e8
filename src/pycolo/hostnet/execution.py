"""Carries out the steps of a plan. Consecutive actions that are netlink messages leave as one batch."""

import errno
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

from pycolo.errors import ConnectError
from pycolo.hostnet import looking, messages, openvswitch, silence, taps
from pycolo.hostnet.facts import FORWARDING, Link
from pycolo.hostnet.netlink import Message, Netlink
from pycolo.hostnet.plan import (
    Action,
    AwaitForwarding,
    Delete,
    DeletePrivateBridge,
    Join,
    Leave,
    MakeNodeTap,
    MakePrivateBridge,
    MoveAddresses,
    RaiseUp,
    SetIpv6,
    SetQueue,
    Silence,
    Step,
    Swap,
    Unsilence,
)

ALIAS: Final = "pycolo: "
"""How the alias of an interface begins that this package has made."""

NODE_QUEUE_FRAMES: Final = 10_000
"""txqueuelen of the node's TAP: with the default of 1000 a burst loses single frames, each worth a retransmission."""

_LOOK_AGAIN_S: Final = 0.002
_FORWARDING_MARGIN_S: Final = 5.0


def carry_out(netlink: Netlink, step: Step) -> None:
    """All actions of a step. Raises `ConnectError` that names the step; actions before the failed one are done.

    Everything that has to be looked up is, before the first of them: no frame may pass between two of them.
    """
    with ExitStack() as opened:
        try:
            for work in _works(netlink, step, opened):
                work()
        except ConnectError as error:
            raise ConnectError(f"{step.name}: {error}") from error


def _works(netlink: Netlink, step: Step, opened: ExitStack) -> list[Callable[[], None]]:
    works: list[Callable[[], None]] = []
    batch: list[Message] = []
    for action in step.actions:
        found = _messages(netlink, action)
        if found is not None:
            batch += found
            continue
        works.append(partial(netlink.carry_out, batch))
        batch = []
        if isinstance(action, Swap):
            works.append(opened.enter_context(openvswitch.swapping(action.out, action.into, action.place)))
        else:
            works.append(partial(_act, netlink, action))
    return [*works, partial(netlink.carry_out, batch)]


def _messages(netlink: Netlink, action: Action) -> Sequence[Message] | None:
    """None for an action that is more than messages."""
    match action:
        case Silence(name):
            return silence.silence(_need(netlink, name).index, name)
        case Unsilence(name):
            return [silence.unsilence(_need(netlink, name).index, name)]
        case Leave(name):
            return [messages.leave(_need(netlink, name).index, name)]
        case MoveAddresses():
            return _moved_addresses(netlink, action)
        case RaiseUp(name):
            return [messages.raise_up(_need(netlink, name).index, name)]
        case SetQueue(name, queue):
            return [messages.set_queue(_need(netlink, name).index, name, queue)]
        case MakePrivateBridge() | MakeNodeTap() | SetIpv6() | Join() | AwaitForwarding() | Swap():
            return None
        case Delete() | DeletePrivateBridge():
            return None


def _act(netlink: Netlink, action: Action) -> None:
    match action:
        case MakeNodeTap():
            _make_node_tap(netlink, action)
        case SetIpv6(name, is_on):
            _set_ipv6(name, is_on=is_on)
        case Join():
            _join(netlink, action)
        case AwaitForwarding():
            _await_forwarding(netlink, action)
        case MakePrivateBridge(name):
            _make_private_bridge(netlink, name)
        case DeletePrivateBridge(name):
            _delete_private_bridge(netlink, name)
        case Delete(name):
            link = looking.find_link(netlink, name)
            if link is not None and link.is_tap:
                netlink.carry_out([messages.delete(link.index, name)])
        case _:
            raise AssertionError(action)


def is_ours(link: Link) -> bool:
    """Whether this package has made the interface."""
    return link.alias.startswith(ALIAS)


def _need(netlink: Netlink, name: str) -> Link:
    return looking.need_link(netlink, name, "interface")


# ── devices ─────────────────────────────────────────────────────────────────────────────────────────────────


def _make_node_tap(netlink: Netlink, action: MakeNodeTap) -> None:
    link = looking.find_link(netlink, action.name)
    like = looking.find_link(netlink, action.like)
    if link is None:
        taps.make_tap(action.name)
        link = _need(netlink, action.name)
    if not is_ours(link):
        alias = f"{ALIAS}in the place of {action.like}"
        mtu = like.mtu if like else link.mtu
        dress = messages.dress(link.index, link.name, action.mac, mtu, NODE_QUEUE_FRAMES, alias)
        _set_ipv6(action.name, is_on=False)
        netlink.carry_out([dress, *silence.silence(link.index, link.name), messages.raise_up(link.index, link.name)])
    elif like is not None and link.mtu != like.mtu:
        netlink.carry_out([messages.set_mtu(link.index, link.name, like.mtu)])


def _set_ipv6(name: str, *, is_on: bool) -> None:
    """Where /proc/sys cannot be written, as in the node's systemd unit, it stays: the filters drop IPv6 as well."""
    if looking.has_ipv6(name) in (None, is_on):
        return
    path = looking.ipv6_switch(name)
    try:
        path.write_text("0" if is_on else "1", encoding="ascii")
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise ConnectError(f"{path}: {error.strerror or error}") from error


def _make_private_bridge(netlink: Netlink, name: str) -> None:
    netlink.carry_out([messages.make_bridge(name)])
    bridge = looking.find_bridge(netlink, name)
    if bridge is None:
        raise ConnectError(f"{name}: there is such an interface, and it is no bridge")
    _set_ipv6(name, is_on=False)
    private = messages.make_private(bridge.index, name, f"{ALIAS}private bridge")
    netlink.carry_out([private, messages.raise_up(bridge.index, name)])


def _delete_private_bridge(netlink: Netlink, name: str) -> None:
    link = looking.find_link(netlink, name)
    if link is not None and is_ours(link) and not looking.ports_of(netlink, link.index):
        netlink.carry_out([messages.delete(link.index, name)])


# ── bridges ─────────────────────────────────────────────────────────────────────────────────────────────────


def _join(netlink: Netlink, action: Join) -> None:
    """Joins, reads what the bridge has given the port, and changes what differs."""
    name, place = action.name, action.place
    link = _need(netlink, name)
    bridge = looking.find_bridge(netlink, place.bridge)
    if bridge is None:
        raise ConnectError(f"{place.bridge}: this host has no Linux bridge of this name")
    netlink.carry_out([messages.join(link.index, name, bridge.index, bridge.name)])
    options, _ = looking.port_options(netlink, link.index)
    changed = {option: value for option, value in place.options.items() if options.get(option, value) != value}
    batch = [messages.set_options(link.index, name, {option: value}) for option, value in changed.items()]
    if place.vlans is not None:
        there = looking.port_vlans(netlink, link.index)
        gone = [vlan for vlan in there if vlan.vid not in {wanted.vid for wanted in place.vlans}]
        new = [vlan for vlan in place.vlans if vlan not in there]
        batch += [messages.delete_vlans(link.index, name, gone)] if gone else []
        batch += [messages.add_vlans(link.index, name, new)] if new else []
    groups = [bytes.fromhex(group) for group in place.groups]
    batch += [messages.add_group(link.index, name, bridge.index, group) for group in groups]
    netlink.carry_out(batch)
    if place.state is not None and bridge.stp == 0:
        netlink.carry_out([messages.set_state(link.index, name, place.state)])


def _await_forwarding(netlink: Netlink, action: AwaitForwarding) -> None:
    """Until the port forwards, where the kernel's STP has to be waited for."""
    bridge = looking.find_bridge(netlink, action.bridge)
    if bridge is None or bridge.stp != looking.STP_OF_THE_KERNEL:
        return
    link = _need(netlink, action.name)
    if not link.has_carrier:  # it is listened to by nothing yet: the bridge begins when it is
        return
    deadline = time.monotonic() + 2 * bridge.forward_delay_ms / 1000 + _FORWARDING_MARGIN_S
    while looking.port_state(netlink, link.index) != FORWARDING:
        if time.monotonic() > deadline:
            raise ConnectError(f"bridge {bridge.name}: STP does not let {link.name} forward: is there a loop?")
        time.sleep(_LOOK_AGAIN_S)


def _moved_addresses(netlink: Netlink, action: MoveAddresses) -> list[Message]:
    """What was learned at the one port is known at the other: the switch floods nothing meanwhile."""
    out, into = looking.find_link(netlink, action.out), _need(netlink, action.into)
    bridge = looking.find_bridge(netlink, action.place.bridge)
    found = dict.fromkeys(action.place.addresses, b"")
    if out is not None and bridge is not None and out.master == bridge.index:
        found |= dict(looking.port_addresses(netlink, out.index))
    moved = [messages.move_address(into.index, into.name, address, more) for address, more in found.items()]
    if out is not None and bridge is not None and out.master == bridge.index:
        groups = looking.port_groups(netlink, out.index)
        moved += [messages.add_group(into.index, into.name, bridge.index, group) for group in groups]
    return moved
