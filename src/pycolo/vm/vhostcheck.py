"""vhost behind a `[[card]]`: are the borders between epochs exact on these very machines?

Without vhost it is known what QEMU reads from its tap, and when it stops. With vhost a thread of the host's kernel
reads, and that its counts can be trusted was argued, never seen. So a pair that the operator has formed by force is
tried at once: frames that no guest answers are sent to each card, and checkpoints are forced in the middle of them. At
each of them both taps must count as read what was sent, the node must have read all that the primary has said, and both
guests must answer alike. Otherwise the protection ends, as if the operator had ended it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import structlog

from pycolo.errors import PeerError, PycoloError
from pycolo.failover.pair import Told
from pycolo.failover.pairstates import Fact
from pycolo.link.orders import JsonObject
from pycolo.qmp.judge import uses_vhost
from pycolo.qmp.probe import Facts
from pycolo.vm.findings import Note
from pycolo.vm.guesthost import GuestHost

CHECKPOINTS: Final = 10
"""QEMU's own reader, counted without being drained, was wrong in 64 of 80 epochs (ADR 0057): a reader that is wrong in
half of them is right ten times with a probability of a thousandth."""

ORDER: Final = "borders"
"""Asks the other node for its guest's counters."""

_LOST: Final = {
    "guest_purged": "frames that the guest had not read were thrown away",
    "guest_foreign": "frames of others were on its tap",
}
"""A counter of a card that must not move, and what it says."""

Cards = Mapping[str, Mapping[str, int]]
"""Counters by card."""

log = structlog.get_logger("colo")


def cards_of(snapshot: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """The counters in a guest's snapshot, by card; of a single one under an empty name. Raises `PeerError`."""
    cards = snapshot.get("cards") or [{"card": "", "counters": snapshot.get("counters")}]
    try:
        return {
            str(card["card"]): {name: value for name, value in card["counters"].items() if type(value) is int}
            for card in cards
        }
    except (TypeError, KeyError, AttributeError) as error:
        raise PeerError(f"counters that cannot be read: {error!r}") from error


def faults(whose: str, before: Cards, after: Cards, borders: int) -> list[str]:
    """What the counters of one host's cards, before and after so many checkpoints, say against it."""
    found = []
    if before.keys() != after.keys() or not before:
        return [f"{whose}: its cards have changed meanwhile"]
    for card in before:
        name = f"{whose}, card {card}" if card else whose

        def rise(counter: str, card: str = card) -> int:
            return after[card].get(counter, 0) - before[card].get(counter, 0)

        inexact, exact = rise("borders_inexact"), rise("borders_exact")
        if inexact:
            found.append(f"{name}: at {inexact} of {inexact + exact} checkpoints its tap did not count what was sent")
        elif exact < borders:
            found.append(f"{name}: only {exact} of {borders} checkpoints were counted")
        if rise("guest_frames_out") <= 0:
            found.append(f"{name}: no frame reached it, so nothing was tried")
        found += [f"{name}: {rise(counter)} {text}" for counter, text in _LOST.items() if rise(counter)]
        if differences := rise("divergences"):
            found.append(f"{name}: {differences} differences between the guests; try while the service is quiet")
    return found


def aborted(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the checkpoints' records say against it."""
    return [
        f"checkpoint {record.get('epoch')} was {record.get('outcome')}: {record.get('why') or 'no reason'}"
        for record in records
        if record.get("outcome") != "committed"
    ]


class Guest(Protocol):
    """As much of `VmGuest`."""

    async def snapshot(self) -> dict[str, Any]:
        """Its counters."""

    async def checkpoint(self) -> dict[str, Any]:
        """Make one now; its record. Raises `PycoloError`."""


class Wiring(Protocol):
    """As much of `GuestWiring`."""

    async def try_input(self) -> None:
        """Send each card frames that no guest answers. Raises `PycoloError`."""


class VhostCheck:
    """One for a node. Used in asyncio's thread."""

    def __init__(self, host: GuestHost, guest: Guest, wiring: Wiring) -> None:
        self._host = host
        self._guest = guest
        self._wiring = wiring
        self._task: asyncio.Task[str] | None = None

    def begin(self, facts: Facts | None) -> None:
        """A pair was formed. Nothing without vhost: the judge has refused it unless it was forced."""
        self.end()
        self._host.findings.keep_standing([])
        if facts is not None and any(uses_vhost(facts, card.netdev) for card in self._host.config.card):
            self._task = asyncio.get_running_loop().create_task(self._run())

    def end(self) -> None:
        """The pair is dissolved."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def passed(self) -> None:
        """Wait for what has begun. Raises `PeerError` if it speaks against vhost."""
        task = self._task
        if task is None:
            return
        try:
            why = await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            why = "the pair broke meanwhile"
        if why:
            raise PeerError(why)

    async def _run(self) -> str:
        """Why it is not to be relied on; empty if it is."""
        try:
            found = await self._tried()
        except (PycoloError, TimeoutError) as error:
            found = [str(error) or "no answer in time"]
        if found:
            why = f"vhost: the self-check has failed: {'; '.join(found)}: start QEMU with vhost=off"
            log.error(why)
            if self._host.is_on_guard():  # a pair that has broken by itself is formed again
                self._host.tell(Fact.UNPROTECT_WISHED, Told(text=why))
            return why
        at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        text = (
            f"vhost was tried on these hosts at {at}: {CHECKPOINTS} forced checkpoints, each with an exact border on "
            "both; that is all that is known of it"
        )
        log.warning(text)
        self._host.findings.keep_standing([Note("vhost-self-check", text)])
        return ""

    async def _tried(self) -> list[str]:
        here, there = await self._counted()
        records = []
        for _ in range(CHECKPOINTS):
            await self._wiring.try_input()
            records.append(await self._guest.checkpoint())
        await self._wiring.try_input()  # what is read too late shows behind the last border
        here_after, there_after = await self._counted()
        return [
            *aborted(records),
            *faults("the primary", here, here_after, CHECKPOINTS),
            *faults("the secondary", there, there_after, CHECKPOINTS),
        ]

    async def tell_counters(self, arguments: JsonObject) -> JsonObject:
        """This host's part of the other node's check."""
        cards = cards_of(await self._guest.snapshot())
        return {"cards": [{"card": name, "counters": counters} for name, counters in cards.items()]}

    async def _counted(self) -> tuple[Cards, Cards]:
        return cards_of(await self._guest.snapshot()), cards_of(await self._host.ask_peer(ORDER))
