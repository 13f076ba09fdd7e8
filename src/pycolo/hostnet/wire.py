"""One card's wire on this host: the guest's tap and the node's TAP, and which of the two has the place.

All calls block: netlink for milliseconds, Open vSwitch for as long as ovs-vswitchd takes, and with STP on a bridge
`attach` and `detach` wait twice its forward delay, while traffic goes on as before. Each call may be repeated. When a
step fails, all is again as it was before the call, and the error names the step.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from pycolo.config import CardOptions
from pycolo.errors import ConnectError, StateError
from pycolo.hostnet import looking
from pycolo.hostnet.execution import carry_out, is_ours
from pycolo.hostnet.facts import BridgePlace, Home, Link, Place, Seen
from pycolo.hostnet.journal import Journal, Record, here
from pycolo.hostnet.netlink import Netlink
from pycolo.hostnet.offloads import follow_offloads
from pycolo.hostnet.plan import Delete, MakePrivateBridge, Names, Step, Target, plan
from pycolo.hostnet.survey import bypassed, check_place, find_place, place_of_card, usable_tap

_NAME_CHARACTERS_MAX: Final = 15
"""IFNAMSIZ, with its final zero 16."""

_PREFIX: Final = "colo-"


def node_tap_name(pair: str, number: int) -> str:
    """colo-vm1, colo-vm1.1 …; a long name of a pair is cut, and told apart by a few digits of its hash."""
    name = f"{pair}.{number}" if number else pair
    room = _NAME_CHARACTERS_MAX - len(_PREFIX)
    if len(name) > room:
        digits = hashlib.sha256(name.encode()).hexdigest()[:6]
        name = f"{name[: room - len(digits)]}{digits}"
    return _PREFIX + name


def private_bridge_name(pair: str, number: int) -> str:
    """cop-vm1, cop-vm1.1 …: the bridge that a guest's tap is in while it is apart, where it has to be in one."""
    return "cop-" + node_tap_name(pair, number).removeprefix(_PREFIX)


def make_private_bridge(name: str) -> None:
    """Make that bridge, for a tap that is made in it. Raises `ConnectError`."""
    with Netlink() as netlink:
        carry_out(netlink, Step(f"make {name}", (MakePrivateBridge(name),)))


def journal_path(state: Path, number: int) -> Path:
    """The record of the card with this number, counted from 0."""
    return state / f"card-{number}.json"


