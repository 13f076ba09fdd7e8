"""What speaks for and against moving a tap, found without changing anything."""

from typing import Final, NamedTuple

from pycolo.config import CardOptions
from pycolo.errors import ConfigError, ConnectError
from pycolo.hostnet import looking, openvswitch
from pycolo.hostnet.facts import BridgePlace, Link, Place, SwitchPlace, Vlan
from pycolo.hostnet.netlink import Netlink

OWN_FILTERS: Final = ("clsact", "ingress")
"""Qdiscs that have filters, which would come before the node's."""


class Survey(NamedTuple):
    """`place`: what the tap has, or None and then `named`: what the card names. `warnings`: a line each."""

    tap: Link
    place: Place | None
    named: Place | None
    warnings: tuple[str, ...]


def survey(card: CardOptions, number: int, tap: str) -> Survey:
    """A tap and its place as the node would use them. Raises `ConnectError` or `ConfigError` where it would refuse."""
    where = f"card[{number}]"
    with Netlink() as netlink:
        link = usable_tap(netlink, tap, where)
        place = find_place(netlink, link)
        check_place(netlink, tap, place, card, where)
        named = place_of_card(netlink, card, where) if place is None else None
        warnings = bypassed(link)
        bridge = looking.find_bridge(netlink, (place or named or BridgePlace("")).bridge)
        if bridge is not None and bridge.stp == looking.STP_OF_THE_KERNEL and bridge.forward_delay_ms:
            seconds = 2 * bridge.forward_delay_ms / 1000
            warnings.append(f"{bridge.name}: with STP a new port forwards after {seconds:g} s: so long takes each move")
    return Survey(link, place, named, tuple(warnings))


def usable_tap(netlink: Netlink, tap: str, where: str) -> Link:
    """The tap. Raises `ConnectError` for what cannot be moved."""
    link = looking.need_link(netlink, tap, f"{where}: the tap")
    if link.kind == "macvtap":
        raise ConnectError(f"{tap}: a macvtap, which is in no bridge: give the guest a tap device in a bridge")
    if not link.is_tap:
        raise ConnectError(f"{tap}: not a TAP device ({link.kind or 'some other interface'})")
    if not link.is_silenced and set(OWN_FILTERS) & set(link.qdiscs):
        kind = next(kind for kind in link.qdiscs if kind in OWN_FILTERS)
        raise ConnectError(
            f"{tap}: it has tc filters (qdisc {kind}; libvirt's <bandwidth><outbound> makes one), which would come "
            f"before the node's: remove them (tc qdisc del dev {tap} {kind})"
        )
    if any(":" in address for address in link.addresses):
        raise ConnectError(f"{tap}: the host has an IPv6 address on it ({link.addresses[-1]}): remove it")
    return link


def check_place(netlink: Netlink, tap: str, place: Place | None, card: CardOptions, where: str) -> None:
    """Raises `ConfigError` where the card names another place than the tap has, or none is known."""
    if place is None:
        place_of_card(netlink, card, where)
    elif card.bridge is not None and place.bridge != card.bridge:
        raise ConfigError(f"{where}.bridge", f"{place.bridge}, where {tap} is", card.bridge)
    elif card.vlan is not None and card.vlan != (found := _vlan_of(place)):
        shown = f"{found}, the VLAN of {tap}" if found else f"none: {tap} is in no VLAN of its own"
        raise ConfigError(f"{where}.vlan", shown, card.vlan)


def place_of_card(netlink: Netlink, card: CardOptions, where: str) -> Place:
    """The place that a card names, for a tap that is in none. Raises `ConfigError`."""
    name, vlan = card.bridge, card.vlan
    if name is None:
        raise ConfigError(f"{where}.bridge", "the bridge of this network: its tap is in none now", None)
    bridge = looking.find_bridge(netlink, name)
    if bridge is None:
        if openvswitch.is_bridge(name):
            return SwitchPlace(name, {"tag": vlan} if vlan else {})
        raise ConfigError(f"{where}.bridge", "a Linux bridge or Open vSwitch bridge of this host", name)
    if vlan and not bridge.is_filtering:
        raise ConfigError(f"{where}.vlan", f"no VLAN, since {name} has vlan_filtering off", vlan)
    return BridgePlace(name, vlans=(Vlan(vlan, is_pvid=True, is_untagged=True),) if vlan else None)


def find_place(netlink: Netlink, link: Link) -> Place | None:
    """Where an interface is a port, with all its settings."""
    if link.master:
        bridge = looking.find_bridge(netlink, looking.name_of(netlink, link.master))
        if bridge is not None:
            return looking.port_of(netlink, link, bridge)
    return openvswitch.find_place(link.name)


def bypassed(link: Link) -> list[str]:
    """What this host has configured on a tap and no frame meets while the node has its place."""
    found = [f"{link.name}: its tc qdisc {kind} is bypassed" for kind in link.qdiscs if kind not in OWN_FILTERS]
    found += [f"{link.name}: its address {address} is not reached any longer" for address in link.addresses]
    return found


def _vlan_of(place: Place) -> int | None:
    """The VLAN of a port's untagged frames, where it has one of its own."""
    if isinstance(place, SwitchPlace):
        tag = place.port.get("tag")
        return tag if isinstance(tag, int) else None
    return next((vlan.vid for vlan in place.vlans or () if vlan.is_pvid), None)
