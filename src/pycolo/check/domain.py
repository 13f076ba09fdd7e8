"""The domain of `guest.domain` on this host: whether libvirt answers, and what speaks against protecting it."""

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from pycolo.check.disks import domain_disk_items
from pycolo.check.moment import Moment
from pycolo.check.table import Item, ok, refused, warning
from pycolo.config import PairConfig
from pycolo.domain.connection import Connection
from pycolo.domain.definition import Interface, emulator, interfaces, network_names, refusals
from pycolo.domain.disks import read_only_paths
from pycolo.domain.host import Domain, DomainHost
from pycolo.domain.network import Network, missing
from pycolo.errors import PycoloError
from pycolo.hostnet.looking import find_link
from pycolo.hostnet.netlink import Netlink
from pycolo.link.hello import Role

NAME: Final = "guest.domain"


class Looked(NamedTuple):
    """`bridges`: netdev → bridge, as this host's definition says it."""

    items: list[Item]
    bridges: dict[str, str]


async def look_at_domain(config: PairConfig, moment: Moment) -> Looked:
    """Nothing, for a file that names no domain."""
    if config.guest is None:
        return Looked([], {})
    connection = Connection(config.guest.uri)
    host = DomainHost(config.guest.domain, connection)
    try:
        versions, found = await host.versions(), await host.find()
        items = [ok("libvirt version", versions.shown), *domain_items(host.name, found, moment)]
        items += domain_disk_items(config, None if found is None else found.xml)
        cards = interfaces(found.xml) if found is not None else ()
        accepted = config.guest.own_networks
        networks = {name: await host.network(name) for name in network_names(cards)}
        items += [item for name, one in networks.items() for item in network_items(name, one, accepted)]
        bridges = {card.netdev: _bridge(card, networks) for card in cards}
        return Looked(items, {netdev: bridge for netdev, bridge in bridges.items() if bridge is not None})
    except PycoloError as error:
        return Looked([refused(NAME, str(error))], {})
    finally:
        await connection.close()


def _bridge(card: Interface, networks: Mapping[str, Network | None]) -> str | None:
    """A card that is apart is in a private bridge; a network's bridge is known only by the network."""
    found = networks.get(card.network) if card.network is not None else None
    return found.bridge if found is not None else card.bridge


def network_items(name: str, found: Network | None, accepted: Collection[str]) -> Iterator[Item]:
    """Of a network that the domain names; None: this host has none of this name. `accepted`: `guest.own_networks`."""
    what = f"network {name}"
    if found is None:
        yield refused(what, missing(name))
        return
    if (why := found.why_not) is not None:
        yield refused(what, why)
    else:
        own = f"; it is this host's own ({found.mode})" if found.is_of_one_host else ""
        yield ok(what, f"active, its bridge is {found.bridge}{own}")
    yield from (warning(what, text) for text in found.warnings(accepted))


def domain_items(name: str, found: Domain | None, moment: Moment) -> Iterator[Item]:
    """`found` None: this host has none of this name. Blocks for a look at the kernel's interfaces."""
    if found is None:
        if moment.role is Role.PRIMARY:
            yield warning(NAME, f"this host has no domain {name}: virsh define it here, where it is to run")
        else:
            yield ok(NAME, f"this host has no domain {name} yet; it is defined when the guest is protected")
        return
    if found.is_active and moment.role is Role.SECONDARY and not moment.may_take_over:
        yield refused(
            NAME, f"domain {name} runs on this host, which is the secondary: virsh destroy {name} on one of them"
        )
    else:
        yield ok(NAME, f"{name}, UUID {found.uuid}, {'runs' if found.is_active else 'shut off'}")
    if found.starts_by_itself:
        text = f"libvirt starts {name} with this host, although the other one may serve it"
        yield refused(f"{NAME} autostart", f"{text}: virsh autostart --disable {name}")
    if found.has_saved_state:
        text = f"virsh start {name} would go back to a saved state, which the guest has outlived"
        yield warning(f"{NAME} saved", f"{text}: virsh managedsave-remove {name}")
    yield from (refused(NAME, f"{name}: {why}") for why in refusals(found.xml))
    yield from _missing(name, found.xml)


def _missing(name: str, xml: str) -> Iterator[Item]:
    program = emulator(xml)
    if program is not None and not os.access(Path(program), os.X_OK):
        yield refused(f"{NAME} emulator", f"{name}: {program} is not on this host, or no program: install it")
    for path in read_only_paths(xml):
        if not Path(path).exists():
            text = f"{name}: {path}, which the guest only reads, is not on this host: copy it here, or eject it"
            yield refused(f"{NAME} disk", text)
    with Netlink() as netlink:
        for card in interfaces(xml):
            if card.bridge is not None and find_link(netlink, card.bridge) is None:
                text = f"{name}: its card {card.mac} is in bridge {card.bridge}, which this host does not have"
                yield refused(f"{NAME} bridge", text)