class Wire:
    """See the module. `private`: a bridge for the guest's tap while it is apart; None: it is in none."""

    def __init__(self, pair: str, number: int, card: CardOptions, state: Path, private: str | None = None) -> None:
        self.node_tap = node_tap_name(pair, number)
        self._pair = pair
        self._where = f"card[{number}]"
        self._given = self._card = card
        self._private = private
        self._journal = Journal(journal_path(state, number))
        self._record: Record | None = None

    def assume(self, bridge: str | None) -> None:
        """Where the card names no bridge, this one is its place; None: none is."""
        self._card = self._given if self._given.bridge is not None else replace(self._given, bridge=bridge)

    @property
    def home_bridge(self) -> str | None:
        """The Linux bridge that `detach` puts the guest's tap into; None: another place, none, or not known yet."""
        place = self._record.place if self._record is not None else None
        return place.bridge if isinstance(place, BridgePlace) else None

    def prepare(self, tap: str) -> None:
        """Take the lock, remember what the tap is, and make the node's TAP, silenced and in no place.

        What a node has left that was killed stays as it is: `attach`, `hold_apart` and `detach` go on from there. Once
        more with another tap: a new QEMU's.
        """
        self._journal.lock()
        try:
            with Netlink() as netlink:
                link = usable_tap(netlink, tap, self._where)
                before = self._journal.read()
                known = self._known(before, link)
                self._refuse_strange_node_tap(netlink, before)
                record = known or self._new_record(netlink, link)
                self._journal.write(record)
                steps = plan(look(netlink, record), record.home, _names(record), record.place, Target.READY)
                self._prepare_by(netlink, record, steps[:1] if known else steps)
        except BaseException:
            if self._record is None:
                self._journal.unlock()
            raise
        self._record = record

    def _prepare_by(self, netlink: Netlink, record: Record, steps: Sequence[Step]) -> None:
        was_there = looking.find_link(netlink, record.node) is not None
        try:
            for step in steps:
                carry_out(netlink, step)
        except ConnectError:
            if not was_there:
                carry_out(netlink, Step(f"delete {record.node}", (Delete(record.node),)))
                self._journal.remove()
            raise

    def attach(self) -> None:
        """The node's TAP takes the tap's place, with its settings; or the place that the card names."""
        record = self._prepared()
        with Netlink() as netlink:
            place = self._serving_place(netlink, record)
            if looking.find_link(netlink, self.node_tap) is not None:
                follow_offloads(record.home.tap, self.node_tap)
            self._go(netlink, record, Target.NODE, place)

    def hold_apart(self) -> None:
        """Both devices are in no place: this host does not serve. Nothing, before `prepare`, unless `is_left`."""
        record = self._record or self._left()
        if record is None:
            return
        with Netlink() as netlink:
            self._go(netlink, record, Target.APART, record.home.place)

    def detach(self) -> None:
        """The tap gets the place that the node's TAP has, or what it had before `prepare`; the node's TAP is gone.

        Nothing, before `prepare`, unless `is_left`.
        """
        record = self._record or self._left()
        if record is None:
            return
        with Netlink() as netlink:
            self._go(netlink, record, Target.HOST, record.place)
        self._journal.remove()
        self.close()

    def settle(self, tap: str) -> None:
        """The guest's tap is in its place without this node: `detach`, and a tap that is in none then gets one.

        That is the place of this card's tap before, or the one that the card names. Raises `ConfigError` when there is
        neither, and what `prepare` raises for a tap that cannot be moved.
        """
        left = self._record or self._left()
        self.detach()
        with Netlink() as netlink:
            link = usable_tap(netlink, tap, self._where)
            found = find_place(netlink, link)
            if found is not None and found.bridge != self._private:
                return
            place = (left.place or left.home.place) if left else None
            place = place or place_of_card(netlink, self._card, self._where)
            home = Home(tap=link.name, index=link.index, queue=link.queue, has_ipv6=link.has_ipv6, place=place)
            seen = Seen(tap=link, tap_place=found, node=None, node_place=None)
            for step in plan(seen, home, Names(self.node_tap, link.mac, self._private), place, Target.HOST):
                carry_out(netlink, step)

    def follow_offloads(self) -> None:
        """The node's TAP has the guest's present offloads: a guest's driver may have changed them."""
        follow_offloads(self._prepared().home.tap, self.node_tap)

    def close(self) -> None:
        """Let the lock go; nothing else changes. The next node, or `recovery`, goes on from what is there."""
        self._record = None
        self._journal.unlock()

    def bypassed(self) -> list[str]:
        """What this host has configured on the tap and no frame meets any longer while the node has its place."""
        record = self._prepared()
        with Netlink() as netlink:
            link = looking.find_link(netlink, record.home.tap)
        return bypassed(link) if link else []

    @property
    def is_left(self) -> bool:
        """Whether a node that was killed, or `close`, has left devices of this card that are not as before."""
        return self._is_of_here(self._journal.read())

    # ── facts ──

    def _left(self) -> Record | None:
        """What `is_left` is about, with the lock."""
        if not self.is_left:
            return None
        self._journal.lock()
        self._record = self._journal.read()
        return self._record

    def _is_of_here(self, record: Record | None) -> bool:
        return record is not None and (record.boot, record.namespace) == here() and record.node == self.node_tap

    def _prepared(self) -> Record:
        if self._record is None:
            raise StateError(f"the wire of {self._where}", "not prepared", "prepared")
        return self._record

    def _known(self, record: Record | None, link: Link) -> Record | None:
        """The record of a killed node, if it is about this very device."""
        if record is None or not self._is_of_here(record):
            return None
        return record if (record.home.tap, record.home.index) == (link.name, link.index) else None

    def _new_record(self, netlink: Netlink, link: Link) -> Record:
        place = find_place(netlink, link)
        if isinstance(place, BridgePlace) and place.bridge == self._private:
            place = None  # the tap's maker has kept it apart from the beginning
        home = Home(tap=link.name, index=link.index, queue=link.queue, has_ipv6=link.has_ipv6, place=place)
        check_place(netlink, home.tap, place, self._card, self._where)
        boot, namespace = here()
        mac = _node_mac(netlink, link, place)
        return Record(
            pair=self._pair,
            node=self.node_tap,
            mac=mac,
            home=home,
            place=place,
            private=self._private,
            boot=boot,
            namespace=namespace,
        )

    def _refuse_strange_node_tap(self, netlink: Netlink, before: Record | None) -> None:
        link = looking.find_link(netlink, self.node_tap)
        is_known = before is not None and before.node == self.node_tap  # killed before it had its alias
        if link is not None and not is_ours(link) and not (is_known and link.is_tap):
            raise ConnectError(f"{self.node_tap}: this interface exists and is not this node's: rename or delete it")

    def _serving_place(self, netlink: Netlink, record: Record) -> Place:
        return record.place or record.home.place or place_of_card(netlink, self._card, self._where)

    # ── carrying out ──

    def _go(self, netlink: Netlink, record: Record, target: Target, place: Place | None) -> None:
        seen = look(netlink, record)
        if target is Target.NODE and seen.tap is None:
            raise ConnectError(f"{record.home.tap}: the guest's tap is gone, or was made anew")
        before = standing(seen)
        will = record if target is Target.HOST else _record_for(record, target, place)
        if will != record:
            self._journal.write(will)
        try:
            for step in plan(seen, record.home, _names(record), place, target):
                carry_out(netlink, step)
        except ConnectError as error:
            self._undo(netlink, record, before, error)
            raise
        self._record = will

    def _undo(self, netlink: Netlink, record: Record, before: Target, error: ConnectError) -> None:
        """Back to what was there. A failure here is told with the one that led to it."""
        place = record.place
        if before is Target.NODE and place is None:
            place = record.home.place
        try:
            for step in plan(look(netlink, record), record.home, _names(record), place, before):
                carry_out(netlink, step)
            self._journal.write(record)
        except ConnectError as other:
            raise ConnectError(f"{error}; and what was done cannot be undone: {other}") from error


