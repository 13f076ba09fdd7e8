"""What the operator may ask of a node with a QEMU: protect, unprotect, checkpoint, check, switchover, failover, …"""

import asyncio
from contextlib import suppress
from time import monotonic_ns
from typing import Any, Final, Protocol

import structlog

from pycolo.errors import PeerError, PycoloError, StateError
from pycolo.failover.pair import Told
from pycolo.failover.pairstates import FREE, ON_GUARD, UNPROTECTED, Fact, Role, State
from pycolo.link.orders import JsonObject
from pycolo.node.control import Answer
from pycolo.node.decider import Decider
from pycolo.node.divergences import Divergences
from pycolo.node.guest import Guest
from pycolo.node.healthwatch import HealthWatch
from pycolo.node.journal import Journal
from pycolo.node.links import Links
from pycolo.node.operator import Operator
from pycolo.vm.checking import Checking
from pycolo.vm.coldstart import ColdStart
from pycolo.vm.findings import Findings
from pycolo.vm.switchover import Switchover

RELINK_S: Final = 2.0
"""Ten of the secondary's attempts to form the link anew."""

PROMISE_S: Final = 10.0
"""Time limit for the secondary's promise not to serve."""

RECORD_S: Final = 10.0
"""Time limit for a record to be on disk."""

STATUS_S: Final = 1.0
"""Time limit for the other node's part of the status."""

ATTEMPTS_MAX: Final = 3
"""The arbiter opens a new term at most once per attempt of the other node to interfere."""

_UNDECIDED: Final = frozenset(State) - {State.PROTECTING, State.COMMITTING}
_WITHOUT_PAIR: Final = (FREE - {State.SWITCHING}) | {State.RETIRING, State.PRIMARY_EMPTY, State.SECONDARY_WAITING}
_FORMING_ANEW: Final = frozenset({*UNPROTECTED, State.GOING_ALONE, State.SWITCHING})

log = structlog.get_logger("colo")


class Checkpoints(Protocol):
    """What is shown of the checkpoints."""

    def status(self) -> dict[str, Any]:
        """`checkpoint` in the answer."""


class Trial(Protocol):
    """See `pycolo.vm.vhostcheck.VhostCheck`."""

    async def passed(self) -> None:
        """Wait for it. Raises `PeerError`."""


class VmGuest(Guest, Protocol):
    """What is asked of a guest that is a QEMU's."""

    @property
    def checkpoints(self) -> Checkpoints:
        """Of this guest."""

    @property
    def vhost(self) -> Trial:
        """What is tried with a pair that was formed with vhost, by force."""

    async def checkpoint(self) -> dict[str, Any]:
        """Make one now; its record. Raises `PycoloError`."""

    async def guest_status(self) -> JsonObject:
        """What QEMU says of itself."""

    def plan_status(self) -> dict[str, Any] | None:
        """The plan that is under way."""

    def interrupted(self) -> JsonObject | None:
        """How long the last `protect` has kept the guest from its clients."""

    def disk_status(self) -> list[dict[str, Any]]:
        """The disks that are copied, and how far."""


