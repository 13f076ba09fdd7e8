"""The arbiter `etcd`: asks an etcd for its core (`failover.lease`)."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic_ns
from typing import Final

import structlog

from pycolo.arbiters.etcdclient import EtcdStore, StoreError
from pycolo.arbiters.httprequest import TlsFiles
from pycolo.arbiters.live import LiveArbiter
from pycolo.failover.arbiter import Decision, Verdict
from pycolo.failover.lease import LeaseArbiter

REQUESTS_PER_LEASE: Final = 6
"""Time-out of a request: this part of the lease's time, so that two endpoints can be tried between two renewals."""

REQUEST_S_MIN: Final = 0.2
REQUEST_S_MAX: Final = 2.0
"""Within these: a disk that syncs takes tens of milliseconds, and who does not answer in 2 s is not waited for."""

RESIGN_S: Final = 1.0
"""How long a resignation may take; after that the lease runs out by itself."""

TROUBLES_SAID: Final = 16
"""So many different troubles are written; the next ones when etcd has answered again."""

log = structlog.get_logger("colo")


class EtcdArbiter(LiveArbiter):
    """`identity`: this node's own, the same after a restart. Raises `ConfigError`."""

    _core: LeaseArbiter

    def __init__(
        self,
        term: int,
        on_change: Callable[[], None],
        endpoints: Sequence[str],
        ttl_ms: int,
        prefix: str,
        pair: str,
        identity: str,
        tls: TlsFiles | None = None,
    ) -> None:
        super().__init__(LeaseArbiter(term, identity, ttl_ms), on_change)
        timeout_s = min(max(ttl_ms / 1000 / REQUESTS_PER_LEASE, REQUEST_S_MIN), REQUEST_S_MAX)
        self._store = EtcdStore(endpoints, prefix, pair, timeout_s, tls)
        self._news = asyncio.Event()
        self._said: set[str] = set()
        self._until_ns = 0

    async def acquire(self, term: int = 0) -> Verdict:
        """See the base. DENIED: another node holds the lease, or has held it since this node's own term."""
        self._core.acquire_wanted(term)
        self._told()
        try:
            while self._core.is_acquiring:
                await self._news.wait()
        except asyncio.CancelledError:
            self._core.acquire_abandoned()
            raise
        verdict = self._core.verdict()
        if verdict.decision is Decision.DENIED:
            return verdict
        return Verdict(Decision.GRANTED, verdict.term, f"etcd holds this node's lease, under term {verdict.term}")

    async def resign(self) -> None:
        """Deletes the key; nothing may be released from the call on. Returns after a second at the latest."""
        self._core.resigned()
        self._told()
        with suppress(TimeoutError):
            async with asyncio.timeout(RESIGN_S):
                while self._core.is_resigning:
                    await self._news.wait()

    def _bound_ns(self) -> int | None:
        return self._core.serve_until_ns()

    def _state(self) -> object:
        core = self._core
        return core.verdict(), core.is_held, core.is_acquiring, core.is_resigning

    async def _run(self) -> None:
        core = self._core
        while True:
            now_ns = monotonic_ns()  # before the request is sent: the bound counts from here
            request = core.request(now_ns)
            if request is None:
                due_ns = core.due_ns()
                await self._sleep(None if due_ns is None else max(0, due_ns - now_ns) / 1e9)
                continue
            try:
                answer = await self._store.ask(request)
            except StoreError as error:
                core.unanswered(str(error), monotonic_ns())
            else:
                core.answered(answer, monotonic_ns())
            self._say()
            self._changed()

    def _changed(self) -> None:
        super()._changed()
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _say(self) -> None:
        """One line for each kind of trouble until etcd answers again, not for each try."""
        trouble = self._core.trouble
        if trouble and trouble not in self._said and len(self._said) < TROUBLES_SAID:
            self._said.add(trouble)
            log.warning(trouble)
        elif not trouble and self._said:
            self._said.clear()
            log.info("etcd answers again")