def _record_for(record: Record, target: Target, place: Place | None) -> Record:
    """While the node's TAP has a place, the guest's tap is to get that one; else what it had."""
    return replace(record, place=place if target is Target.NODE else record.home.place)


def standing(seen: Seen) -> Target:
    """Which target the facts are nearest to: what an undone call leads back to."""
    if seen.node is None:
        return Target.HOST
    if seen.node_place is not None and not seen.node.is_silenced:
        return Target.NODE
    if seen.tap is not None and seen.tap.is_silenced:
        return Target.APART
    return Target.READY


def look(netlink: Netlink, record: Record) -> Seen:
    """What is there of a card. Another tap of the same name, a new QEMU's, is none of it until it is prepared."""
    tap = looking.find_link(netlink, record.home.tap)
    if tap is not None and tap.index != record.home.index:
        tap = None
    node = looking.find_link(netlink, record.node)
    return Seen(
        tap=tap,
        tap_place=find_place(netlink, tap) if tap else None,
        node=node,
        node_place=find_place(netlink, node) if node else None,
    )


def _node_mac(netlink: Netlink, link: Link, place: Place | None) -> str:
    """One that a bridge never takes for its own; the tap's, where the bridge has taken that."""
    if isinstance(place, BridgePlace):
        bridge = looking.find_bridge(netlink, place.bridge)
        if bridge is not None and bridge.mac == link.mac:
            return link.mac
    return (b"\xfe" + os.urandom(5)).hex(":")


def steps_home(netlink: Netlink, record: Record) -> tuple[Step, ...]:
    """What puts a card's tap back, from whatever is there."""
    return plan(look(netlink, record), record.home, _names(record), record.place, Target.HOST)


def _names(record: Record) -> Names:
    return Names(record.node, record.mac, record.private)
