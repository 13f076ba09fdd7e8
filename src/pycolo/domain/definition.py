"""A domain's definition: what the other host needs of it, what the secondary's differs in, what cannot be protected.

Pure: XML in, XML out. Elements and attributes that this module does not name pass unchanged.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from pycolo.errors import PeerError

_QEMU: Final = "http://libvirt.org/schemas/domain/qemu/1.0"
_COMMANDLINE: Final = f"{{{_QEMU}}}commandline"
_ARG: Final = f"{{{_QEMU}}}arg"

XML_CHARACTERS_MAX: Final = 24 << 10
"""Two of them are one message between the nodes (`ORDER_BYTES_MAX`). virt-install's default has 8 KiB while it runs."""

BRIDGED: Final = ("bridge", "network")
"""Types of a card with a tap in a bridge. A network of another kind shows as "direct" or "hostdev" while it is used."""

_OF_A_HOME: Final = ("bridge", "network", "portgroup")

_AUTOMATIC: Final = re.compile(r"vnet\d+")
"""Names that libvirt chooses for a tap: another one on each host."""

ET.register_namespace("qemu", _QEMU)


class Interface(NamedTuple):
    """A network card of a domain."""

    number: int
    """Its place among the domain's, from 0."""
    kind: str
    """libvirt's type: "bridge", "network" …"""
    mac: str
    bridge: str | None
    """None: libvirt chooses it when the domain starts."""
    network: str | None
    """libvirt's network, by which the card names its bridge."""
    netdev: str
    """The id of its backend in QEMU."""


class Portrait(msgspec.Struct, frozen=True):
    """What a primary's node tells the other one of its domain."""

    name: str
    uuid: str
    migratable: str
    """The definition of the domain that runs, as libvirt itself would send it."""
    inactive: str | None
    """The definition that the next start uses; None: the domain is transient."""


def parsed(xml: str) -> ET.Element:
    """Raises `PeerError` unless it is a domain's definition."""
    try:
        root = ET.fromstring(xml)  # noqa: S314 - of this host's libvirt, or of the other node behind TLS; libvirt parses it too
    except ET.ParseError as error:
        raise PeerError(f"a domain's definition cannot be parsed: {error}") from error
    if root.tag != "domain":
        raise PeerError(f"a domain's definition begins with <domain>, this one with <{root.tag}>")
    return root


def interfaces(xml: str) -> tuple[Interface, ...]:
    """The cards in their order."""
    return tuple(_interface(number, found) for number, found in enumerate(parsed(xml).iterfind("devices/interface")))


def network_names(cards: Iterable[Interface]) -> list[str]:
    """libvirt's networks that the cards are on, each once."""
    return list(dict.fromkeys(card.network for card in cards if card.network is not None))


def _interface(number: int, element: ET.Element) -> Interface:
    source, mac, alias = element.find("source"), element.find("mac"), element.find("alias")
    name = alias.get("name", "") if alias is not None else ""
    return Interface(
        number=number,
        kind=element.get("type", ""),
        mac=mac.get("address", "") if mac is not None else "",
        bridge=source.get("bridge") if source is not None else None,
        network=source.get("network") if source is not None else None,
        netdev=f"host{name or f'net{number}'}",
    )


# ── what the other host gets ────────────────────────────────────────────────────────────────────────────────


def portrait(
    name: str,
    uuid: str,
    migratable: str,
    inactive: str | None,
    own: Sequence[str],
    homes: Mapping[str, str] | None = None,
) -> Portrait:
    """`own`: arguments of QEMU that a node has added for this domain's earlier role here. The cards are in the bridges
    and networks of the domain's own definition again, where a node has moved them; without one, in those of `homes`:
    netdev → bridge. Raises `PeerError`.
    """
    root = parsed(migratable)
    _remove_arguments(root, own)
    for number, element in enumerate(root.iterfind("devices/interface")):
        card = _interface(number, element)
        home = home_of(inactive, card.mac) if inactive is not None else None
        if home is None and homes and card.netdev in homes:
            home = in_bridge(homes[card.netdev])
        if home is not None:
            _place(element, home)
    made = Portrait(name, uuid, written(root), inactive)
    for xml in (made.migratable, made.inactive or ""):
        if len(xml) > XML_CHARACTERS_MAX:
            raise PeerError(f"domain {name}: its definition has {len(xml)} characters, above {XML_CHARACTERS_MAX}")
    return made


def _remove_arguments(root: ET.Element, own: Sequence[str]) -> None:
    """Only a whole run of them: the same words may be among the user's own."""
    line = root.find(_COMMANDLINE)
    if line is None:
        return
    arguments = line.findall(_ARG)
    words = [argument.get("value", "") for argument in arguments]
    for start in range(len(words) - len(own) + 1):
        if own and words[start : start + len(own)] == list(own):
            for argument in arguments[start : start + len(own)]:
                line.remove(argument)
            break
    if len(line) == 0:
        root.remove(line)


# ── the secondary ───────────────────────────────────────────────────────────────────────────────────────────


