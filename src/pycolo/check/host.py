"""Everything about this host, and what `protect` needs of it."""

import asyncio
import os
from datetime import UTC, datetime

import structlog

from pycolo.check.cards import card_items
from pycolo.check.certificates import certificate_items
from pycolo.check.cluster import cluster_items, managed_items
from pycolo.check.disks import disk_items
from pycolo.check.domain import look_at_domain
from pycolo.check.hooks import fencing_items, hook_items, qemu_items
from pycolo.check.moment import Moment
from pycolo.check.network import link_item, network_items
from pycolo.check.places import place_items
from pycolo.check.rivals import rival_items
from pycolo.check.store import store_items
from pycolo.check.table import Item, Level, ok, warning
from pycolo.config import PairConfig
from pycolo.errors import PeerError
from pycolo.failover.pacemaker import PacemakerArbiter
from pycolo.link.hello import Role

log = structlog.get_logger("colo")


async def check_host(config: PairConfig, moment: Moment) -> list[Item]:
    """In the order of the file."""
    disks = await asyncio.to_thread(disk_items, config)
    domain = await look_at_domain(config, moment)
    places = await asyncio.to_thread(lambda: list(place_items(config, is_running=moment.is_running)))
    network = [item async for item in network_items(config, moment)]
    certificates = await asyncio.to_thread(_certificates, config)
    cards = await asyncio.to_thread(lambda: list(card_items(config, moment, domain.bridges)))
    link, hooks, arbiter = await asyncio.gather(
        link_item(config, moment), hook_items(config, moment), arbiter_items(config, moment)
    )
    rivals = await asyncio.to_thread(lambda: list(rival_items(config, moment)))
    guest = [*domain.items, *qemu_items(config), *disks, *cards]
    return [*places, *network, *certificates, link, *guest, *hooks, *arbiter, *rivals]


async def before_protect(config: PairConfig, role: str, term: int) -> list[Item]:
    """What a linked node tries on its own host before the guest is protected. Logs and returns the warnings.

    The primary's guest serves meanwhile; the secondary has none yet. Raises `PeerError` with every refusal in one line.
    """
    moment = Moment(Role(role), os.getpid(), is_linked=True, term=term)
    items = await check_host(config, moment)
    refusals = [f"{item.name}: {item.text}" for item in items if item.level is Level.REFUSED]
    if refusals:
        raise PeerError(f"the {moment.role}'s host cannot be part of a pair: {'; '.join(refusals)}")
    warnings = [item for item in items if item.level is Level.WARNING]
    for item in warnings:
        log.warning(f"{item.name}: {item.text}")
    return warnings


async def arbiter_items(config: PairConfig, moment: Moment) -> list[Item]:
    """What would decide."""
    kind = config.arbiter.kind
    managed = [] if kind == PacemakerArbiter.name else await managed_items(config)
    return [*await _of_kind(config, moment), *managed]


async def _of_kind(config: PairConfig, moment: Moment) -> list[Item]:
    match config.arbiter.kind:
        case "command":
            return await fencing_items(config, moment)
        case "etcd":
            return await store_items(config)
        case "first-to-notice":
            text = "first-to-notice is for laboratories: when the link is cut, both hosts serve: choose another kind"
            return [warning("arbiter.kind", text)]
        case "pacemaker":
            return await cluster_items(config)
        case kind:
            return [ok("arbiter.kind", kind)]


def _certificates(config: PairConfig) -> list[Item]:
    if config.link.tls is None:
        return []
    return list(certificate_items(config.link.tls, config.pair, datetime.now(UTC)))
