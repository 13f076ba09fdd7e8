"""What a running node adds to `colo check`: the guest, the other host, and both hosts together.

The node asks its QEMU, because a monitor serves one client, and the other node over the link. What the file names on
this host `colo check` tries itself: the file may have been changed since the node was started.
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from pycolo.check import Item, Moment, check_host
from pycolo.check.alike import Told, alike_items, told
from pycolo.check.commandline import shape
from pycolo.check.guest import command_line, guest_items, need_of, unknown_item
from pycolo.check.hostfacts import HostFacts, look
from pycolo.check.hosts import Distance, Need, host_items, kvm_item, pair_items, room_item
from pycolo.check.table import THIS_HOST, warning
from pycolo.config import PairConfig
from pycolo.errors import PeerError, PycoloError
from pycolo.failover.pair import Pair
from pycolo.failover.pairstates import State
from pycolo.link.hello import Role
from pycolo.link.orders import JsonObject
from pycolo.qmp.diskrules import HostImage
from pycolo.qmp.guestdisks import GuestDisk
from pycolo.qmp.probe import Facts
from pycolo.vm.checkdisks import copy_items, guest_disks, images_here
from pycolo.vm.diskplaces import DiskPlaces
from pycolo.vm.domainguest import DomainGuest
from pycolo.vm.findings import BOTH_HOSTS, OTHER_HOST

ROUNDS: Final = 5
"""The quickest of so many questions is the link's latency: the others met a busy processor."""

OTHER_S: Final = 30.0
"""The other node runs its dry runs meanwhile: hooks of five seconds each, and the fencing command's."""

_IDLE: Final = frozenset({State.SECONDARY_WAITING, State.SECONDARY_LINKED})
"""A secondary that has no guest, and so can't take over."""


class Side(Protocol):
    """This host's guest, in either role."""

    facts: Facts | None
    """As it was probed when the pair was formed; None: never."""

    @property
    def machine(self) -> Any:
        """See `pycolo.vm.machine.Machine`."""


class Asking(Protocol):
    """See `pycolo.node.links.Links`."""

    async def request(self, order: str, arguments: JsonObject | None = ..., timeout_s: float = ...) -> JsonObject:
        """The other node's answer."""


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One host's part."""

    host: HostFacts
    items: list[Item]
    need: Need | None = None
    """Of the guest that serves there."""
    disks: list[GuestDisk] = []
    """Of the same guest: those that are copied."""
    images: list[HostImage] | None = None
    """What is there for copies; None: not told."""
    told: Told | None = None
    """What its file says that both must say; None: an earlier version."""


class _Own(NamedTuple):
    """This host's part."""

    facts: HostFacts
    items: list[Item]
    need: Need | None
    disks: list[GuestDisk]