def secondary_xml(told: Portrait, arguments: Sequence[str], bridges: Mapping[str, str]) -> str:
    """The definition of the domain that waits for the primary's state. `arguments`: of QEMU, such as -incoming defer.
    `bridges`: netdev of a card → the bridge that its tap begins in. Raises `PeerError`.
    """
    root = parsed(told.migratable)
    line = root.find(_COMMANDLINE)
    if line is None:
        line = ET.SubElement(root, _COMMANDLINE)
    for word in arguments:
        ET.SubElement(line, _ARG, value=word)
    for number, element in enumerate(root.iterfind("devices/interface")):
        _move(element, bridges.get(_interface(number, element).netdev))
    return written(root)


def arguments_of(xml: str) -> tuple[str, ...]:
    """QEMU's arguments that are not libvirt's own."""
    return tuple(found.get("value", "") for found in parsed(xml).iterfind(f"{_COMMANDLINE}/{_ARG}"))


class Placed(NamedTuple):
    """Where libvirt believes the tap of a card to be."""

    tap: str
    bridge: str


def placed(xml: str, netdev: str) -> Placed:
    """Of one card of a domain that runs. Raises `PeerError`."""
    element, card = _card(parsed(xml), netdev)
    target = element.find("target")
    return Placed(target.get("dev", "") if target is not None else "", card.bridge or "")


def taps(xml: str) -> dict[str, str]:
    """Netdev → interface of this host, of a domain that runs."""
    found = {}
    for number, element in enumerate(parsed(xml).iterfind("devices/interface")):
        target = element.find("target")
        if target is not None and target.get("dev"):
            found[_interface(number, element).netdev] = target.get("dev", "")
    return found


class Home(NamedTuple):
    """Where a card belongs, as a definition says it."""

    kind: str
    """libvirt's type: "bridge" or "network"."""
    source: Mapping[str, str]
    """Attributes of its <source>."""

    @property
    def network(self) -> str | None:
        """Its network of libvirt's."""
        return self.source.get("network")


def home_of(inactive: str, mac: str) -> Home | None:
    """By the definition that the next start uses; None: it has no such card in a bridge. Raises `PeerError`."""
    for element in parsed(inactive).iterfind("devices/interface"):
        card, source = _interface(0, element), element.find("source")
        if card.mac == mac and source is not None and card.kind in BRIDGED:
            return Home(card.kind, {name: source.get(name, "") for name in _OF_A_HOME if source.get(name)})
    return None


def mac_of(xml: str, netdev: str) -> str:
    """Of one card. Raises `PeerError`."""
    return _card(parsed(xml), netdev)[1].mac


def moved_interface(xml: str, netdev: str, home: Home) -> str:
    """The element of one card of a domain that runs, in another bridge, as `update-device` takes it.

    Raises `PeerError`.
    """
    element, _ = _card(parsed(xml), netdev)
    _place(element, home)
    return written(element)


def in_bridge(bridge: str) -> Home:
    """A bridge, whatever network it is of."""
    return Home("bridge", {"bridge": bridge})


def _place(element: ET.Element, home: Home) -> None:
    """A running domain's <source> also names the network's port, which is this host's and this place's."""
    source = element.find("source")
    if source is None or element.get("type") not in BRIDGED:
        return
    element.set("type", home.kind)
    source.attrib.clear()
    source.attrib.update(home.source)


def _card(root: ET.Element, netdev: str) -> tuple[ET.Element, Interface]:
    for number, element in enumerate(root.iterfind("devices/interface")):
        card = _interface(number, element)
        if card.netdev == netdev:
            if card.bridge is None:
                break
            return element, card
    raise PeerError(f"card {netdev}: the domain has no interface in a bridge with this netdev")


def _move(element: ET.Element, bridge: str | None) -> None:
    target = element.find("target")
    if target is not None and _AUTOMATIC.fullmatch(target.get("dev", "")):
        element.remove(target)
    if bridge is not None:
        _place(element, in_bridge(bridge))


def emulator(xml: str) -> str | None:
    """The program that a domain is run by."""
    return parsed(xml).findtext("devices/emulator")


def written(element: ET.Element) -> str:
    """Its text."""
    return ET.tostring(element, encoding="unicode")


# ── what cannot be protected ────────────────────────────────────────────────────────────────────────────────

_REFUSED: Final = {
    "hostdev": "a device of this host (<hostdev>), which the other host does not have: detach it",
    "filesystem": "a folder of this host (<filesystem>), whose state is not copied: remove it",
    "shmem": "shared memory with other programs (<shmem>), which is not copied: remove it",
    "tpm": "a TPM (<tpm>), whose state is not copied: remove it",
}


def refusals(xml: str) -> tuple[str, ...]:
    """Why a domain cannot be protected, each on one line with what to do; empty: nothing is known."""
    root = parsed(xml)
    found = [f"it has {why}" for tag, why in _REFUSED.items() if root.find(f"devices/{tag}") is not None]
    for card in interfaces(xml):
        if card.kind not in BRIDGED:
            found.append(
                f"its card {card.mac} is an interface of type {card.kind!r}, and the node moves only those in a "
                "bridge: virsh edit, <interface type='bridge'> with <source bridge='…'/>, or 'network' with one of "
                "forward mode 'bridge'"
            )
    for port in root.iterfind("devices/interface/virtualport"):
        if port.get("type") == "openvswitch":
            found.append(
                "a card of it is in an Open vSwitch bridge (<virtualport>), out of which the node moves no domain's "
                "tap: use a Linux bridge"
            )
            break
    return tuple(found)