class VmOperator:
    """Answers what comes over the control socket. `operator` has what every node answers."""

    def __init__(
        self,
        operator: Operator,
        decider: Decider,
        guest: VmGuest,
        links: Links,
        divergences: Divergences,
        journal: Journal,
        failovers: dict[str, int],
        pair: str,
        health: HealthWatch,
        findings: Findings,
        checking: Checking,
        cold_start: ColdStart,
        switchover: Switchover,
    ) -> None:
        self._operator = operator
        self._decider = decider
        self._guest = guest
        self._links = links
        self._divergences = divergences
        self._journal = journal
        self._failovers = failovers
        self._pair = pair
        self._last_failure = ""
        self._health = health
        self._findings = findings
        self._checking = checking
        self._cold_start = cold_start
        self._switchover = switchover
        self._outcomes: list[asyncio.Future[tuple[Fact, str]]] = []

    # ── news ────────────────────────────────────────────────────────────────────────────────────────────────

    def protect_ended(self, fact: Fact, why: str) -> None:
        """The answer to a PROTECT of the table's."""
        has_failed = fact in (Fact.PROTECT_FAILED, Fact.PROTECT_LACKS)
        self._last_failure = why if has_failed else ""
        outcomes, self._outcomes = self._outcomes, []
        for outcome in outcomes:
            if not outcome.done():
                outcome.set_result((fact, why))
        if has_failed:
            log.warning(f"protecting has failed: {why}")

    # ── requests ────────────────────────────────────────────────────────────────────────────────────────────

    async def request(self, request: dict[str, Any]) -> Answer:
        """One request, which has a "command"."""
        try:
            match request["command"]:
                case "status":
                    return await self.status()
                case "protect":
                    seen = await self.protect(is_forced=request.get("force") is True)
                    more = {"seen": seen, "warnings": self._findings.to_status()}
                    return {**await self._brief(), **more, "interrupted": self._guest.interrupted()}
                case "unprotect":
                    await self.unprotect()
                case "checkpoint":
                    return await self._checkpoint()
                case "explain":
                    shown = self._guest.checkpoints.status()
                    return {"divergences": list(self._divergences.records), "checkpoint": shown}
                case "check":
                    return await self._checking.both(self._links)
                case "begin-anew":
                    return await self._cold_start.begin(is_other_lost=request.get("other_is_lost") is True)
                case "switchover":
                    return await self._switchover.run()
                case "failover":
                    return await self._operator.failover()
                case "costs" | "pacemaker":
                    return await self._operator.request(request)
                case other:
                    known = (
                        "status, protect, unprotect, checkpoint, check, switchover, failover, begin-anew, explain "
                        "and costs"
                    )
                    return {"error": f"unknown command {other!r}; known are {known}"}
        except PycoloError as error:
            return {"error": str(error)}
        return await self._brief()

    async def _brief(self) -> Answer:
        status = await self._operator.status()
        return {name: status[name] for name in ("state", "epoch", "term")}

    # ── protect ─────────────────────────────────────────────────────────────────────────────────────────────

    async def protect(self, *, is_forced: bool = False) -> str:
        """`colo protect`: protection is wished, and done now; what was compared. Raises `PycoloError`.

        `is_forced` holds for the attempts that the node makes by itself, too, until `unprotect`.
        """
        self._require_primary("protect")
        self._findings.is_forced = is_forced
        for _ in range(ATTEMPTS_MAX):
            fact, why = await self._attempt()
            if fact in (Fact.PROTECT_FAILED, Fact.PROTECT_LACKS):
                named = why if self._pair in why else f"{self._pair}: {why}"
                raise PeerError(f"{named}{self._again}")
            if fact is Fact.SYNCHRONISED:
                await self._until_whole()
                await self._guest.vhost.passed()
                return await self._health.prove()
            log.info("protecting begins anew under the arbiter's new term")
        raise PeerError("the arbiter has opened one term after another: does another node serve this pair?")

    async def _attempt(self) -> tuple[Fact, str]:
        """How one attempt has ended."""
        state = self._decider.pair.state
        if state in _FORMING_ANEW:
            state = (await self._decider.settled({State.PRIMARY_LINKED, State.PROTECTING}, RELINK_S)).state
        outcome: asyncio.Future[tuple[Fact, str]] = asyncio.get_running_loop().create_future()
        self._outcomes.append(outcome)
        if state is State.PROTECTING:  # by itself
            return await outcome
        if state is not State.PRIMARY_LINKED:
            self._outcomes.remove(outcome)
            if state in UNPROTECTED:
                self._decider.tell(Fact.PROTECT_WISHED, Told())
            raise StateError("protect", self._decider.pair.shown, f"linked (is the other node running?){self._again}")
        self._decider.tell(Fact.PROTECT_WISHED, Told())
        return await outcome

    @property
    def _again(self) -> str:
        """What becomes of a wish that is not fulfilled."""
        pair = self._decider.pair
        by_itself = pair.is_wished and pair.settings.protects_by_itself
        return "; the node tries again by itself, until `colo unprotect`" if by_itself else ""

    async def _until_whole(self) -> None:
        await self._decider.settled(_UNDECIDED, RECORD_S)
        await self._guest.settled()
        pair = self._decider.pair
        if pair.state not in (State.PRIMARY_PROTECTED, State.DEGRADED, State.PRIMARY_SUSPECT):
            raise PeerError(f"the pair broke while it was being protected: this node is {pair.shown}")

    # ── unprotect ───────────────────────────────────────────────────────────────────────────────────────────

    async def unprotect(self) -> None:
        """`colo unprotect`: the guest serves by itself, and nothing of the node is left in QEMU.

        Raises `PycoloError`.
        """
        self._require_primary("unprotect")
        self._findings.is_forced = False
        state = self._decider.pair.state
        if state in (State.PROTECTING, State.COMMITTING):
            self._decider.tell(Fact.UNPROTECT_WISHED, Told(text="unprotect"))
        elif state in (*ON_GUARD, State.DISSOLVING):
            await self._without_secondary()
        elif state in UNPROTECTED or state is State.PRIMARY_LINKED:
            self._decider.tell(Fact.UNPROTECT_WISHED, Told())
            self._guest.release()
        else:
            raise StateError("unprotect", self._decider.pair.shown, "protected or unprotected")
        await self._guest.settled()
        self._findings.forget()
        if self._decider.pair.state in _FORMING_ANEW:
            await self._decider.settled({State.PRIMARY_LINKED}, RELINK_S)

    async def _without_secondary(self) -> None:
        self._decider.tell(Fact.UNPROTECT_WISHED, Told(text="unprotect"))
        pair = await self._decider.settled(_WITHOUT_PAIR, PROMISE_S)
        if pair.state is State.DISSOLVING:
            raise PeerError(f"the other node has not promised within {PROMISE_S:g} s not to serve; it is asked again")
        if pair.state not in FREE:
            raise StateError("unprotect", pair.shown, "protected: the pair broke meanwhile")

    # ── others ──────────────────────────────────────────────────────────────────────────────────────────────

    def _require_primary(self, command: str) -> None:
        if self._decider.pair.role is Role.SECONDARY:
            raise StateError(command, "secondary", "primary: ask the other node")

    async def _checkpoint(self) -> Answer:
        self._require_primary("checkpoint")
        pair = self._decider.pair
        if pair.state not in (State.PRIMARY_PROTECTED, State.DEGRADED):
            raise StateError("checkpoint", pair.shown, "protected")
        return await self._guest.checkpoint()

    async def own_status(self) -> Answer:
        """What this node knows by itself: for metrics, which must not wait for the other node."""
        pair = self._decider.pair
        return {
            **await self._operator.status(),
            "vm": await self._guest.guest_status(),
            "checkpoint": self._guest.checkpoints.status(),
            "plan": self._guest.plan_status(),
            "disks": self._guest.disk_status(),
            "failovers": self._failovers,
            "warnings": self._findings.to_status(),
            "link_up": self._links.present is not None,
            "protection": {
                "wished": pair.is_wished,
                "automatic": pair.settings.protects_by_itself,
                "unprotected_ms": self._unprotected_ms(),
                "failures": pair.failures,
                "lacks": pair.is_lacking,
                "why": self._last_failure or pair.text,
                "interrupted": self._guest.interrupted(),
            },
        }

    def _unprotected_ms(self) -> int | None:
        since_ns = self._journal.unprotected_ns
        return None if since_ns is None else (monotonic_ns() - since_ns) // 1_000_000

    async def status(self) -> Answer:
        """What `colo status` shows."""
        other = None
        pair = self._decider.pair
        if pair.link and pair.is_heard:
            with suppress(PeerError):
                other = await self._links.request("status", timeout_s=STATUS_S)
        return {**await self.own_status(), "other_vm": other}