class Checking:
    """`file`: the one that the node was started with. `side()`: this host's guest, None without one. `pair()`: what the
    node knows of the pair.
    """

    def __init__(
        self,
        config: PairConfig,
        file: str,
        pair: Callable[[], Pair],
        side: Callable[[], Side | None],
        places: DiskPlaces,
        domain: DomainGuest | None,
    ) -> None:
        """`places`: of this host's copies of the other one's disks. `domain`: the guest is a domain of libvirt."""
        self._places = places
        self._domain = domain
        self._config = config
        self._told = told(config, file)
        self._pair = pair
        self._side = side

    # ── asked by the other node ─────────────────────────────────────────────────────────────────────────────

    async def tell_clock(self, arguments: JsonObject) -> JsonObject:
        """This host's clock, for the other node to compare."""
        return {"ns": time.time_ns()}

    async def tell_host(self, arguments: JsonObject) -> JsonObject:
        """This host's part of the other node's check. Raises `PeerError` for a question that cannot be read."""
        try:
            need = msgspec.convert(arguments.get("need"), Need | None)
            disks = msgspec.convert(arguments.get("disks"), list[GuestDisk] | None)
        except msgspec.ValidationError as error:
            raise PeerError(f"the check's need cannot be read: {error}") from error
        own = await self._this_host()
        images = await images_here(self._config, self._places, disks) if own.need is None else None
        items = [*host_items(own.facts), *await check_host(self._config, self._moment()), *own.items]
        items += _room(own.facts, need if own.need is None else None)
        part = _Answer(host=own.facts, items=items, need=own.need, disks=own.disks, images=images, told=self._told)
        answer: JsonObject = msgspec.to_builtins(part)
        return answer

    # ── asked by the operator ───────────────────────────────────────────────────────────────────────────────

    async def both(self, links: Asking) -> dict[str, Any]:
        """The guest, the other host if it is linked, and both together. `colo check` looks at this host itself."""
        own = await self._this_host()
        facts, items, need = own.facts, own.items, own.need
        pair = self._pair()
        if not (pair.link and pair.is_heard):
            why = "the other node is not linked: run the check there too, or start it and check again"
            return _shown([*items, warning("other host", why)])
        try:
            distance = await _measure(links)
            asked = {"need": None if need is None else list(need), "disks": msgspec.to_builtins(own.disks)}
            answer = msgspec.convert(await links.request("check", asked, OTHER_S), _Answer)
        except (PeerError, msgspec.ValidationError) as error:
            text = f"it cannot be asked ({error}): run the check there too"
            return _shown([*items, warning("other host", text)])
        images = None
        if need is None:
            items += _room(facts, answer.need)
            images = await images_here(self._config, self._places, answer.disks)
        items += [item._replace(where=_there(item.where)) for item in answer.items]
        together = [*pair_items(facts, answer.host, distance, need or answer.need), *_copies(own, images, answer)]
        together += alike_items(self._told, answer.told)
        items += [item._replace(where=BOTH_HOSTS) for item in together]
        return _shown(items)

    async def _this_host(self) -> _Own:
        """Its facts, and its guest."""
        facts = await asyncio.to_thread(look, self._config)
        if self._domain is not None:
            with suppress(PycoloError):
                facts = msgspec.structs.replace(facts, gateways=await self._domain.gateways())
        side = self._side()
        if side is None or not side.machine.is_there:
            return _Own(facts, [], None, [])
        try:
            guest = await self._probed(side)
        except PycoloError as error:
            return _Own(facts, [unknown_item(error)], None, [])
        facts = msgspec.structs.replace(
            facts,
            guest_shape=shape(command_line(side.machine.pid)),
            guest_media_bytes=tuple(disk.size_bytes for disk in guest.disks if not disk.is_writable),
        )
        is_pairs = self._is_protected()
        items = list(guest_items(self._config, guest, role=self._role.value, pid=side.machine.pid, is_pairs=is_pairs))
        if is_pairs:
            return _Own(facts, items, need_of(guest), [])
        disks, found = await guest_disks(self._config, side.machine, guest, self._domain)
        return _Own(facts, [*items, *found], need_of(guest), disks)

    async def _probed(self, side: Side) -> Facts:
        """A guest in COLO is not probed again: its state has a migration in it, and QEMU may be in a checkpoint."""
        if self._is_protected() and side.facts is not None:
            return side.facts
        facts: Facts = await side.machine.probe(is_forced=True)
        return facts

    def _is_protected(self) -> bool:
        return self._pair().record().was_protected

    @property
    def _role(self) -> Role:
        return Role(self._pair().role.value)

    def _moment(self) -> Moment:
        pair = self._pair()
        is_linked = bool(pair.link and pair.is_heard)
        return Moment(
            self._role, os.getpid(), may_take_over=pair.state not in _IDLE, is_linked=is_linked, term=pair.term
        )


def _copies(own: _Own, images: Sequence[HostImage] | None, other: _Answer) -> list[Item]:
    """The disks of the guest on one host, and what the other host has for their copies: `images` here."""
    if own.need is not None and other.need is None:
        return copy_items(own.disks, other.images)
    if other.need is not None and own.need is None:
        return copy_items(other.disks, images)
    return []


def _room(facts: HostFacts, need: Need | None) -> list[Item]:
    """Whether a secondary of the other host's guest fits here."""
    if need is None:
        return []
    kvm = kvm_item(facts, need)
    return [room_item(facts, need), *([kvm] if kvm is not None else [])]


async def _measure(links: Asking) -> Distance:
    """The other host's clock was read half-way, to within the latency."""
    best: Distance | None = None
    for _ in range(ROUNDS):
        began, asked_ns = time.monotonic(), time.time_ns()
        answer = await links.request("clock", {}, OTHER_S)
        took = time.monotonic() - began
        there_ns = answer.get("ns")
        if type(there_ns) is not int:
            raise PeerError("the other node's clock cannot be read")
        if best is None or took < best.latency_s:
            best = Distance(took, (there_ns - asked_ns) / 1e9 - took / 2)
    assert best is not None
    return best


def _there(where: str) -> str:
    return OTHER_HOST if where == THIS_HOST else f"{OTHER_HOST}'s {where}"


def _shown(items: Sequence[Item]) -> dict[str, Any]:
    return {"items": msgspec.to_builtins(items)}
