"""The order of requests in the primary's data path: facts to the tuner, its settings to both nodes' cores.

All of it in the data path's thread.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog

from pycolo.compare.difference import Command, RequestCheckpoint
from pycolo.compare.kinds import DifferenceKind
from pycolo.compare.wait import Wait
from pycolo.conntrack.key import ConnectionKey
from pycolo.core import PrimaryOrder, Sleepers
from pycolo.link.codec import Rounds, pack_rounds
from pycolo.order.tuner import LOOK_US, Setting, Tuner

log = structlog.get_logger("colo")

PROTO_TCP: Final = 6

PATIENCE: Final = 2
"""The secondary's node waits for its guest so many times as long as the primary's: it gets a request later, and an
answer that is missed there costs a checkpoint."""


class Ordering:
    """What a fact returns is the payload of a ROUNDS message to send, if it is not empty."""

    def __init__(self, tuner: Tuner, order: PrimaryOrder) -> None:
        self._tuner = tuner
        self._order = order
        self._looked_us = 0
        self._is_begun = False
        self._accounts: list[int] = []

    # ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, now_us: int) -> bytes:
        """There is a secondary, whose node understands it."""
        if self._tuner.is_off:
            return b""
        self._is_begun = True
        self._order.begin()
        return self._carry_out(self._tuner.begin(now_us), now_us)

    def end(self, now_us: int) -> None:
        """There is none any more."""
        self._is_begun = False
        self._order.end(now_us)

    def differed(self, commands: Iterable[Command], now_us: int) -> bytes:
        """The guests' answers differ. Nothing new is begun before the checkpoint, if one is asked for."""
        told = b""
        for command in commands if self._is_begun else ():
            port = self._service_of(command.difference.connection)
            if port is not None:
                is_mutual = command.difference.kind is DifferenceKind.MUTUAL_WAIT
                told += self._carry_out(self._tuner.differed(port, now_us, is_mutual=is_mutual), now_us)
            if isinstance(command, RequestCheckpoint):
                self._order.freeze(now_us)
        return told

    def waited(self, waits: Iterable[Wait], now_us: int) -> bytes:
        """What a checkpoint has let go."""
        longest_us: dict[int, int] = {}
        for wait in waits if self._is_begun else ():
            if (port := self._service_of(wait.connection)) is not None:
                longest_us[port] = max(wait.longest_us, longest_us.get(port, 0))
        return b"".join(
            self._carry_out(self._tuner.waited(port, time_us, now_us), now_us) for port, time_us in longest_us.items()
        )

    def _service_of(self, connection: ConnectionKey | None) -> int | None:
        """The guest's port, if that is a service's."""
        if connection is None or connection.ip_proto != PROTO_TCP:
            return None
        # A guest that is the client has the higher port, a new one each time.
        port = connection.source_port
        return port if port < connection.destination_port or port in self._tuner.ports else None

    def look(self, now_us: int) -> bytes:
        """The tuner sees the counts, now and then."""
        if self.due_us is None or now_us < self.due_us:
            return b""
        self._looked_us = now_us
        return self._carry_out(self._tuner.looked(self._order.counts(), now_us), now_us)

    @property
    def due_us(self) -> int | None:
        """When to `look` again."""
        return self._looked_us + LOOK_US if self._is_begun and self._tuner.ports else None

    def _carry_out(self, settings: Sequence[Setting], now_us: int) -> bytes:
        for one in settings:
            self._order.set_gate(one.port, one.width, one.is_early, one.limit_us, now_us)
            log.debug("order of requests", **one._asdict(), why=self._tuner.ports[one.port].why)
        return pack_rounds(Rounds(one.port, one.width, PATIENCE * one.limit_us) for one in settings)

    # ── the guest's processors ────────────────────────────────────────────────────────────────────────────────

    def watch(self, threads: Sequence[int]) -> Sleepers:
        """Of these threads and the one that moves their frames, which is their process's first. Of none if the kernel
        does not tell: then a request that waits for another one is seen by its time only.
        """
        self.unwatch()
        with suppress(OSError, ValueError):
            for thread in [*threads, *(_process_of(thread) for thread in threads[:1])]:
                for name in ("schedstat", "stat"):
                    self._accounts.append(os.open(f"/proc/{thread}/{name}", os.O_RDONLY | os.O_CLOEXEC))
            return Sleepers(self._accounts)
        self.unwatch()
        return Sleepers([])

    def unwatch(self) -> None:
        """Close what `watch` has opened; its `Sleepers` must not be used any more."""
        while self._accounts:
            os.close(self._accounts.pop())

    # ── what it shows ─────────────────────────────────────────────────────────────────────────────────────────

    def counters(self) -> dict[str, int]:
        """Sums over all ports."""
        gates = self._order.counts()
        sums = ("requests", "rounds", "waited_us", "blocked", "limited", "late", "overflowed")
        return {f"ordered_{name}": sum(gate[name] for gate in gates) for name in sums} | {
            "ordered_withheld": self._order.withheld,
            "ordered_mirror_limited": self._order.mirror_limited,
            "ordered_waiting": self._order.waiting_frames + self._order.mirror.pending_frames,
        }

    def ports(self) -> list[dict[str, Any]]:
        """What is chosen for each port, and why."""
        gates = {gate["port"]: gate for gate in self._order.counts()}
        return [self._port(port, gates.get(port, {})) for port in sorted(self._tuner.ports)]

    def _port(self, port: int, gate: dict[str, Any]) -> dict[str, Any]:
        one = self._tuner.ports[port]
        requests = gate.get("requests", 0)
        return {
            "port": port,
            "mode": one.mode.value,
            "is_ordered": one.is_on and self._is_begun,
            "width": one.setting.width,
            "mirrored": "when given" if one.setting.is_early else "when answered",
            "limit_ms": one.setting.limit_us // 1000,
            "differences": one.differences,
            "requests": requests,
            "rounds": gate.get("rounds", 0),
            "blocked": gate.get("blocked", 0),
            "limited": gate.get("limited", 0),
            "waited_mean_us": gate.get("waited_us", 0) // max(requests, 1),
            "waited_max_us": gate.get("waited_max_us", 0),
            "why": one.why,
        }


def _process_of(thread: int) -> int:
    """Raises OSError, ValueError."""
    lines = Path(f"/proc/{thread}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Tgid:"))
