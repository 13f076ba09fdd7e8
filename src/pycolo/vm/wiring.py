"""Puts the node between a guest's card and its tap: four chardevs and four filter-redirectors, over QMP.

::

    tap ──► colo-lan-in ──► node ──► colo-guest-out ──► guest         (queue=tx)
    guest ──► colo-guest-in ──► node ──► colo-lan-out ──► tap         (queue=rx)

The same on both hosts and in both roles, so that a failover changes nothing here. QEMU passes tx frames along the list
of filters and rx frames against it: the filter that takes frames out must come before the one that puts them back, or
they would go round for ever. While this node is gone, the filters that take frames out drop them: the guest is cut off,
as it must be while its output is not compared.
"""

import asyncio
from pathlib import Path
from typing import Any, Final

from pycolo.errors import PeerError
from pycolo.transport.portspec import PortSpec, parse_port
from pycolo.vm.commandline import CHARDEVS, FILTER_TYPE, FILTERS, VNET, Filter
from pycolo.vm.machine import Machine

DRAIN_S: Final = 0.05
"""Between the end of taking out and the end of putting back: what the node still has goes its way."""


def ports(directory: Path) -> dict[str, PortSpec]:
    """The node's ends: lan_in, lan_out, guest_in, guest_out."""
    return {
        chardev.id.removeprefix("colo-").replace("-", "_"): parse_port(
            f"unix:{chardev.path(directory)},reconnect-ms=100,vnet_hdr=on", "qemu.directory"
        )
        for chardev in CHARDEVS
    }


async def add_chardevs(machine: Machine, directory: Path) -> None:
    """Have QEMU listen on the four sockets; those that are there already stay."""
    there = {chardev["label"] for chardev in await machine.execute("query-chardev")}
    for chardev in CHARDEVS:
        if chardev.id not in there:
            address = {"type": "unix", "data": {"path": str(chardev.path(directory))}}
            backend = {"type": "socket", "data": {"addr": address, "server": True, "wait": False}}
            await machine.execute("chardev-add", {"id": chardev.id, "backend": backend})


async def remove_chardevs(machine: Machine) -> None:
    """Remove those that are there."""
    there = {chardev["label"] for chardev in await machine.execute("query-chardev")}
    for chardev in CHARDEVS:
        if chardev.id in there:
            await machine.execute("chardev-remove", {"id": chardev.id})


async def find_filters(machine: Machine) -> set[str]:
    """Ids of our filters that QEMU has."""
    objects = await machine.execute("qom-list", {"path": "/objects"})
    names = {entry["name"] for entry in objects}
    return {one.id for one in FILTERS if one.id in names}


async def add_filters(machine: Machine, netdev: str) -> None:
    """Put the node into the path, in an order in which no frame goes round; those that are there already stay.

    Unless they say nothing of vnet headers: then all of them are made anew, since the node could read none of theirs.
    """
    there = await find_filters(machine)
    for name in sorted(there):
        if not await machine.execute("qom-get", {"path": f"/objects/{name}", "property": VNET}):
            await remove_filters(machine)
            there = set()
            break
    for one in FILTERS:
        if one.id not in there:
            await machine.execute("object-add", _properties(one, netdev))


async def remove_filters(machine: Machine) -> None:
    """Take the node out of the path again: first nothing comes to it, then what it has goes on, then it is gone."""
    there = await find_filters(machine)
    for takes_out in (True, False):
        for one in FILTERS:
            if one.id in there and (one.outdev is not None) is takes_out:
                await machine.execute("object-del", {"id": one.id})
        if takes_out and there:
            await asyncio.sleep(DRAIN_S)


async def renew_filters(machine: Machine, netdev: str) -> bool:
    """Wire a guest to a restarted node; False when not all of our filters are there.

    A redirector never reads its `indev` again once that connection has ended: those two are replaced in their places.
    Meanwhile the others go on diverting frames, so that none passes the node by.
    """
    if len(await find_filters(machine)) < len(FILTERS):
        return False
    places = {"tx": ("colo-f-lan-in", "behind"), "rx": ("colo-f-guest-in", "before")}
    for one in FILTERS:
        if one.indev is not None:
            position, insert = places[one.queue]
            await machine.execute("object-del", {"id": one.id})
            place = {"position": f"id={position}", "insert": insert}
            await machine.execute("object-add", {**_properties(one, netdev), **place})
    return True


async def switch_filters_on(machine: Machine) -> None:
    """QEMU 7.2 switches every filter of the secondary off when it leaves COLO."""
    for one in await find_filters(machine):
        try:
            await machine.execute("qom-set", {"path": f"/objects/{one}", "property": "status", "value": "on"})
        except PeerError as error:
            raise PeerError(f"filter {one} cannot be switched on: {error}") from error


def _properties(one: Filter, netdev: str) -> dict[str, Any]:
    return {"qom-type": FILTER_TYPE, **one.properties(netdev)}
